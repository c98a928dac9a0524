"""Terms on embeddings that read no label: explained by an autoencoder, near their start, far.

Shen, Zhang, Zhao, Bialkowski, Chen, Xu (2024). Label-Agnostic Forgetting: A Supervision-Free
Unlearning in Deep Models. With d = 1 - cos between an embedding and that of the model at the start,
the published loss sums log(exp(d_r) / sum_f exp(d_f / tau)) over the retain rows r of a batch. It
is their number times the mean of d_r less one logarithm, which is the same for all of them, so that
it splits into a term on either set.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from expunge.data.samples import ROW, Batch, Samples
from expunge.descent.player import Setting
from expunge.families.abilities import HasEmbeddings, able
from expunge.families.heads import embeddings_of
from expunge.models.representation_vae import RepresentationVae
from expunge.problem import Fields


def squashed(error: Tensor) -> Tensor:
    """exp(r / (r + 1)) of errors r of at least 0: from 1, where all is explained, to below e."""
    return (error / (error + 1)).exp()


def turned(embeddings: Tensor, before: Tensor) -> Tensor:
    """1 - cos (B,) between embeddings (B, D) and what they were: from 0 to 2."""
    return 1 - F.cosine_similarity(embeddings.float(), before.float(), dim=1)


@dataclass(frozen=True)
class Unexplained:
    """Mean squashed error of an autoencoder on the embeddings of a batch.

    Minimised on rows that are to stay what the companion knows; with a negative weight, rows leave
    the distribution that it was fitted to.

    Args:
        companion: name of the autoencoder, which stays as it is.
    """

    companion: str
    weight: float = 1.0
    every: int = 1
    batch_size: int | None = None
    fields: Fields = None
    needs: ClassVar[tuple[type, ...]] = (HasEmbeddings,)

    def start(self, setting: Setting, samples: Samples) -> None:
        """Nothing to prepare."""

    def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor:
        """The mean of the batch."""
        explainer = setting.modules[self.companion]
        assert isinstance(explainer, RepresentationVae)  # the method that uses it makes it
        return squashed(explainer.errors(_embeddings(setting, batch))).mean()


@dataclass(frozen=True)
class Near:
    """Mean of d over the batch: embeddings keep the direction they had."""

    weight: float = 1.0
    every: int = 1
    batch_size: int | None = None
    fields: Fields = None
    needs: ClassVar[tuple[type, ...]] = (HasEmbeddings,)

    def start(self, setting: Setting, samples: Samples) -> Tensor:
        """The embeddings (n, D) of the model at the start."""
        return _before(setting, samples)

    def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor:
        """The mean of the batch."""
        return _turned(setting, batch, prepared).mean()


@dataclass(frozen=True)
class Far:
    """Minus log of the sum of exp(d / tau) over the batch: embeddings leave their direction.

    Args:
        temperature: tau. At 20 a row weighs a twentieth of what one in :class:`Near` does.
    """

    temperature: float = 5.0
    weight: float = 1.0
    every: int = 1
    batch_size: int | None = None
    fields: Fields = None
    needs: ClassVar[tuple[type, ...]] = (HasEmbeddings,)

    def start(self, setting: Setting, samples: Samples) -> Tensor:
        """The embeddings (n, D) of the model at the start."""
        return _before(setting, samples)

    def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor:
        """Minus the logarithm of the batch."""
        return -torch.logsumexp(_turned(setting, batch, prepared) / self.temperature, dim=0)


def _embeddings(setting: Setting, batch: Batch) -> Tensor:
    return able(setting.family, HasEmbeddings).embeddings(setting.model, batch)


def _before(setting: Setting, samples: Samples) -> Tensor:
    return embeddings_of(setting.family, setting.reference(), samples, setting.run)


def _turned(setting: Setting, batch: Batch, prepared: object) -> Tensor:
    assert isinstance(prepared, Tensor)
    embeddings = _embeddings(setting, batch)
    return turned(embeddings, prepared[batch[ROW].cpu()].to(embeddings.device))
