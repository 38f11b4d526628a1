"""PyTorch, eager, one thread, float64."""

from __future__ import annotations

import torch

from functions import pendulum, rosenbrock
from peers.base import Peer, Prepared

torch.set_num_threads(1)


class Torch(Peer):
    """Tensors that require gradients, made once; ``torch.autograd.grad`` at every call."""

    title = "PyTorch"
    how = "eager, torch.autograd.grad on a tensor made once, one thread"

    def rosenbrock(self, x):
        function = rosenbrock.value_in(torch)
        variable = torch.from_numpy(x.copy()).requires_grad_()

        def both():
            value = function(variable)
            return value, torch.autograd.grad(value, variable)[0]

        return Prepared(both, lambda found: (found[0].item(), found[1].numpy()))

    def pendulums(self, points):
        variables = self._variables(points)

        def both():
            values = pendulum.outcome(*variables, torch.sin)
            return values, torch.autograd.grad(values.sum(), variables)

        return Prepared(
            both, lambda found: (found[0].detach().numpy(), torch.stack(found[1]).numpy())
        )

    def recording(self, body, values):
        variables = self._variables(values)
        return lambda: body(*variables)

    def sweep(self, function, values, wanted):
        variables = self._variables(values)
        result = function(variables, torch.tanh)

        asked = variables[-wanted:]

        def call():
            return torch.autograd.grad(result, asked, retain_graph=True)

        return Prepared(call, lambda found: (result.item(), torch.stack(found).numpy()))

    @staticmethod
    def _variables(values):
        return [
            torch.tensor(value, dtype=torch.float64, requires_grad=True)
            if isinstance(value, float)
            else torch.from_numpy(value.copy()).requires_grad_()
            for value in values
        ]


def contenders() -> list[Peer]:
    """Eager only: torch.compile takes 16 s for Rosenbrock, and then half of eager's time."""
    return [Torch()]
