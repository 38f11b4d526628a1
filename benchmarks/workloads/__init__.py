"""Functions that others chose: eight workloads of the public AD benchmark suites, every peer."""

from __future__ import annotations

from functools import partial

from harness.session import Case
from workloads import ba, building, det, gmm, kmeans, llsq, lse, lstm, ode, pages, run

WORKLOADS = {
    module.WORKLOAD.name: module.WORKLOAD for module in (det, gmm, kmeans, llsq, lse, lstm, ode, ba)
}
CASES = tuple(
    Case(name, f"{name}: {each.title}", partial(run.lines, each))
    for name, each in WORKLOADS.items()
)
new_session, facts = run.new_session, building.facts
PACKAGES = ("autograd", "torch", "jax", "casadi", "cmeel-cppad")


def write_pages(options, facts, session, lines) -> None:
    """What ``--csv`` and ``--html`` ask for."""
    if options.csv:
        pages.write_csv(options.csv, session.cells)
    if options.html:
        pages.write_html(options.html, facts, session.cells, lines)
