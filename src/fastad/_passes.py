"""The passes that a trace goes through, and when the result of one is not taken."""

__all__ = ["optimised"]

PASSES = ("simplify", "columns", "reassociate", "roll", "simplify")
STRICT_PASSES = ("simplify", "roll", "simplify")  # nothing is added in another order
ROLLED = 0.9  # of the nodes: where more are left, scalars are better grouped as they are
LONG = 200  # nodes: a pass over less does not count


def optimised(trace, strict, show=lambda name, trace: None):
    """The trace after all passes; one that does not roll is left as it was before.

    `show` is called with each pass's name and result.
    """
    for name in STRICT_PASSES if strict else PASSES:
        after = trace.through(name, strict)
        show(name, after)
        if name == "roll" and len(after) >= max(ROLLED * len(trace), LONG):
            break
        trace = after
    return trace
