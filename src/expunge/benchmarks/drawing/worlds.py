"""What is drawn: the scikit-learn digits, by a small U-Net that is told which."""

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from expunge.audit.case import described, digest_of_samples
from expunge.benchmarks.digits_judge import JUDGE, NAMES, rows
from expunge.changes.weights import digest_of
from expunge.data.samples import TensorSamples
from expunge.descent.averages import MovingAverage
from expunge.descent.optimisers import AdamW, Cosine
from expunge.errors import ExpungeError
from expunge.families.diffusion import LabelDiffusion
from expunge.learning.supervised.averaged import Averaged
from expunge.models.denoisers import LabelUNet
from expunge.recipe import Recipe


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


@functools.cache
def world() -> World:
    """The digits; rows are read once a process."""
    return World(
        rows(),
        Recipe(
            LabelUNet(widths=(16, 32)),
            LabelDiffusion(classes=NAMES),
            Averaged(1000, 128, AdamW(2e-3, schedule=Cosine(0.05)), MovingAverage(0.99)),
        ),
        JUDGE,
    )
