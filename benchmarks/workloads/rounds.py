"""Times cells in turn, round after round, as `harness.timing.interleave` does with calls."""

from __future__ import annotations

from harness.timing import Effort
from workloads.cells import Cell

ONE_CALL_SECONDS = 5.0


def calibrated(cell: Cell, effort: Effort) -> tuple[int, int, int] | None:
    """Calls a block, blocks a round, rounds; None if the cell ended."""
    number = 1
    while True:
        seconds = cell.run(number)
        if seconds is None:
            return None
        if seconds >= effort.block_seconds / 2:
            break
        number *= 2
    one = seconds / number
    if one > ONE_CALL_SECONDS:
        cell.figure.rounds.append(one)
        return 1, 1, 0
    slow = one > effort.slow_seconds
    calls = max(1, round(effort.block_seconds / one))
    return (calls, 1, min(3, effort.rounds)) if slow else (calls, effort.blocks, effort.rounds)


def interleave(cells: list[Cell], effort: Effort) -> None:
    """Fill the cells' figures: the fastest block of each round, contenders in turn."""
    plans = [(cell, plan) for cell in cells if (plan := calibrated(cell, effort))]
    for index in range(effort.rounds):
        best: dict[int, float] = {}
        for turn in range(effort.blocks):
            for place, (cell, (number, blocks, rounds)) in enumerate(plans):
                if not cell.alive or turn >= blocks or index >= rounds:
                    continue
                seconds = cell.run(number)
                if seconds is not None:
                    best[place] = min(seconds / number, best.get(place, float("inf")))
        for place, seconds in best.items():
            plans[place][0].figure.rounds.append(seconds)
