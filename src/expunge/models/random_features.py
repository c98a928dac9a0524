"""Random features: a fixed random map before a linear head, which makes it a non-linear one.

Zhuang, Weng, Wei, Xie, Toh, Lin (2022). ACIL: Analytic Class-Incremental Learning with Absolute
Memorization and Privacy Protection (the buffer layer); Rahimi, Recht (2008). Weighted Sums of
Random Kitchen Sinks.
"""

import torch
from torch import Tensor, nn


class RandomReLU(nn.Module):
    """relu(W x) with W drawn once and never trained; there is no bias.

    W is a buffer, so that it is stored with the model and is part of its digest.
    """

    weight: Tensor

    def __init__(self, inputs: int, width: int, seed: int = 0) -> None:
        """Draws W (width, inputs) from a normal distribution of variance 1 / inputs.

        Args:
            inputs: entries of a feature vector.
            width: random features of it; the paper's learner has 8,192.
            seed: of the draw.
        """
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.randn(width, inputs, generator=generator) * inputs**-0.5
        self.register_buffer("weight", drawn)

    def forward(self, features: Tensor) -> Tensor:
        """Maps (n, inputs) to (n, width), at least 0."""
        return torch.relu(features @ self.weight.T)
