"""Fitting a variational autoencoder to the embeddings of rows, as its method needs it.

Shen, Zhang, Zhao, Bialkowski, Chen, Xu (2024). Label-Agnostic Forgetting: A Supervision-Free
Unlearning in Deep Models. The published decoder ends in a sigmoid and embeddings enter as they are:
most of an embedding that is not between 0 and 1 can then never be explained. Here the last layer is
linear, and embeddings enter in units of their root mean square length, so that an error is a share
of what there is to explain.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from expunge.changes.weights import load_stored
from expunge.data.samples import Batch, TensorSamples
from expunge.descent.length import batches_of
from expunge.descent.optimisers import AdamW
from expunge.errors import ExpungeError
from expunge.families.abilities import Anatomy, UnitLosses
from expunge.families.blocks import blocks_of
from expunge.learning.supervised.plain import Plain
from expunge.models.representation_vae import RepresentationVae
from expunge.recipe import Role
from expunge.run import Run


@dataclass(frozen=True)
class Codes:
    """The family of autoencoders of embeddings: a batch holds ``embedding`` (B, D).

    Args:
        latent: numbers of a code.
        divergence_weight: factor of the divergence in the loss.
        name: under which errors know it.
    """

    latent: int
    divergence_weight: float
    name: str = "codes"

    def draw(self, batch: Batch, generator: torch.Generator) -> Batch:
        """The batch with the noise of its codes."""
        shape = len(batch["embedding"]), self.latent
        return {**batch, "noise": torch.randn(shape, generator=generator)}

    def losses(self, model: nn.Module, batch: Batch) -> UnitLosses:
        """Squared error plus the weighted divergence, one unit a sample."""
        errors, divergence = model(batch["embedding"], batch["noise"])
        return UnitLosses.per_sample(errors + self.divergence_weight * divergence)

    def anatomy(self, model: nn.Module) -> Anatomy:
        """Its parts."""
        blocks = blocks_of(model)
        return Anatomy(blocks, blocks[next(reversed(blocks))])


@dataclass(frozen=True)
class Explainer:
    """How an autoencoder is fitted to embeddings.

    Args:
        latent: numbers of a code.
        epochs: passes over the rows.
        least_steps: fewest steps: as many passes more as they take.
        learning_rate: of Adam.
        batch_size: rows a step.
        divergence_weight: factor of the divergence of the codes from N(0, I).
        as_published: a sigmoid at the end, on embeddings as they are.
    """

    latent: int = 8
    epochs: int = 10
    least_steps: int = 0
    learning_rate: float = 1e-3
    batch_size: int = 64
    divergence_weight: float = 0.025
    as_published: bool = False

    def fit(self, embeddings: Tensor, run: Run, name: str) -> RepresentationVae:
        """An autoencoder of embeddings (n, D); ``name`` separates the random numbers of several.

        Raises:
            ExpungeError: an embedding is not finite, or all are zero.
        """
        finite = embeddings.isfinite().all(1)
        if not bool(finite.all()):
            raise ExpungeError(
                f"{int((~finite).sum())} of {len(finite)} embeddings hold NaN or infinite numbers; "
                "finite ones are expected. The model has probably diverged: give other weights."
            )
        unit = float(embeddings.square().sum(1).mean().sqrt())
        if not unit > 0:
            raise ExpungeError(
                "All embeddings are zero, so no distribution can be fitted to them; check that the "
                "model reads its inputs."
            )
        draws = run.generator(f"{name}/weights")
        untrained = self._built(embeddings.shape[1], draws, 1.0 if self.as_published else unit)
        ids = [str(row) for row in range(len(embeddings))]
        samples = TensorSamples(ids, ids, {"embedding": embeddings})
        own = Run(_seed_of(run, name), run.device)
        fitted = self._learner(len(ids)).fit(untrained, self._family, {Role.TRAIN: samples}, own)
        assert isinstance(fitted.model, RepresentationVae)
        return fitted.model

    def restored(self, tensors: Mapping[str, Tensor]) -> RepresentationVae:
        """The autoencoder of stored tensors."""
        width = tensors["encoder.0.weight"].shape[1]
        found = load_stored(self._built(width, torch.Generator(), 1.0), tensors)
        assert isinstance(found, RepresentationVae)
        return found

    @property
    def _family(self) -> Codes:
        return Codes(self.latent, self.divergence_weight)

    def _built(self, width: int, draws: torch.Generator, unit: float) -> RepresentationVae:
        return RepresentationVae(draws, width, self.latent, unit, self.as_published)

    def _learner(self, rows: int) -> Plain:
        least = math.ceil(self.least_steps / batches_of(rows, self.batch_size))
        return Plain(max(self.epochs, least), self.batch_size, AdamW(self.learning_rate))


def _seed_of(run: Run, name: str) -> int:
    """A seed of its own for a fit, whose learner names its random numbers as every training."""
    draws = run.generator(f"{name}/fit")
    return int(torch.randint(2**31, (), generator=draws))
