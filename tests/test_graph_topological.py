"""Topological sort: the lecture's example to the letter, then what a graph can do wrong."""

import random
import sys
from itertools import pairwise

import pytest

from fastad.graph import CycleError, Step, topological_sort

LECTURE = [("H", "J"), ("H", "I"), ("J", "M"), ("J", "L"), ("I", "L")]

# Slide by slide: what the search does, the call stack it leaves, the ordering so far.
SLIDES = [
    ("visit", "H", "H", ""),
    ("visit", "J", "H J", ""),
    ("visit", "M", "H J M", ""),
    ("finish", "M", "H J", "M"),
    ("visit", "L", "H J L", "M"),
    ("finish", "L", "H J", "L M"),
    ("finish", "J", "H", "J L M"),
    ("visit", "I", "H I", "J L M"),
    ("skip", "L", "H I", "J L M"),
    ("finish", "I", "H", "I J L M"),
    ("finish", "H", "", "H I J L M"),
]


def respects(order, edges):
    position = {node: i for i, node in enumerate(order)}
    return len(position) == len(order) and all(position[u] < position[v] for u, v in edges)


def test_trace_is_the_lectures():
    order, steps = topological_sort(LECTURE, start="H", trace=True)
    shown = [(s.action, s.node, " ".join(s.stack), " ".join(s.ordering)) for s in steps]
    assert shown == SLIDES
    assert order == ["H", "I", "J", "L", "M"]


def test_orderings_are_the_lectures():
    _, steps = topological_sort(LECTURE, start="H", trace=True)
    orderings = [" ".join(step.ordering) for step in steps if step.action == "finish"]
    assert orderings == ["M", "L M", "J L M", "I J L M", "H I J L M"]


def test_trace_as_text_shows_every_step():
    _, steps = topological_sort(LECTURE, start="H", trace=True)
    lines = str(steps).splitlines()
    assert lines[0].split("  ")[0] == "step"
    assert len(lines) == 1 + len(SLIDES)
    assert lines[4].split() == ["4", "finish", "M", "H", "J", "M"]
    assert lines[4].rstrip().endswith("H J         M")


def test_trace_is_a_sequence_of_steps():
    _, steps = topological_sort(LECTURE, start="H", trace=True)
    assert len(steps) == len(SLIDES)
    assert steps[3] == steps[-8] == Step("finish", "M", ("H", "J"), ("M",))
    assert steps[1:3] == tuple(steps)[1:3]
    assert str(steps[3]) == "finish M: stack [H J], ordering [M]"
    with pytest.raises(IndexError):
        steps[len(SLIDES)]


def test_mapping_and_edges_agree():
    mapping = {"H": ["J", "I"], "J": ["M", "L"], "I": ["L"]}
    assert topological_sort(mapping, start="H") == topological_sort(LECTURE, start="H")
    assert topological_sort({"H": iter("JI"), "J": iter("ML"), "I": iter("L")}, start="L") == [
        *"HIJML"
    ]


@pytest.mark.parametrize("start", ["H", "J", "I", "M", "L", None])
def test_any_start_visits_every_component(start):
    edges = [*LECTURE, ("P", "Q")]
    order, steps = topological_sort(edges, start=start, trace=True)
    assert sorted(order) == sorted("HIJLMPQ")
    assert respects(order, edges)
    assert steps[0].node == (start or "H")
    assert steps[-1].stack == ()


def test_random_graphs_against_the_definition():
    source = random.Random(20261123)
    for _ in range(200):
        n = source.randint(1, 12)
        names = source.sample(range(100), n)
        edges = [
            (names[i], names[j]) for i in range(n) for j in range(i + 1, n) if source.random() < 0.3
        ]
        source.shuffle(edges)
        graph = {name: [v for u, v in edges if u == name] for name in source.sample(names, n)}
        order = topological_sort(graph, start=source.choice(names))
        assert sorted(order) == sorted(names)
        assert respects(order, edges)


@pytest.mark.parametrize(
    ("graph", "cycle"),
    [
        ([("a", "b"), ("b", "c"), ("c", "d"), ("d", "b")], ("b", "c", "d")),
        ({"a": ["a"]}, ("a",)),
        ({1: [2], 2: [1]}, (1, 2)),
        ([("root", "x"), ("x", "done"), ("x", "y"), ("y", "x")], ("x", "y")),
    ],
)
def test_a_cycle_is_named_in_order(graph, cycle):
    with pytest.raises(CycleError) as caught:
        topological_sort(graph)
    assert caught.value.nodes == cycle
    assert " → ".join(map(repr, [*cycle, cycle[0]])) in str(caught.value)
    assert isinstance(caught.value, ValueError)


def test_message_of_a_long_cycle_is_short():
    with pytest.raises(CycleError) as caught:
        topological_sort({i: [(i + 1) % 5000] for i in range(5000)})
    assert len(caught.value.nodes) == 5000
    assert len(str(caught.value)) < 300
    assert "4980 more nodes" in str(caught.value)


def test_two_paths_to_one_node_are_not_a_cycle():
    assert topological_sort({"a": ["b", "c", "b"], "b": ["d"], "c": ["d"]}) == ["a", "c", "b", "d"]


def test_a_million_nodes_in_a_chain():
    n = 10**6
    order = topological_sort({i: (i + 1,) for i in range(n - 1)})
    assert order == list(range(n))
    assert n > 100 * sys.getrecursionlimit()


def test_any_hashable_nodes():
    nodes = [("x", 1), frozenset({2}), 3.5, None, "name"]
    assert topological_sort(list(pairwise(nodes))) == nodes


def test_empty_graphs():
    assert topological_sort({}) == []
    assert topological_sort([]) == []
    assert str(topological_sort([], trace=True)[1]).split() == [
        "step", "action", "call", "stack", "ordering", "so", "far",
    ]  # fmt: skip


@pytest.mark.parametrize("edges", [["HJ"], [("a", "b", "c")], [("a",)], [7]])
def test_an_edge_is_a_pair(edges):
    with pytest.raises(ValueError, match="an edge is a pair"):
        topological_sort(edges)


def test_successors_are_not_a_string():
    with pytest.raises(TypeError, match="string 'x1'"):
        topological_sort({"x0": "x1"})


def test_unknown_start_is_named():
    with pytest.raises(ValueError, match="'Z' is not a node"):
        topological_sort(LECTURE, start="Z")
