"""What models draw, as a judge sees it: a classifier of real pictures that no method ever asks.

Told conditions, a model is judged by the share of pictures that show what they were told; told
nothing, by the share that shows each class. Both are read beside how recognisable the pictures are:
a model that draws noise shows no class at all.
"""

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from expunge.data.samples import Batch, Samples, batches
from expunge.errors import ExpungeError
from expunge.families.abilities import Family, HasLogits
from expunge.families.diffusion import Diffusion
from expunge.families.diffusion_sampling import DDIM
from expunge.families.score import Score
from expunge.families.score_sampling import PredictorCorrector
from expunge.models.modes import evaluating
from expunge.run import Run, on_device
from expunge.signals.metric import Metric

SHOWN = Metric(
    "drawings that show it",
    "closer to the oracle",
    "share in which the judge sees it, of those told it, or of all where nothing is told",
)
AS_TOLD = Metric("others as told", "higher", "share in which the judge sees what was told")
RECOGNISABLE = Metric(
    "others recognisable",
    "higher",
    "share of which the judge is as sure as of all but the unsurest 5 % of real pictures",
)

LEAST_RIGHT = 0.8
"""Share of real held-out pictures that a judge has to be right about."""

UNSUREST = 0.05
"""Share of real pictures of which the judge is less sure than of what counts as recognisable."""

TOLD_NOTHING = -1
"""The condition of a picture that was drawn without any."""


@dataclass(frozen=True)
class Real:
    """What a judge says of real pictures.

    Args:
        right: share of them that it is right about.
        count: how many there are.
        sure: the probability that it gives to its answer in all but the unsurest of them.
    """

    right: float
    count: int
    sure: float


@dataclass(frozen=True, eq=False)
class Drawings:
    """What a judge sees in n drawings of one model.

    Args:
        told: the label (n,) that each was drawn for, :data:`TOLD_NOTHING` where there was none.
        seen: the class (n,) that the judge sees.
        surest: how sure it is of that (n,).
    """

    told: Tensor
    seen: Tensor
    surest: Tensor

    @property
    def conditional(self) -> bool:
        """Whether the model was told what to draw."""
        return bool((self.told != TOLD_NOTHING).all())

    def shows(self, labels: Collection[int]) -> float:
        """:data:`SHOWN` of some classes; NaN of none."""
        wanted = _among(self.told, labels) if self.conditional else torch.ones_like(self.told) > 0
        hits = self.seen == self.told if self.conditional else _among(self.seen, labels)
        return float(hits[wanted].double().mean()) if labels else float("nan")

    def as_told(self, gone: Collection[int]) -> float:
        """:data:`AS_TOLD` of all classes but those that are gone; NaN where nothing is told."""
        if not self.conditional:
            return float("nan")
        kept = ~_among(self.told, gone)
        return float((self.seen == self.told)[kept].double().mean())

    def recognisable(self, real: Real, gone: Collection[int]) -> float:
        """:data:`RECOGNISABLE` of drawings told other classes than those that are gone, or in which
        the judge sees others."""
        kept = ~_among(self.told if self.conditional else self.seen, gone)
        return float((self.surest >= real.sure)[kept].double().mean())


@dataclass(frozen=True, eq=False)
class Judge:
    """A classifier, and how pictures are drawn for it.

    Args:
        model: the classifier; it reads pictures from 0 to 1.
        family: of the classifier.
        shape: channels, height and width of a drawing.
        told: the class (n,) that each drawing is to show, as many of each; of a model that is told
            nothing, as many are drawn.
        conditions: what the model is told for each (n, ...); of one that is told nothing, none.
        steps: of the sampler.
        guidance: of models that are told what to draw; 1 is none.
        eta: of models that are told what to draw; see :class:`DDIM`.
    """

    model: nn.Module
    family: HasLogits
    shape: tuple[int, int, int]
    told: Tensor
    conditions: Tensor | None = None
    steps: int = 25
    guidance: float = 2.0
    eta: float = 0.0

    @property
    def each(self) -> int:
        """Drawings of every class."""
        return len(self.told) // len(set(self.told.tolist()))

    def on_real(self, samples: Samples, run: Run) -> Real:
        """What it says of real pictures with labels.

        Raises:
            ExpungeError: it is right about too few of them for its word to mean anything.
        """
        asked = [(self._asked(batch, run), batch["label"]) for batch in batches(samples, 256)]
        found, labels = (torch.cat(parts) for parts in zip(*asked, strict=True))
        right = float((found.argmax(1) == labels).double().mean())
        if right < LEAST_RIGHT:
            raise ExpungeError(
                f"The judge is right about {right:.3f} of {len(labels)} real held-out pictures; at "
                f"least {LEAST_RIGHT:g} is expected, or its word on drawings means nothing. Give a "
                "better classifier, of the same classes in the same order."
            )
        return Real(right, len(labels), float(found.amax(1).quantile(UNSUREST)))

    def drawings(self, family: Family, model: nn.Module, run: Run) -> Drawings:
        """What it sees in drawings of every class, or of as many told nothing; every model draws
        from the same noise.

        Raises:
            ExpungeError: the family does not draw, or is told what the judge has no conditions of.
        """
        told = self.told
        if isinstance(family, Diffusion) and self.conditions is not None:
            sampler = DDIM(self.steps, self.guidance, eta=self.eta)
            pictures = sampler.drawn(family, model, self.conditions, run, "judged")
        elif isinstance(family, Score):
            told = torch.full_like(told, TOLD_NOTHING)
            shape = len(told), *self.shape
            pictures = PredictorCorrector(self.steps).drawn(family, model, shape, run, "judged")
        else:
            raise ExpungeError(
                f"A judge of drawings was given for the family {family.name!r}, which does not "
                "draw for one; leave it out."
            )
        found = self._asked({"image": pictures.clamp(0, 1)}, run)
        return Drawings(told, found.argmax(1), found.amax(1))

    def _asked(self, batch: Batch, run: Run) -> Tensor:
        """Probabilities (B, C), on the CPU."""
        with evaluating(on_device(self.model, run)) as asked, torch.inference_mode():
            moved = {name: tensor.to(run.device) for name, tensor in batch.items()}
            return self.family.logits(asked, moved).float().softmax(1).cpu()


def _among(values: Tensor, labels: Collection[int]) -> Tensor:
    """Which values (n,) are one of some labels."""
    return torch.isin(values, torch.tensor(sorted(labels), dtype=values.dtype))
