"""A term that makes the states of texts tell them apart, from these texts alone.

Gao, Wang et al. (2025). On Large Language Model Continual Unlearning: the loss of its detectors of
texts, whose encoder is a masked language model. A decoder has no mask token, and predicts the next
token: here (our reading) masked tokens are replaced by tokens drawn from the same texts, and the
true next token is predicted from what is left.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from expunge.changes.detector import prompts
from expunge.data.samples import ROW, Batch, Samples, batches
from expunge.descent.player import Setting
from expunge.families.abilities import HasAnswers, HasLoss, able
from expunge.families.language import IGNORED
from expunge.models.modes import evaluating
from expunge.models.states import layer_means
from expunge.problem import Fields

AT_ONCE = 64
"""Rows that the frozen model reads at a time."""


@dataclass(frozen=True)
class ContrastiveEntropy:
    """The loss of the masked view of prompts, plus the entropy of its likeness to the whole ones.

    In each layer the mean state of a masked prompt, as the model that moves sees it, is compared
    with those of all whole prompts of the batch, as the frozen model saw them: softmax of the inner
    products, a row of which has low entropy where a prompt is like few others.

    Args:
        layers: names of the layers, in forward order.
        prompt_end: see :class:`~expunge.changes.detector.Detector`.
        masked: share of the tokens that are replaced.
        weight: factor of the term.
        every: period in steps.
        batch_size: rows of a batch; None takes the descent's.
        fields: what is read of the rows.
    """

    layers: tuple[str, ...]
    prompt_end: tuple[int, ...] = ()
    masked: float = 0.15
    weight: float = 1.0
    every: int = 1
    batch_size: int | None = None
    fields: Fields = None
    needs: ClassVar[tuple[type, ...]] = (HasLoss, HasAnswers)

    def start(self, setting: Setting, samples: Samples) -> Tensor:
        """The frozen model's states (rows, S, D) of whole prompts."""
        found = []
        with evaluating(setting.reference()) as model, torch.no_grad():
            for batch in batches(samples, AT_ONCE):
                ids = readable(batch).to(setting.run.device)
                counted = prompts(ids, self.prompt_end)
                found.append(layer_means(model, self.layers, ids, counted))
        return torch.cat(found)

    def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor:
        """Mean loss of the tokens of the prompts, plus the sum over layers of mean entropies."""
        assert isinstance(prepared, Tensor)
        ids = readable(batch)
        counted = prompts(ids, self.prompt_end)
        view = self._masked(ids, counted, setting.generator())
        labels = torch.where(counted, ids, IGNORED)
        several = (counted.sum(1) > 1).nonzero().reshape(-1)  # one token has none before it
        told = {"input_ids": view[several], "labels": labels[several]}
        loss = view.new_zeros((), dtype=torch.float32)
        if len(several):
            loss = able(setting.family, HasLoss).losses(setting.model, told).mean()
        states = layer_means(setting.model, self.layers, view, counted)
        whole = prepared[batch[ROW].to(prepared.device)].to(states)
        likeness = torch.einsum("bsd,nsd->sbn", states, whole).log_softmax(2)
        entropy = -(likeness.exp() * likeness).sum(2).mean(1)
        return loss + entropy.sum()

    def _masked(self, ids: Tensor, counted: Tensor, generator: torch.Generator) -> Tensor:
        """The tokens, a share of those that count replaced by others that count."""
        drawn = torch.rand(ids.shape, generator=generator).to(ids.device)
        tokens = ids[counted]
        others = torch.randint(len(tokens), ids.shape, generator=generator).to(ids.device)
        return torch.where((drawn < self.masked) & counted, tokens[others], ids)


def readable(batch: Batch) -> Tensor:
    """The tokens of a batch (B, L), where each row repeats its last answer token behind it: what
    stands there is read by nothing else."""
    ids, labels = batch["input_ids"], batch["labels"]
    places = torch.arange(ids.shape[1], device=ids.device)
    last = ((labels != IGNORED) * places).amax(1, keepdim=True)
    return ids.gather(1, torch.minimum(places.expand_as(ids), last))
