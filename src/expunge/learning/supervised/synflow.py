"""SynFlow: prune at initialisation, without data, so that no layer is ever emptied.

Tanaka, Kunin, Yamins, Ganguli (2020). Pruning Neural Networks Without Any Data by Iteratively
Conserving Synaptic Flow. As used before unlearning by Jia et al. (2023). Model Sparsity Can
Simplify Machine Unlearning: since no row is read, the masks tell nothing of the forget set.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from expunge.changes.weights import parameters_of
from expunge.data.samples import Batch, Samples
from expunge.errors import ExpungeError
from expunge.families.abilities import Family, HasOutputs, able
from expunge.learning.supervised.magnitude_pruned import PAPER_TRAINING
from expunge.learning.supervised.masks import (
    SCOPES,
    Convolutions,
    Masks,
    Scope,
    all_kept,
    pruned,
    smallest_pruned,
    warn_of_emptied,
)
from expunge.learning.supervised.plain import Plain
from expunge.learning.supervised.same_mask import SameMask
from expunge.recipe import Role, Trained
from expunge.run import Run


@dataclass(frozen=True)
class SynFlow:
    """Prune the untrained model in many rounds by synaptic flow, then train what is left.

    Each round scores every weight by |w dR/dw|, where R is the sum of the outputs for an input of
    ones with every parameter replaced by its absolute value, in evaluation mode; the lowest scores
    of all layers together are pruned. After round t of N exactly floor((1 - (1 - s)^(t / N)) p) of
    the p weights in scope are 0.

    No layer is emptied that everything must pass. A residual branch can be where pictures are too
    small for its kernels: most of a 3 x 3 kernel on one pixel sees padding alone and scores 0. So
    are the queries and keys of attention, which ones in all places give no slope; prune
    transformers by magnitude.

    Args:
        training: of the sparse model.
        sparsity: share s of the weights in scope that is pruned.
        rounds: N; a single round can empty a layer.
        scope: which weights may be pruned.
    """

    name: ClassVar[str] = "synflow"
    choices: ClassVar[Mapping[str, Mapping[str, type]]] = {"scope": SCOPES}

    training: Plain = PAPER_TRAINING
    sparsity: float = 0.95
    rounds: int = 100
    scope: Scope = field(default_factory=Convolutions)

    def __post_init__(self) -> None:
        if not 0 < self.sparsity < 1:
            raise ExpungeError(
                f"A sparsity of {self.sparsity} was given; a share above 0 and below 1 is "
                "expected, for example 0.95."
            )
        if self.rounds < 1:
            raise ExpungeError(f"{self.rounds} rounds of pruning were asked for; 1 is the least.")

    def fit(
        self, model: nn.Module, family: Family, data: Mapping[Role, Samples], run: Run
    ) -> Trained:
        """A sparse model, and its masks as the record."""
        masks = self.masks(model, family, data[Role.TRAIN])
        warn_of_emptied(masks, run)
        return SameMask(self.training, masks, self.name).fit(model, family, data, run)

    def masks(self, model: nn.Module, family: Family, samples: Samples) -> Masks:
        """The masks of an untrained model; of the samples only the shape of one row is read."""
        ones = _ones(samples)
        masks = all_kept(model, self.scope)
        for count in range(1, self.rounds + 1):
            scores = flow(pruned(model, masks), family, ones, tuple(masks))
            share = 1 - (1 - self.sparsity) ** (count / self.rounds)
            masks = smallest_pruned(scores, masks, share)
        return masks


def flow(
    model: nn.Module, family: Family, ones: Batch, names: tuple[str, ...]
) -> dict[str, Tensor]:
    """Synaptic flow of the named weights, each of the weight's shape, in double precision.

    Only parameters become absolute: the running statistics of norms and their counters stay.

    Raises:
        ExpungeError: nothing flows: all scores are 0 or one is not finite.
    """
    positive = copy.deepcopy(model).cpu().double().eval().requires_grad_(False)
    weights = parameters_of(positive)
    for weight in weights.values():
        weight.abs_()
    asked = [weights[name].requires_grad_(True) for name in names]
    total = able(family, HasOutputs).outputs(positive, ones).sum()
    found = torch.autograd.grad(total, asked, allow_unused=True)
    scores = {
        name: torch.zeros_like(weight) if slope is None else (weight * slope).abs().detach()
        for name, weight, slope in zip(names, asked, found, strict=True)
    }
    if not bool(torch.isfinite(total)) or not any(bool(s.any()) for s in scores.values()):
        raise ExpungeError(
            "No flow from an input of ones through the absolute weights reaches the outputs (or it "
            "is not finite), so SynFlow cannot tell weights apart; prune less, or by magnitude."
        )
    return scores


def _ones(samples: Samples) -> Batch:
    """A batch of one row whose floating-point fields are ones."""
    row = samples.batch(torch.zeros(1, dtype=torch.int64))
    return {
        name: torch.ones_like(t, dtype=torch.float64) if t.is_floating_point() else t
        for name, t in row.items()
    }
