"""Confined: the vector of any method, made to act on its request and hardly on anything else.

A method of this project. A vector made on forget rows alone moves every input that has something
in common with theirs. What is common is known before any request: the second moments of what each
weight matrix reads on the training rows. Of all changes D of a matrix the confined one answers the
request's inputs x most nearly as its vector V does, and adds least to those of the training rows,

    min_D  E_forget |(D - V) x|^2  +  protection * E_training |D x|^2,

which is ridge regression with a closed form: ``D = V G_f (G_f + protection * G)^-1`` with
``G_f = E_forget[x x^T]`` and ``G = E_training[x x^T]``. It is given times ``1 + protection``, so
that a request whose inputs are like all others' keeps its vector. The vector is linear in V and has
the shape of one: any rule of aggregation combines confined vectors, requests of few common inputs
hardly meet, and revoking is what it was.

No retain row is read at a request; the training rows are, before the first (a deployment reads
those that are left again after each that was served). Of what was trained on only the moments are
kept, a matrix of the square of its inputs for each weight matrix. They hold the forgotten rows'
share as well.

Related: weights are averaged by the same regression in Jin, Ren, Preotiuc-Pietro, Cheng (2023),
Dataless Knowledge Fusion by Merging Weights of Language Models, without a term for what is to stay;
facts are written into one layer against its moments in Meng, Sharma, Andonian, Belinkov, Bau
(2023), Mass-Editing Memory in a Transformer.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from expunge.changes.delta import Delta, Entry
from expunge.changes.strength import bisected
from expunge.errors import ExpungeError
from expunge.families.abilities import HasLogits
from expunge.methods.negation import Negation
from expunge.methods.presets import CAREFUL, forget_loss, preset_of
from expunge.methods.protocol import Artifact, Outcome, OverDescent, unreadable
from expunge.methods.search import LogUniform, Range, WholeNumber
from expunge.methods.ssd import artifact_of, checked_artifact
from expunge.problem import Access, Missing, Problem
from expunge.recipe import Role
from expunge.run import Run
from expunge.signals.fisher import classes_of
from expunge.signals.moments import as_matrix, input_moments

DAMPING = 1e-3
"""Added to the diagonal, as a share of its mean, so that directions which nothing fills stay."""

STRENGTHS, HALVINGS = tuple(2.0**power for power in range(-8, 9)), 4
"""Strengths that are tried from below, since the loss falls again where a vector leads too far;
and halvings of the interval between the last two."""


class Confining(ABC):
    """A method whose change is confined to what its request reads; a leaf says which method."""

    name: ClassVar[str]
    paper: ClassVar[str] = "this project; ridge regression after Jin et al. 2023, Dataless Fusion"
    sequential: ClassVar[bool] = False

    protection: float
    strength: float | None

    def __post_init__(self) -> None:
        given = (self.protection, 1.0 if self.strength is None else self.strength)
        if not all(math.isfinite(value) and value > 0 for value in given):
            raise ExpungeError(
                f"A confined method got protection {self.protection:g} and strength "
                f"{self.strength}; numbers above 0 are expected."
            )

    @property
    @abstractmethod
    def around(self) -> OverDescent:
        """The method whose vector is confined; it starts from the base."""

    @property
    def needs(self) -> tuple[type, ...]:
        """Those of the inner method."""
        return self.around.needs

    @property
    def prepares_with(self) -> Access:
        """The training rows."""
        return Access.to(Role.TRAIN)

    @property
    def unlearns_with(self) -> Access:
        """The forget rows, and what the inner method opens."""
        return self.around.unlearns_with | Access.to(Role.FORGET)

    @property
    def preparation(self) -> str:
        """Neither the inner method nor the protection is part of what is prepared."""
        return "second moments of inputs"

    def prepare(self, problem: Problem, run: Run) -> Artifact:
        """The moments of the training rows."""
        train = problem.data[Role.TRAIN]
        run.meter.touch(Role.TRAIN.value, len(train))
        moments = input_moments(problem.family, problem.model, train, run)
        return artifact_of(problem.model, moments, len(train), self.preparation)

    def unlearn(self, problem: Problem, artifact: Artifact, run: Run) -> Outcome:
        """The confined vector of the inner method.

        Raises:
            IntegrityError: the artifact was prepared on another model.
            ExpungeError: the inner method answered with something else than one Delta, or moved
                no matrix.
        """
        checked_artifact(self.name, artifact, problem.model, self.preparation)
        changes = self.around.unlearn(problem, Artifact(), run).changes
        if len(changes) != 1 or not isinstance(changes[0], Delta):
            kinds = ", ".join(type(change).__name__ for change in changes) or "nothing"
            raise ExpungeError(
                f"{self.around.name} answered with {kinds}, and one Delta can be confined; take a "
                "method that moves weights."
            )
        forget = problem.data[Role.FORGET]
        run.meter.touch(Role.FORGET.value, len(forget))
        moments = input_moments(problem.family, problem.model, forget, run)
        training = artifact.tensors
        found = confined(changes[0], moments, training, self.protection, problem.support)
        strength = self._strength(found, problem, run)
        facts = {"method": self.name, "around": self.around.name, "strength": strength}
        return Outcome((replace(found.scaled(strength), facts=facts),))

    def unreadable(self, problem: Problem) -> tuple[Missing, ...]:
        """What the rows lack for the inner method."""
        given: Any = self.around
        return unreadable(given, problem)

    def _strength(self, vector: Delta, problem: Problem, run: Run) -> float:
        if self.strength is not None:
            return self.strength
        if not isinstance(problem.family, HasLogits):
            return 1.0
        forget = problem.data[Role.FORGET]
        guessing = math.log(classes_of(problem.family, problem.model, forget, run))
        now = forget_loss(problem, problem.model, run)
        goal = now + CAREFUL.of(problem) * max(0.0, guessing - now)

        def loss(strength: float) -> float:
            found = forget_loss(problem, vector.applied_to(problem.model, strength), run)
            return found if math.isfinite(found) else -math.inf  # the model is lost there

        losses = dict[float, float]()
        for strength in STRENGTHS:
            losses[strength] = loss(strength)
            if losses[strength] >= goal:
                _, enough = bisected(lambda s: loss(s) >= goal, strength / 2, strength, HALVINGS)
                return enough
        most = max(losses, key=lambda strength: losses[strength])
        run.warn(
            f"Confined {self.around.name} lifts the loss on the forget rows to "
            f"{losses[most]:.3g}, and {goal:.3g} was to be reached; that strength is taken. A "
            "smaller `protection` or a higher rate may reach further."
        )
        return most


@dataclass(frozen=True)
class Confined(Confining):
    """Any method over a descent, confined.

    Args:
        inner: the method; it starts from the base and answers with one Delta.
        protection: how much what the training rows read weighs against what the request reads.
        strength: multiplies the confined vector. None: the smallest of :data:`STRENGTHS` at which
            the mean loss on the forget rows has risen to that of guessing (where the classes stay:
            by :data:`~expunge.methods.presets.CAREFUL`), of models with classes; 1 for others.

    Raises:
        ExpungeError: the protection or strength is no positive number, or the method starts from
            the current model.
    """

    name: ClassVar[str] = "confined"
    search: ClassVar[Mapping[str, Range]] = {}  # the inner method is tuned before it is put here
    preset_rule: ClassVar[str] = "that of the inner method"

    inner: OverDescent
    protection: float = 30.0
    strength: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        given: Any = self.inner  # a field of some leaves, a constant of others
        if given.sequential:
            raise ExpungeError(
                f"{self.inner.name} starts from the current model here, and a confined vector "
                "starts from the base; give it sequential=False."
            )

    @property
    def around(self) -> OverDescent:
        """The method that was given."""
        return self.inner

    def for_problem(self, problem: Problem, run: Run) -> Self:
        """The inner method at its preset."""
        given: Any = self.inner
        fitting: Any = preset_of(given, problem, run)
        return replace(self, inner=fitting)


@dataclass(frozen=True)
class ConfinedNegation(Confining):
    """Task negation, confined: learn the forget set better, go the opposite way, and only there.

    Args:
        epochs: passes over the forget set.
        learning_rate: of AdamW.
        weight_decay: of AdamW, decoupled.
        batch_size: rows a step.
        protection: how much what the training rows read weighs against what the request reads.
        strength: multiplies the confined vector; None as in :class:`Confined`.

    Raises:
        ExpungeError: the protection or strength is no positive number.
    """

    name: ClassVar[str] = "confined-negation"
    search: ClassVar[Mapping[str, Range]] = {
        "learning_rate": LogUniform(1e-6, 1e-2),
        "epochs": WholeNumber(1, 10),
        "protection": LogUniform(1.0, 300.0),
    }
    preset_rule: ClassVar[str] = "that of negation; the strength follows from the forget set"

    epochs: int = 4
    learning_rate: float = 1e-5
    weight_decay: float = 0.1
    batch_size: int = 128
    protection: float = 30.0
    strength: float | None = None

    @property
    def around(self) -> Negation:
        """Negation, untrimmed: what trimming leaves out is not what confining needs."""
        return Negation(
            self.epochs, self.learning_rate, self.weight_decay, self.batch_size, kept=1.0
        )

    def for_problem(self, problem: Problem, run: Run) -> Self:
        """With the rate and batches that negation has at its preset."""
        fitting = self.around.for_problem(problem, run)
        return replace(self, learning_rate=fitting.learning_rate, batch_size=fitting.batch_size)


def confined(
    vector: Delta,
    forget: Mapping[str, Tensor],
    training: Mapping[str, Tensor],
    protection: float,
    support: Mapping[str, Tensor] = MappingProxyType({}),
) -> Delta:
    """``(1 + protection) V G_f (G_f + protection G)^-1`` of each matrix; nothing of the rest.

    Of a pruned model it is the minimum among the changes of the weights that there are, row by row:
    cut to them afterwards, a vector would act on what it was confined against.

    Args:
        vector: V, by parameter.
        forget: moments (inputs, inputs) of what is to be acted on, by parameter.
        training: of what is to be left alone.
        protection: weight of the latter.
        support: truth values by parameter, of the weights that there are; all of those not named.

    Returns:
        A Delta on the same base, dense, of the matrices that have moments.

    Raises:
        ExpungeError: there is none.
    """
    entries: dict[str, Entry] = {}
    for name in vector.entries:
        if name not in forget or name not in training:
            continue
        dense, wanted = vector.dense(name), forget[name].double()
        both = wanted + protection * training[name].double()
        spread = float(both.diagonal().mean())
        if spread == 0:  # nothing ever reaches this layer
            continue
        both.diagonal().add_(DAMPING * spread)
        pulled = as_matrix(dense).double() @ wanted
        there = as_matrix(support[name]).to(both.device) if name in support else None
        if there is not None and not there.all():
            solved = _row_by_row(both, pulled, there)
        else:
            solved = torch.linalg.solve(both, pulled.T).T
        solved = solved * (1 + protection)
        entries[name] = solved.to(dense.dtype).reshape(dense.shape).contiguous()
    if not entries:
        raise ExpungeError(
            "None of the weights that moved is a matrix whose inputs are known; a vector of biases "
            "and scales alone cannot be confined. Let weight matrices move."
        )
    return Delta(vector.base, entries)


def _row_by_row(both: Tensor, pulled: Tensor, support: Tensor) -> Tensor:
    """The rows d of ``d both = pulled`` over the weights that each row has; 0 elsewhere."""
    solved = torch.zeros_like(pulled)
    for row, there in enumerate(support):
        held = there.nonzero().flatten()
        if len(held):
            solved[row, held] = torch.linalg.solve(both[held][:, held], pulled[row, held])
    return solved
