"""LFSSD: selective synaptic dampening without labels.

Foster, Schoepf, Brintrup (2024). Loss-Free Machine Unlearning (ICLR 2024, tiny paper). The loss is
replaced by the squared norm of the logits, the mean over a batch, and the squared gradient by its
absolute value; selection, dampening and what is taken anew after a request are those of
:mod:`~expunge.methods.ssd`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from expunge.data.samples import ROW, Batch, Samples
from expunge.errors import ExpungeError
from expunge.families.abilities import Family, HasLogits, able
from expunge.methods.protocol import Artifact, Outcome
from expunge.methods.search import LogUniform, Range
from expunge.methods.ssd import (
    Dampened,
    artifact_of,
    below_ceiling,
    checked_artifact,
    checked_dampening,
    nothing_selected,
)
from expunge.problem import Access, Problem
from expunge.recipe import Role
from expunge.run import Run
from expunge.signals.gradients import Gradients, RowValues, batch_gradients

PRESET = 0.8
"""Alpha of the preset as a share of |D| / |D_f|, where the default lies above that."""


@dataclass(frozen=True)
class LFSSD:
    """Loss-free selective synaptic dampening: no label is read, while preparing or unlearning.

    Args:
        alpha: selection weight; of SSD, since the card of the method names none of its own.
        dampening: dampening constant.
        batch_size: rows of a batch of which one absolute gradient is taken.
        inputs: the fields that the family calls the model with; the only ones that are opened.
        sequential: start from the current model instead of the base.
    """

    name: ClassVar[str] = "lfssd"
    paper: ClassVar[str] = "Foster et al. 2024, Loss-Free Machine Unlearning"
    needs: ClassVar[tuple[type, ...]] = (HasLogits,)
    search: ClassVar[Mapping[str, Range]] = {
        "alpha": LogUniform(0.1, 100.0),
        "dampening": LogUniform(0.1, 5.0),
    }
    preset_rule: ClassVar[str] = "as ssd, with 0.8 in the place of 0.6"

    alpha: float = 10.0
    dampening: float = 1.0
    batch_size: int = 64
    inputs: tuple[str, ...] = ("image",)
    sequential: bool = False

    def __post_init__(self) -> None:
        checked_dampening(self.name, self.alpha, self.dampening)

    def for_problem(self, problem: Problem, run: Run) -> Self:
        """These fields, with ``alpha`` at most the share :data:`PRESET` of |D| / |D_f|."""
        return replace(self, alpha=below_ceiling(self.alpha, PRESET, problem))

    @property
    def prepares_with(self) -> Access:
        """The inputs of the training set."""
        return Access({Role.TRAIN: frozenset(self.inputs)})

    @property
    def unlearns_with(self) -> Access:
        """The inputs of the forget set."""
        return Access({Role.FORGET: frozenset(self.inputs)})

    def prepare(self, problem: Problem, run: Run) -> Artifact:
        """The importance of every weight on the training set, and the model it belongs to."""
        samples = problem.data[Role.TRAIN]
        run.meter.touch(Role.TRAIN.value, len(samples))
        importance = sensitivity(problem.family, problem.model, samples, run, self.batch_size)
        return artifact_of(problem.model, importance, len(samples), self.preparation)

    def unlearn(self, problem: Problem, artifact: Artifact, run: Run) -> Outcome:
        """The dampened weights; the facts name the share that was selected.

        Raises:
            IntegrityError: the artifact was prepared on another model or by another definition.
        """
        checked_artifact(self.name, artifact, problem.model, self.preparation)
        forget = problem.data[Role.FORGET]
        run.meter.touch(Role.FORGET.value, len(forget))
        importance = sensitivity(problem.family, problem.model, forget, run, self.batch_size)
        change = Dampened.of(
            problem.model, artifact.tensors, importance, self.alpha, self.dampening
        )
        if change.selected == 0:
            run.warn(nothing_selected(self.name, self.alpha, change.largest))
        facts = {"method": self.name, "selected": change.share}
        return Outcome((change.change(problem.model, self.sequential, facts),))

    @property
    def preparation(self) -> str:
        """The definition of the importance; neither alpha nor dampening is part of it."""
        return f"absolute means of {self.batch_size} rows"


def sensitivity(
    family: Family, model: nn.Module, samples: Samples, run: Run, batch_size: int
) -> Gradients:
    """Mean over shuffled batches of the absolute gradient of the mean squared norm of the logits.

    Returns:
        Float32 tensors on the CPU, in the shapes of the parameters.
    """
    order = torch.randperm(len(samples), generator=run.generator("lfssd/order"))
    total: Gradients = {}
    batches = 0
    values = _squared_norms(family)
    for _, found in batch_gradients(values, family, model, samples.select(order), run, batch_size):
        batches += 1
        for name, gradient in found.items():
            total[name] = total[name] + gradient.abs() if name in total else gradient.abs()
    return {name: (tensor / batches).cpu() for name, tensor in total.items()}


def _squared_norms(family: Family) -> RowValues:
    scorer = able(family, HasLogits)

    def values(model: nn.Module, batch: Batch) -> Tensor:
        try:
            return scorer.logits(model, batch).float().square().sum(1)
        except KeyError as error:
            raise ExpungeError(
                f"The model reads the field {error}, and of these rows lfssd opens "
                f"{', '.join(sorted(set(batch) - {ROW})) or 'none'}; name every field that the "
                "model is called with in `inputs`."
            ) from None

    return values
