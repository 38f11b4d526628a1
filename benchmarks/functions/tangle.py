"""An irregular mix of operations: a random acyclic graph as straight-line Python, always the same.

A pool of `WIDTH` strands starts with the variables.  Each operation takes a random strand, combines
it with a value from anywhere before, and puts the result in the strand's place; the result of the
function is the sum of the pool.  Nothing repeats, so that there is no loop to find again.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

WIDTH = 500
FORMS = {
    "v[{a}] + v[{b}]": 0.2,
    "v[{a}] - v[{b}]": 0.2,
    "v[{a}] * v[{b}]": 0.3,
    "{c} * v[{a}]": 0.2,
    "sin(v[{a}])": 0.05,
    "tanh(v[{a}])": 0.05,
}


def _lines(operations: int) -> list[str]:
    count = operations - (WIDTH - 1)
    generator = np.random.default_rng(31337)
    forms = generator.choice(list(FORMS), size=count, p=list(FORMS.values())).tolist()
    strands = generator.integers(WIDTH, size=count).tolist()
    others = generator.integers(WIDTH + np.arange(count)).tolist()
    constants = generator.uniform(0.3, 0.9, size=count).round(4).tolist()
    pool, lines = list(range(WIDTH)), []
    for form, strand, other, constant in zip(forms, strands, others, constants, strict=True):
        lines.append(f"    add({form.format(a=pool[strand], b=other, c=constant)})")
        pool[strand] = WIDTH + len(lines) - 1
    sums = [f"    add(v[-1] + v[{place}])" for place in pool[1:]]
    sums[0] = f"    add(v[{pool[0]}] + v[{pool[1]}])"
    return lines + sums


def written(operations: int) -> Callable:
    """A function of that many operations, ``f(x, sin, tanh)`` with `WIDTH` scalars in x.

    Straight-line code, since an interpreter of a plan would cost more than the operations.
    """
    head = ["def tangle(x, sin, tanh):", "    v = list(x)", "    add = v.append"]
    source = "\n".join([*head, *_lines(operations), "    return v[-1]"])
    names: dict = {}
    exec(compile(source, "<tangle>", "exec"), names)
    return names["tangle"]


def point() -> np.ndarray:
    """The variables."""
    return np.random.default_rng(31337).uniform(-1.0, 1.0, WIDTH)
