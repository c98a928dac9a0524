"""Masks of pruned models: which weights may be pruned, which were, and how a record keeps them.

A mask holds truth values of the shape of a parameter: True is kept, False is a weight that is
exactly 0. A parameter without a mask was not pruned. Masks stand beside the model, not inside it:
a pruned model has the names and shapes of the dense one.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

import torch
from torch import Tensor, nn

from expunge.changes.weights import parameters_of, with_weights
from expunge.errors import ExpungeError
from expunge.recipe import LEARNER, Record
from expunge.run import Run

Masks = Mapping[str, Tensor]

PREFIX = "mask/"
"""What the names of masks begin with in a record."""


class Scope(Protocol):
    """Which weights a pruner may take."""

    def names(self, model: nn.Module) -> tuple[str, ...]:
        """Canonical names of the parameters, in the order of the model."""
        ...


@dataclass(frozen=True)
class Convolutions:
    """The weights of all convolutions; linear layers, norms and biases stay dense."""

    def names(self, model: nn.Module) -> tuple[str, ...]:
        """Canonical names of the weights."""
        found = _weights(model, nn.modules.conv._ConvNd)
        if not found:
            raise ExpungeError(
                f"{type(model).__name__} has no convolution whose weights could be pruned; give "
                "the learner the scope `matrices`."
            )
        return found


@dataclass(frozen=True)
class Matrices:
    """The weights of all convolutions and linear layers; norms, biases, embeddings stay dense."""

    def names(self, model: nn.Module) -> tuple[str, ...]:
        """Canonical names of the weights."""
        found = _weights(model, nn.modules.conv._ConvNd, nn.Linear)
        if not found:
            raise ExpungeError(
                f"{type(model).__name__} has no convolution or linear layer whose weights could be "
                "pruned; give a model that has."
            )
        return found


SCOPES: Mapping[str, type] = MappingProxyType({"convolutions": Convolutions, "matrices": Matrices})
"""Those that a run file may name: the ``choices`` of pruning learners."""


def _weights(model: nn.Module, *kinds: type[nn.Module]) -> tuple[str, ...]:
    owned = {id(m.weight) for m in model.modules() if isinstance(m, kinds)}
    return tuple(name for name, p in model.named_parameters() if id(p) in owned)


def all_kept(model: nn.Module, scope: Scope) -> dict[str, Tensor]:
    """Masks that prune nothing yet."""
    weights = parameters_of(model)
    return {n: torch.ones(weights[n].shape, dtype=torch.bool) for n in scope.names(model)}


def smallest_pruned(
    scores: Mapping[str, Tensor], masks: Masks, sparsity: float
) -> dict[str, Tensor]:
    """Masks with exactly floor(sparsity * p) zeros among all p weights together.

    What was pruned stays so; then the weights of the lowest scores go, of equal ones the first in
    the order of the model.

    Raises:
        ExpungeError: the sparsity is not in [0, 1), or a score is not finite.
    """
    if not 0 <= sparsity < 1:
        raise ExpungeError(
            f"A sparsity of {sparsity} was given; a share of at least 0 and below 1 is expected, "
            "since a model without weights answers the same to everything."
        )
    flat = torch.cat([scores[name].detach().cpu().double().flatten() for name in masks])
    kept = torch.cat([mask.flatten() for mask in masks.values()])
    if not bool(torch.isfinite(flat).all()):
        raise ExpungeError(
            "A score of the weights is not finite; finite numbers are expected. Lower the "
            "learning rate of the training, or take a model with finite weights."
        )
    flat[~kept] = -math.inf
    zeros = math.floor(sparsity * len(flat) + 1e-6)  # 0.29 * 100 is below 29 in floating point
    chosen = torch.ones_like(kept)
    chosen[torch.argsort(flat, stable=True)[:zeros]] = False
    pieces = torch.split(chosen, [mask.numel() for mask in masks.values()])
    return {n: p.reshape(m.shape) for (n, m), p in zip(masks.items(), pieces, strict=True)}


def sparsity_of(masks: Masks) -> float:
    """Share of the weights under the masks that are pruned."""
    return 1 - sum(int(m.sum()) for m in masks.values()) / sum(m.numel() for m in masks.values())


def emptied(masks: Masks) -> tuple[str, ...]:
    """Names of the weights of which nothing is left."""
    return tuple(name for name, mask in masks.items() if not bool(mask.any()))


def warn_of_emptied(masks: Masks, run: Run) -> None:
    """Warn of layers that nothing passes any more."""
    if names := emptied(masks):
        run.warn(
            f"Pruning to {sparsity_of(masks):.1%} left no weight of {', '.join(names)}; what the "
            "model answers no longer depends on what went through. Prune less."
        )


def pruned(model: nn.Module, masks: Masks) -> nn.Module:
    """A copy of the model whose masked weights are exactly 0; parameters and modes stay alike."""
    weights = parameters_of(model)
    return with_weights(
        model,
        {n: torch.where(m.to(weights[n].device), weights[n], 0.0) for n, m in masks.items()},
    )


def strays(model: nn.Module, masks: Masks) -> int:
    """How many weights of the model are not 0 though their mask prunes them."""
    weights = parameters_of(model)
    return sum(int(weights[n].detach().cpu()[~m].count_nonzero()) for n, m in masks.items())


def record_of(masks: Masks, learner: str) -> Record:
    """The record of a model that a learner pruned: its masks, and its sparsity as a fact."""
    named = {PREFIX + name: mask for name, mask in masks.items()}
    facts = {LEARNER: learner, "kind": "pruned", "sparsity": sparsity_of(masks)}
    return Record(named, facts)


def masks_of(record: Record | None) -> dict[str, Tensor]:
    """The masks that a record keeps.

    Raises:
        ExpungeError: there is no record, or it keeps no mask.
    """
    tensors = {} if record is None else record.tensors
    found = {n.removeprefix(PREFIX): t for n, t in tensors.items() if n.startswith(PREFIX)}
    if not found:
        raise ExpungeError(
            "The record of this model holds no masks of pruned weights; give the record that a "
            "pruning learner (magnitude-pruned, synflow) kept while it trained the model."
        )
    return found
