"""Answers that a language model might have given in the place of the true ones.

Drawing answers until one differs never ends for a model that knows the answer by heart. Those here
are drawn from the same distribution, that of the model's answers which are not the true one: first
the place at which an answer leaves the true one, then another token there, then what the model says
from there on.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from expunge.data.encoding import answer_tokens
from expunge.data.samples import Batch
from expunge.families.abilities import HasAnswers
from expunge.families.language import IGNORED, answered_with


def end_of(model: nn.Module, labels: Tensor) -> int | None:
    """The token that ends the answers of a table (n, L), or None where none does.

    It is their last token if they share it, and if the model's config names it as one that ends a
    text or the answers differ: the last word of one and the same answer ends nothing.
    """
    answers = {tuple(answer) for answer in _answers(labels)}
    last = {answer[-1] for answer in answers}
    if len(last) != 1:
        return None
    config: Any = getattr(model, "config", None)
    named = getattr(config, "eos_token_id", None)
    [found] = last
    ends = named if isinstance(named, list) else [named]
    return found if len(answers) > 1 or found in ends else None


def other_answers(
    family: HasAnswers,
    model: nn.Module,
    batch: Batch,
    count: int,
    temperature: float,
    end: int | None,
    generator: torch.Generator,
) -> list[Tensor]:
    """Answers sampled from a model, none of them the true one.

    Args:
        family: of the model.
        model: in evaluation mode.
        batch: B rows of prompts and true answers.
        count: answers to each row.
        temperature: of the sampling.
        end: the token that ends an answer; one that is longer than all true ones of the batch ends
            there. Without such a token, an answer is as long as the true one.
        generator: on the CPU.

    Returns:
        B * count answers (l,), those of the first row first.
    """
    true = _answers(batch["labels"])
    limits = [len(own) if end is None else max(map(len, true)) + 1 for own in true]
    begun = [*_left(family, model, batch, count, temperature, generator)]
    while going := [
        (row, answer)
        for row, answer in begun
        if len(answer) < limits[row] and (end is None or answer[-1] != end)
    ]:
        logits = _next(family, model, batch, going)
        for (_, answer), token in zip(going, _drawn(logits / temperature, generator), strict=True):
            answer.append(token)
    if end is not None:
        for _, answer in begun:
            answer[-1] = end
    return [torch.tensor(answer) for _, answer in begun]


def likely_answers(
    family: HasAnswers, model: nn.Module, batch: Batch, longest: int, end: int | None
) -> list[Tensor]:
    """What a model answers to the prompts of a batch: token by token, the most likely one.

    Args:
        family: of the model.
        model: in evaluation mode.
        batch: B rows of prompts and true answers, of which the prompts alone are read.
        longest: tokens of an answer at most.
        end: the token that ends an answer, which is left out; without one, all have ``longest``.

    Returns:
        B answers (l,).
    """
    begun: list[tuple[int, list[int]]] = [(row, []) for row in range(len(batch["labels"]))]
    for _ in range(longest):
        going = [(row, own) for row, own in begun if end is None or own[-1:] != [end]]
        if not going:
            break
        tokens = _next(family, model, batch, going).argmax(1).tolist()
        for (_, answer), token in zip(going, tokens, strict=True):
            answer.append(token)
    return [torch.tensor(own[:-1] if own[-1:] == [end] else own) for _, own in begun]


def _left(
    family: HasAnswers,
    model: nn.Module,
    batch: Batch,
    count: int,
    temperature: float,
    generator: torch.Generator,
) -> Iterator[tuple[int, list[int]]]:
    """For each row ``count`` times: the row, and the true answer up to a place with another token
    there.

    An answer leaves the true one at its token t with the probability of the tokens before t, times
    that of any other token at t.
    """
    tokens = family.answers(model, batch)
    logits = tokens.values.float() / temperature
    others = logits.scatter(1, tokens.tokens.unsqueeze(1), float("-inf"))
    whole = logits.logsumexp(1)
    own = logits.gather(1, tokens.tokens.unsqueeze(1)).squeeze(1) - whole
    stays, leaves = tokens.units(own), tokens.units(others.logsumexp(1) - whole)
    scores = stays.values.cumsum(1) - stays.values + leaves.values
    scores = scores.masked_fill(~leaves.mask, float("-inf"))
    places = torch.multinomial(scores.softmax(1).cpu(), count, True, generator=generator)
    first = tokens.rows.bincount(minlength=tokens.count).cumsum(0).cpu()
    first = first - leaves.mask.sum(1).cpu()
    at = (first.unsqueeze(1) + places).reshape(-1)
    instead = _drawn(others[at.to(others.device)], generator)
    true = _answers(batch["labels"])
    for i, (place, token) in enumerate(zip(places.reshape(-1).tolist(), instead, strict=True)):
        yield i // count, [*true[i // count][:place], token]


def _next(
    family: HasAnswers, model: nn.Module, batch: Batch, begun: Sequence[tuple[int, list[int]]]
) -> Tensor:
    """Logits (n, V) of the token after each begun answer to a row."""
    at = torch.tensor([row for row, _ in begun], device=batch["labels"].device)
    asked = {name: batch[name][at] for name in ("input_ids", "labels")}
    open_ended = answered_with(asked, [torch.tensor([*answer, 0]) for _, answer in begun])
    scored = open_ended["labels"] != IGNORED
    last = scored & (scored.cumsum(1) == scored.sum(1, keepdim=True))
    labels = open_ended["labels"].masked_fill(~last, IGNORED)
    return family.answers(model, {**open_ended, "labels": labels}).values.float()


def _drawn(logits: Tensor, generator: torch.Generator) -> list[int]:
    """A token of each row of logits (n, V)."""
    found = torch.multinomial(logits.softmax(1).cpu(), 1, generator=generator)
    tokens: list[int] = found.squeeze(1).tolist()
    return tokens


def _answers(labels: Tensor) -> list[list[int]]:
    """The answer tokens of each row of labels (n, L)."""
    return [answer.tolist() for answer in answer_tokens(labels.cpu())]
