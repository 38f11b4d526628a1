"""Every example in a docstring of the installed package runs; test_docs.py has the documents."""

import doctest
import importlib
import pkgutil

import numpy as np
import pytest

import fastad as fad

FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def modules():
    """Name of the package and of every module in it; `__main__` would run the command line."""
    found = pkgutil.walk_packages(fad.__path__, "fastad.")
    return ["fastad", *(module.name for module in found if not module.name.endswith("__main__"))]


@pytest.mark.parametrize("name", modules())
def test_docstrings(name):
    module = importlib.import_module(name)
    names = {"fad": fad, "np": np}
    failed, _ = doctest.testmod(module, extraglobs=names, optionflags=FLAGS)
    assert failed == 0
