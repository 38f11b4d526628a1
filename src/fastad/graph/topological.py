"""Topological sorting by depth-first search, with the call stack of the search on show.

The order in which a computation graph is evaluated, and, read backwards, the order in which
gradients are passed back, is a topological order: every edge leads from an earlier node to a
later one. The search below is the textbook recursion (Cormen et al., *Introduction to
Algorithms*, section on topological sort) written with an explicit stack, so that depth costs
memory and never a recursion error.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, overload

Node = Hashable
Event = tuple[str, Node]

_OPEN, _DONE = 1, 2  # on the call stack / finished; a node that is in neither state is unvisited
_NAMED_IN_MESSAGE = 20  # a longer cycle is cut in the message, never in the attribute


class CycleError(ValueError):
    """A directed graph that has a cycle has no topological order.

    Attributes
    ----------
    nodes : tuple
        The nodes of one cycle, in the order of its edges; the last one leads to the first.

    Examples
    --------
    >>> from fastad.graph import CycleError, topological_sort
    >>> try:
    ...     topological_sort({"a": ["b"], "b": ["c"], "c": ["b"]})
    ... except CycleError as error:
    ...     print(error)
    ...     print(error.nodes)
    the graph has a cycle: 'b' → 'c' → 'b'
    ('b', 'c')
    """

    def __init__(self, nodes: Iterable[Node]) -> None:
        self.nodes: tuple[Any, ...] = tuple(nodes)
        super().__init__(self.nodes)

    def __str__(self) -> str:
        shown = [repr(node) for node in self.nodes[:_NAMED_IN_MESSAGE]]
        left_out = len(self.nodes) - len(shown)
        if left_out:
            shown.append(f"… {left_out} more nodes …")
        return "the graph has a cycle: " + " → ".join([*shown, repr(self.nodes[0])])


@dataclass(frozen=True)
class Step:
    """One step of the depth-first search, with the state after it.

    Attributes
    ----------
    action : {'visit', 'finish', 'skip'}
        ``visit``: the node is called and goes on the stack. ``skip``: an edge leads to a node
        that was visited before. ``finish``: the node has no successor left, so the search
        backtracks and puts the node in front of the ordering.
    node : hashable
        The node that is visited, skipped or finished.
    stack : tuple
        The call stack after the step, first call first.
    ordering : tuple
        The topological ordering so far.
    """

    action: Literal["visit", "finish", "skip"]
    node: Node
    stack: tuple[Node, ...]
    ordering: tuple[Node, ...]

    def __str__(self) -> str:
        stack, ordering = _join(self.stack), _join(self.ordering)
        return f"{self.action} {self.node}: stack [{stack}], ordering [{ordering}]"


class Trace(Sequence[Step]):
    """The steps of a topological sort, first to last. ``print`` shows them as a table.

    Only the events are stored; stacks and orderings are rebuilt when a step is read, so that the
    trace of n nodes takes memory for n nodes and not for n stacks.
    """

    def __init__(self, events: Sequence[Event]) -> None:
        self._events = events

    def __len__(self) -> int:
        return len(self._events)

    def __iter__(self) -> Iterator[Step]:
        stack: list[Node] = []
        ordering: deque[Node] = deque()
        for action, node in self._events:
            if action == "visit":
                stack.append(node)
            elif action == "finish":
                ordering.appendleft(stack.pop())
            yield Step(action, node, tuple(stack), tuple(ordering))  # type: ignore[arg-type]

    @overload
    def __getitem__(self, index: int) -> Step: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Step, ...]: ...
    def __getitem__(self, index: int | slice) -> Step | tuple[Step, ...]:
        if isinstance(index, slice):
            return tuple(self)[index]
        position = range(len(self))[index]
        return next(step for i, step in enumerate(self) if i == position)

    def __str__(self) -> str:
        rows = [("step", "action", "call stack", "ordering so far")]
        for number, step in enumerate(self, start=1):
            action = f"{step.action} {step.node}"
            rows.append((str(number), action, _join(step.stack), _join(step.ordering)))
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        return "\n".join(_table_row(row, widths) for row in rows)

    def __repr__(self) -> str:
        return f"<Trace of {len(self)} steps>"


Graph = Mapping[Any, Iterable[Any]] | Iterable[tuple[Any, Any]]


@overload
def topological_sort(
    graph: Graph, start: Any = None, trace: Literal[False] = False
) -> list[Any]: ...
@overload
def topological_sort(
    graph: Graph, start: Any = None, *, trace: Literal[True]
) -> tuple[list[Any], Trace]: ...
def topological_sort(graph: Graph, start: Any = None, trace: bool = False) -> Any:
    """Order the nodes of a directed graph so that every edge leads forward.

    Depth-first search: visit a node, then its successors one after the other; a node without
    successors left is finished and goes in front of the ordering. Repeated until all nodes are
    visited.

    Parameters
    ----------
    graph : mapping or iterable of pairs
        Either ``{node: successors}`` or the edges ``(from, to)``. Nodes are any hashable values.
        A successor that is not a key of the mapping is a node without successors. Searches
        begin at the nodes, and follow the edges, in the order in which the graph gives them.
    start : hashable, optional
        Node to visit first. Nodes that it does not lead to are visited afterwards.
    trace : bool
        Also return the steps of the search.

    Returns
    -------
    order : list
        The nodes, every edge leading from an earlier one to a later one.
    steps : Trace
        Only if `trace` is true: a sequence of `Step`; ``str(steps)`` is a readable table.

    Raises
    ------
    CycleError
        If the graph has a cycle; the message and the attribute ``nodes`` name it.
    ValueError
        If `start` is not a node of the graph, or an edge is not a pair.

    Examples
    --------
    >>> from fastad.graph import topological_sort
    >>> edges = [("H", "J"), ("H", "I"), ("J", "M"), ("J", "L"), ("I", "L")]
    >>> topological_sort(edges, start="H")
    ['H', 'I', 'J', 'L', 'M']
    >>> order, steps = topological_sort(edges, start="H", trace=True)
    >>> print(steps)
    step  action    call stack  ordering so far
       1  visit H   H
       2  visit J   H J
       3  visit M   H J M
       4  finish M  H J         M
       5  visit L   H J L       M
       6  finish L  H J         L M
       7  finish J  H           J L M
       8  visit I   H I         J L M
       9  skip L    H I         J L M
      10  finish I  H           I J L M
      11  finish H              H I J L M
    """
    successors = _successors(graph)
    roots = list(successors)
    if start is not None:
        _require_node(start, successors)
        roots.insert(0, start)
    events: list[Event] | None = [] if trace else None
    order = _sort(successors, roots, events)
    return order if events is None else (order, Trace(events))


def _sort(
    successors: Mapping[Node, Iterable[Node]], roots: list[Node], events: list[Event] | None
) -> list[Node]:
    state: dict[Node, int] = {}
    finished: list[Node] = []
    for root in roots:
        if root not in state:
            _depth_first(successors, root, state, finished, events)
    finished.reverse()
    return finished


def _depth_first(
    successors: Mapping[Node, Iterable[Node]],
    root: Node,
    state: dict[Node, int],
    finished: list[Node],
    events: list[Event] | None,
) -> None:
    """Visit everything that `root` leads to; `pending` holds what each call has yet to follow."""
    record = events.append if events is not None else _ignore
    stack: list[Node] = []
    pending: list[Iterator[Node]] = [iter((root,))]
    while True:
        for node in pending[-1]:
            seen = state.get(node)
            if seen is None:
                state[node] = _OPEN
                stack.append(node)
                pending.append(iter(successors.get(node, ())))
                record(("visit", node))
                break
            if seen == _OPEN:
                raise CycleError(stack[stack.index(node) :])
            record(("skip", node))
        else:
            pending.pop()
            if not stack:
                return
            done = stack.pop()
            state[done] = _DONE
            finished.append(done)
            record(("finish", done))


def _ignore(event: Event) -> None:
    """What becomes of an event when nobody asked for the trace."""


def _successors(graph: Graph) -> dict[Node, Sequence[Node]]:
    """The graph as a mapping from every node that has successors to those."""
    if not isinstance(graph, Mapping):
        return _from_edges(graph)
    for node, following in graph.items():
        if isinstance(following, str | bytes):
            raise TypeError(
                f"the successors of {node!r} are the string {following!r}; "
                "write a list of nodes, such as ['J', 'I']"
            )
    return {node: tuple(following) for node, following in graph.items()}


def _from_edges(edges: Iterable[Any]) -> dict[Node, Sequence[Node]]:
    successors: dict[Node, list[Node]] = {}
    for edge in edges:
        if isinstance(edge, str | bytes) or not isinstance(edge, Iterable):
            raise ValueError(f"an edge is a pair (from, to), not {edge!r}")
        ends = tuple(edge)
        if len(ends) != 2:
            raise ValueError(f"an edge is a pair (from, to), not {edge!r}")
        successors.setdefault(ends[0], []).append(ends[1])
        successors.setdefault(ends[1], [])
    return dict(successors)


def _require_node(start: Node, successors: Mapping[Node, Sequence[Node]]) -> None:
    if start in successors or any(start in following for following in successors.values()):
        return
    raise ValueError(f"start node {start!r} is not a node of the graph")


def _join(nodes: Iterable[Node]) -> str:
    return " ".join(str(node) for node in nodes)


def _table_row(row: tuple[str, str, str, str], widths: list[int]) -> str:
    number, action, stack, ordering = row
    cells = [number.rjust(widths[0]), action.ljust(widths[1]), stack.ljust(widths[2]), ordering]
    return "  ".join(cells).rstrip()
