"""Muon for the weight matrices (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/) in fp32."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor


class Muon:
    """Step matrices along the orthogonalised momentum of their gradients, equal shapes together."""

    def __init__(
        self, matrices: Sequence[Tensor], momentum: float = 0.95, weight_decay: float = 0.01
    ) -> None:
        """Take the parameters to update; all must have two dimensions."""
        by_shape: dict[torch.Size, list[Tensor]] = defaultdict(list)
        for matrix in matrices:
            by_shape[matrix.shape].append(matrix)
        self._groups = [(group, torch.zeros(len(group), *shape)) for shape, group in by_shape.items()]
        self._momentum = momentum
        self._weight_decay = weight_decay

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Update all matrices from their gradients."""
        for group, velocity in self._groups:
            gradient = torch.stack([matrix.grad for matrix in group if matrix.grad is not None])
            velocity.lerp_(gradient, 1 - self._momentum)
            update = _orthogonalise(gradient.lerp(velocity, self._momentum))
            scale = max(1.0, update.shape[-2] / update.shape[-1]) ** 0.5
            for matrix, direction in zip(group, update, strict=True):
                matrix.mul_(1 - learning_rate * self._weight_decay).sub_(
                    direction, alpha=learning_rate * scale
                )


def _orthogonalise(batch: Tensor) -> Tensor:
    """Bring the singular values of each matrix near 1 with five Newton-Schulz steps."""
    tall = batch.shape[-2] > batch.shape[-1]
    x: Tensor = batch.mT if tall else batch
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x.mT if tall else x
