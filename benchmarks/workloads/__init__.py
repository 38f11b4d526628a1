"""Functions that others chose: eight workloads of the public AD benchmark suites, every peer."""

from __future__ import annotations

from functools import partial

from harness.session import Case
from workloads import ba, det, gmm, kmeans, llsq, lse, lstm, ode, run

WORKLOADS = {
    module.WORKLOAD.name: module.WORKLOAD for module in (det, gmm, kmeans, llsq, lse, lstm, ode, ba)
}
CASES = tuple(
    Case(name, f"{name}: {each.title}", partial(run.lines, each))
    for name, each in WORKLOADS.items()
)
new_session = run.new_session
