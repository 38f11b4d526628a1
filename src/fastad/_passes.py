"""The passes that a trace goes through, and when the result of one is not taken."""

from fastad._core import SpareMemory

__all__ = ["optimised"]

PASSES = ("writes", "vectorize", "simplify", "columns", "reassociate", "roll", "simplify")
# nothing is added in another order
STRICT_PASSES = ("writes", "vectorize", "simplify", "roll", "simplify")
ROLLED = 0.9  # of the nodes: where more are left, scalars are better grouped as they are
LONG = 200  # nodes: a pass over less does not count


def optimised(trace, strict, show=lambda name, trace: None, keep=False, last=False):
    """The trace after all passes; one that does not roll is left as it was before.

    `trace` itself is discarded, unless `keep`: its memory is what the passes use. `show` is called
    with each pass's name and result. `last`: no derivatives are taken of what comes out.
    """
    memory = SpareMemory()
    for name in STRICT_PASSES if strict else PASSES:
        kind = "last columns" if last and name == "columns" else name
        after = trace.through(kind, strict, memory)
        show(name, after)
        if name == "roll" and len(after) >= max(ROLLED * len(trace), LONG):
            break
        if after is trace:  # nothing to do
            continue
        if not keep:
            trace.discard(memory)
        trace, keep = after, False
    return trace
