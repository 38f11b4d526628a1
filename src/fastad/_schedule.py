"""A program's schedule as SVG: steps from top to bottom, and lines from writers to readers.

Every step and every input has one line of its own, left of the steps: it starts where the step has
written, and has an arrow into each later step, and each output, that has any of it. Constants have
none.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from math import log10

Span = tuple[str, int, int]  # base, begin, end
Step = tuple[str, int, list[Span], list[Span]]  # text, elements, what is read, what is written

LINE = 15
PAD = 8
GAP = 14
LANE = 11
CHARACTER = 7.3
MOST_LINES = 14
BAR = 30.0  # of a range of ten elements; a hundred is twice as long

_COLOURS = ("#0969da", "#8250df", "#bf3989", "#bc4c00", "#1a7f37", "#9a6700", "#0a7ea4", "#57606a")

_STYLE = """
.panel{fill:#ffffff;stroke:#d0d7de}
.step{fill:#f6f8fa;stroke:#57606a}
.input{fill:#ddf4ff;stroke:#0969da}
.bar{fill:#1a7f37}
text{font-family:ui-monospace,'DejaVu Sans Mono',Menlo,Consolas,monospace;font-size:12px}
text{fill:#1f2328}
.head{font-weight:bold}
.legend{font-family:system-ui,'DejaVu Sans',Helvetica,Arial,sans-serif;fill:#57606a}
@media (prefers-color-scheme:dark){
.panel{fill:#0d1117;stroke:#30363d}
.step{fill:#21262d;stroke:#8b949e}
.input{fill:#0c2d6b;stroke:#58a6ff}
.bar{fill:#56d364}
text{fill:#e6edf3}
.legend{fill:#9da7b3}
}
""".replace("\n", "")


def _overlaps(x: Span, y: Span) -> bool:
    return x[0] == y[0] and x[1] < y[2] and y[1] < x[2]


def _covers(x: Span, y: Span) -> bool:
    return x[0] == y[0] and x[1] <= y[1] and y[2] <= x[2]


def links(steps: Sequence[Step]) -> dict[int, list[int]]:
    """For each source the steps that read it: a step by its number, input k as -1 - k."""
    found: dict[int, set[int]] = {}
    for reader, (_, _, reads, _) in enumerate(steps):
        for span in reads:
            if span[0].startswith("in"):
                found.setdefault(-1 - int(span[0][2:]), set()).add(reader)
            for writer in _writers(steps[:reader], span):
                found.setdefault(writer, set()).add(reader)
    return {source: sorted(readers) for source, readers in found.items()}


def _writers(steps: Sequence[Step], span: Span) -> Iterator[int]:
    """The steps that wrote what `span` holds after all of these have run."""
    for number in range(len(steps) - 1, -1, -1):
        written = steps[number][3]
        if any(_overlaps(w, span) for w in written):
            yield number
        if any(_covers(w, span) for w in written):
            return


def _with_outputs(steps: Sequence[Step], outputs: int) -> list[Step]:
    """Outputs as steps that read what was written to them."""
    everything = 1 << 62
    return [*steps, *((f"out{k}", 0, [(f"out{k}", 0, everything)], []) for k in range(outputs))]


def _lanes(spans: dict[int, tuple[float, float]]) -> dict[int, int]:
    """A lane for each vertical line, so that no two that share one meet."""
    ends: list[float] = []
    lanes = {}
    for source, (top, bottom) in sorted(spans.items(), key=lambda item: item[1]):
        lane = next((i for i, end in enumerate(ends) if end < top), len(ends))
        ends[lane : lane + 1] = [bottom]
        lanes[source] = lane
    return lanes


def _shown(text: str) -> list[str]:
    lines = text.rstrip("\n").split("\n")
    if len(lines) > MOST_LINES + 1:
        rest = len(lines) - MOST_LINES
        lines = [*lines[:MOST_LINES], f"  ... and {rest} more"]
    return lines


def _text(x: float, y: float, text: str, kind: str = "") -> str:
    attribute = f' class="{kind}"' if kind else ""
    return f'<text{attribute} x="{x:g}" y="{y:g}">{escape(text)}</text>'


def _rect(kind: str, x: float, y: float, width: float, height: float, radius: float = 0) -> str:
    size = f'width="{width:g}" height="{height:g}"'
    return f'<rect class="{kind}" x="{x:g}" y="{y:g}" {size} rx="{radius:g}"/>'


def _box(x: float, y: float, width: float, lines: list[str], kind: str) -> list[str]:
    parts = [_rect(kind, x, y, width, len(lines) * LINE + 2 * PAD, 5)]
    for i, line in enumerate(lines):
        at = x + PAD + (len(line) - len(line.lstrip())) * CHARACTER
        parts.append(_text(at, y + PAD + LINE * (i + 0.75), line.strip(), "" if i else "head"))
    return parts


def _bar(x: float, y: float, n: int) -> list[str]:
    """A range of `n` elements."""
    return [_rect("bar", x, y, BAR * max(log10(n), 0.1), 8), _text(x, y + 22, str(n))]


def _arrows(start: float, lane: float, left: float, readers: list[float], colour: str) -> list[str]:
    """A line down a lane, with an arrow to the right at every reader."""
    line = f'fill="none" stroke="{colour}"'
    parts = [f'<path d="M{left:g} {start:g}H{lane:g}V{max(readers):g}" {line}/>']
    for y in readers:
        parts.append(f'<path d="M{lane:g} {y:g}H{left - 5:g}" {line}/>')
        parts.append(f'<path d="M{left:g} {y:g}l-6 -3v6z" fill="{colour}"/>')
    return parts


@dataclass(frozen=True)
class _Row:
    """A step, input or output: where it stands, and where lines leave and enter."""

    lines: list[str]
    elements: int
    kind: str
    top: float

    @property
    def bottom(self) -> float:
        return self.top + len(self.lines) * LINE + 2 * PAD

    @property
    def leaves(self) -> float:
        return self.bottom - PAD

    @property
    def enters(self) -> float:
        return self.top + PAD + 0.3 * LINE


def _rows(steps: Sequence[Step], inputs: int, outputs: int) -> list[_Row]:
    rows: list[_Row] = []
    first_output = inputs + len(steps) - outputs
    texts = [(f"in{k}", 0) for k in range(inputs)] + [(text, n) for text, n, _, _ in steps]
    for number, (text, n) in enumerate(texts):
        kind = "step" if inputs <= number < first_output else "input"
        rows.append(_Row(_shown(text), n, kind, rows[-1].bottom + GAP if rows else 3.0 * GAP))
    return rows


def draw(steps: Sequence[Step], inputs: int, outputs: int) -> str:
    """The drawing of `Program.schedule()` as SVG."""
    steps = _with_outputs(steps, outputs)
    rows, found = _rows(steps, inputs, outputs), links(steps)

    def row(source: int) -> _Row:
        return rows[-1 - source if source < 0 else inputs + source]

    lanes = _lanes({s: (row(s).leaves, row(those[-1]).enters) for s, those in found.items()})
    left = GAP + LANE * (max(lanes.values(), default=0) + 2)
    longest = max([len(line) for r in rows for line in r.lines], default=0)
    width = max(longest * CHARACTER + 2 * PAD, 320.0)
    parts = [_text(GAP, GAP + 8, "from top to bottom; bars: elements (logarithm)", "legend")]
    for source, those in found.items():
        at = left - LANE * (lanes[source] + 1.5)
        colour = _COLOURS[lanes[source] % len(_COLOURS)]
        # Where many lines enter one step, each has a height of its own.
        heights = [row(r).enters + lanes[source] % 5 * 3 for r in those]
        parts += _arrows(row(source).leaves, at, left, heights, colour)
    for r in rows:
        parts += _box(left, r.top, width, r.lines, r.kind)
        parts += _bar(left + width + GAP, r.top + PAD, r.elements) if r.elements else []
    most = max([r.elements for r in rows], default=0)
    right, bottom = left + width + 2 * GAP + BAR * log10(max(most, 10)) + 20, 2.0 * GAP
    if rows:
        bottom = rows[-1].bottom + GAP
    size = f'width="{right:g}" height="{bottom:g}" viewBox="0 0 {right:g} {bottom:g}"'
    panel = _rect("panel", 0.5, 0.5, right - 1, bottom - 1, 8)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size}><style>{_STYLE}</style>{panel}'
    return f"{head}{''.join(parts)}</svg>\n"
