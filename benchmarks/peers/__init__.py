"""The contenders: one small adapter each, used as its own documentation says a fast user would."""

from __future__ import annotations

from importlib import import_module, metadata

from peers.base import Peer

OURS = "fastad"
ADAPTERS = ("autograd", "torch", "jax", "casadi", "xad", "micrograd")


def load(name: str) -> list[Peer]:
    """The contenders of one adapter; ImportError if its package is not installed."""
    return import_module(f"peers.{name}_peer").contenders()


def load_all(names: tuple[str, ...] = ADAPTERS) -> tuple[list[Peer], dict[str, str]]:
    """Contenders of the installed packages, and for the others why they are absent."""
    present: list[Peer] = []
    absent = {}
    for name in names:
        try:
            present += load(name)
        except ImportError as error:
            absent[name] = f"not installed ({error})"
    return present, absent


def versions(names: tuple[str, ...]) -> dict[str, str]:
    """Versions of the installed packages among `names`."""
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found
