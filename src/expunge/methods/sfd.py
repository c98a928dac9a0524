"""SFD, Score Forgetting Distillation: a generator of one step that never learned the target.

Chen, Zhang, Zhou (2025). Score Forgetting Distillation: A Swift, Data-Free Method for Machine
Unlearning in Diffusion Models. The model is distilled into a generator that draws in one call; on
the target's condition its teacher is told another one. All it needs to know is in the request and
in the model: no row of data is opened.

What comes out is drawn by ``OneStep(initial)``, not by steps of the old model, which still draws
the target and has to be withdrawn. Guidance inside the scores, which the paper uses for sentences,
is not built.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

from expunge.changes.kinds import Replacement
from expunge.descent.averages import MovingAverage
from expunge.descent.conditions import INSTEAD, AnchorOrNext, Instead, target_of, unsaid
from expunge.descent.denoising_sources import OwnPictures
from expunge.descent.length import Steps
from expunge.descent.loop import Descent
from expunge.descent.optimisers import AdamW
from expunge.descent.player import On, Player
from expunge.descent.score_distillation import FAKE, FakeScore, ScoreIdentity
from expunge.descent.transforms import ClipValue
from expunge.errors import ExpungeError
from expunge.families.abilities import able
from expunge.families.diffusion import Diffusion
from expunge.methods.protocol import Outcome, OverDescent
from expunge.methods.search import LogUniform, Range
from expunge.problem import Missing, Problem
from expunge.run import Run

TIMESTEPS = 1000
"""Of the schedule that the published timesteps belong to."""


@dataclass(frozen=True)
class SFD(OverDescent):
    """Two players in turn: the fake score, and the generator.

    Args:
        alpha: of the score identity loss; 1 for Stable Diffusion.
        first: earliest timestep at which pictures are noised.
        initial: timestep at which the generator draws.
        last: the one after the latest at which pictures are noised.
        score_forget_weight: of the target's rows in the loss of the fake score.
        forget_weight: of the target's rows in that of the generator. With both 0 it is plain score
            identity distillation of what stays.
        score_learning_rate: of the fake score.
        learning_rate: of the generator.
        batch_size: pictures a step of what stays.
        forget_batch_size: and of the target.
        steps: of both players.
        decay: of the moving average of the generator, at which it ends.
        clip: largest magnitude of an entry of a gradient.
        instead: what the teacher is told in the target's place.
        prompts: what stays, where the model is told sentences; labels are known.
        target_prompts: how the target is spoken of; by default in its own words.
    """

    name: ClassVar[str] = "sfd"
    paper: ClassVar[str] = "Chen, Zhang, Zhou 2025, Score Forgetting Distillation"
    sequential: ClassVar[bool] = True  # what comes out draws in another way than what was there
    search: ClassVar[Mapping[str, Range]] = {
        "forget_weight": LogUniform(1e-3, 1.0),
        "score_forget_weight": LogUniform(1e-3, 1.0),
        "learning_rate": LogUniform(1e-6, 1e-3),
    }
    preset_rule: ClassVar[str] = (
        "150 steps of 64 and 16 pictures, rates 3e-4, decay 0.97, the target's rows at weight 0.05 "
        "(fake score: 1); timesteps in proportion to the schedule"
    )

    choices: ClassVar[Mapping[str, Mapping[str, type]]] = INSTEAD

    alpha: float = 1.2
    first: int = 38
    initial: int = 440
    last: int = 712
    score_forget_weight: float = 0.01
    forget_weight: float = 0.01
    score_learning_rate: float = 1e-5
    learning_rate: float = 1e-5
    batch_size: int = 128
    forget_batch_size: int = 128
    steps: int = 50_000
    decay: float = 0.9999
    clip: float = 1.0
    instead: Instead = field(default_factory=AnchorOrNext)
    prompts: tuple[str, ...] = ()
    target_prompts: tuple[str, ...] = ()

    def unreadable(self, problem: Problem) -> tuple[Missing, ...]:
        """A condition to forget: no row is read that could say it."""
        return unsaid(problem)

    def for_problem(self, problem: Problem, run: Run) -> Self:
        """A short distillation of a small network; see :attr:`preset_rule`."""
        share = able(problem.family, Diffusion).schedule.steps / TIMESTEPS
        return replace(
            self,
            first=round(share * self.first),
            initial=round(share * self.initial),
            last=round(share * self.last),
            score_forget_weight=1.0,
            forget_weight=0.05,
            score_learning_rate=3e-4,
            learning_rate=3e-4,
            batch_size=64,
            forget_batch_size=16,
            steps=150,
            decay=0.97,
        )

    def descent(self) -> Descent:
        """The fake score follows the generator, the generator the two scores."""
        forgets = bool(self.forget_weight or self.score_forget_weight)
        own = OwnPictures(
            self.forget_batch_size if forgets else 0,
            self.first,
            self.last,
            self.instead,
            self.prompts,
            self.target_prompts,
        )
        betas = (0.0, 0.999)
        return Descent(
            Player(
                FAKE,
                others={"own": On(own, FakeScore(1.0, self.score_forget_weight, self.initial))},
                optimiser=AdamW(self.score_learning_rate, betas=betas),
            ),
            Player(
                others={
                    "own": On(own, ScoreIdentity(1.0, self.forget_weight, self.alpha, self.initial))
                },
                optimiser=AdamW(self.learning_rate, betas=betas),
            ),
            length=Steps(self.steps),
            batch_size=self.batch_size,
            transform=ClipValue(self.clip),
            average=MovingAverage(self.decay),
        )

    def follow(self, descent: Descent, problem: Problem, run: Run) -> Outcome:
        """A Replacement, whose facts say how it draws.

        Raises:
            ExpungeError: the request does not say in words what is to go, or the schedule ends
                before the timesteps of the method.
        """
        family = able(problem.family, Diffusion)
        if not 0 <= self.initial < family.schedule.steps:
            raise ExpungeError(
                f"A generator at timestep {self.initial} was asked of a schedule of "
                f"{family.schedule.steps}; give one below that, in proportion to its length."
            )
        about = target_of(problem)
        fake = copy.deepcopy(problem.model)
        playing = replace(problem, companions={**problem.companions, FAKE: fake})
        after = descent.minimise(playing, run).model
        new = Replacement.of(
            after,
            problem.model,
            method=self.name,
            forgotten=about,
            drawn="one step",
            initial=self.initial,
        )
        return Outcome((new,))
