"""JAX on the CPU in float64: jitted, and without jit.

Dispatch is synchronous: on one core that is JAX's faster setting for small functions.  Every call
waits for its gradient all the same; value and gradient come out of one executable, so waiting for
one of them is enough.
"""

from __future__ import annotations

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import numpy as np

from functions import pendulum, rosenbrock
from peers.base import Peer, Prepared

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_cpu_enable_async_dispatch", False)


def _read(found):
    return float(found[0]), np.asarray(found[1])


class JaxJit(Peer):
    """``jax.jit(jax.value_and_grad(f))`` on an array that already is a JAX array."""

    title = "JAX jit"
    how = "jit, x64, gradient waited for; input already a JAX array; compilation not timed"
    records_each_call = False

    def rosenbrock(self, x):
        return self._prepared(jax.jit(self._both()), x)

    def pendulums(self, points):
        def outcome(angle, speed, damping):
            return pendulum.outcome(angle, speed, damping, jnp.sin)

        both = jax.jit(jax.vmap(jax.value_and_grad(outcome, argnums=(0, 1, 2))))
        lanes = [jnp.asarray(each) for each in points]

        def call():
            found = both(*lanes)
            found[0].block_until_ready()
            return found

        return Prepared(call, lambda found: (np.asarray(found[0]), np.stack(found[1])))

    @staticmethod
    def _both():
        return jax.value_and_grad(rosenbrock.value_in(jnp))

    @staticmethod
    def _prepared(both, x):
        x = jnp.asarray(x)

        def call():
            found = both(x)
            found[1].block_until_ready()
            return found

        return Prepared(call, _read)


class JaxEager(JaxJit):
    """``jax.value_and_grad(f)`` without jit: what a function with Python control flow gets."""

    title = "JAX without jit"
    how = "value_and_grad without jit, x64, gradient waited for"
    records_each_call = True
    largest = 3

    def pendulums(self, points):
        return None

    def rosenbrock(self, x):
        return self._prepared(self._both(), x)


def contenders() -> list[Peer]:
    """Both ways."""
    return [JaxJit(), JaxEager()]
