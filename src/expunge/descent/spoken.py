"""What a request says in words, among the prompts that a text-to-image model serves."""

from dataclasses import dataclass

import torch
from torch import Tensor

from expunge.descent.conditions import target_of
from expunge.errors import ExpungeError
from expunge.families.abilities import able
from expunge.families.diffusion import TextDiffusion
from expunge.problem import Access, Problem
from expunge.recipe import Role

PROMPT = "prompt"
"""The field that holds the tokens of a prompt."""

PROMPTS = Access({Role.PROMPTS: frozenset({PROMPT})})
"""What a method opens that reads the prompts and nothing else."""


@dataclass(frozen=True)
class Spoken:
    """The prompts of a problem.

    Args:
        target: those (n, L) that speak of what is to be forgotten.
        others: all others (m, L).
    """

    target: Tensor
    others: Tensor


def spoken(problem: Problem) -> Spoken:
    """The prompts, parted by whether they speak of the target.

    Raises:
        ExpungeError: the request says no words, the model does not know them, or no prompt speaks
            of them.
    """
    family, words = able(problem.family, TextDiffusion), target_of(problem)
    rows = problem.data[Role.PROMPTS]
    told = rows.batch(torch.arange(len(rows)), {PROMPT})[PROMPT]
    speaks = family.speaking(told, words)
    if not bool(speaks.any()):
        raise ExpungeError(
            f"None of the {len(rows)} prompts speaks of {words!r}; at least one is expected. Give "
            "the prompts that the model is asked with, or name the target as they do."
        )
    return Spoken(told[speaks], told[~speaks])


def anchored(problem: Problem, told: Tensor) -> Tensor:
    """Prompts (n, L) with the request's anchor in the place of the target; "" leaves it out.

    Raises:
        ExpungeError: there is no anchor, the model does not know it, or it is the target.
    """
    if problem.request.anchor is None:
        raise ExpungeError(
            f"The request {problem.request.name!r} names no anchor; the words that take the place "
            'of the target are expected, or "" for none.'
        )
    family = able(problem.family, TextDiffusion)
    return family.exchanged(told, target_of(problem), problem.request.anchor)
