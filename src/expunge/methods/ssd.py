"""SSD: dampen the weights that matter disproportionately for the forget set; no training at all.

Foster, Schoepf, Brintrup (2024). Fast Machine Unlearning Without Retraining Through Selective
Synaptic Dampening (AAAI 2024), Algorithm 1. The importance of a weight is the diagonal empirical
Fisher of the loss. With rows squared one by one, as the paper defines it, the importance on the
forget set D_f is at most |D| / |D_f| times that on the training set D that holds it, since
F_D = |D_f|/|D| F_f + (1 - |D_f|/|D|) F_r: a larger alpha selects nothing. The released code squares
gradients of batch means instead, where this ceiling does not hold.

The paper takes the importance on D once. A deployment takes it anew after every request that was
served, on the rows that are left, so that no row of an earlier request is read again; D has to be
there for that, and |D| shrinks.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from expunge.changes.delta import Delta
from expunge.changes.kinds import Change, Replacement
from expunge.changes.weights import digest_of, parameters_of, with_weights
from expunge.data.samples import Samples
from expunge.errors import ExpungeError, IntegrityError
from expunge.families.abilities import HasLoss
from expunge.methods.presets import without_answers
from expunge.methods.protocol import Artifact, Outcome
from expunge.methods.search import LogUniform, Range
from expunge.problem import Access, Problem
from expunge.recipe import Role
from expunge.run import Run
from expunge.signals.fisher import batch_fisher, diagonal_fisher
from expunge.signals.gradients import Gradients

OF_FACTS = (
    "Weights that matter for some facts matter for others, too: on facts about invented people no "
    "alpha took those of ten people away and left the rest."
)
"""Why there is no preset for language models."""

PRESET = 0.6
"""Alpha of the preset as a share of |D| / |D_f|, where the default lies above that."""


@dataclass(frozen=True)
class SSD:
    """Selective synaptic dampening.

    Args:
        alpha: a weight is selected where its importance on the forget set is more than ``alpha``
            times that on the training set. The paper has 10 for ResNet-18 on CIFAR.
        dampening: lambda; a selected weight is multiplied by ``dampening`` times the ratio of the
            importance on the training set to that on the forget set, by 1 at most.
        as_published: square gradients of batch means, as the released code does, instead of rows'.
        batch_size: rows of such a batch; without effect otherwise.
        sequential: start from the current model instead of the base.
    """

    name: ClassVar[str] = "ssd"
    paper: ClassVar[str] = (
        "Foster et al. 2024, Fast Machine Unlearning Without Retraining Through Selective Synaptic "
        "Dampening"
    )
    needs: ClassVar[tuple[type, ...]] = (HasLoss,)
    prepares_with: ClassVar[Access] = Access.to(Role.TRAIN)
    unlearns_with: ClassVar[Access] = Access.to(Role.FORGET)
    search: ClassVar[Mapping[str, Range]] = {
        "alpha": LogUniform(0.1, 100.0),
        "dampening": LogUniform(0.1, 5.0),
    }
    preset_rule: ClassVar[str] = (
        "alpha at 0.6 of the number of training rows over that of forget rows, where the paper's "
        "10 lies above that"
    )

    alpha: float = 10.0
    dampening: float = 1.0
    as_published: bool = False
    batch_size: int = 64
    sequential: bool = False

    def __post_init__(self) -> None:
        checked_dampening(self.name, self.alpha, self.dampening)

    def for_problem(self, problem: Problem, run: Run) -> Self:
        """These fields, with ``alpha`` at most the share :data:`PRESET` of this request's ceiling.

        For ``as_published`` too, where the ceiling does not hold but importances lie alike.

        Raises:
            ExpungeError: the model is a language model, in which no alpha that was tried took facts
                away and left the others (docs/language.md).
        """
        without_answers(problem, OF_FACTS)
        return replace(self, alpha=below_ceiling(self.alpha, PRESET, problem))

    def prepare(self, problem: Problem, run: Run) -> Artifact:
        """The importance of every weight on the training set, and the model it belongs to."""
        samples = problem.data[Role.TRAIN]
        run.meter.touch(Role.TRAIN.value, len(samples))
        importance = self._importance(problem, samples, run)
        return artifact_of(problem.model, importance, len(samples), self.preparation)

    def unlearn(self, problem: Problem, artifact: Artifact, run: Run) -> Outcome:
        """The dampened weights; the facts name the share that was selected, and the ceiling.

        Raises:
            IntegrityError: the artifact was prepared on another model or by another definition.
        """
        checked_artifact(self.name, artifact, problem.model, self.preparation)
        forget = problem.data[Role.FORGET]
        ceiling = rows_of(artifact) / len(forget)
        run.meter.touch(Role.FORGET.value, len(forget))
        importance = self._importance(problem, forget, run)
        change = Dampened.of(
            problem.model, artifact.tensors, importance, self.alpha, self.dampening
        )
        if change.selected == 0:
            limit = "" if self.as_published else f", and above {ceiling:.4g} none can be{COUNTED}"
            run.warn(nothing_selected(self.name, self.alpha, change.largest, limit))
        facts = {"method": self.name, "selected": change.share}
        if not self.as_published:
            facts["ceiling"] = ceiling
        return Outcome((change.change(problem.model, self.sequential, facts),))

    @property
    def preparation(self) -> str:
        """The definition of the importance; neither alpha nor dampening is part of it."""
        return f"squared means of {self.batch_size} rows" if self.as_published else "squared rows"

    def _importance(self, problem: Problem, samples: Samples, run: Run) -> Gradients:
        importance = (
            functools.partial(batch_fisher, batch_size=self.batch_size)
            if self.as_published
            else diagonal_fisher
        )
        return importance(problem.family, problem.model, samples, run)


@dataclass(frozen=True)
class Dampened:
    """Steps 3 and 4 of the algorithm.

    Attributes:
        values: the selected tensors with their dampened entries, by name.
        selected: number of weights that were selected, of ``weights`` that could be.
        weights: number of weights with an importance.
        largest: the largest ratio of the two importances.
    """

    values: Mapping[str, Tensor]
    selected: int
    weights: int
    largest: float

    @classmethod
    def of(
        cls,
        model: nn.Module,
        importance: Mapping[str, Tensor],
        forget_importance: Gradients,
        alpha: float,
        dampening: float,
    ) -> Self:
        """Selects and dampens, tensor by tensor; the model stays as it is.

        Args:
            model: the weights.
            importance: on the training set, by parameter name.
            forget_importance: on the forget set.
            alpha: selection weight.
            dampening: dampening constant.
        """
        weights, values = parameters_of(model), {}
        selected, count, largest = 0, 0, 0.0
        for name, there in forget_importance.items():
            everywhere = importance[name]
            count += there.numel()
            ratio = torch.where(there > 0, there / everywhere, 0.0)
            largest = max(largest, float(ratio.max()))
            chosen = there > alpha * everywhere
            if number := int(chosen.sum()):
                selected += number
                factor = (dampening * everywhere / there).clamp(max=1.0)
                old = weights[name].detach().cpu()
                values[name] = torch.where(chosen, factor.to(old.dtype) * old, old)
        return cls(values, selected, count, largest)

    @property
    def share(self) -> float:
        """Share of the weights that was selected."""
        return self.selected / self.weights

    def change(self, model: nn.Module, sequential: bool, facts: Mapping[str, object]) -> Change:
        """What leads from the model to the dampened one."""
        after = with_weights(model, self.values)
        if sequential:
            return replace(Replacement.of(after, model), facts=facts)
        return Delta.between(after, model, **facts).sparse()


def below_ceiling(alpha: float, share: float, problem: Problem) -> float:
    """The alpha, or a share of the ceiling |D| / |D_f| where that is less."""
    rows = len(problem.data[Role.TRAIN]) / max(1, len(problem.data[Role.FORGET]))
    return min(alpha, share * rows)


COUNTED = " where the forget rows were among those that it was prepared on"
"""When the ceiling holds."""


def nothing_selected(method: str, alpha: float, largest: float, limit: str = "") -> str:
    """What is said where alpha selects no weight."""
    return (
        f"{method} at alpha {alpha:g} selected nothing: no parameter was dampened. The largest "
        f"ratio of importances is {largest:.4g}{limit}; give a smaller alpha."
    )


def checked_dampening(method: str, alpha: float, dampening: float) -> None:
    """Both constants, known to be positive.

    Raises:
        ExpungeError: one is not.
    """
    if not (alpha > 0 and dampening > 0):
        raise ExpungeError(
            f"{method} got alpha {alpha:g} and dampening {dampening:g}; numbers above 0 are "
            "expected."
        )


def artifact_of(model: nn.Module, importance: Gradients, rows: int, definition: str) -> Artifact:
    """An importance with the model, the number of rows and the definition that it belongs to."""
    facts = {"model": digest_of(model), "rows": rows, "definition": definition}
    return Artifact(importance, facts)


def rows_of(artifact: Artifact) -> int:
    """The number of training rows that the importance was taken on."""
    return int(str(artifact.facts["rows"]))


def checked_artifact(method: str, artifact: Artifact, model: nn.Module, definition: str) -> None:
    """An artifact, known to belong to the model and to be of the definition.

    Raises:
        IntegrityError: it belongs to another model, or is of another definition.
    """
    found, given = digest_of(model), str(artifact.facts.get("model"))
    if given != found:
        raise IntegrityError(
            f"The importance was prepared on the model {given[:12]} and this model is "
            f"{found[:12]}; prepare {method} again on this model."
        )
    if artifact.facts.get("definition") != definition:
        raise IntegrityError(
            f"The importance was prepared as {artifact.facts.get('definition')!r} and {method} now "
            f"reads {definition!r}; prepare it again with these fields."
        )
