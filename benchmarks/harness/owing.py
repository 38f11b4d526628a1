"""Bars that a case owes: one that was not measured shows up with the reason, never as nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from harness.report import Bar, Line, missing, reason, wrong
from harness.session import Session


def owing(
    bars: Mapping[str, Bar],
    run: Callable[[Session], Iterable[Line]],
    lacking: Callable[[], str | None] = lambda: None,
) -> Callable[[Session], Iterator[Line]]:
    """A case's run that yields a line for each of `bars`, come what may.

    Parameters
    ----------
    bars : mapping of str to Bar
        By the title of the line, `Line.what`; the line gets the bar here.
    run : callable
        Takes the session, yields lines.
    lacking : callable
        Says why nothing can be run, or None: then every bar is reported as missing.
    """

    def lines(session: Session) -> Iterator[Line]:
        owed = dict(bars)
        why = lacking()
        if why is not None:
            yield from (missing(what, why, bar) for what, bar in owed.items())
            return
        why = "the case ended without it"
        try:
            for line in run(session):
                line.bar = owed.pop(line.what, line.bar)
                yield line
        except Exception as error:  # the package under test may fail in any way
            why = reason(error)
        yield from (wrong(what, why, bar) for what, bar in owed.items())

    return lines
