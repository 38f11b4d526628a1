"""`ComputationalGraph`: gates evaluated forwards in topological order and backwards in reverse."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from .drawable import Drawable
from .explanation import Explanation, explain
from .gates import (
    ConstantGate,
    Gate,
    InputGate,
    Value,
    as_value,
    is_floating,
)
from .inputs import ByHand, Source, checked_value, matched_inputs
from .operations import SHORT_NAMES, element_operations, new_gate
from .picture import show_value
from .recorded import ClosedTape, Recording, parameter_names, take
from .topological import topological_sort


class ComputationalGraph(Drawable):
    """A graph of gates, built by hand or taken from a recorded function.

    Gates are added with `input`, `constant` and `gate`; every
    element-wise one is also a method, by NumPy's name (``g.multiply(x, y)``) or a short one
    (``g.mul(x, y)``). The gate added last is the final one, whose value is the result of
    `forward`, unless the attribute `output` says otherwise.

    Examples
    --------
    The lecture's f(x, y, z) = (x + y) z:

    >>> from fastad.graph import ComputationalGraph
    >>> g = ComputationalGraph()
    >>> x, y, z = g.input("x"), g.input("y"), g.input("z")
    >>> q = g.add(x, y, name="q")
    >>> f = g.mul(q, z, name="f")
    >>> g.forward({"x": -2, "y": 5, "z": -4})
    -12.0
    >>> g.backward()
    {'x': -4.0, 'y': -4.0, 'z': 3.0}
    >>> g.gradients
    {'x': -4.0, 'y': -4.0, 'z': 3.0, 'q': -4.0, 'f': 1.0}
    """

    def __init__(self, title: str = "") -> None:
        self.title = title
        self._gates: dict[str, Gate] = {}
        self._output: Gate | None = None
        self._order: list[Gate] | None = None
        self._done = 0  # passes since the last change: 1 forward, 2 backward too
        self._counts: dict[str, int] = {}  # unnamed gates so far, by operation
        self._source: Source = ByHand()

    # --- building --------------------------------------------------------------------------------

    def input(self, name: str) -> Gate:
        """Add an input, whose value is given to each forward pass."""
        return self.enter(InputGate(self._free_name(name, "input")))

    def constant(self, value: Any, name: str | None = None) -> Gate:
        """Add a value that stays. Numbers given as operands become constants by themselves.

        Without a name it is called by its value, followed by # and a number for a namesake.
        """
        if name is None:
            name = show_value(value) if np.ndim(value) == 0 else "array"
            name = name if name not in self._gates else self._free_name(None, f"{name}#")
        name = self._free_name(name, "constant")
        return self.enter(ConstantGate(name, checked_value(value, name)))

    def gate(self, op: str, *operands: Any, name: str | None = None, **options: Any) -> Gate:
        """Add a gate.

        Parameters
        ----------
        op : str
            NumPy's name of the operation or one of the short names ``mul``, ``sub``, ``div``,
            ``neg``, ``pow``, ``abs``, ``max``, ``min``, ``mod``. Besides the element-wise
            operations of the library's table (``fastad.OPS``), any NumPy function of arrays
            that the library can differentiate, such as ``sum`` or ``matmul``.
        *operands : Gate or number or array_like
            Gates of this graph; anything else becomes a constant.
        name : str, optional
            Name of the gate; by default the operation and a number.
        **options
            Further arguments of a NumPy function, such as ``axis=0``.

        Returns
        -------
        Gate

        Examples
        --------
        >>> from fastad.graph import ComputationalGraph
        >>> g = ComputationalGraph()
        >>> total = g.gate("sum", g.gate("square", g.input("x")))
        >>> g.forward(np.array([1.0, 2.0, 3.0]))
        14.0
        >>> g.backward()
        {'x': array([2., 4., 6.])}
        """
        op = SHORT_NAMES.get(op, op)
        parents = [self._operand(operand) for operand in operands]
        return self.enter(new_gate(self._free_name(name, op), op, parents, options))

    def __getattr__(self, op: str) -> Callable[..., Gate]:
        if SHORT_NAMES.get(op, op) not in element_operations():
            raise AttributeError(f"a ComputationalGraph has no attribute and no gate {op!r}")
        return functools.partial(self.gate, op)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *SHORT_NAMES, *element_operations()})

    @classmethod
    def record(cls, f: Callable[..., Any], *args: Any, title: str = "") -> ComputationalGraph:
        """Take the graph that `f` records at `args`, as the tape has it.

        Parameters
        ----------
        f : callable
            Function of numbers and arrays that returns a number or an array.
        *args : float or array_like
            Inputs, called as the parameters of `f` are.
        title : str, optional
            Shown above drawings.

        Returns
        -------
        ComputationalGraph
            After a forward pass at `args`. Other gates are called a, b, c, … in the order of the
            tape. ``forward`` records `f` again, so that branches and loops are those of the new
            inputs; where they differ, the graph gets new gates.

        Examples
        --------
        The lecture's f(x) = √(x² + exp x²) + cos(x² + exp x²):

        >>> from fastad.graph import ComputationalGraph
        >>> def f(x):
        ...     a = x**2
        ...     c = a + np.exp(a)
        ...     return np.sqrt(c) + np.cos(c)
        >>> g = ComputationalGraph.record(f, 0.5)
        >>> [gate.name for gate in g.nodes_topologically_sorted()]
        ['x', 'a', 'b', 'c', 'e', 'd', 'f']
        >>> gradients = g.backward()
        >>> bool(np.isclose(gradients["x"], fad.grad(f)(0.5)))
        True
        """
        graph = cls(title)
        graph._source = Recording(f)
        for name in parameter_names(f, len(args)):
            graph.input(name)
        graph.forward(*args)
        return graph

    @classmethod
    def from_tape(cls, tape: Any, output: Any, title: str = "") -> ComputationalGraph:
        """Take the part of a `fastad.Tape` that `output` depends on.

        The variables of the tape are the inputs. ``forward`` at new inputs works only where all
        operations are element-wise, as the graph does not know the function.

        Examples
        --------
        >>> from fastad.graph import ComputationalGraph
        >>> with fad.Tape() as tape:
        ...     x = tape.variable(2.0, name="x")
        ...     y = x * np.exp(x)
        >>> g = ComputationalGraph.from_tape(tape, y)
        >>> g.backward() == {"x": tape.gradient(y, x)}
        True
        """
        graph = cls(title)
        graph._source = ClosedTape()
        take(graph, tape, output, {})
        graph._evaluate()
        return graph

    def enter(self, gate: Gate) -> Gate:
        """Add a gate that was made elsewhere, under its name."""
        self._gates[gate.name] = gate
        self._order, self._done = None, 0
        return gate

    def clear(self) -> None:
        """Remove all gates."""
        self._gates.clear()
        self._counts.clear()
        self._output, self._order, self._done = None, None, 0

    def _operand(self, operand: Any) -> Gate:
        if not isinstance(operand, Gate):
            return self.constant(operand)
        if self._gates.get(operand.name) is not operand:
            raise ValueError(f"the gate {operand.name} is not a gate of this graph")
        return operand

    def _free_name(self, name: str | None, op: str) -> str:
        if name is not None:
            if name in self._gates:
                raise ValueError(f"the graph already has a gate called {name!r}")
            return name
        while True:
            self._counts[op] = self._counts.get(op, 0) + 1
            name = f"{op}{self._counts[op]}"
            if name not in self._gates:
                return name

    # --- looking ---------------------------------------------------------------------------------

    @property
    def gates(self) -> list[Gate]:
        """All gates in the order in which they were added."""
        return list(self._gates.values())

    @property
    def inputs(self) -> list[Gate]:
        """The input gates, in the order in which they were added."""
        return [gate for gate in self._gates.values() if gate.op == "input"]

    @property
    def output(self) -> Gate:
        """The final gate: the one added last, unless it was set."""
        if not self._gates:
            raise ValueError("the graph has no gates")
        return self._output or next(reversed(self._gates.values()))

    @output.setter
    def output(self, gate: Gate) -> None:
        self._output = self._operand(gate)
        self._done = 0

    def __getitem__(self, name: str) -> Gate:
        return self._gates[name]

    def __len__(self) -> int:
        return len(self._gates)

    def __repr__(self) -> str:
        names = ", ".join(gate.name for gate in self.inputs)
        return f"<ComputationalGraph of {len(self)} gates, inputs {names or 'none'}>"

    def nodes_topologically_sorted(self) -> list[Gate]:
        """All gates, each after its operands: the order of `topological_sort`."""
        if self._order is None:
            self._order = topological_sort({gate: gate.consumers for gate in self._gates.values()})
        return self._order

    @property
    def values(self) -> dict[str, Value]:
        """Value of each gate by name."""
        self._require(1)
        return {name: gate.value for name, gate in self._gates.items()}

    @property
    def gradients(self) -> dict[str, Value]:
        """Derivative of the final gate with respect to each gate's value, by name.

        Those of inputs and of all intermediates; constants, masks and indices have none.
        """
        self._require(2)
        return {n: gate.gradient for n, gate in self._gates.items() if gate.gradient is not None}

    # --- passes ----------------------------------------------------------------------------------

    def forward(self, *inputs: Any, **named: Any) -> Value:
        """Compute every gate's value.

        Parameters
        ----------
        *inputs
            One mapping from names to values, or one value for each input in turn, or one list or
            tuple of these.
        **named
            Values by name.

        Returns
        -------
        float or ndarray
            Value of the final gate.

        Raises
        ------
        ValueError
            If an input has no value, or a value no input.
        """
        given = matched_inputs([gate.name for gate in self.inputs], inputs, named)
        self._source.pass_inputs(self, given)
        self._evaluate()
        return self.output.value

    def backward(self) -> dict[str, Value]:
        """Apply the chain rule from the final gate to the inputs.

        Returns
        -------
        dict
            Gradient of each input by name. `gradients` has those of the other gates too.

        Raises
        ------
        RuntimeError
            If there was no forward pass since the last gate was added.
        TypeError
            If the final gate's value is not a scalar.
        """
        self._require(1)
        self._start_gradients()
        for gate in reversed(self.nodes_topologically_sorted()):
            if gate.gradient is not None:
                gate.backward()
        self._done = 2
        return {gate.name: gate.gradient for gate in self.inputs}

    def _evaluate(self) -> None:
        """Forward each gate after its operands."""
        for gate in self.nodes_topologically_sorted():
            gate.forget()
            gate.forward()
        self._done = 1

    def _start_gradients(self) -> None:
        """Zero for every gate that can have a gradient, one for the final gate."""
        final = self.output
        if np.ndim(final.value):
            raise TypeError(
                f"the final gate {final.name} has shape {np.shape(final.value)}: add a sum, or "
                "another gate that makes it a scalar"
            )
        for gate in self._gates.values():
            gate.forget()
            if gate.op != "constant" and is_floating(gate.value):
                gate.gradient = as_value(np.zeros_like(gate.value))
        if final.gradient is not None:
            final.gradient = as_value(np.ones_like(final.value))

    def _require(self, passes: int) -> None:
        if self._done < passes:
            missing = "forward" if self._done == 0 else "backward"
            raise RuntimeError(f"the graph needs a {missing} pass first")

    # --- showing ---------------------------------------------------------------------------------

    def explain(self) -> Explanation:
        """What every gate does with the gradient that reaches it, as data and as a table.

        Constants do nothing with it and are left out.

        Examples
        --------
        >>> from fastad.graph import ComputationalGraph
        >>> g = ComputationalGraph()
        >>> q = g.mul(g.input("x"), g.input("y"), name="q")
        >>> f = g.neg(q)
        >>> g.forward(2, 3), g.backward()
        (-6.0, {'x': -3.0, 'y': -2.0})
        >>> row = g.explain()["q"]
        >>> row.partials, row.upstream, row.downstream
        ((3.0, 2.0), -1.0, (-3.0, -2.0))
        >>> row.words
        'swaps: each operand gets the gradient -1 times the other operand'
        """
        self._require(2)
        gates = [gate for gate in self.nodes_topologically_sorted() if gate.op != "constant"]
        return explain(gates, self.output)
