"""Pseudo-rehearsal: forget to the level of a stranger, and rehearse what the model itself knows.

A method of this project, for language models whose retain data are gone. Two ideas are put
together. Robins (1995), Catastrophic Forgetting, Rehearsal and Pseudorehearsal: where the old data
are not at hand, a network rehearses its own answers to inputs made up. And the level to forget to
is that of somebody unknown: the answer to the same question about a stranger.

Only the forget rows are read. What is rehearsed is searched for in the model
(:mod:`expunge.signals.self_extraction`): subjects at which it is as sure of its answers as at those
that it was trained on, and its own answers about them. Whether they are right does not matter; they
are what has to stay.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import torch
from torch import Tensor

from expunge.changes.history import History
from expunge.data.encoding import answer_tokens
from expunge.data.samples import TensorSamples
from expunge.descent.counterfactual import CounterfactualTarget
from expunge.descent.length import Steps
from expunge.descent.loop import Descent
from expunge.descent.optimisers import AdamW, Linear
from expunge.descent.player import On, Player
from expunge.descent.token_distillation import ReferenceDivergence
from expunge.descent.transforms import ClipNorm
from expunge.errors import ExpungeError
from expunge.families.sampling import end_of
from expunge.methods.protocol import Outcome, OverDescent
from expunge.methods.search import LogUniform, Range, WholeNumber
from expunge.methods.strangers import about_others, put_together, question_of, rows_of, unlike
from expunge.problem import Access, Missing, Problem
from expunge.recipe import Role
from expunge.run import Run
from expunge.signals.causal_tracing import facts_of, untold
from expunge.signals.generation import generated
from expunge.signals.self_extraction import Extracted, Question, Search, Subject, extracted

H = TypeVar("H", bound=Hashable)


@dataclass(frozen=True)
class PseudoRehearsal(OverDescent):
    """A stranger's answers on the forget rows, the model's own on what it was found to know.

    The rows need the field ``subject``: the position of the first token of its subject in each
    prompt, and the one after its last.

    Args:
        steps: of the descent.
        learning_rate: of AdamW, at its peak; it falls in a line to zero.
        weight_decay: of AdamW, decoupled.
        batch_size: forget rows a step.
        rehearsed_batch_size: rehearsed rows a step.
        rehearsal_weight: factor of the divergence on them.
        rehearsed: rows at most that are made up.
        strange: share of them that are about subjects which the model does not know.
        neighbours: tokens tried in the place of each token of a subject, in the search.
        rounds: of the search, each from what the last one found.
        questions: that a subject has to be answered surely about to be taken for known.
        sure: share of the forget rows at which the model may be less sure than there.
        clip: largest norm of the gradient.
        sequential: start from the current model instead of the base.
    """

    name: ClassVar[str] = "pseudo-rehearsal"
    paper: ClassVar[str] = "this project; rehearsal after Robins 1995, Pseudorehearsal"
    search: ClassVar[Mapping[str, Range]] = {
        "learning_rate": LogUniform(1e-5, 1e-2),
        "steps": WholeNumber(20, 400),
        "rehearsal_weight": LogUniform(0.3, 10.0),
    }

    steps: int = 300
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    batch_size: int = 64
    rehearsed_batch_size: int = 128
    rehearsal_weight: float = 1.0
    rehearsed: int = 8192
    strange: float = 0.25
    neighbours: int = 128
    rounds: int = 6
    questions: int = 5
    sure: float = 0.03
    clip: float = 1.0
    sequential: bool = False

    def descent(self) -> Descent:
        """One player: strangers' answers to forget, its own answers to keep."""
        return Descent(
            Player(
                forget=CounterfactualTarget(),
                others={
                    "rehearsal": On(
                        Role.PRIOR,
                        ReferenceDivergence(
                            self.rehearsal_weight, batch_size=self.rehearsed_batch_size
                        ),
                    )
                },
                optimiser=AdamW(
                    self.learning_rate,
                    weight_decay=self.weight_decay,
                    schedule=Linear(0.05, 0.95),
                ),
            ),
            length=Steps(self.steps),
            batch_size=self.batch_size,
            transform=ClipNorm(self.clip),
        )

    @property
    def unlearns_with(self) -> Access:
        """The forget set alone: all other rows are made up."""
        return Access({Role.FORGET: None})

    def unreadable(self, problem: Problem) -> tuple[Missing, ...]:
        """Where the subjects of the forget rows are."""
        return untold(problem.data[Role.FORGET])

    def follow(self, descent: Descent, problem: Problem, run: Run) -> Outcome:
        """Search, make up the rows, and descend.

        Raises:
            ExpungeError: the rows do not say where their subjects are, or all of them are about
                one subject of whose tokens none has a neighbour.
        """
        made = self._made_up(problem, run)
        after = descent.minimise(made, run).model
        return Outcome.of(after, problem.model, sequential=self.sequential, method=self.name)

    def _made_up(self, problem: Problem, run: Run) -> Problem:
        """The forget rows, the same about strangers, and rows to rehearse."""
        forget = problem.data[Role.FORGET]
        facts = facts_of(forget)
        asked = [question_of(fact) for fact in facts]
        questions, subjects = _each([q for q, _ in asked]), _each([s for _, s in asked])
        found = extracted(
            problem.model,
            questions,
            subjects,
            run,
            Search(self.neighbours, self.rounds, self.sure, self.questions, self.rehearsed),
        )
        run.meter.touch("made up", found.asked)
        strangers = _strangers(subjects, found, run)
        whole = forget.batch(torch.arange(len(forget)))
        data = {
            Role.FORGET: forget,
            Role.CONTRAST: about_others(forget.ids, facts, whole["labels"], strangers),
            Role.PRIOR: self._rehearsed(problem, questions, found, whole["labels"], run),
        }
        return Problem(problem.model, problem.family, problem.request, data, History())

    def _rehearsed(
        self,
        problem: Problem,
        questions: Sequence[Question],
        found: Extracted,
        labels: Tensor,
        run: Run,
    ) -> TensorSamples:
        """The model's own answers about subjects that it knows, and about some that it does not."""
        draws = run.generator("pseudo rehearsal")
        known = [question.about(one) for one in found.known for question in questions]
        known = _some(known, round(self.rehearsed * (1 - self.strange)), draws)
        strange = [question.about(one) for one in found.unknown for question in questions]
        strange = _some(strange, min(self.rehearsed - len(known), max(256, len(known) // 3)), draws)
        prompts = [*known, *strange]
        end = end_of(problem.model, labels)
        longest = max(map(len, answer_tokens(labels)))
        answers = generated(
            problem.model, prompts, run, most=longest, end=() if end is None else (end,)
        )
        run.meter.touch("made up", len(prompts))
        ended = [] if end is None else [end]
        rows = [(p, [*a, *ended]) for p, a in zip(prompts, answers, strict=True)]
        return rows_of([f"made up {i}" for i in range(len(rows))], rows)


def _strangers(
    subjects: Sequence[Subject], found: Extracted, run: Run
) -> Mapping[Subject, Subject]:
    """For each subject one that the model does not know and that shares no token with it.

    Its tokens are those of subjects that the model knows, newly put together, as those of a
    stranger are to a model that was trained on the others; where too few are known, one at which
    the model was found unsure.
    """
    draws, chosen = run.generator("strangers"), {}
    taken = {*subjects, *found.known}
    for subject in subjects:
        alike = [one for one in found.known if len(one) == len(subject)]
        unknown = [one for one in found.unknown if len(one) == len(subject)]
        fitting = unlike(put_together(alike, draws), subject, taken) or unlike(unknown, subject, ())
        if not fitting:
            raise ExpungeError(
                "No subject was found that the model does not know and that shares no token with "
                f"one of {len(subject)} tokens that is to be forgotten; search among more "
                "neighbours, or forget more than one subject at once."
            )
        chosen[subject] = fitting[int(torch.randint(len(fitting), (), generator=draws))]
    return chosen


def _some(prompts: list[list[int]], count: int, draws: torch.Generator) -> list[list[int]]:
    """At most ``count`` of them, drawn."""
    if len(prompts) <= count:
        return prompts
    return [prompts[i] for i in torch.randperm(len(prompts), generator=draws)[:count].tolist()]


def _each(items: Sequence[H]) -> list[H]:
    """Each once, in the order of first appearance."""
    return list(dict.fromkeys(items))
