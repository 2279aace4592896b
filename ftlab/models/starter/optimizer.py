"""Muon for the weight matrices, in float32.

Muon takes the momentum of a matrix, replaces it by the nearest matrix whose singular values are all about one (five
Newton-Schulz steps) and moves the weights by that: about half the steps of AdamW on this model. From K. Jordan et al.,
"Muon: An optimizer for hidden layers in neural networks" (2024). torch's own Muon computes the iteration in bfloat16,
which is two orders of magnitude slower on this CPU; this one batches matrices of equal shape in float32.
"""

from __future__ import annotations

from collections import defaultdict

import torch


def orthogonalise(matrices: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """Maps each matrix of a (count, rows, columns) stack to roughly U V^T of its singular value decomposition."""
    wide = matrices if matrices.shape[1] <= matrices.shape[2] else matrices.mT
    x = wide / (wide.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x if wide is matrices else x.mT


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised, scaled to the size of an AdamW step (0.2 * sqrt of the longer side), so that
    AdamW's learning rate and decoupled weight decay carry over."""

    def __init__(
        self, params: list[torch.nn.Parameter], lr: float, momentum: float = 0.95, weight_decay: float = 0.1
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # no closure is ever passed
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[torch.nn.Parameter]] = defaultdict(list)
            for p in group["params"]:
                by_shape[p.shape].append(p)
            for shape, params in by_shape.items():
                updates = []
                for p in params:
                    average = self.state[p].setdefault("momentum", torch.zeros_like(p))
                    assert p.grad is not None  # every parameter takes part in every step
                    average.lerp_(p.grad, 1 - group["momentum"])
                    updates.append(p.grad.lerp(average, group["momentum"]))
                size = 0.2 * max(shape) ** 0.5
                for p, update in zip(params, orthogonalise(torch.stack(updates)), strict=True):
                    p.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-group["lr"] * size)
