"""A program's schedule as SVG: steps from top to bottom, and lines from what is written to what reads it.

Every step and every input has one line of its own, left of the steps: it starts where the step has
written, and has an arrow into each later step, and each output, that has any of it. Constants have
none.
"""

from collections.abc import Iterator, Sequence
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
text{font-family:ui-monospace,'DejaVu Sans Mono',Menlo,Consolas,monospace;font-size:12px;fill:#1f2328}
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


def _box(x: float, y: float, width: float, lines: list[str], kind: str) -> list[str]:
    height = len(lines) * LINE + 2 * PAD
    parts = [f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height}" rx="5"/>']
    for i, line in enumerate(lines):
        indent = len(line) - len(line.lstrip())
        head = ' class="head"' if i == 0 else ""
        at = x + PAD + indent * CHARACTER
        parts.append(f'<text{head} x="{at:g}" y="{y + PAD + LINE * (i + 0.75):g}">{escape(line.strip())}</text>')
    return parts


def _arrows(source: float, lane: float, left: float, readers: list[float], colour: str) -> list[str]:
    """A line down a lane, with an arrow to the right at every reader."""
    path = f"M{left:g} {source:g}H{lane:g}V{max(readers):g}"
    parts = [f'<path d="{path}" fill="none" stroke="{colour}"/>']
    for y in readers:
        parts.append(f'<path d="M{lane:g} {y:g}H{left - 5:g}" fill="none" stroke="{colour}"/>')
        parts.append(f'<path d="M{left:g} {y:g}l-6 -3v6z" fill="{colour}"/>')
    return parts


def draw(steps: Sequence[Step], inputs: int, outputs: int) -> str:
    """The drawing of `Program.schedule()` as SVG."""
    steps, count = _with_outputs(steps, outputs), len(steps)
    rows = [([f"in{k}"], 0, "input") for k in range(inputs)]
    rows += [(_shown(text), n, "step" if i < count else "input") for i, (text, n, _, _) in enumerate(steps)]
    readers = links(steps)
    tops, y = [], 2.0 * GAP + LINE
    for lines, _, _ in rows:
        tops.append(y)
        y += len(lines) * LINE + 2 * PAD + GAP
    enters = [top + PAD + 0.3 * LINE for top in tops]
    leaves = [top + len(row[0]) * LINE + PAD for top, row in zip(tops, rows, strict=True)]

    def number(source: int) -> int:
        return -1 - source if source < 0 else inputs + source

    spans = {
        source: (leaves[number(source)], enters[number(those[-1])])
        for source, those in readers.items()
    }
    lanes = _lanes(spans)
    left = GAP + LANE * (max(lanes.values(), default=0) + 2)
    width = max([len(line) for lines, _, _ in rows for line in lines], default=10) * CHARACTER + 2 * PAD
    parts = []
    for source, those in readers.items():
        lane, colour = left - LANE * (lanes[source] + 1.5), _COLOURS[lanes[source] % len(_COLOURS)]
        # Where many lines enter one step, each has a height of its own.
        heights = [enters[number(r)] + lanes[source] % 5 * 3 for r in those]
        parts += _arrows(leaves[number(source)], lane, left, heights, colour)
    for top, (lines, n, kind) in zip(tops, rows, strict=True):
        parts += _box(left, top, width, lines, kind)
        if n:
            length = BAR * max(log10(n), 0.1)
            parts.append(f'<rect class="bar" x="{left + width + GAP:g}" y="{top + PAD:g}" width="{length:g}" height="8"/>')
            parts.append(f'<text x="{left + width + GAP:g}" y="{top + PAD + 22:g}">{n}</text>')
    total = left + width + 2 * GAP + BAR * max([log10(max(n, 10)) for _, n, _ in rows] or [1.0]) + 20
    legend = f'<text class="legend" x="{GAP}" y="{GAP + 8}">from top to bottom; bars: elements, by their logarithm</text>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{total:g}" height="{y:g}" viewBox="0 0 {total:g} {y:g}">'
        f'<style>{_STYLE}</style><rect class="panel" x="0.5" y="0.5" width="{total - 1:g}" height="{y - 1:g}" rx="8"/>'
        f"{legend}{''.join(parts)}</svg>\n"
    )
