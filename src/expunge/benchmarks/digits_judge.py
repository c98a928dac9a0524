"""The judge of drawn digits: the scikit-learn digits, and a classifier that looks at pictures.

It is trained on real rows alone, no method sees it, and its features are those by which sets of
pictures are compared.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from expunge.data import digits, own
from expunge.data.samples import TensorSamples
from expunge.descent.optimisers import AdamW, Cosine
from expunge.families.classifier import Classifier
from expunge.learning.supervised.plain import Plain
from expunge.models.judge_cnn import JudgeCnn
from expunge.models.modes import evaluating
from expunge.recipe import Recipe

NAMES = tuple("0123456789")
COPIES, JITTER = 6, 0.1
"""Copies of a row that the judge learns from, and the deviation of the noise in them."""


def _network(seed: int) -> nn.Module:
    return JudgeCnn(torch.Generator().manual_seed(seed))


JUDGE = Recipe(
    _network,
    Classifier(classes=len(NAMES)),
    Plain(12, 64, AdamW(2e-3, weight_decay=0.01, schedule=Cosine())),
)
"""How a judge is made; it learns from :func:`jittered` rows."""


@dataclass(frozen=True)
class Judged:
    """What a judge says of n pictures.

    Args:
        probabilities: of the classes (n, K).
        features: by which sets are compared (n, d).
    """

    probabilities: Tensor
    features: Tensor

    @property
    def classes(self) -> Tensor:
        """The most likely class (n,)."""
        return self.probabilities.argmax(1)

    @property
    def surest(self) -> Tensor:
        """The largest probability (n,)."""
        return self.probabilities.amax(1)

    def select(self, rows: Tensor) -> Self:
        """Those of a mask (n,)."""
        return type(self)(**{name: values[rows] for name, values in vars(self).items()})


def judged(judge: nn.Module, pictures: Tensor) -> Judged:
    """What the judge says of pictures (n, C, H, W), cut to the range from 0 to 1."""
    with evaluating(judge) as asked, torch.inference_mode():
        seen: nn.Module = asked.get_submodule("features")
        features = seen(pictures.clamp(0, 1))
        logits: Tensor = asked.get_submodule("classifier")(features)
    return Judged(logits.softmax(1), features)


@functools.cache
def rows() -> Mapping[str, TensorSamples]:
    """The digits by split, ``train``, ``validation`` and ``test``; read once a process."""
    tables = {split: digits.load(split) for split in ("train", "validation", "test")}
    return {split: own.samples(table, digits.tensors(table)) for split, table in tables.items()}


def jittered(samples: TensorSamples, generator: torch.Generator) -> TensorSamples:
    """The rows, and copies of them moved by a pixel at most with noise in them."""
    images = [samples.columns["image"]]
    for _ in range(COPIES - 1):
        across, down = torch.randint(-1, 2, (2,), generator=generator).tolist()
        moved = torch.roll(images[0], (across, down), (2, 3))
        noise = JITTER * torch.randn(moved.shape, generator=generator)
        images.append((moved + noise).clamp(0, 1))
    ids = [f"{name}#{copy}" for copy in range(COPIES) for name in samples.ids]
    labels = samples.columns["label"].repeat(COPIES)
    columns = {"image": torch.cat(images), "label": labels}
    return TensorSamples(ids, list(samples.subjects) * COPIES, columns)
