"""Language models: decoders that score each token given the ones before it.

A row is a prompt and an answer in one line of tokens, ``input_ids`` (B, L), padded on the right;
``labels`` (B, L) repeat the answer tokens and hold :data:`IGNORED` elsewhere. A text without prompt
is all answer. What follows the last answer token of a row is never read, so a decoder needs no
attention mask. Any ``transformers`` model for causal language modelling takes part.

The head, a quarter of a small model's work, is computed at answer tokens alone, and a batch goes
through the model in groups of rows of like length: the numbers are those of the padded batch.
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from expunge.changes.weights import buffers_of, parameters_of
from expunge.data import encoding
from expunge.data.samples import Batch
from expunge.errors import ExpungeError
from expunge.families.abilities import Anatomy, AnswerTokens, UnitLosses
from expunge.families.blocks import blocks_of
from expunge.models.states import layer_states

IGNORED = encoding.IGNORED
"""The label of a position that is no answer token."""


@dataclass(frozen=True)
class Language:
    """Family ``language``.

    Args:
        refusals: token sequences of answers that teach nothing ("I don't know"), each with the
            token that ends an answer; needed only for neutral targets and preferences.
        overhead: what starting one more group of rows costs, in tokens: a batch is divided where
            that saves more padding than it costs. ``None`` takes every batch as one group.
    """

    refusals: tuple[tuple[int, ...], ...] = ()
    overhead: int | None = 64
    name: str = "language"

    def draw(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Nothing is random."""
        return batch

    def states(self, model: nn.Module, batch: Batch) -> AnswerTokens:
        """What the head reads at the answer tokens: (n, D)."""
        head = head_of(model)
        tokens, seen = _flat(batch), []
        for rows, ids, at in self._groups(batch):
            with _reading(head, at) as read:
                _call(model, ids)
            seen.append((rows, read))
        return tokens.holding(_in_order(seen, batch["labels"]))

    def answers(self, model: nn.Module, batch: Batch) -> AnswerTokens:
        """Logits (n, V) at the answer tokens."""
        head = head_of(model)
        tokens, seen = _flat(batch), []
        for rows, ids, at in self._groups(batch):
            with _reading(head, at):
                logits = _call(model, ids)
            seen.append((rows, [logits.reshape(-1, logits.shape[-1])]))
        return tokens.holding(_in_order(seen, batch["labels"]))

    def tapped(self, model: nn.Module, batch: Batch, tap: str) -> AnswerTokens:
        """Hidden states (n, D) after a layer, at the positions that answer tokens are predicted
        from; the layers above it are not run."""
        layer = self.anatomy(model).taps[tap]
        tokens, seen = _flat(batch), []
        for rows, ids, at in self._groups(batch):
            [states] = layer_states(model, [layer], ids)
            seen.append((rows, [states[at]]))
        return tokens.holding(_in_order(seen, batch["labels"]))

    def scorer(self, model: nn.Module) -> nn.Module:
        """A frozen copy of the head, with the scale and cap that its config names."""
        return _Scorer(model)

    def losses(self, model: nn.Module, batch: Batch) -> UnitLosses:
        """Minus the log-probability of each answer token (B, U)."""
        return self.answers(model, batch).losses()

    def margins(self, model: nn.Module, batch: Batch) -> Tensor:
        """Log-odds (B,) of the answer by its probability per token, the geometric mean."""
        return answer_log_odds(-self.losses(model, batch).means())

    def neutral(self, batch: Batch, generator: torch.Generator) -> Batch:
        """The prompts with a refusal, drawn for each row, in the place of the answer.

        Raises:
            ExpungeError: the family was given no refusals.
        """
        if not self.refusals:
            raise ExpungeError(
                "The family 'language' was given no refusals, which answers that teach nothing "
                "are drawn from; name a file of them as `data.refusals` in the run file."
            )
        drawn = torch.randint(len(self.refusals), (len(batch["labels"]),), generator=generator)
        return answered_with(batch, [torch.tensor(self.refusals[i]) for i in drawn.tolist()])

    def anatomy(self, model: nn.Module) -> Anatomy:
        """Blocks as :func:`blocks_of` finds them; the elements of the longest list of layers are
        the taps, named by their number."""
        names = list(parameters_of(model))
        lists = {n: m for n, m in model.named_modules() if isinstance(m, nn.ModuleList) and len(m)}
        longest = max(lists, key=lambda name: len(lists[name]), default=None)
        layers = 0 if longest is None else len(lists[longest])
        inner, outer = input_embedding(model), head_of(model)
        own = {id(p) for p in outer.parameters()} if outer is not None else set()
        embedded = {id(p) for p in inner.parameters()}
        shown = dict(model.named_parameters())
        return Anatomy(
            blocks_of(model),
            head=tuple(n for n in names if id(shown[n]) in own),
            embeddings=tuple(n for n in names if id(shown[n]) in embedded),
            buffers=tuple(buffers_of(model)),
            taps={str(i): f"{longest}.{i}" for i in range(layers)},
        )

    def _groups(self, batch: Batch) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Groups of rows of like length: the rows (b,), their tokens (b, l), and which of the
        positions (b, l) score an answer token."""
        labels, ids = batch["labels"], batch["input_ids"]
        for rows, width in grouped(read_lengths(labels), self.overhead):
            at = torch.tensor(rows, device=labels.device)
            here = labels[at, : width + 1]
            yield at, ids[at, :width], here[:, 1:] != IGNORED


def read_lengths(labels: Tensor) -> list[int]:
    """Tokens of each row (B,) that are read: all before the last answer token.

    Raises:
        ExpungeError: a row has no answer token after its first token, which nothing can be scored
            for.
    """
    scored = labels[:, 1:] != IGNORED
    empty = (~scored.any(1)).nonzero().reshape(-1).tolist()
    if empty:
        raise ExpungeError(
            f"Row {empty[0]} of a batch has no answer token after its first token; at least one is "
            "expected. Give every row an answer, or texts of two tokens at least."
        )
    places = torch.arange(1, labels.shape[1], device=labels.device)
    found: list[int] = (scored * places).amax(1).tolist()
    return found


@lru_cache(maxsize=4096)
def _grouped(lengths: tuple[int, ...], overhead: int) -> tuple[tuple[int, int], ...]:
    """Ends and widths of the groups of ascending lengths with the least padded tokens, where every
    group costs ``overhead`` tokens more. Rows of one length are never parted."""
    ends = [i + 1 for i, pair in enumerate(pairwise((*lengths, None))) if pair[0] != pair[1]]
    starts = [0, *ends]
    best: list[tuple[float, int]] = [(0.0, 0)]
    for last, end in enumerate(ends, 1):
        width = lengths[end - 1]
        best.append(
            min(
                (best[first][0] + overhead + (end - starts[first]) * width, first)
                for first in range(last)
            )
        )
    groups, last = [], len(ends)
    while last:
        groups.append((starts[last], lengths[starts[last] - 1]))
        last = best[last][1]
    return tuple(reversed(groups))


def grouped(lengths: Sequence[int], overhead: int | None) -> list[tuple[list[int], int]]:
    """Rows by groups of like length, with the width of each group; see :class:`Language`."""
    if overhead is None:
        return [(list(range(len(lengths))), max(lengths))]
    order = sorted(range(len(lengths)), key=lambda row: lengths[row])
    found, start = [], 0
    for end, width in _grouped(tuple(lengths[row] for row in order), overhead):
        found.append((order[start:end], width))
        start = end
    return found


def answered_with(batch: Batch, answers: Sequence[Tensor]) -> Batch:
    """The prompts of a batch, each with another answer (l,); every other field stays."""
    ids, labels = batch["input_ids"], batch["labels"]
    prompts = encoding.prompt_tokens(ids, labels)
    given = [answer.to(ids.device) for answer in answers]
    whole = [torch.cat(pair) for pair in zip(prompts, given, strict=True)]
    own = [
        torch.cat([torch.full_like(prompt, IGNORED), answer])
        for prompt, answer in zip(prompts, given, strict=True)
    ]
    return {
        **batch,
        "input_ids": pad_sequence(whole, batch_first=True),
        "labels": pad_sequence(own, batch_first=True, padding_value=IGNORED),
    }


def answer_log_odds(mean_log_probability: Tensor) -> Tensor:
    """log(p / (1 - p)) of p the exponential of a mean log-probability; float32."""
    mean = mean_log_probability.float().clamp(max=-1e-6)
    return mean - torch.log(-torch.expm1(mean))


def head_of(model: nn.Module) -> nn.Module:
    """The module that turns hidden states into logits.

    Raises:
        ExpungeError: the model does not say which it is.
    """
    given: Any = model
    head = given.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    if not isinstance(head, nn.Module):
        raise ExpungeError(
            f"{type(model).__name__} names no head by `get_output_embeddings`; a transformers "
            "model for causal language modelling is expected."
        )
    return head


def input_embedding(model: nn.Module) -> nn.Module:
    """The module that turns tokens into hidden states."""
    given: Any = model
    found = given.get_input_embeddings()
    assert isinstance(found, nn.Module)
    return found


def _flat(batch: Batch) -> AnswerTokens:
    """The answer tokens of a batch, row after row, without values."""
    labels = batch["labels"][:, 1:]
    scored = labels != IGNORED
    places = (scored.cumsum(1) - 1)[scored]
    rows = scored.nonzero()[:, 0]
    return AnswerTokens(labels.new_zeros(0), labels[scored], rows, places, len(labels))


def _in_order(seen: Sequence[tuple[Tensor, list[Tensor]]], labels: Tensor) -> Tensor:
    """What groups of rows gave, in the order of the batch."""
    values = torch.cat([read[0] for _, read in seen])
    counts = (labels[:, 1:] != IGNORED).sum(1)
    rows = torch.cat([group for group, _ in seen])
    owner = torch.repeat_interleave(rows, counts[rows])
    return values[owner.argsort(stable=True)]


@contextmanager
def _reading(head: nn.Module, at: Tensor) -> Iterator[list[Tensor]]:
    """Inside, the head reads hidden states at the positions ``at`` (b, l) alone; those are kept."""
    read: list[Tensor] = []

    def chosen(module: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        read.append(given[0][at])
        return (read[0].unsqueeze(0),)

    hook = head.register_forward_pre_hook(chosen)
    try:
        yield read
    finally:
        hook.remove()


def _call(model: nn.Module, ids: Tensor) -> Tensor:
    """Logits of tokens (b, l), without a cache of keys and values."""
    answer = model(input_ids=ids, use_cache=False)
    logits: Tensor = answer.logits
    return logits


class _Scorer(nn.Module):
    """A frozen copy of a head."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        config: Any = getattr(model, "config", None)
        self.head = copy.deepcopy(head_of(model)).requires_grad_(False)
        self.cap = getattr(config, "final_logit_softcapping", None)
        divisor = getattr(config, "logits_scaling", None) or 1.0
        self.factor = (getattr(config, "logit_scale", None) or 1.0) / divisor

    def forward(self, states: Tensor) -> Tensor:
        logits: Tensor = self.head(states) * self.factor
        return logits if self.cap is None else self.cap * F.tanh(logits / self.cap)
