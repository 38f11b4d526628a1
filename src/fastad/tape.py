"""A tape by hand: record inside `with`, then ask for partial derivatives of anything."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import numpy as np

from fastad import _core
from fastad._core import Array
from fastad._record import recording
from fastad._reverse import sweep

__all__ = ["Gradients", "Node", "Tape"]


class Node(NamedTuple):
    """One node of a tape."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs here
    op: str
    parents: tuple[int, ...]
    value: Any
    name: str | None
    active: bool
    shape: tuple[int, ...]


class Gradients:
    """Partial derivatives of one output by every node of its tape.

    ``gradients[x]`` is the partial by an Array, ``gradients.at(i)`` by node number; iteration gives
    the nodes.

    Examples
    --------
    >>> with fad.Tape() as tape:
    ...     x = tape.variable(3.0)
    ...     y = x * x
    ...     z = y + x
    >>> gradients = tape.gradients(z)
    >>> gradients[x], gradients[y]
    (7.0, 1.0)
    >>> {node.op: gradients.at(node.index) for node in gradients}
    {'VARIABLE': 7.0, 'MUL': 1.0, 'ADD': 1.0}
    """

    def __init__(self, tape, output, partials):
        self.tape, self.output, self._partials = tape, output, partials

    def __getitem__(self, x: Array) -> Any:
        if not isinstance(x, Array):
            raise TypeError(f"gradients[x]: expected an Array, got {type(x).__name__}")
        if x.recorder is not self.tape.recorder:
            raise _core.TapeError("gradients[x]: x is on another tape")
        return self.at(x.node)

    def at(self, index: int) -> Any:
        """Partial by node `index`; zero for nodes after the output."""
        if index < len(self._partials):
            return self._partials[index]
        return np.zeros(self.tape.recorder.node_shape(index))[()]

    def __len__(self):
        return len(self._partials)

    def __iter__(self):
        return iter(self.tape.nodes(0, len(self._partials)))


class Tape:
    """Records what happens to its variables inside a ``with`` block.

    Parameters
    ----------
    limit : int, default 0
        Most bytes the tape may take (0: no limit but `fastad.set_memory_limit`); recording past it
        raises TapeError and loses nothing.

    Examples
    --------
    >>> with fad.Tape() as tape:
    ...     x = tape.variable(2.0, name="x")
    ...     y = tape.variable(3.0, name="y")
    ...     z = (x + y) * y
    >>> tape.gradient(z, [x, y])
    [3.0, 8.0]
    >>> x.value, z.value
    (2.0, 15.0)
    >>> print(tape.dump(), end="")
    %0 = VARIABLE : f64
    %1 = VARIABLE : f64
    %2 = ADD %0 %1 : f64
    %3 = MUL %2 %1 : f64
    """

    def __init__(self, limit: int = 0) -> None:
        self.recorder = _core.Recorder()
        self._limit = limit
        self._names: dict[int, str] = {}
        self._used = False

    def __enter__(self) -> Self:
        if self._used:
            raise _core.TapeError("a Tape records once: make a new one")
        self._used = True
        self.recorder.open(self._limit or _core.memory_limit())
        self._recording = recording(self.recorder)
        self._recording.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            self._recording.__exit__(*exception)
        finally:
            self.recorder.close()

    def variable(self, value: Any, name: str | None = None) -> Array:
        """A new variable.

        Parameters
        ----------
        value : number or array_like of real numbers
        name : str, optional
            For drawings and tables.

        Returns
        -------
        Array
        """
        variable = self.recorder.variable(value)
        if name is not None:
            self._names[variable.node] = name
        return variable

    def _own(self, x, name):
        if not isinstance(x, Array):
            raise TypeError(f"{name}: expected an Array of this tape, got {type(x).__name__}")
        if x.recorder is not self.recorder:
            raise _core.TapeError(f"{name}: the Array is on another tape")
        return x

    def _output(self, y):
        self._own(y, "y")
        if y.ndim:
            raise TypeError(
                f"y: expected a scalar output, got shape {y.shape}: "
                "sum it, or use fad.jacobian or fad.vjp"
            )
        return y

    def gradient(self, y: Array, wrt: Array | Sequence[Array]) -> Any:
        """Partial derivatives of scalar `y`.

        Parameters
        ----------
        y : Array
            0-d.
        wrt : Array or sequence of Array
            Any recorded values, not only variables.

        Returns
        -------
        float or ndarray, or a list of them
        """
        single = isinstance(wrt, Array) or not np.iterable(wrt)
        asked: Any = [wrt] if single else wrt
        recorder = self.recorder
        nodes = [
            x.node if isinstance(x, Array) and x.recorder is recorder else self._own(x, "wrt").node
            for x in asked
        ]
        results = sweep(self.recorder, (self._output(y),), (1.0,), nodes)
        return results[0] if single else results

    def gradients(self, y: Array) -> Gradients:
        """Partial derivatives of scalar `y` by EVERY node before it.

        Returns
        -------
        Gradients
        """
        return Gradients(self, y, sweep(self.recorder, (self._output(y),), (1.0,), (), keep=True))

    def nodes(self, start: int = 0, stop: int | None = None) -> list[Node]:
        """Nodes start .. stop-1, in topological order.

        Returns
        -------
        list of Node
        """
        r = self.recorder
        return [
            Node(
                i,
                r.op_name(i),
                r.parents(i),
                r.node_value(i),
                self._names.get(i),
                r.node_active(i),
                r.node_shape(i),
            )
            for i in range(start, len(r) if stop is None else min(stop, len(r)))
        ]

    def partials(self, index: int) -> tuple[float, ...]:
        """Local partials of element-wise scalar node `index`, one for each parent."""
        return self.recorder.partials(index)

    def dump(self, start: int = 0, stop: int | None = None) -> str:
        """The tape's text form, a line for each node."""
        return self.recorder.dump(start, stop)

    def verify(self) -> None:
        """Raise TapeError if the tape is not well formed."""
        self.recorder.verify()

    @property
    def nbytes(self) -> int:
        """Bytes that the tape takes."""
        return self.recorder.nbytes

    def __len__(self):
        return len(self.recorder)
