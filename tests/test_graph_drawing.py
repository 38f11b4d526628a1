"""Drawings, judged by their geometry: nothing overlaps, no edge runs through a node, lines lead
where they should."""

import os
import random
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest

from fastad.graph import ComputationalGraph
from fastad.graph.channel import DOWN, GLYPHS, LEFT, RIGHT, UP, Channel
from fastad.graph.dot import to_dot
from fastad.graph.layout import Spacing, _spread, layered_layout
from fastad.graph.picture import Picture, PictureEdge, PictureNode, show_value
from fastad.graph.svg import svg_layout, to_svg
from fastad.graph.textual import text_layout, to_text

SVG = "{http://www.w3.org/2000/svg}"


def random_picture(n, seed):
    """A graph as deep and as tangled as recorded functions are, with parallel edges and islands."""
    source = random.Random(seed)
    inputs = max(1, n // 8)
    nodes = [PictureNode("input", f"x{i}") for i in range(inputs)]
    edges = []
    for i in range(inputs, n):
        symbol, count = source.choice([("+", 2), ("−", 2), ("exp", 1), ("where", 3), ("sum_to", 1)])
        is_ordered = symbol in ("−", "where")
        nodes.append(PictureNode("gate", symbol, source.choice(["", f"v{i}"]), is_ordered))
        for k in range(count):
            value = show_value(source.uniform(-1, 1) * 10 ** source.randint(-7, 7))
            label = source.choice([(value, "-0.5"), (value, ""), ("", ""), ("3×4 array", value)])
            number = str(k + 1) if is_ordered else ""
            edges.append(PictureEdge(source.randrange(max(0, i - 9), i), i, *label, number))
    nodes.append(PictureNode("output", "f"))
    edges.append(PictureEdge(n - 1, n, "1.25", "1"))
    return Picture(f"{n} nodes, number {seed}", nodes, edges)


PICTURES = {
    "empty": Picture("nothing", [], []),
    "one node": Picture("", [PictureNode("input", "x")], []),
    "islands": Picture("", [PictureNode("input", name) for name in "xyz"], []),
    "two components": Picture(
        "",
        [PictureNode("input", name) for name in "abcd"],
        [PictureEdge(0, 1, "1", "2"), PictureEdge(2, 3, "3", "4")],
    ),
    "parallel edges": Picture(
        "",
        [PictureNode("input", "x"), PictureNode("gate", "×")],
        [PictureEdge(0, 1, "3", "3"), PictureEdge(0, 1, "3", "3")],
    ),
    **{f"{n} nodes ({s})": random_picture(n, s) for n in (5, 12, 25, 60) for s in range(4)},
}
every_picture = pytest.mark.parametrize("picture", PICTURES.values(), ids=PICTURES)


def overlap(a, b, slack=1e-6):
    return (
        min(a.right, b.right) - max(a.left, b.left) > slack
        and min(a.bottom, b.bottom) - max(a.top, b.top) > slack
    )


def all_boxes(layout):
    """Every node and every place reserved for an edge that takes room."""
    places = {id(place): place for route in layout.routes for place in route.places}
    places.update({id(box): box for box in layout.nodes})
    return [box for box in places.values() if box.width and box.height]


# --- layout --------------------------------------------------------------------------------------


@every_picture
@pytest.mark.parametrize("lay_out", [svg_layout, text_layout])
def test_boxes_do_not_overlap(picture, lay_out):
    layout = lay_out(picture)
    assert len(layout.nodes) == len(picture.nodes)
    for a, b in combinations(all_boxes(layout), 2):
        assert not overlap(a, b), (a, b)
    for box in all_boxes(layout):
        assert box.left >= -1e-6
        assert box.top >= -1e-6
        assert box.right <= layout.width + 1e-6
        assert box.bottom <= layout.height + 1e-6


@every_picture
def test_edges_lead_rightwards_through_places_of_their_own(picture):
    layout = svg_layout(picture)
    taken = []
    for edge, route in zip(picture.edges, layout.routes, strict=True):
        assert route.places[0] is layout.nodes[edge.source]
        assert route.places[-1] is layout.nodes[edge.target]
        assert all(a.right < b.left for a, b in pairwise(route.columns))
        taken.extend((place.x, place.y) for place in route.places[1:-1])
    taken.extend((box.x, box.y) for box in layout.nodes)
    assert len(set(taken)) == len(taken)


def test_the_overlap_check_can_fail():
    """Rows packed closer than the boxes are high must be caught by the check above."""
    spacing = Spacing(row=-30.0, column=20.0, slope=0.0, widest=20.0, pitch=1.0)
    layout = layered_layout([(40.0, 40.0)] * 3, [(0, 2), (1, 2)], [(20.0, 28.0)] * 2, spacing)
    assert any(overlap(a, b) for a, b in combinations(all_boxes(layout), 2))


def test_spread_keeps_distances_and_moves_little():
    wanted, apart = [0.0, 1.0, 1.5, 10.0], [2.0, 2.0, 2.0]
    found = _spread(wanted, apart)
    assert all(b - a >= d - 1e-12 for (a, b), d in zip(pairwise(found), apart, strict=True))
    assert found == pytest.approx([-7 / 6, 5 / 6, 17 / 6, 10.0])
    cost = sum((a - b) ** 2 for a, b in zip(found, wanted, strict=True))
    source = np.random.default_rng(1)
    for _ in range(300):  # no feasible neighbour is nearer
        other = np.array(found) + source.normal(scale=0.1, size=4)
        if np.all(np.diff(other) >= apart):
            assert np.sum((other - wanted) ** 2) >= cost


# --- SVG -----------------------------------------------------------------------------------------


def numbers(text):
    return [float(x) for x in re.findall(r"-?\d+\.?\d*", text)]


def points_on(path):
    """Points along an edge's path, which has the commands M, H and C."""
    x = y = 0.0
    points = []
    for command, rest in re.findall(r"([MHC])([^MHC]*)", path):
        values = numbers(rest)
        if command == "M":
            x, y = values
            continue
        if command == "H":
            curve = [(x + t * (values[0] - x), y) for t in np.linspace(0, 1, 20)]
        else:
            p = np.array([[x, y], *np.reshape(values, (3, 2))])
            t = np.linspace(0, 1, 40)[:, None]
            w = [(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3]
            curve = [tuple(q) for q in sum(a * b for a, b in zip(w, p, strict=True))]
        points.extend(curve)
        x, y = points[-1]
    return points


def drawn(picture):
    """The group with the graph: elements in the coordinates of the layout."""
    root = ET.fromstring(to_svg(picture))
    return root.find(f"{SVG}g")


@every_picture
def test_no_edge_runs_through_a_node_or_a_foreign_label(picture):
    layout = svg_layout(picture)
    paths = [e.get("d") for e in drawn(picture).findall(f"{SVG}path") if e.get("class") == "edge"]
    assert len(paths) == len(picture.edges)
    for path, edge, route in zip(paths, picture.edges, layout.routes, strict=True):
        points = points_on(path)
        ends = layout.nodes[edge.source], layout.nodes[edge.target]
        foreign = [box for box in layout.nodes if box not in ends]
        foreign += [r.label for r in layout.routes if r is not route and r.label.height]
        for box in foreign:
            inside = [
                (x, y) for x, y in points if box.left < x < box.right and box.top < y < box.bottom
            ]
            assert not inside, (edge, box)


@every_picture
def test_texts_stay_in_their_boxes(picture):
    """Value above the line, gradient below, both within the label's box; captions under shapes."""
    layout = svg_layout(picture)
    texts = [(e.get("class"), e.text, float(e.get("x")), float(e.get("y"))) for e in
             drawn(picture).findall(f"{SVG}text")]  # fmt: skip
    for edge, route in zip(picture.edges, layout.routes, strict=True):
        box = route.label
        for kind, text in (("value", edge.value), ("gradient", edge.gradient)):
            if text:
                at = [y for k, t, x, y in texts if (k, t) == (kind, text) and abs(x - box.x) < 0.1]
                assert any(box.top < y < box.y if kind == "value" else box.y < y < box.bottom
                           for y in at)  # fmt: skip
                assert len(text) * 6.7 <= box.width
    shown = {text for _, text, _, _ in texts}
    assert {node.symbol for node in picture.nodes} <= shown


def test_svg_is_self_contained_and_escapes_names():
    nodes = [PictureNode("input", '<&">'), PictureNode("output", "f")]
    text = to_svg(Picture("a < b & c", nodes, [PictureEdge(0, 1, "<1>", "&")]))
    root = ET.fromstring(text)
    assert root.findtext(f"{SVG}title") == "a < b & c"
    assert '<&">' in [e.text for e in root.iter(f"{SVG}text")]
    assert "prefers-color-scheme:dark" in text
    assert not re.search(r"href|<script|url\(|@import", text)


def test_svg_is_inside_its_frame_with_title_and_legend():
    root = ET.fromstring(to_svg(PICTURES["60 nodes (0)"]))
    words = [e.text for e in root.iter(f"{SVG}text")]
    assert {"60 nodes, number 0", "value", "gradient", "input", "gate"} <= set(words)
    layout = svg_layout(PICTURES["60 nodes (0)"])
    assert float(root.get("width")) > layout.width
    assert float(root.get("height")) > layout.height


def test_the_same_graph_is_the_same_drawing_in_every_process():
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from test_graph_drawing import PICTURES, to_svg, to_text\n"
        "import hashlib\n"
        "picture = PICTURES['60 nodes (1)']\n"
        "print(hashlib.sha256((to_svg(picture) + to_text(picture)).encode()).hexdigest())"
    )
    here = str(Path(__file__).parent)
    found = {
        subprocess.run(
            [sys.executable, "-c", program, here],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in "12"
    }
    assert len(found) == 1


# --- text ----------------------------------------------------------------------------------------

ARMS = {glyph: arms for arms, glyph in GLYPHS.items()}
MOVES = {RIGHT: (1, 0), UP: (0, -1), DOWN: (0, 1)}
OPPOSITE = {LEFT: RIGHT, RIGHT: LEFT, UP: DOWN, DOWN: UP}


def reached(channel, row):
    """Rows on the right that a reader gets to from `row` on the left, never going back left."""
    cells = {(x, y): glyph for x, y, glyph in channel.cells()}
    waiting, seen, found = [(0, row, RIGHT)], set(), set()
    while waiting:
        x, y, heading = state = waiting.pop()
        if state in seen:
            continue
        seen.add(state)
        if x == channel.width:
            found.add(y)
            continue
        glyph = cells.get((x, y))
        if glyph is None:
            continue
        passes_behind = heading == RIGHT and glyph == "│"
        if not passes_behind and not ARMS[glyph] & OPPOSITE[heading]:
            continue
        for way, (dx, dy) in MOVES.items():
            onwards = way == heading if passes_behind else ARMS[glyph] & way
            if onwards and way != OPPOSITE[heading]:
                waiting.append((x + dx, y + dy, way))
    return found


def random_links(source, is_fan_out):
    """What occurs between two columns: either sources fan out, or targets gather, never both."""
    rows = source.sample(range(14), source.randint(1, 9))
    pool = rows if source.random() < 0.5 else range(14)  # the same rows on both sides: swaps
    links = set()
    for row in rows:
        other = source.choice(list(pool))
        links.add((other, row) if is_fan_out else (row, other))
    return sorted(links)


@pytest.mark.parametrize("is_fan_out", [False, True])
def test_wires_lead_where_they_should_and_nowhere_else(is_fan_out):
    source = random.Random(20261123)
    split = 0
    for _ in range(1500):
        links = random_links(source, is_fan_out)
        channel = Channel(links)
        split += any(wire.rest for wire in channel.wires)
        for row in {a for a, _ in links}:
            assert reached(channel, row) == {b for a, b in links if a == row}, links
    assert split > 20  # circular constraints did occur


def test_two_wires_that_change_places():
    channel = Channel([(0, 2), (2, 0)])
    assert (reached(channel, 0), reached(channel, 2)) == ({2}, {0})


@every_picture
def test_text_drawing_shows_every_value_and_node(picture):
    text = to_text(picture)
    for edge in picture.edges:
        assert edge.value in text
        assert edge.gradient in text
    for node in picture.nodes:
        inside = f"{node.caption} = {node.symbol}" if node.caption else node.symbol
        assert inside in text
    assert text.startswith(picture.title)
    assert not any(line.endswith(" ") for line in text.splitlines())


def read_off(text):
    """The edges of a text drawing, found by following its lines with the eyes of a reader."""
    lines = text.split("\n\n", 1)[1].splitlines()
    cells = {(x, y): c for y, line in enumerate(lines) for x, c in enumerate(line) if c != " "}
    names, ends = {}, {}
    for y, line in enumerate(lines):
        for found in re.finditer(r"\[(\w+)\]|\((\w+) = [^)]*\)|(?<=─ )(f)$", line):
            name = found[1] or found[2] or found[3]
            names.update({(x, y): name for x in range(found.start() - bool(found[3]), found.end())})
            ends[name] = found.end(), y
    return {(a, b) for a, (x, y) in ends.items() for b in targets(cells, names, x, y)}


def targets(cells, names, x, y):
    waiting, seen = [(x, y, RIGHT)], set()
    while waiting:
        x, y, heading = state = waiting.pop()
        if state in seen or ((x, y) not in cells and (x, y) not in names):
            continue
        seen.add(state)
        if (x, y) in names:
            yield names[x, y]
            continue
        glyph = "─" if cells[x, y].isdigit() else cells[x, y]  # the number of an operand
        passes_behind = heading == RIGHT and glyph == "│"
        if not passes_behind and not ARMS[glyph] & OPPOSITE[heading]:
            continue
        for way, (dx, dy) in MOVES.items():
            onwards = way == heading if passes_behind else ARMS[glyph] & way
            if onwards and way != OPPOSITE[heading]:
                waiting.append((x + dx, y + dy, way))


@pytest.mark.parametrize("n", [3, 6, 12, 25, 60])
@pytest.mark.parametrize("seed", range(4))
def test_a_reader_of_the_text_drawing_finds_the_edges(n, seed):
    random_one = random_picture(n, seed)
    names = [node.symbol if node.kind != "gate" else f"v{i}"
             for i, node in enumerate(random_one.nodes)]  # fmt: skip
    nodes = [
        PictureNode(node.kind, node.symbol, name if node.kind == "gate" else "", node.is_ordered)
        for node, name in zip(random_one.nodes, names, strict=True)
    ]
    text = to_text(Picture("title", nodes, random_one.edges))
    assert read_off(text) == {(names[e.source], names[e.target]) for e in random_one.edges}


def test_a_reader_of_the_lectures_text_drawing_finds_its_edges():
    def f(x):
        a = x**2
        c = a + np.exp(a)
        return np.sqrt(c) + np.cos(c)

    text = ComputationalGraph.record(f, 0.7, title="the lecture").to_text()
    edges = ["xa", "ab", "ac", "bc", "cd", "ce", "df", "ef"]
    assert read_off(text) == {(a, b) for a, b in edges}


# --- DOT -----------------------------------------------------------------------------------------


def test_dot_has_every_node_and_edge_and_escapes():
    nodes = [
        PictureNode("input", 'x"\\'),
        PictureNode("gate", "−", "q"),
        PictureNode("output", "f"),
    ]
    edges = [PictureEdge(0, 1, "<1>", "&", "2"), PictureEdge(1, 2)]
    lines = to_dot(Picture('say "hi"', nodes, edges)).splitlines()
    assert lines[0] == "digraph {"
    assert lines[-1] == "}"
    assert 'label="say \\"hi\\""' in lines[1]
    assert lines[4].startswith('  n0 [label="x\\"\\\\", shape=box')
    assert lines[5].startswith('  n1 [label="−\\nq", shape=circle')
    assert "&lt;1&gt;" in lines[7]
    assert "&amp;" in lines[7]
    assert 'headlabel="2"' in lines[7]
    assert lines[8] == "  n1 -> n2"


# --- pictures of graphs --------------------------------------------------------------------------


def test_drawing_before_and_after_the_passes():
    g = ComputationalGraph("a title")
    g.mul(g.input("x"), 2.5, name="y")
    assert "a title" in g.to_text()
    assert "7.5" not in g.to_text()
    g.forward(3)
    assert "7.5" in g.to_svg()
    g.backward()
    assert ">2.5<" in g.to_svg()
    assert "<svg" in g._repr_svg_()


def test_a_constant_is_drawn_beside_each_use():
    g = ComputationalGraph.record(lambda x: (x + 2.5) * 2.5, 1.0)
    assert sum(line.count(" 2.5 ") for line in g.to_text().splitlines()) == 2


def test_only_ordered_operands_are_numbered():
    g = ComputationalGraph()
    x, y = g.input("x"), g.input("y")
    g.add(x, y)
    assert "headlabel" not in g.to_dot()
    g.sub(x, y)
    assert 'headlabel="2"' in g.to_dot()


@pytest.mark.parametrize("ending", [".svg", ".dot", ".txt"])
def test_draw_writes_by_ending(tmp_path, ending):
    g = ComputationalGraph.record(np.sin, 1.0)
    g.draw(tmp_path / f"graph{ending}")
    written = (tmp_path / f"graph{ending}").read_text(encoding="utf-8")
    assert written == {".svg": g.to_svg, ".dot": g.to_dot, ".txt": g.to_text}[ending]()


def test_draw_refuses_other_endings(tmp_path):
    g = ComputationalGraph.record(np.sin, 1.0)
    with pytest.raises(ValueError, match=r"graph.png: a drawing ends in one of .svg, .dot, .txt"):
        g.draw(tmp_path / "graph.png")
    assert list(tmp_path.iterdir()) == []


def test_without_the_layout_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "fast_sugiyama", None)
    g = ComputationalGraph.record(np.sin, 1.0)
    for draw in (g.to_svg, g.to_text):
        with pytest.raises(ImportError, match=r"pip install fastad\[graph\]"):
            draw()
    assert g._repr_svg_() is None
    assert g.to_dot().startswith("digraph")


def test_a_graph_beyond_reading_is_refused_and_a_long_chain_is_not():
    g = ComputationalGraph()
    x = g.input("x")
    gate = x
    for _ in range(300):
        gate = g.sin(gate)
    assert g.to_svg().count("<rect") > 300
    for _ in range(300):
        gate = g.add(g.sin(gate), x)
    with pytest.raises(ValueError, match="too large to be drawn: 902 nodes"):
        g.to_svg()
    assert g.to_dot().count(" -> ") == 1201


def test_the_tour_of_the_lecture(tmp_path):
    program = Path(__file__).parent.parent / "examples" / "lecture.py"
    found = subprocess.run(
        [sys.executable, str(program), str(tmp_path)],
        capture_output=True,
        check=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    )
    assert "topological ordering: H I J L M" in found.stdout
    assert "distributes: every operand gets the gradient -4" in found.stdout
    assert found.stdout.rstrip().endswith("at (3, 4): 4.0 3.0")
    pictures = sorted(tmp_path.iterdir())
    assert [p.name for p in pictures] == ["lecture.svg", "network.svg", "product_of_sum.svg"]
    for picture in pictures:
        ET.fromstring(picture.read_text(encoding="utf-8"))
