"""Lines of the table: what was measured, against what, the bar, and the verdict."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Literal

from harness.timing import Figure

Verdict = Literal["PASS", "MISS", "noisy", "info", "missing", "not run", "WRONG"]
NOISY = 0.25


@dataclass(frozen=True)
class Bar:
    """What a value must not exceed (``<=``) or must reach (``>=``)."""

    kind: Literal["<=", ">="]
    limit: float

    def holds(self, value: float) -> bool:
        """Whether `value` clears the bar; NaN never does."""
        return value <= self.limit if self.kind == "<=" else value >= self.limit

    def __str__(self) -> str:
        return f"{self.kind} {self.limit:g}"


def at_most(limit: float) -> Bar:
    """A bar that the value must stay at or under."""
    return Bar("<=", limit)


def at_least(limit: float) -> Bar:
    """A bar that the value must reach."""
    return Bar(">=", limit)


@dataclass
class Line:
    """One line of the table.

    Parameters
    ----------
    what : str
        What fastad did, or which peer did it.
    value : float or None
        The quantity held against the bar; None if there was nothing to measure.
    unit : str
        ``x`` for a ratio, else ``ns``, ``ms``, ``B``, ``MB``.
    bar : Bar, optional
        Without one the line only informs.
    ours, theirs : str
        The two sides of a ratio as text, with units.
    note : str
        What a reader must know to judge the figure; or why there is none.
    detail : dict
        Raw figures for ``--json``.
    spread : float
        The larger of both sides' `Figure.spread`.
    """

    what: str
    value: float | None = None
    unit: str = "x"
    bar: Bar | None = None
    ours: str = ""
    theirs: str = ""
    note: str = ""
    detail: dict = field(default_factory=dict)
    state: Verdict | None = None
    spread: float = 0.0

    @property
    def verdict(self) -> Verdict:
        """PASS or MISS against the bar; a missing or noisy figure is never a PASS."""
        if self.state is not None:
            return self.state
        if self.value is None:
            return "missing"
        if self.bar is None:
            return "info"
        if not self.bar.holds(self.value):
            return "MISS"
        return "noisy" if self.spread > NOISY else "PASS"

    def as_json(self) -> dict:
        """The line as plain data."""
        data = asdict(self)
        data["bar"] = str(self.bar) if self.bar else None
        data["verdict"] = self.verdict
        del data["state"]
        return data


def ratio(
    what: str, ours: Figure, theirs: Figure, name: str, bar: Bar | None = None, note: str = ""
) -> Line:
    """Our time over that of `name`; with a bar that asks us to stay under something."""
    return Line(
        what,
        ours.seconds / theirs.seconds,
        bar=bar,
        ours=duration(ours.seconds),
        theirs=f"{name} {duration(theirs.seconds)}",
        note=note,
        detail={"ours": ours.rounds, name: theirs.rounds},
        spread=max(ours.spread, theirs.spread),
    )


def against(
    what: str, ours: Figure, theirs: Figure, bar: Bar | None = None, note: str = ""
) -> Line:
    """A peer's time as a multiple of ours: above 1 we are faster."""
    return Line(
        what,
        theirs.seconds / ours.seconds,
        "x ours",
        bar,
        duration(ours.seconds),
        duration(theirs.seconds),
        note,
        {"ours": ours.rounds, "theirs": theirs.rounds},
        spread=max(ours.spread, theirs.spread),
    )


def missing(what: str, why: str, bar: Bar | None = None) -> Line:
    """A line for something that could not be measured because it is not there."""
    return Line(what, bar=bar, note=why, state="missing")


def not_run(what: str, why: str, bar: Bar | None = None) -> Line:
    """A line for something that was left out on purpose."""
    return Line(what, bar=bar, note=why, state="not run")


def wrong(what: str, why: str, bar: Bar | None = None) -> Line:
    """A line for a contender whose gradient is wrong, or who failed: it is not timed."""
    return Line(what, bar=bar, note=why, state="WRONG")


def reason(error: Exception) -> str:
    """The type of an exception and the first line of what it says."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


def duration(seconds: float) -> str:
    """Seconds with a readable unit and three digits."""
    for factor, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if seconds >= factor:
            return f"{seconds / factor:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def number(value: float) -> str:
    """Three digits, and no exponent up to a million."""
    return f"{value:.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}"


HEADINGS = ("what", "ours", "against", "value", "bar", "verdict")


def _cells(line: Line) -> tuple[str, ...]:
    value = "-" if line.value is None else f"{number(line.value)} {line.unit}"
    bar = str(line.bar) if line.bar else "-"
    return (line.what, line.ours or "-", line.theirs or "-", value, bar, line.verdict)


def table(title: str, lines: list[Line]) -> str:
    """The text table of one case; notes follow as numbered footnotes."""
    rows = [HEADINGS, *(_cells(line) for line in lines)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    notes = list(dict.fromkeys(line.note for line in lines if line.note))
    marks = ["", *(f"[{notes.index(line.note) + 1}]" if line.note else "" for line in lines)]
    text = [f"## {title}"]
    for row, mark in zip(rows, marks, strict=True):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        text.append(f"{'  '.join(cells)}  {mark}".rstrip())
    text.insert(2, "  ".join("-" * width for width in widths))
    text.extend(f"[{index}] {note}" for index, note in enumerate(notes, start=1))
    return "\n".join(text) + "\n"


def summary(lines: list[Line]) -> str:
    """How many lines passed, missed, were missing."""
    counts: dict[str, int] = {}
    for line in lines:
        counts[line.verdict] = counts.get(line.verdict, 0) + 1
    return ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items()))
