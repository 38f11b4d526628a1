"""``compare.py one-shot``: recording, the reverse loop, one-shot gradients, and what they cost."""

from __future__ import annotations

from one_shot import footprint, growth, install, recording, reverse, rosenbrock

CASES = (
    *recording.CASES,
    *reverse.CASES,
    *rosenbrock.CASES,
    *footprint.CASES,
    *growth.CASES,
    *install.CASES,
)
