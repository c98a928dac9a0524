"""UCE: unified concept editing. Keys and values of the attention to the text, in closed form.

Gandikota, Orgad, Belinkov, Materzynska, Bau (2024). Unified Concept Editing in Diffusion Models.

Of every matrix W that reads text states c, the edited one is the minimum of

    erase sum_i |W' c_i - W c*_i|^2 + preserve sum_j |W' c_j - W c_j|^2 + keep |W' - W|^2,

c_i the target's states, c*_i the anchor's in their place, c_j those of all other prompts. Seconds,
no picture and no gradient. It is solved in double precision as what is added to W, so that c* = c
adds exactly nothing.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Protocol, Self

import torch
from torch import Tensor, nn

from expunge.changes.guarded import unguarded
from expunge.descent.attention_selections import attending
from expunge.descent.conditions import target_of
from expunge.descent.spoken import PROMPTS, anchored, spoken
from expunge.errors import ExpungeError
from expunge.families.abilities import able
from expunge.families.diffusion import TextDiffusion
from expunge.families.prompts import PromptTokens
from expunge.methods.protocol import Artifact, Outcome
from expunge.methods.search import LogUniform, Range
from expunge.models.modes import evaluating
from expunge.problem import Access, Problem
from expunge.recipe import Role
from expunge.run import Run, on_device


class Aligned(Protocol):
    """Which states of a target's prompt stand against which of the anchor's."""

    def pairs(
        self, tokens: PromptTokens, told: Tensor, words: str, anchor: str
    ) -> list[tuple[Tensor, Tensor]]:
        """Positions (k,) in each prompt (n, L) of the target, and those (k,) of the anchor's."""
        ...

    def kept(self, tokens: PromptTokens, told: Tensor) -> list[Tensor]:
        """Positions (k,) in each prompt (n, L) that stays."""
        ...


@dataclass(frozen=True)
class LastToken:
    """The state of the last token of the words alone, as the code has it now."""

    def pairs(
        self, tokens: PromptTokens, told: Tensor, words: str, anchor: str
    ) -> list[tuple[Tensor, Tensor]]:
        """One position of each; without an anchor that of the token before."""
        first = tokens.ends(told, words)
        moved = len(tokens.inner(anchor)) - len(tokens.inner(words))
        return [(place.view(1), place.view(1) + moved) for place in first]

    def kept(self, tokens: PromptTokens, told: Tensor) -> list[Tensor]:
        """The last word of each."""
        return list(tokens.last(told).view(-1, 1))


@dataclass(frozen=True)
class AllTokens:
    """From the last token of the words on, every state of the prompt: a causal encoder lets all of
    them know of the words. So the code had it before."""

    def pairs(
        self, tokens: PromptTokens, told: Tensor, words: str, anchor: str
    ) -> list[tuple[Tensor, Tensor]]:
        """As many positions as both have left."""
        moved = len(tokens.inner(anchor)) - len(tokens.inner(words))
        length, found = told.shape[1], []
        for place in tokens.ends(told, words).tolist():
            count = length - max(place, place + moved)
            found.append((place + torch.arange(count), place + moved + torch.arange(count)))
        return found

    def kept(self, tokens: PromptTokens, told: Tensor) -> list[Tensor]:
        """All of them."""
        return [torch.arange(told.shape[1])] * len(told)


@dataclass(frozen=True)
class UCE:
    """Edit what the words of the target lead to, and hold what other prompts lead to.

    Args:
        erase: weight of the target's states.
        preserve: weight of the other prompts' states.
        keep: weight of the distance to the old matrix; above 0, so that there is one solution.
        aligned: which states stand against which.
        sequential: start from the current model instead of the base.

    Raises:
        ExpungeError: a weight cannot be.
    """

    name: ClassVar[str] = "uce"
    paper: ClassVar[str] = "Gandikota et al. 2024, Unified Concept Editing in Diffusion Models"
    needs: ClassVar[tuple[type, ...]] = (TextDiffusion,)
    prepares_with: ClassVar[Access] = Access()
    unlearns_with: ClassVar[Access] = PROMPTS
    preset_rule: ClassVar[str] = (
        "all tokens from the last one of the words on: a causal text encoder lets those after it "
        "know of the words, too (on the emoji canvas, three bases: 1.00 of the pictures of an "
        "object forgotten, by the last token alone .33)"
    )
    choices: ClassVar[Mapping[str, Mapping[str, type]]] = {
        "aligned": {"last-token": LastToken, "all-tokens": AllTokens}
    }
    search: ClassVar[Mapping[str, Range]] = {
        "erase": LogUniform(1e-2, 10),
        "keep": LogUniform(1e-2, 10),
    }

    erase: float = 1.0
    preserve: float = 1.0
    keep: float = 0.5
    aligned: Aligned = field(default_factory=LastToken)
    sequential: bool = False

    def __post_init__(self) -> None:
        if min(self.erase, self.preserve) < 0 or not self.keep > 0:
            raise ExpungeError(
                f"UCE got the weights {self.erase:g} of what goes, {self.preserve:g} of what stays "
                f"and {self.keep:g} of the old matrix; the last above 0 and none below are "
                "expected."
            )

    def for_problem(self, problem: Problem, run: Run) -> Self:
        """With :class:`AllTokens`, whatever the problem."""
        return replace(self, aligned=AllTokens())

    def prepare(self, problem: Problem, run: Run) -> Artifact:
        """Nothing to prepare."""
        return Artifact()

    def unlearn(self, problem: Problem, artifact: Artifact, run: Run) -> Outcome:
        """The edited keys and values.

        Raises:
            ExpungeError: the request has no words or no anchor, or no prompt speaks of it.
        """
        before = unguarded(problem.model)
        old, new, kept = self._states(problem, before, run)
        after = copy.deepcopy(before)
        with torch.no_grad():
            for layer in attending(after, ("to_k", "to_v")).values():
                assert isinstance(layer, nn.Linear)
                layer.weight.copy_(self.edited(layer.weight, old, new, kept))
        return Outcome.of(after, before, sequential=self.sequential, method=self.name)

    def edited(self, matrix: Tensor, old: Tensor, new: Tensor, kept: Tensor) -> Tensor:
        """W' of a matrix (k, D).

        Args:
            matrix: W.
            old: states (n, D) of the target.
            new: those (n, D) in their place.
            kept: states (m, D) of other prompts.
        """
        weights, old, new, kept = (t.double() for t in (matrix, old, new, kept))
        width = weights.shape[1]
        held = self.keep * torch.eye(width, dtype=torch.float64, device=weights.device)
        moments = held + self.erase * old.T @ old + self.preserve * kept.T @ kept
        moved = self.erase * weights @ (new - old).T @ old
        added: Tensor = torch.linalg.solve(moments, moved.T).T
        return (weights + added).to(matrix.dtype)

    def _states(
        self, problem: Problem, model: nn.Module, run: Run
    ) -> tuple[Tensor, Tensor, Tensor]:
        """States of the target, of the anchor in its place, and of what stays."""
        family, told = able(problem.family, TextDiffusion), spoken(problem)
        words, tokens = target_of(problem), family.tokens
        anchor = problem.request.anchor
        instead = anchored(problem, told.target)
        assert anchor is not None  # `anchored` refuses a request without one
        run.meter.touch(Role.PROMPTS.value, len(told.target) + len(told.others))
        with evaluating(on_device(model, run)) as asked, torch.no_grad():
            target, others, kept = (
                family.states(asked, rows.to(run.device)).cpu()
                for rows in (told.target, instead, told.others)
            )
        pairs = self.aligned.pairs(tokens, told.target, words, anchor)
        old = torch.cat([target[row, mine] for row, (mine, _) in enumerate(pairs)])
        new = torch.cat([others[row, its] for row, (_, its) in enumerate(pairs)])
        places = self.aligned.kept(tokens, told.others)
        held = [kept[row, place] for row, place in enumerate(places)]
        return old, new, torch.cat([old[:0], *held])
