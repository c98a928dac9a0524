"""What a version scores: on the rows of every request, on those held out, and on everything else.

Every request is measured again in every version; none may overlap another's measurement, and rows
may belong to several requests. Where no oracle is trained, a stand-in says how well a model would
do that never saw the forgotten rows: chance where all rows of their class are gone, else the score
of the model on held-out rows of the same class, else on all held-out rows. Of a language model it
is how common the forgotten answers are among the rows that stay; of one that is told what to draw,
where nothing that stays teaches it, how well it sees their noise when it is told nothing.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from expunge.data.encoding import answer_tokens
from expunge.data.samples import Samples
from expunge.errors import ExpungeError
from expunge.families.abilities import Family, HasAnswers, HasLogits
from expunge.families.diffusion import LabelDiffusion, TextDiffusion
from expunge.ledger.material import Material
from expunge.ledger.policy import Gate
from expunge.run import Run
from expunge.signals.ask import ask, metric_of
from expunge.signals.denoising import untold_losses

Against = Literal[
    "the oracle",
    "chance",
    "held-out rows of the class",
    "how common the answers are",
    "told nothing",
    "held-out rows",
]


@dataclass(frozen=True)
class Subject:
    """One request as it is measured: positions (n,) among training and among held-out rows, and the
    words that are not to be drawn, where it says some."""

    request: str
    kind: str
    train: Tensor
    held_out: Tensor
    text: str = ""


@dataclass(frozen=True)
class Scores:
    """What one model scores: on the training rows and the held-out rows of each request (by id;
    None where it has none), and on held-out rows of no request."""

    forget: Mapping[str, float | None]
    held_out: Mapping[str, float | None]
    retained: float


def scores_of(
    family: Family, model: nn.Module, material: Material, subjects: Sequence[Subject], run: Run
) -> Scores:
    """Ask a model for the rows of all requests and for all held-out rows, each once.

    Raises:
        ExpungeError: requests name all held-out rows.
    """
    held = _scored(family, model, material.held_out, run)
    named = {row for subject in subjects for row in subject.train.tolist()}
    rows = torch.tensor(sorted(named), dtype=torch.int64)
    place = torch.full((len(material.train),), -1)
    place[rows] = torch.arange(len(rows))
    own = (
        _scored(family, model, material.train.select(rows), run)
        if len(rows)
        else torch.empty(0, dtype=torch.float64)
    )
    free = torch.ones(len(held), dtype=torch.bool)
    for subject in subjects:
        free[subject.held_out] = False
    if not free.any():
        raise ExpungeError(
            "Every held-out row belongs to a request, so that nothing is left to measure what was "
            "kept on; register the model with more held-out rows."
        )
    return Scores(
        {s.request: _mean(own[place[s.train]]) for s in subjects},
        {s.request: _mean(held[s.held_out]) for s in subjects},
        float(held[free].mean()),
    )


def _scored(family: Family, model: nn.Module, samples: Samples, run: Run) -> Tensor:
    return ask(family, model, samples, run).query(metric_of(family).query)[0].double()


def _mean(values: Tensor) -> float | None:
    return float(values.mean()) if len(values) else None


def stand_in(
    material: Material, model: nn.Module, subject: Subject, gone: Tensor, run: Run
) -> tuple[float, Against]:
    """The score on a request's rows of a model that never saw them, as far as can be told without.

    Args:
        material: the rows.
        model: as it stands before the request.
        subject: the request.
        gone: training rows (n,) bool that are forgotten with it or were before.
        run: device and precision.
    """
    family = material.family
    if isinstance(family, HasAnswers) and "labels" in material.train.fields:
        return _common(material.train, subject.train, gone), "how common the answers are"
    if _untaught(family, material.train, subject, gone):
        losses = untold_losses(family, model, material.train.select(subject.train), run)
        return float(losses.double().mean()), "told nothing"
    held = _scored(family, model, material.held_out, run)
    free = torch.ones(len(held), dtype=torch.bool)
    free[subject.held_out] = False
    everywhere = float(held[free].mean()) if free.any() else float(held.mean())
    if not isinstance(family, HasLogits) or "label" not in material.train.fields:
        return everywhere, "held-out rows"
    labels = _labels(material.train)
    own, left = labels[subject.train], set(labels[~gone].tolist())
    classes = int(labels.max()) + 1
    chance = metric_of(family).chance(classes)
    held_labels = _labels(material.held_out)
    levels, chances = [], 0
    for label in own.tolist():
        same = held_labels == label
        if label not in left and chance is not None:
            levels.append(chance)
            chances += 1
        else:
            levels.append(float(held[same].mean()) if same.any() else everywhere)
    against: Against = "chance" if chances == len(own) else "held-out rows of the class"
    return sum(levels) / len(levels), against


def _common(train: Samples, named: Tensor, gone: Tensor) -> float:
    """How often the rows that stay have the answers of the named ones: what guessing by frequency
    would score. Held-out questions are about those who stay, so that a model answers them."""
    labels = train.batch(torch.arange(len(train)), {"labels"})["labels"]
    answers = [tuple(answer.tolist()) for answer in answer_tokens(labels)]
    left = Counter(answers[row] for row in (~gone).nonzero().flatten().tolist())
    if not left or not len(named):
        return 0.0
    return sum(left[answers[row]] for row in named.tolist()) / (len(named) * left.total())


def _untaught(family: Family, train: Samples, subject: Subject, gone: Tensor) -> bool:
    """Whether nothing that stays teaches what a model is told for a request's rows: no row of the
    same labels, or no sentence that speaks of its words. Sentences are told apart by the words
    alone: one of its own says nothing of what others teach."""
    if not len(subject.train):
        return False
    if isinstance(family, LabelDiffusion) and family.drop > 0:
        labels = _labels(train)
        return not bool(torch.isin(labels[subject.train], labels[~gone]).any())
    if isinstance(family, TextDiffusion) and family.drop > 0 and subject.text:
        told = train.batch((~gone).nonzero()[:, 0], {family.told_by})[family.told_by]
        return not bool(family.speaking(told, subject.text).any())
    return False


def _labels(samples: Samples) -> Tensor:
    return samples.batch(torch.arange(len(samples)), {"label"})["label"]


@dataclass(frozen=True)
class RequestFigures:
    """What a version scores on the rows of one request.

    Args:
        kind: of the request.
        rows: training rows that it named and that are still there.
        before: the score on them before the request was served.
        served: right after it was served.
        after: in this version.
        reference: of a model that never saw them.
        against: what the reference is of.
        held_out_rows: held-out rows that the request names.
        held_out: the score on these in this version.
        stored: the figures of this request were not measured again, since its rows are gone.
        still_served: share of its rows that the stores are still served from, where a redaction
            answers it; None where something else does.
    """

    kind: str
    rows: int
    before: float | None
    served: float | None
    after: float | None
    reference: float | None
    against: str
    held_out_rows: int = 0
    held_out: float | None = None
    stored: bool = False
    still_served: float | None = None

    def with_score(self, after: float | None) -> Self:
        """With another score on its rows; without one, what was stored stands."""
        return replace(self, stored=True) if after is None else replace(self, after=after)


@dataclass(frozen=True)
class Figures:
    """What a version scores.

    Args:
        metric: name of the score.
        direction: which way it is better.
        unit: what differences are divided by: 1 for shares, for errors the original's.
        original: the retained score of the registered model.
        retained: of this version.
        requests: by id.
    """

    metric: str
    direction: str
    unit: float
    original: float
    retained: float
    requests: Mapping[str, RequestFigures] = field(default_factory=dict)

    @property
    def sign(self) -> float:
        """1 where a larger score is better remembered, -1 for errors."""
        return -1.0 if self.direction == "lower" else 1.0

    @property
    def kept(self) -> float:
        """Share of the original's retained score."""
        whole, part = self.original, self.retained
        if self.sign < 0:
            whole, part = part, whole
        return 1.0 if part >= whole else part / whole

    def above(self, score: float, reference: float) -> float:
        """How much better a score is than a reference, in the unit."""
        return self.sign * (score - reference) / self.unit

    def measured(self, retained: float, requests: Mapping[str, RequestFigures]) -> Self:
        """With other scores."""
        return replace(self, retained=retained, requests=requests)

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {**asdict(self), "requests": {r: asdict(f) for r, f in self.requests.items()}}

    @classmethod
    def of_json(cls, found: Mapping[str, Any]) -> Self:
        """What :meth:`to_json` gave."""
        requests = {r: RequestFigures(**f) for r, f in found["requests"].items()}
        return cls(**{**found, "requests": requests})


@dataclass(frozen=True)
class Check:
    """One condition of the gate: what it is, of which request, and whether it holds."""

    name: Literal["kept", "forgotten", "re-emergence", "redacted"]
    request: str | None
    value: float
    threshold: float
    passed: bool
    against: str

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


def checks(figures: Figures, gate: Gate, new: Sequence[str]) -> list[Check]:
    """Every condition of a gate on the figures of a candidate.

    A redaction changes no answer of the weights, so a request that one answers is held to what it
    is for, in every version: that none of its rows is served any more.

    Args:
        figures: of the candidate.
        gate: thresholds.
        new: ids of the requests that are answered in it.
    """
    kept = figures.kept
    found = [Check("kept", None, kept, gate.kept, kept >= gate.kept, "the registered model")]
    for request, own in figures.requests.items():
        if own.still_served is not None:
            left = own.still_served
            found.append(Check("redacted", request, left, 0.0, left == 0, "the rows it named"))
            continue
        if own.after is None or own.stored:
            continue
        if request in new and own.reference is not None:
            over = figures.above(own.after, own.reference)
            passed = over <= gate.forgotten
            found.append(Check("forgotten", request, over, gate.forgotten, passed, own.against))
        elif request not in new and own.served is not None:
            rise = figures.above(own.after, own.served)
            passed = rise <= gate.re_emergence
            found.append(
                Check("re-emergence", request, rise, gate.re_emergence, passed, "when served")
            )
    return found
