"""What the compiled gradient is held against: title of the other contender, and the limit."""

from __future__ import annotations

from workloads.contenders import HAND, HAND_VALUE, JAX, TORCH

GRADIENT = {JAX: 1.0, TORCH: 1.0, HAND: 1.5}

BARS: dict[str, dict[tuple[int, ...], dict[str, float]]] = {
    "det": {(8,): {HAND_VALUE: 0.1}, (10,): {HAND_VALUE: 0.1}},
    "gmm": {size: {JAX: 1.0, HAND: 1.2} for size in ((2, 5), (10, 25), (32, 50))},
    "kmeans": dict.fromkeys(((10, 1000, 8), (100, 1000, 16), (100, 10000, 16)), GRADIENT),
    "llsq": {(n,): GRADIENT for n in (16, 1024, 16_392)},
    "lse": {(n,): GRADIENT for n in (2500, 80_000, 1_280_000)},
    "lstm": {size: {HAND_VALUE: 2.5} for size in ((2, 1024), (4, 4096))},
    "ode": {
        (1000, 100): {JAX: 1.0},
        (10_000, 100): {JAX: 1.0},
        (8, 1000): {HAND_VALUE: 10.0},
    },
    "ba": {
        size: {HAND: 1.5}
        for size in ((49, 7776, 31_843), (257, 65_132, 225_911), (356, 226_730, 1_255_268))
    },
}
MOST_BYTES = {("det", (10,)): 10**9}
