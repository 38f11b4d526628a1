"""Times contenders in turn, so that a change of the machine's mood hits all of them.

One *block* is ``number`` calls in a row.  One *round* is a few blocks of each contender, taken in
turn (A B C A B C ...); the fastest block of a contender stands for it in that round.  The figure of
a contender is the median over the rounds.  Ratios are ratios of such figures.
"""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter


@dataclass(frozen=True)
class Effort:
    """How long to measure.

    Parameters
    ----------
    rounds : int
        Rounds; the figure is their median.
    blocks : int
        Blocks of a contender in a round; the fastest one counts.
    block_seconds : float
        A block repeats its call until it lasts about this long.
    slow_seconds : float
        A contender whose one call lasts longer gets one block a round and at most three rounds.
    """

    rounds: int = 15
    blocks: int = 3
    block_seconds: float = 0.01
    slow_seconds: float = 0.3


QUICK = Effort(rounds=3, blocks=2, block_seconds=0.002, slow_seconds=0.05)
FULL = Effort()


@dataclass
class Figure:
    """Seconds a call of one contender: the best block of each round, and their median."""

    rounds: list[float] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Median over the rounds."""
        return statistics.median(self.rounds)

    @property
    def spread(self) -> float:
        """Interquartile range of the rounds / their median: how far to trust the figure."""
        if len(self.rounds) < 2:
            return 0.0
        first, _, third = statistics.quantiles(self.rounds, n=4, method="inclusive")
        return (third - first) / self.seconds

    def per(self, count: int) -> Figure:
        """The same figure for one of `count` equal parts of the call."""
        return Figure([seconds / count for seconds in self.rounds])


@contextmanager
def no_garbage_collection():
    """Collect, then keep the collector off, as ``timeit`` does, and put it back as it was."""
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def block(call: Callable[[], object], number: int) -> float:
    """Seconds for `number` calls in a row.

    The result of a call is dropped before the next one starts, as in a user's loop.
    """
    repeats = range(number)
    start = perf_counter()
    for _ in repeats:
        call()
    return perf_counter() - start


def calls_a_block(call: Callable[[], object], block_seconds: float) -> tuple[int, float]:
    """Calls that fill a block, and the seconds of one; warms the contender up on the way."""
    call()
    number = 1
    while True:
        seconds = block(call, number)
        if seconds >= block_seconds / 2:
            return max(1, round(number * block_seconds / seconds)), seconds / number
        number *= 2


def interleave(contenders: Mapping[str, Callable[[], object]], effort: Effort) -> dict[str, Figure]:
    """Time every contender in turn.

    Parameters
    ----------
    contenders : mapping of str to callable
        Calls without arguments; each returns its result so that nothing is optimised away.
    effort : Effort
        How many rounds and blocks.

    Returns
    -------
    dict of str to Figure
        Seconds a call.
    """
    plans = {}
    for name, call in contenders.items():
        number, seconds = calls_a_block(call, effort.block_seconds)
        slow = seconds > effort.slow_seconds
        plans[name] = (call, number, 1 if slow else effort.blocks, 3 if slow else effort.rounds)
    figures = {name: Figure() for name in contenders}
    for index in range(effort.rounds):
        with no_garbage_collection():
            for name, seconds in _one_round(plans, index, effort.blocks).items():
                figures[name].rounds.append(seconds)
    return figures


def _one_round(plans: dict, index: int, blocks: int) -> dict[str, float]:
    best: dict[str, float] = {}
    for turn in range(blocks):
        for name, (call, number, own_blocks, own_rounds) in plans.items():
            if turn < own_blocks and index < own_rounds:
                seconds = block(call, number) / number
                best[name] = min(seconds, best.get(name, seconds))
    return best
