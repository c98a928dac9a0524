"""What is drawn and who judges: the scikit-learn digits, a small U-Net, a network of convolutions.

The judge is trained on real rows alone, no method sees it, and its features are those by which sets
of pictures are compared.
"""

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from expunge.audit.case import described, digest_of_samples
from expunge.changes.weights import digest_of
from expunge.data import digits, own
from expunge.data.samples import TensorSamples
from expunge.descent.averages import MovingAverage
from expunge.descent.optimisers import AdamW, Cosine
from expunge.errors import ExpungeError
from expunge.families.classifier import Classifier
from expunge.families.diffusion import LabelDiffusion
from expunge.learning.supervised.averaged import Averaged
from expunge.learning.supervised.plain import Plain
from expunge.models.denoisers import LabelUNet
from expunge.models.judge_cnn import JudgeCnn
from expunge.models.modes import evaluating
from expunge.recipe import Recipe

NAMES = tuple("0123456789")
COPIES, JITTER = 6, 0.1
"""Copies of a row that the judge learns from, and the deviation of the noise in them."""


@dataclass(frozen=True, eq=False)
class World:
    """Rows, and how models are made of them.

    Args:
        rows: samples by split, ``train``, ``validation`` and ``test``.
        recipe: of the diffusion model; its seed is replaced by those of the benchmark.
        judge: recipe of the classifier that looks at pictures.
    """

    rows: Mapping[str, TensorSamples]
    recipe: Recipe
    judge: Recipe

    @property
    def family(self) -> LabelDiffusion:
        """Of the models that draw."""
        assert isinstance(self.recipe.family, LabelDiffusion)
        return self.recipe.family

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 (hexadecimal) of rows and recipes."""
        parts = [
            *(described(r.learner) for r in (self.recipe, self.judge)),
            *(digest_of(r.builder(0)) for r in (self.recipe, self.judge)),
            described(self.recipe.family),
            *(digest_of_samples(samples) for samples in self.rows.values()),
        ]
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    def of_class(self, split: str, label: int, *, others: bool = False) -> TensorSamples:
        """The rows of a class in a split, or all others."""
        samples = self.rows[split]
        goes = samples.columns["label"] == label
        return samples.select((~goes if others else goes).nonzero().flatten())

    def label(self, name: str) -> int:
        """The number of a class.

        Raises:
            ExpungeError: there is none of this name.
        """
        if name not in NAMES:
            raise ExpungeError(
                f"The class {name!r} was to be forgotten; the model draws {', '.join(NAMES)}. Name "
                "one of these."
            )
        return NAMES.index(name)


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

    def select(self, rows: Tensor) -> "Judged":
        """Those of a mask (n,)."""
        return Judged(self.probabilities[rows], self.features[rows])

    @property
    def surest(self) -> Tensor:
        """The largest probability (n,)."""
        return self.probabilities.amax(1)


def judged(judge: nn.Module, pictures: Tensor) -> Judged:
    """What the judge says of pictures (n, C, H, W), cut to the range from 0 to 1."""
    with evaluating(judge) as asked, torch.inference_mode():
        seen: nn.Module = asked.get_submodule("features")
        features = seen(pictures.clamp(0, 1))
        logits: Tensor = asked.get_submodule("classifier")(features)
    return Judged(logits.softmax(1), features)


@functools.cache
def world() -> World:
    """The digits; rows are read once a process."""
    tables = {split: digits.load(split) for split in ("train", "validation", "test")}
    return World(
        {split: own.samples(table, digits.tensors(table)) for split, table in tables.items()},
        Recipe(
            LabelUNet(widths=(16, 32)),
            LabelDiffusion(classes=NAMES),
            Averaged(1000, 128, AdamW(2e-3, schedule=Cosine(0.05)), MovingAverage(0.99)),
        ),
        Recipe(
            _judge_network,
            Classifier(classes=10),
            Plain(12, 64, AdamW(2e-3, weight_decay=0.01, schedule=Cosine())),
        ),
    )


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


def _judge_network(seed: int) -> nn.Module:
    return JudgeCnn(torch.Generator().manual_seed(seed))
