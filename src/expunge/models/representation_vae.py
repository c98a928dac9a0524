"""A variational autoencoder of embeddings: what a set of representations looks like.

Kingma, Welling (2014). Auto-Encoding Variational Bayes. Widths are those of Shen, Zhang, Zhao,
Bialkowski, Chen, Xu (2024), Label-Agnostic Forgetting.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from expunge.models import initial

HIDDEN = (128, 32)
"""Units of the encoder's hidden layers; the decoder has them in reverse."""


class RepresentationVae(nn.Module):
    """Encoder to a normal distribution of a few dimensions, and decoder back."""

    def __init__(
        self, generator: torch.Generator, width: int, latent: int, unit: float, bounded: bool
    ) -> None:
        """Draws the weights.

        Args:
            generator: draws them.
            width: numbers of an embedding (D).
            latent: numbers of a code.
            unit: length in which embeddings are measured before they are encoded.
            bounded: end the decoder in a sigmoid, so that it answers between 0 and 1 alone.
        """
        super().__init__()
        wide, narrow = HIDDEN
        self.encoder = nn.Sequential(
            nn.Linear(width, wide), nn.ReLU(), nn.Linear(wide, narrow), nn.ReLU()
        )
        self.mean, self.log_variance = nn.Linear(narrow, latent), nn.Linear(narrow, latent)
        last: list[nn.Module] = [nn.Linear(wide, width), *([nn.Sigmoid()] if bounded else [])]
        self.decoder = nn.Sequential(
            nn.Linear(latent, narrow), nn.ReLU(), nn.Linear(narrow, wide), nn.ReLU(), *last
        )
        self.register_buffer("unit", torch.tensor(unit))
        initial.draw(self, generator)

    def measured(self, embeddings: Tensor) -> Tensor:
        """Embeddings (B, D) in the module's unit."""
        return embeddings.float() / self.get_buffer("unit")

    def encoded(self, measured: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the variance (B, latent) of the codes of measured embeddings."""
        hidden = self.encoder(measured)
        return self.mean(hidden), self.log_variance(hidden)

    def errors(self, embeddings: Tensor) -> Tensor:
        """Squared distance (B,) of embeddings (B, D) to what the mean of their code decodes to, in
        squared units."""
        measured = self.measured(embeddings)
        mean, _ = self.encoded(measured)
        found: Tensor = (self.decoder(mean) - measured).square().sum(1)
        return found

    def forward(self, embeddings: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """The two parts (B,) of the loss of embeddings (B, D), for noise (B, latent) from N(0, I).

        Returns:
            Squared distance to what a drawn code decodes to, and the divergence in nats of the
            codes' distribution from N(0, I).
        """
        measured = self.measured(embeddings)
        mean, log_variance = self.encoded(measured)
        decoded = self.decoder(mean + (log_variance / 2).exp() * noise)
        divergence = (mean.square() + log_variance.exp() - 1 - log_variance).sum(1) / 2
        return (decoded - measured).square().sum(1), divergence
