"""Fisher forgetting: noise on every weight, the more the less it matters for the retain set (FF).

Golatkar, Achille, Soatto (2020). Eternal Sunshine of the Spotless Net: Selective Forgetting in Deep
Networks; in the form of Jia et al. (2023), Model Sparsity Can Simplify Machine Unlearning. The
variance of the noise is alpha / F, with the Fisher information F of the retain set averaged over
the classes that the model predicts; 1 / F is at most 1000, 100 in the output layer, is averaged
over the inputs of a unit, and is ten times as large in the output layer and in tensors of one
dimension.

The released code sets the forgotten class's row of the output layer to zero where the forget set
has exactly 4,500 or 450 rows (all of one class of CIFAR-10 or CIFAR-100). Here that is the field
``erase_class``, off by default; it removes a class by itself, whatever the noise does.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from expunge.changes.weights import parameters_of, with_weights
from expunge.descent.streams import reading
from expunge.errors import ExpungeError
from expunge.families.abilities import HasLogits
from expunge.methods.presets import typical_weight
from expunge.methods.protocol import Artifact, Outcome
from expunge.methods.search import LogUniform, Range
from expunge.problem import Access, Problem
from expunge.recipe import Role
from expunge.run import Run
from expunge.signals.fisher import classes_of, expected_fisher
from expunge.signals.gradients import Gradients

MOST, MOST_OF_OUTPUTS, MORE = 1e3, 1e2, 10.0
"""Largest 1 / F, the same in the output layer, and the factor of that layer and of biases."""


SHARE = 0.3
"""Deviation of the preset's noise in matrices at most, as a share of a typical weight."""


@dataclass(frozen=True)
class FisherForgetting:
    """Noise of variance alpha / F on the weights.

    Args:
        alpha: scale of the variance; about 1e-9 is what the authors advise.
        erase_class: set the row of the forgotten class in the output layer to zero, before the
            noise; the forget set then holds rows of one class.
        sequential: start from the current model instead of the base.
    """

    name: ClassVar[str] = "fisher-forgetting"
    paper: ClassVar[str] = "Golatkar et al. 2020, Eternal Sunshine of the Spotless Net"
    needs: ClassVar[tuple[type, ...]] = (HasLogits,)
    prepares_with: ClassVar[Access] = Access()
    search: ClassVar[Mapping[str, Range]] = {"alpha": LogUniform(1e-10, 1e-3)}
    preset_rule: ClassVar[str] = (
        "the alpha at which the noise has at most 0.3 of a typical weight in matrices; it forgets "
        "next to nothing: more noise costs more of the rest than of what is to go"
    )

    alpha: float = 1e-9
    erase_class: bool = False
    sequential: bool = False

    def __post_init__(self) -> None:
        if not self.alpha >= 0:
            raise ExpungeError(
                f"fisher-forgetting got alpha {self.alpha:g}; a number of at least 0 is expected."
            )

    def for_problem(self, problem: Problem, run: Run) -> Self:
        """The alpha at which the noise is as long as :data:`SHARE` says, at the largest 1 / F."""
        deviation = SHARE * typical_weight(problem)
        return replace(self, alpha=deviation**2 / MOST)

    @property
    def unlearns_with(self) -> Access:
        """The retain set; the labels of the forget set where a class is erased."""
        if not self.erase_class:
            return Access.to(Role.RETAIN)
        return Access({Role.RETAIN: None, Role.FORGET: frozenset({"label"})})

    def prepare(self, problem: Problem, run: Run) -> Artifact:
        """Nothing to prepare."""
        return Artifact()

    def unlearn(self, problem: Problem, artifact: Artifact, run: Run) -> Outcome:
        """The noisy weights.

        Raises:
            ExpungeError: a class is to be erased, and the forget set holds several or the model
                has no output layer with a row for each class.
        """
        retain = problem.data[Role.RETAIN]
        information = expected_fisher(problem.family, problem.model, retain, run)
        run.meter.touch(Role.RETAIN.value, len(retain))
        classes = classes_of(problem.family, problem.model, retain, run)
        outputs = _outputs(problem, classes)
        means = {n: p.detach().cpu().float() for n, p in parameters_of(problem.model).items()}
        noisy = {}
        if self.erase_class:  # also where the output layer is frozen and gets no noise
            noisy = _without_class(problem, {name: means[name] for name in outputs})
            means |= noisy
        # noise of its own for each request: the same twice would add up instead of in squares
        generator = run.generator(f"fisher-forgetting/{problem.request.digest()}")
        for name, deviation in self.deviations(information, outputs).items():
            drawn = torch.randn(deviation.shape, generator=generator)
            noisy[name] = means[name] + deviation * drawn
        after = with_weights(problem.model, noisy)
        return Outcome.of(after, problem.model, sequential=self.sequential, method=self.name)

    def deviations(self, information: Gradients, outputs: frozenset[str]) -> Gradients:
        """Standard deviations of the noise by parameter name, in the parameters' shapes.

        Args:
            information: diagonal Fisher information by name.
            outputs: names of the parameters of the output layer.
        """
        found = {}
        for name, fisher in information.items():
            most = MOST_OF_OUTPUTS if name in outputs else MOST
            variance = self.alpha * (1 / fisher).clamp(max=most)
            if variance.dim() > 1:
                variance = variance.mean(1, keepdim=True).expand_as(fisher)
            if name in outputs or variance.dim() <= 1:
                variance = MORE * variance
            found[name] = variance.sqrt()
        return found


def _outputs(problem: Problem, classes: int) -> frozenset[str]:
    """The parameters of the head with one row for each class; it may hold other layers too."""
    weights = parameters_of(problem.model)
    head = problem.family.anatomy(problem.model).head
    return frozenset(n for n in head if weights[n].dim() and len(weights[n]) == classes)


def _without_class(problem: Problem, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    rows = torch.arange(len(problem.data[Role.FORGET]))
    batch = problem.data[Role.FORGET].batch(rows)  # its labels alone are open
    with reading(batch):
        labels = torch.unique(batch["label"])
    if len(labels) != 1:
        raise ExpungeError(
            f"fisher-forgetting was to erase one class, and the forget set holds {len(labels)}; "
            "request one class, or set erase_class to false."
        )
    if not outputs:
        raise ExpungeError(
            f"fisher-forgetting was to erase a class, and {type(problem.model).__name__} has no "
            "output layer with a row for each class; set erase_class to false."
        )
    return {name: tensor.index_fill(0, labels, 0.0) for name, tensor in outputs.items()}
