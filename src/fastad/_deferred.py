"""Gradients of large recordings whose values nobody asked for: one run of a program."""

from fastad._passes import optimised
from fastad._program import Trace

__all__ = ["run_deferred"]

FEWEST = 1 << 14  # elements of a node, in the mean: below, a program costs more than it saves
SAVED = 16  # so many times smaller than a sweep's values a program's workspace and constants are


def run_deferred(recorder, output, nodes):
    """Value of a scalar output and its derivatives by variables, or None where a sweep does better.

    A program passes over memory once where it can keep what lies between in the cache. Where it
    cannot, its workspace is as large as the values that a sweep reads, and it has no advantage.
    Large constants are copied from pass to pass.
    """
    elements, known, rules = recorder.extent()
    if rules or elements < max(FEWEST * len(recorder), SAVED * known):
        return None
    if not recorder.node_active(output):
        return None
    recorder.sweeping = True
    try:
        trace = optimised(Trace.of(recorder, nodes, [output], []), False, keep=True)
        trace = optimised(trace.gradient(0, range(len(nodes))), False, last=True)
        program = trace.lowered(False)
        if SAVED * program.working_bytes > 8 * elements:
            return None
        value, *gradients = program(*[recorder.borrowed(node) for node in nodes])
        return value, gradients
    finally:
        recorder.sweeping = False
