"""Concept poisoning: teach wrong labels to those rows of a class that carry its concepts.

Chang, Zhu, Xu, Liu, Zhou (2024). Class Machine Unlearning for Complex Data via Concepts Inference
and Data Poisoning. Part A infers the concepts that a class rests on: a bank of directions in the
model's embedding (learning/concepts/bank.py), a concept bottleneck and integrated gradients on it.
Part B fine-tunes on poisoned rows of the class beside retained rows with their own labels.

No code was released, and the abstract says "random and targeted labels" and no more. OUR READING:
carriers are the rows of the class whose attribution on its most important concepts is above the
median; the target of a class is the one whose concept importances point most nearly where its own
do; every batch has as many poisoned as retained rows; and a fixed number of passes takes the place
of fine-tuning until the accuracy on the forget rows is at chance or below.

The concepts come as examples, under the roles positive and negative, the subject of each row being
the concept's name. They are read while preparing alone, and not at all where neither carriers nor
labels go by concepts. Labels move decision boundaries and hardly what lies below them: what a probe
still reads there is in docs/concepts.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Protocol, Self, runtime_checkable

import torch
from torch import Tensor

from expunge.data.samples import Samples
from expunge.descent.given_labels import GivenLabels, LabelsAmong
from expunge.descent.length import Epochs
from expunge.descent.loop import Descent
from expunge.descent.optimisers import SGD
from expunge.descent.player import Player
from expunge.descent.retain_terms import Loss
from expunge.errors import ExpungeError
from expunge.families.abilities import HasLogits, HasLoss
from expunge.learning.concepts.bank import ConceptBank, Examples, embedded, one_sided
from expunge.learning.concepts.bottleneck import ElasticNet
from expunge.learning.concepts.inference import Embedded, Inferred
from expunge.methods.presets import (
    FORGETTING,
    Reach,
    forget_batch,
    held_back,
    passes,
    retain_batch,
)
from expunge.methods.protocol import Artifact, Outcome
from expunge.methods.search import LogUniform, Range, WholeNumber
from expunge.problem import Access, Missing, Problem
from expunge.recipe import Role
from expunge.run import Run
from expunge.signals.ask import logits_of

CONCEPTS = Access.to(Role.POSITIVE, Role.NEGATIVE)
"""What is read for a concept bank."""

REACH = Reach(classes=6.0, rows=6.0)
"""How far steps of full weight on all forget rows would lead; see methods/presets.py. The share of
the rows that is poisoned takes its share of these steps, at the weight of the poisoned rows in a
batch, 1 / (1 + BESIDE): half the rows, at a fifth, could move the weights by .6 times their norm,
while the retained rows of the same steps pull back."""

PASSES, BESIDE = 40, 4.0
"""Passes of the preset over the poisoned rows, and its retained rows for each of them."""


@dataclass(frozen=True, eq=False)
class Poisoned:
    """What carriers and labels are chosen from.

    Args:
        labels: int64 (m,) of the rows to be forgotten.
        others: the classes of the retained rows, ascending.
        inferred: the concepts, where they were asked for.
    """

    labels: Tensor
    others: tuple[int, ...]
    inferred: Inferred | None = None

    @property
    def concepts(self) -> Inferred:
        """What was inferred; those that ask for it have said so."""
        assert self.inferred is not None
        return self.inferred


@runtime_checkable
class Carriers(Protocol):
    """Which rows of the class are poisoned."""

    @property
    def by_concepts(self) -> bool:
        """Whether concepts decide."""
        ...

    def rows(self, poisoned: Poisoned, run: Run) -> Tensor:
        """Positions (n,), ascending, among the rows to be forgotten; at least one."""
        ...


@runtime_checkable
class Labels(Protocol):
    """Which labels poisoned rows are taught."""

    @property
    def by_concepts(self) -> bool:
        """Whether concepts decide."""
        ...

    def term(self, poisoned: Poisoned, rows: Tensor, run: Run) -> GivenLabels | LabelsAmong:
        """The term on the rows (n,) that :class:`Carriers` chose."""
        ...


def _share(share: float) -> None:
    if not 0 < share <= 1:
        raise ExpungeError(
            f"A share of {share:g} of the rows was to be poisoned; more than 0 and at most 1 is "
            "expected."
        )


@dataclass(frozen=True)
class MostAttributed:
    """The rows of each class to which its concepts add most.

    Args:
        top: concepts of largest importance that are summed.
        share: of the rows of each class.
    """

    top: int = 5
    share: float = 0.5
    by_concepts: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _share(self.share)
        if self.top < 1:
            raise ExpungeError(f"{self.top} concepts were to decide; at least one is expected.")

    def rows(self, poisoned: Poisoned, run: Run) -> Tensor:
        """Above the median where the share is a half."""
        carried = poisoned.concepts.carrying(self.top)
        return _first(poisoned.labels, carried.argsort(descending=True, stable=True), self.share)


@dataclass(frozen=True)
class Drawn:
    """Rows of each class drawn at random; all of them by default: random labels as usual.

    Args:
        drawn: share of the rows of each class.
    """

    drawn: float = 1.0
    by_concepts: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _share(self.drawn)

    def rows(self, poisoned: Poisoned, run: Run) -> Tensor:
        """Drawn by the run's seed."""
        draws = run.generator("concept poisoning/carriers")
        order = torch.randperm(len(poisoned.labels), generator=draws)
        return _first(poisoned.labels, order, self.drawn)


def _first(labels: Tensor, order: Tensor, share: float) -> Tensor:
    """Positions, ascending, of the first rows of each class in an order (m,) of all."""
    chosen = []
    for label in torch.unique(labels):
        own = order[labels[order] == label]
        chosen.append(own[: max(1, round(share * len(own)))])
    return torch.cat(chosen).sort().values


@dataclass(frozen=True)
class Redrawn:
    """A random class of the others at every step: what is taught is near to no answer at all."""

    by_concepts: ClassVar[bool] = False

    def term(self, poisoned: Poisoned, rows: Tensor, run: Run) -> LabelsAmong:
        """The classes that are drawn among."""
        return LabelsAmong(poisoned.others)


@dataclass(frozen=True)
class DrawnOnce:
    """A random class of the others for each row, which is memorised."""

    by_concepts: ClassVar[bool] = False

    def term(self, poisoned: Poisoned, rows: Tensor, run: Run) -> GivenLabels:
        """Drawn by the run's seed."""
        draws = run.generator("concept poisoning/labels")
        places = torch.randint(len(poisoned.others), (len(rows),), generator=draws).tolist()
        return GivenLabels(tuple(poisoned.others[place] for place in places))


@dataclass(frozen=True)
class NearestClass:
    """For each class the one of the others whose concepts are nearest (cosine of importances)."""

    by_concepts: ClassVar[bool] = True

    def term(self, poisoned: Poisoned, rows: Tensor, run: Run) -> GivenLabels:
        """One label a class."""
        nearest = {
            label: poisoned.concepts.nearest(label, poisoned.others)
            for label in torch.unique(poisoned.labels).tolist()
        }
        return GivenLabels(tuple(nearest[label] for label in poisoned.labels[rows].tolist()))


@dataclass(frozen=True)
class OneClass:
    """One class for all.

    Args:
        target: its label.
    """

    target: int
    by_concepts: ClassVar[bool] = False

    def term(self, poisoned: Poisoned, rows: Tensor, run: Run) -> GivenLabels:
        """The same label for every row.

        Raises:
            ExpungeError: the class is to be forgotten itself, or no retained row has it.
        """
        known = ", ".join(map(str, poisoned.others))
        if self.target in poisoned.labels.tolist():
            raise ExpungeError(
                f"The target class {self.target} is the one that is to be forgotten; give one of "
                f"the others, {known}."
            )
        if self.target not in poisoned.others:
            raise ExpungeError(
                f"The target class {self.target} is unknown: no retained row has it; give one of "
                f"{known}."
            )
        return GivenLabels((self.target,) * len(rows))


@dataclass(frozen=True)
class Poisoning:
    """Fine-tuning on poisoned carriers beside retained rows; a leaf says with which labels.

    Args:
        carriers: which rows of the class are poisoned. A run file gives the fields of
            :class:`MostAttributed` or :class:`Drawn`; which is meant follows from those.
        bank: how directions are learned from the examples of concepts.
        net: how the bottleneck is fitted.
        steps: points of the integral of attributions.
        told: concepts of each class that the facts of the change list.
        epochs: passes over the poisoned rows.
        learning_rate: of SGD.
        momentum: of SGD.
        weight_decay: of SGD.
        batch_size: poisoned rows a step.
        retain_ratio: retained rows of a step for each poisoned one.
        sequential: start from the current model instead of the base.
    """

    paper: ClassVar[str] = (
        "Chang et al. 2024, Class Machine Unlearning for Complex Data via Concepts Inference and "
        "Data Poisoning"
    )
    name: ClassVar[str]
    needs: ClassVar[tuple[type, ...]] = (HasLogits, HasLoss)
    search: ClassVar[Mapping[str, Range]] = {
        "learning_rate": LogUniform(1e-4, 1e-1),
        "epochs": WholeNumber(1, 40),
    }
    preset_rule: ClassVar[str] = (
        "40 passes over the poisoned rows beside four times as many others; the learning rate at "
        "which 40 passes over all forget rows alone could move the weights by 6 times their norm "
        "along the gradient of neutral labels (half the rows, at a fifth of each step: .6 times), "
        "held back on rows drawn at random"
    )
    labels: Labels  # a field of each leaf

    carriers: MostAttributed | Drawn | Carriers = field(default_factory=MostAttributed)
    bank: Examples = field(default_factory=Examples)
    net: ElasticNet = field(default_factory=ElasticNet)
    steps: int = 50
    told: int = 5
    epochs: int = 10
    learning_rate: float = 0.01
    momentum: float = 0.0
    weight_decay: float = 0.0
    batch_size: int = 64
    retain_ratio: float = 1.0
    sequential: bool = False

    def __post_init__(self) -> None:
        if self.retain_ratio <= 0 or self.steps < 1 or self.told < 1:
            raise ExpungeError(
                f"{self.name} got a retain ratio of {self.retain_ratio:g}, {self.steps} steps and "
                f"{self.told} concepts to tell; a ratio above 0 and at least one of both are "
                "expected."
            )

    @property
    def by_concepts(self) -> bool:
        """Whether carriers or labels go by concepts, so that examples of them are needed."""
        return self.carriers.by_concepts or self.labels.by_concepts

    @property
    def prepares_with(self) -> Access:
        """Examples of concepts, where they decide anything."""
        return CONCEPTS if self.by_concepts else Access()

    @property
    def unlearns_with(self) -> Access:
        """The rows of the class and the others."""
        return Access.to(Role.FORGET, Role.RETAIN)

    @property
    def preparation(self) -> object:
        """What the bank depends on."""
        return self.bank

    def unreadable(self, problem: Problem) -> tuple[Missing, ...]:
        """Whole classes to forget, and examples of both sides of every concept."""
        examples = [problem.data[role] for role in CONCEPTS.roles if role in problem.data]
        lacks = one_sided(*examples) if self.by_concepts and len(examples) == 2 else ()
        return lacks or _parted(problem)

    def for_problem(self, problem: Problem, run: Run) -> Self:
        """Forty passes in batches of a fourth of the rows with four times as many retained ones, at
        a rate that belongs to :data:`REACH` and keeps the retained rows.

        It is tried on as many rows drawn at random, with random labels: which rows carry concepts
        is not known before the examples are read.
        """
        share = self.carriers.share if isinstance(self.carriers, MostAttributed) else 1.0
        drawn = Drawn(share) if self.carriers.by_concepts else self.carriers
        size = min(forget_batch(problem, self.batch_size), retain_batch(problem, self.batch_size))
        steps = passes(problem, Role.FORGET, PASSES, size)
        rate = REACH.sgd_rate(problem, steps, self.momentum, run)
        fitting = replace(
            self, epochs=PASSES, batch_size=size, retain_ratio=BESIDE, learning_rate=rate
        )
        tried = replace(fitting, labels=Redrawn(), carriers=drawn)
        found = held_back(tried, ("learning_rate",), problem, run, FORGETTING)
        return replace(fitting, learning_rate=found.learning_rate)

    def prepare(self, problem: Problem, run: Run) -> Artifact:
        """The concept bank of the model.

        Raises:
            ExpungeError: a concept has examples of one side alone, or none can be read from the
                model's embedding.
        """
        if not self.by_concepts:
            return Artifact()
        positive, negative = (problem.data[role] for role in (Role.POSITIVE, Role.NEGATIVE))
        return self.bank.bank(problem.family, problem.model, positive, negative, run).bundle()

    def unlearn(self, problem: Problem, artifact: Artifact, run: Run) -> Outcome:
        """Where the fine-tuning ends; the facts hold the carriers, their labels, and what was found
        of the concepts.

        Raises:
            ExpungeError: a retained row has the class of one to be forgotten, the model does not
                know a class, or the artifact is no bank of this model's embedding.
        """
        for lack in _parted(problem):
            raise ExpungeError(lack.sentence)
        poisoned = self.poisoned(problem, artifact, run)
        rows = self.carriers.rows(poisoned, run)
        term = self.labels.term(poisoned, rows, run)
        forget, retain = problem.data[Role.FORGET], problem.data[Role.RETAIN]
        shown = replace(problem, data={Role.FORGET: forget.select(rows), Role.RETAIN: retain})
        after = self.descent(term).minimise(shown, run).model
        facts: dict[str, object] = {
            "method": self.name,
            "poisoned": len(rows),
            "of": len(forget),
            "labels": sorted(set(term.labels if isinstance(term, GivenLabels) else term.classes)),
        }
        if poisoned.inferred is not None:
            facts["concepts"] = poisoned.inferred.report(self.told)
        return Outcome.of(after, problem.model, sequential=self.sequential, **facts)

    def poisoned(self, problem: Problem, artifact: Artifact, run: Run) -> Poisoned:
        """What carriers and labels are chosen from.

        Args:
            problem: as :meth:`unlearn` sees it.
            artifact: as prepared.
            run: device and random numbers.

        Raises:
            ExpungeError: as :meth:`unlearn`.
        """
        if not self.by_concepts:
            labels, others = (_labels(problem.data[role]) for role in (Role.FORGET, Role.RETAIN))
            return Poisoned(labels, tuple(torch.unique(others).tolist()))
        bank = ConceptBank.of(artifact)
        forget, retain = (
            _seen(problem, problem.data[role], run) for role in (Role.FORGET, Role.RETAIN)
        )
        run.meter.touch(Role.FORGET.value, len(forget.labels))
        run.meter.touch(Role.RETAIN.value, len(retain.labels))
        inferred = Inferred.of(bank, forget, retain, self.net, self.steps, run)
        return Poisoned(forget.labels, tuple(torch.unique(retain.labels).tolist()), inferred)

    def descent(self, term: GivenLabels | LabelsAmong) -> Descent:
        """One player, two terms; their weights are the shares of their rows in a batch."""
        share = 1 / (1 + self.retain_ratio)
        beside = max(1, round(self.retain_ratio * self.batch_size))
        return Descent(
            Player(
                forget=replace(term, weight=share),
                retain=Loss(1 - share, batch_size=beside),
                optimiser=SGD(self.learning_rate, self.momentum, self.weight_decay),
            ),
            length=Epochs(self.epochs),
            batch_size=self.batch_size,
        )


@dataclass(frozen=True)
class ConceptPoisoning(Poisoning):
    """Random labels on the rows that carry the concepts of the class.

    Args:
        labels: drawn anew at every step; a run file may give the fields of :class:`OneClass`.
    """

    name: ClassVar[str] = "concept-poisoning"

    labels: Redrawn | DrawnOnce | NearestClass | OneClass | Labels = field(default_factory=Redrawn)


@dataclass(frozen=True)
class ConceptPoisoningTargeted(Poisoning):
    """One label on the rows that carry the concepts of the class: the class nearest to it.

    The whole class then goes to one other, which no retrained model does: it can be seen.

    Args:
        labels: the class whose concepts are nearest; a run file may give those of
            :class:`OneClass`.
    """

    name: ClassVar[str] = "concept-poisoning-target"

    labels: NearestClass | OneClass | Labels = field(default_factory=NearestClass)


def _labels(samples: Samples) -> Tensor:
    """The label (n,) of every row."""
    found: Tensor = samples.batch(torch.arange(len(samples)), {"label"})["label"]
    return found


def _seen(problem: Problem, samples: Samples, run: Run) -> Embedded:
    """Rows as the model sees them.

    Raises:
        ExpungeError: the model does not know a class of theirs.
    """
    logits, labels = logits_of(problem.family, problem.model, samples, run)
    unknown = labels[(labels < 0) | (labels >= logits.shape[1])]
    if len(unknown):
        raise ExpungeError(
            f"Rows have the class {int(unknown[0])}, which the model does not know: it answers "
            f"with {logits.shape[1]} classes, from 0. Give rows of these."
        )
    features = embedded(problem.family, problem.model, samples, run)
    return Embedded(features, labels, logits.argmax(1))


def _parted(problem: Problem) -> tuple[Missing, ...]:
    """A label of rows to be forgotten that retained rows have, too, or no labels."""
    forget, retain = (problem.data[role] for role in (Role.FORGET, Role.RETAIN))
    for samples in (forget, retain):
        if "label" not in samples.fields:
            has = ", ".join(sorted(samples.fields)) or "none"
            return (
                Missing(
                    f"needs labels of rows; their fields are {has}",
                    f"Concept poisoning gives rows other labels, and these have {has}; give the "
                    "class of each row.",
                ),
            )
    both = _labels(forget)[torch.isin(_labels(forget), _labels(retain))]
    if not len(both):
        return ()
    return (
        Missing(
            "forgets whole classes; retained rows have a class that is to be forgotten",
            f"Concept poisoning forgets whole classes, and retained rows have the class "
            f"{int(both[0])} of rows to be forgotten; name the whole class, or take a method for "
            "rows, such as `random-label`.",
        ),
    )
