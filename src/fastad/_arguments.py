"""Arguments of a compiled function, taken apart: what is an input, and what is part of the key.

Numbers and arrays are inputs; structures, shapes, types and the values of all else are the key, for
which a function is recorded anew.
"""

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from fastad._containers import flatten, is_leaf, unflatten

__all__ = ["Arguments", "Static", "static_places"]


class Static:
    """A leaf that is no input (or, of a result, no output), with its value."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


def static_places(
    f: Callable[..., Any], argnums: Iterable[int], argnames: Iterable[str]
) -> tuple[frozenset[int], frozenset[str]]:
    """The static arguments by number and by name, each of them by both where `f` tells."""
    numbers, names = set(argnums), set(argnames)
    try:
        parameters = inspect.signature(f).parameters.values()
    except (TypeError, ValueError):  # of some builtins
        return frozenset(numbers), frozenset(names)
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    positional = [p for p in parameters if p.kind in kinds]
    for i, parameter in enumerate(positional):
        if {i, i - len(positional)} & numbers:
            numbers.add(i)
            if parameter.kind is not inspect.Parameter.POSITIONAL_ONLY:
                names.add(parameter.name)
        elif parameter.name in names:
            numbers.add(i)
    return frozenset(numbers), frozenset(names)


def _is_number(x):
    """Whether `x` is an input: a number or an array of them. Truth values are static."""
    if isinstance(x, (float, int)):
        return not isinstance(x, bool)
    if isinstance(x, (np.ndarray, np.generic, complex)):
        return not isinstance(x, (str, bytes))
    return hasattr(x, "__array__") and not isinstance(x, type)


class Arguments:
    """The arguments of one call.

    Attributes
    ----------
    inputs : list
        Numbers and arrays.
    key : tuple
        What the arguments look like.
    """

    def __init__(
        self,
        args: Sequence[Any],
        kwargs: dict[str, Any],
        static: tuple[frozenset[int], frozenset[str]],
    ) -> None:
        self.inputs: list[Any] = []
        self.forms: list[tuple[Any, ...]] = []
        self.places: list[tuple[Any, Any]] = []
        self.kwargs = tuple(sorted(kwargs))
        self.positional = len(args)
        numbers, names = static
        for i, arg in enumerate(args):
            fixed = i in numbers or i - len(args) in numbers
            self._add(arg, fixed, f"argument {i}")
        for name in self.kwargs:
            self._add(kwargs[name], name in names, f"argument {name!r}")
        self.key = (self.kwargs, tuple(self.forms))

    def _add(self, arg, static, name):
        if static:
            return self._add_static(arg, name)
        if _is_number(arg):
            self.forms.append(_form(arg, name))
            self.places.append((None, 1))
            self.inputs.append(arg)
            return None
        if not isinstance(arg, (tuple, list, dict)) and (is_leaf(arg) or not _has_leaves(arg)):
            return self._add_static(arg, name)
        leaves, structure = flatten(arg)
        dynamic: list[Static | None] = []
        for leaf in leaves:
            if _is_number(leaf):
                self.forms.append(_form(leaf, name))
                self.inputs.append(leaf)
                dynamic.append(None)
            else:
                self.forms.append(("static", _hashable(leaf, name)))
                dynamic.append(Static(leaf))
        self.forms.append(("structure", structure))
        self.places.append((structure, dynamic))
        return None

    def _add_static(self, arg, name):
        self.forms.append(("static", _hashable(arg, name)))
        self.places.append((Static(arg), 0))

    def only_inputs(self) -> bool:
        """Whether all arguments are positional numbers and arrays."""
        return not self.kwargs and len(self.inputs) == len(self.forms)

    def inputs_of(self, argnums: Sequence[int]) -> list[tuple[Any, list[int]]] | None:
        """For each positional argument its structure and the numbers of its inputs.

        None where that cannot be said, or an input is not of a floating type.
        """
        found, at, all_places = [], 0, []
        for structure, dynamic in self.places:
            count = dynamic if isinstance(dynamic, int) else sum(leaf is None for leaf in dynamic)
            pure = isinstance(dynamic, int) or count == len(dynamic)
            static = isinstance(structure, Static) or not pure
            all_places.append(None if static else (structure, list(range(at, at + count))))
            at += count
        forms = [form for form in self.forms if form[0] not in ("static", "structure")]
        for argnum in argnums:
            if not -self.positional <= argnum < self.positional:
                return None
            place = all_places[argnum % self.positional]
            if place is None or any(forms[k][0] not in "df" for k in place[1]):
                return None
            found.append(place)
        return found

    def rebuilt(self, leaves: Iterable[Any]) -> tuple[list[Any], dict[str, Any]]:
        """args and kwargs with `leaves` in place of the inputs."""
        leaves = iter(leaves)
        values = []
        for structure, dynamic in self.places:
            if isinstance(structure, Static):
                values.append(structure.value)
            elif structure is None:
                values.append(next(leaves))
            else:
                filled = [next(leaves) if leaf is None else leaf.value for leaf in dynamic]
                values.append(unflatten(structure, filled))
        named = dict(zip(self.kwargs, values[self.positional :], strict=True))
        return values[: self.positional], named


def _has_leaves(x):
    """Whether `x` is a container that optree knows."""
    try:
        leaves, _ = flatten(x)
    except ImportError:
        return False
    return not (len(leaves) == 1 and leaves[0] is x)


def _hashable(value, name):
    try:
        hash(value)
    except TypeError:
        raise TypeError(
            f"{name}: expected a number, an array, a container of them or a hashable static value, "
            f"got {type(value).__name__}"
        ) from None
    return _typed(value)


def _typed(value):
    """A key that tells apart what Python finds equal: 1, 1.0 and True, 0.0 and -0.0."""
    if isinstance(value, (float, np.floating)):
        return (type(value), repr(value))
    if type(value) in (tuple, frozenset):
        return (type(value), type(value)(_typed(item) for item in value))
    return (type(value), value)


def _form(leaf, name):
    """Type and shape of an input."""
    if type(leaf) is float:
        return ("d", ())
    if isinstance(leaf, (np.matrix, np.ma.MaskedArray)):
        raise TypeError(
            f"{name}: numpy.{type(leaf).__name__} is not supported: its operators are not an "
            "array's; pass np.asarray(x), or its data and its mask apart"
        )
    array = np.asarray(leaf)
    if array.dtype.kind not in "fiub" or array.dtype.itemsize > 8 or array.dtype == np.float16:
        hint = " (complex is not supported yet)" if array.dtype.kind == "c" else ""
        raise TypeError(
            f"{name}: expected real numbers (float64, float32, integers or bools), "
            f"got {type(leaf).__name__} of dtype {array.dtype}{hint}"
        )
    return (array.dtype.char, array.shape)
