"""Greedy generation: what a language model answers when it takes the most likely token each time.

Prompts of equal length go through the model together, so that nothing is padded and no position is
shifted: the tokens are those of one prompt alone. Any ``transformers`` model for causal language
modelling takes part; where it keeps no keys and values, the whole text is read at every step.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from expunge.errors import ExpungeError
from expunge.models.modes import evaluating
from expunge.run import Run, on_device


def generated(
    model: nn.Module,
    prompts: Sequence[Sequence[int]],
    run: Run,
    *,
    most: int,
    end: Collection[int] = (),
    batch_size: int = 64,
) -> list[list[int]]:
    """The tokens that follow each prompt, without the one that ends them; deterministic.

    Args:
        model: scores each token given the ones before it.
        prompts: tokens, at least one each.
        run: device and precision.
        most: tokens at most of an answer.
        end: tokens that end an answer.
        batch_size: prompts at a time.

    Raises:
        ExpungeError: a prompt is empty, or ``most`` is below 1.
    """
    if most < 1 or any(not prompt for prompt in prompts):
        raise ExpungeError(
            f"Generation got {most} tokens at most and {sum(not p for p in prompts)} empty "
            "prompts; at least 1 token and prompts of at least one are expected."
        )
    answers: list[list[int]] = [[] for _ in prompts]
    with evaluating(on_device(model, run)) as asked, torch.inference_mode(), run.autocast():
        for rows in _of_one_length(prompts, batch_size):
            ids = torch.tensor([list(prompts[row]) for row in rows], device=run.device)
            for row, tokens in zip(rows, _continued(asked, ids, most, frozenset(end)), strict=True):
                answers[row] = tokens
    return answers


def _of_one_length(prompts: Sequence[Sequence[int]], batch_size: int) -> Iterator[list[int]]:
    by_length: dict[int, list[int]] = defaultdict(list)
    for row, prompt in enumerate(prompts):
        by_length[len(prompt)].append(row)
    for _, rows in sorted(by_length.items()):
        for start in range(0, len(rows), batch_size):
            yield rows[start : start + batch_size]


def _continued(model: nn.Module, ids: Tensor, most: int, end: frozenset[int]) -> list[list[int]]:
    """What follows tokens (b, l), each row up to its own end."""
    found: list[list[int]] = [[] for _ in ids]
    open_rows = set(range(len(ids)))
    kept, fresh = None, ids
    for _ in range(most):
        answer: Any = model(input_ids=fresh, past_key_values=kept, use_cache=True)
        token = answer.logits[:, -1].argmax(-1)
        for row in sorted(open_rows):
            chosen = int(token[row])
            if chosen in end:
                open_rows.discard(row)
            else:
                found[row].append(chosen)
        if not open_rows:
            break
        ids = torch.cat([ids, token.unsqueeze(1)], 1)
        kept = getattr(answer, "past_key_values", None)
        fresh = ids if kept is None else token.unsqueeze(1)
    return found
