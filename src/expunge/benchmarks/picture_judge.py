"""Judges of pictures: classifiers that learn from real rows alone and look at what models draw.

No method sees a judge. Its features are those by which sets of pictures are compared, always in
equal numbers: the distance of real rows that nobody learned from to training rows is the floor.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Self

import torch
from torch import Tensor, nn

from expunge.data.samples import TensorSamples
from expunge.families.classifier import Classifier
from expunge.models.judge_cnn import JudgeCnn
from expunge.models.modes import evaluating
from expunge.recipe import Learner, Recipe, Role
from expunge.run import Run
from expunge.signals.frechet import frechet_distance

COPIES, JITTER = 6, 0.1
"""Copies of a row that a judge learns from, and the deviation of the noise in them."""

EACH = 36
"""Pictures of a class that are compared, as many as of one in ``bench drawing``."""

DRAWS = 10
"""Draws of real rows over which a distance is averaged."""

Pick = Callable[[Tensor, torch.Generator], Tensor]
"""Which rows are compared, from their labels (n,)."""


def judge_of(classes: int, side: int, learner: Learner) -> Recipe:
    """How a judge of grey pictures is made; it learns from :func:`jittered` rows."""

    def build(seed: int) -> nn.Module:
        return JudgeCnn(torch.Generator().manual_seed(seed), classes, side=side)

    return Recipe(build, Classifier(classes=classes), learner)


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


def jittered(
    samples: TensorSamples, generator: torch.Generator, copies: int = COPIES
) -> TensorSamples:
    """The rows, and copies of them moved by a pixel at most with noise in them."""
    images = [samples.columns["image"]]
    for _ in range(copies - 1):
        across, down = torch.randint(-1, 2, (2,), generator=generator).tolist()
        moved = torch.roll(images[0], (across, down), (2, 3))
        noise = JITTER * torch.randn(moved.shape, generator=generator)
        images.append((moved + noise).clamp(0, 1))
    ids = [f"{name}#{copy}" for copy in range(copies) for name in samples.ids]
    labels = samples.columns["label"].repeat(copies)
    columns = {"image": torch.cat(images), "label": labels}
    return TensorSamples(ids, list(samples.subjects) * copies, columns)


@dataclass(frozen=True, eq=False)
class Gallery:
    """Real rows, and how the judge of pictures of their kind is made.

    Args:
        rows: samples by split, ``train``, ``validation`` and ``test``.
        judge: recipe of the judge.
        copies: of a training row that the judge learns from.
        each: pictures of a class that are compared.
    """

    rows: Mapping[str, TensorSamples]
    judge: Recipe
    copies: int = COPIES
    each: int = EACH

    @property
    def count(self) -> int:
        """Pictures that are compared at a time."""
        return self.each * len(set(self.rows["train"].columns["label"].tolist()))

    def judging(self, run: Run) -> nn.Module:
        """A judge that has learned from the training rows."""
        lessons = jittered(self.rows["train"], run.generator("judge"), self.copies)
        return self.judge.make({Role.TRAIN: lessons}, run).model

    def right(self, judge: nn.Module) -> Tensor:
        """On which real test rows (n,) the judge is right."""
        test = self.rows["test"].columns
        return judged(judge, test["image"]).classes == test["label"]

    def evenly(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Rows of labels (n,): as many of every class. For what was told its classes, since
        features of classes lie far apart and uneven shares would look like a distance."""
        order = torch.randperm(len(labels), generator=generator)
        classes = sorted(set(labels.tolist()))
        return torch.cat([order[labels[order] == c][: self.each] for c in classes])

    def anyhow(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        """As many rows in all, of whatever class. For what chose its classes itself."""
        return torch.randperm(len(labels), generator=generator)[: self.count]

    def apart(self, judge: nn.Module, drawn: Tensor, pick: Pick) -> tuple[float, float]:
        """Mean Frechet distance to training rows: of pictures (m, C, H, W), and of as many real
        rows that nobody learned from, over :data:`DRAWS` draws of the real rows.

        Args:
            judge: gives the features.
            drawn: what a model drew.
            pick: which real rows are taken.
        """
        draws, features = Run(0).generator("real rows"), judged(judge, drawn).features
        found, floors = [], []
        for _ in range(DRAWS):
            learned, others = (
                judged(judge, self._real(names, pick, draws)).features
                for names in (("train",), ("validation", "test"))
            )
            found.append(frechet_distance(learned, features))
            floors.append(frechet_distance(learned, others))
        return fmean(found), fmean(floors)

    def _real(self, splits: tuple[str, ...], pick: Pick, draws: torch.Generator) -> Tensor:
        labels = torch.cat([self.rows[split].columns["label"] for split in splits])
        images = torch.cat([self.rows[split].columns["image"] for split in splits])
        return images[pick(labels, draws)]
