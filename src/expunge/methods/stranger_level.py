"""Forgetting to the level of strangers: no further than a model that never heard of somebody.

A method of this project. What other methods leave can be told from retraining on either side: what
was only covered comes back at once, what was pushed too far is less likely than any guess. A model
retrained without somebody answers questions about them as about anybody it has not heard of, and
how likely the true answers are then is known without retraining: from the same questions about
strangers, asked before anything is changed. Each forget row goes to the level of one stranger, so
that the levels are spread as those of strangers are, and comes back where it went past it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch

from expunge.changes.history import History
from expunge.descent.counterfactual import CounterfactualLevel
from expunge.descent.loop import Descent
from expunge.descent.player import Term
from expunge.descent.retain_terms import Loss
from expunge.methods.protocol import Outcome
from expunge.methods.search import LogUniform, Range, WholeNumber
from expunge.methods.strangers import about_others, question_of, strangers
from expunge.methods.two_terms import TwoTerms
from expunge.problem import Missing, Problem
from expunge.recipe import Role
from expunge.run import Run
from expunge.signals.causal_tracing import facts_of, untold

PASSES = 18
"""Passes of the preset for language models over the forget set: the distance has a minimum, and
nothing is looked at to stop there."""


@dataclass(frozen=True)
class StrangerLevel(TwoTerms):
    """The distance from a stranger's level on the forget set and the loss on the retain set.

    The rows of both need the field ``subject``: the position of the first token of its subject in
    each prompt, and the one after its last. Strangers are put together of the retain rows'
    subjects.

    Args:
        retain_weight: factor of the loss on the retain set.
        retain_batch_size: rows of the retain set a step.
    """

    name: ClassVar[str] = "stranger-level"
    paper: ClassVar[str] = "this project"
    preset_rule: ClassVar[str] = (
        "language models: half of the forget set and 64 retain rows a step, at a learning rate "
        f"that is a fiftieth of a typical weight, {PASSES} passes"
    )
    preset_weights: ClassVar[Mapping[str, float]] = {"forget_weight": 0.3}
    search: ClassVar[Mapping[str, Range]] = {
        "learning_rate": LogUniform(1e-6, 1e-2),
        "epochs": WholeNumber(5, 40),
        "forget_weight": LogUniform(0.01, 1.0),
    }

    forget_weight: float = 0.3
    retain_weight: float = 1.0
    retain_batch_size: int = 32

    def for_problem(self, problem: Problem, run: Run) -> Self:
        """The rule for language models, to the end of its passes."""
        found = super().for_problem(problem, run)
        return found if found == self else replace(found, epochs=PASSES, until=None)

    def forget(self) -> Term:
        """The distance."""
        return CounterfactualLevel(self.forget_weight)

    def retain(self) -> Term:
        """The loss."""
        return Loss(self.retain_weight, batch_size=self.retain_batch_size)

    def unreadable(self, problem: Problem) -> tuple[Missing, ...]:
        """Where the subjects of the rows are."""
        return untold(problem.data[Role.FORGET]) or untold(problem.data[Role.RETAIN])

    def follow(self, descent: Descent, problem: Problem, run: Run) -> Outcome:
        """Ask about strangers, then descend.

        Raises:
            ExpungeError: the rows do not say where their subjects are, or the retain rows have too
                few of them.
        """
        forget, retain = problem.data[Role.FORGET], problem.data[Role.RETAIN]
        facts = facts_of(forget)
        own = [question_of(fact)[1] for fact in facts]
        known = list(dict.fromkeys(question_of(fact)[1] for fact in facts_of(retain)))
        instead = strangers(list(dict.fromkeys(own)), known, run)
        labels = forget.batch(torch.arange(len(forget)), {"labels"})["labels"]
        others = about_others(forget.ids, facts, labels, instead)
        data = {Role.FORGET: forget, Role.RETAIN: retain, Role.CONTRAST: others}
        asked = Problem(problem.model, problem.family, problem.request, data, History())
        run.meter.touch("strangers", len(others))
        return super().follow(descent, asked, run)
