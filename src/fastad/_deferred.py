"""Gradients of large recordings whose values nobody asked for: one run of a program."""

from fastad._batch import extent
from fastad._passes import optimised
from fastad._program import Trace

__all__ = ["run_deferred"]

FEWEST = 1 << 14  # elements of a node, in the mean: with fewer, making a program costs more than it saves
SAVED = 4  # times smaller a program's workspace has to be than the values that the tape would hold


def run_deferred(recorder, output, nodes):
    """Value of a scalar output and its derivatives by variables, or None where a sweep does better.

    A program passes over memory once where it can keep what lies between in the cache. Where it cannot, its workspace
    is as large as the values that a sweep needs, and it has no advantage.
    """
    _, elements, rules = extent(recorder)
    if rules or elements < FEWEST * len(recorder) or not recorder.node_active(output):
        return None
    trace = optimised(Trace.of(recorder, nodes, [output], []), False)
    trace = optimised(trace.gradient(0, range(len(nodes))), False)
    program = trace.lowered(False)
    if SAVED * program.working_bytes > 8 * elements:
        return None
    value, *gradients = program(*[recorder.borrowed(node) for node in nodes])
    return value, gradients
