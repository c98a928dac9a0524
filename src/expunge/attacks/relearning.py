"""The relearning attack: fine-tune on a few rows and watch whether the forgotten ones come back.

Definition: relearning speed of continual unlearning. After Hu, Fu, Wu, Smith (2025). Unlearning or
Obfuscating? Jogging the Memory of Unlearned LLMs via Benign Relearning. A model that deleted learns
the forgotten rows as slowly as an oracle that never saw them; one that suppresses finds them again
sooner from few of them, and may do so from related rows or from rows that have nothing to do with
them. Where all shown rows fit one batch, the seed changes a curve by rounding alone.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from torch import nn

from expunge.changes.history import History
from expunge.data.samples import Samples
from expunge.descent.length import Steps
from expunge.descent.loop import Descent
from expunge.descent.optimisers import AdamW, Optimiser
from expunge.descent.player import On, Player
from expunge.descent.retain_terms import Loss
from expunge.errors import ExpungeError
from expunge.families.abilities import Family, HasLoss, able
from expunge.problem import Problem
from expunge.recipe import Role
from expunge.requests import NO_REQUEST
from expunge.run import Run
from expunge.signals.ask import ask, metric_of

Found = TypeVar("Found")


@dataclass(frozen=True)
class Relearning:
    """Fine-tuning of everything that requires a gradient, the score taken after every step.

    The level to read a curve against is the oracle's curve under the same attack.

    Args:
        steps: of fine-tuning.
        batch_size: rows a step; all that are shown where there are fewer.
        optimiser: how the weights move.

    Raises:
        ExpungeError: there is no step, or no row a step.
    """

    steps: int = 60
    batch_size: int = 16
    optimiser: Optimiser = field(default_factory=lambda: AdamW(1e-3))

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch_size < 1:
            raise ExpungeError(
                f"Relearning got {self.steps} steps of {self.batch_size} rows; at least one of "
                "each is expected."
            )

    def curve(
        self, model: nn.Module, family: Family, shown: Samples, asked: Samples, run: Run
    ) -> tuple[float, ...]:
        """How well a copy of the model answers ``asked`` after 0, 1, ..., ``steps`` steps.

        Args:
            model: it stays as it is.
            family: what kind of model it is.
            shown: rows it is fine-tuned on: a few forgotten ones, related ones, or others.
            asked: forgotten rows that are not shown.
            run: its seed fixes the order of the rows; take the same for a model and its oracle.

        Returns:
            ``steps`` + 1 scores, larger = remembered better: the accuracy, or minus the error or
            the loss of a family that is scored with one.

        Raises:
            ExpungeError: no row is shown or asked, a row is both, the loss is not finite (as under
                a guard that answers -inf: switch it off first), or no weight can move.
        """
        _check_rows(shown, asked)
        return tuple(
            self.followed(model, family, shown, lambda m: _score(m, family, asked, run), run)
        )

    def followed(
        self,
        model: nn.Module,
        family: Family,
        shown: Samples,
        measure: Callable[[nn.Module], Found],
        run: Run,
    ) -> list[Found]:
        """What is found in a copy of the model after 0, 1, ..., ``steps`` steps.

        Args:
            model: it stays as it is.
            family: what kind of model it is.
            shown: rows it is fine-tuned on.
            measure: looks at a model in evaluation mode, which it must not change.
            run: its seed fixes the order of the rows; take the same for a model and its oracle.

        Raises:
            ExpungeError: the loss is not finite, or no weight can move.
        """
        able(family, HasLoss)
        problem = Problem(model, family, NO_REQUEST, {Role.TRAIN: shown}, History())
        descent = Descent(
            Player(others={"shown": On(Role.TRAIN, Loss())}, optimiser=self.optimiser),
            length=Steps(self.steps),
            batch_size=self.batch_size,
        )
        return relearning_curve(descent, problem, measure, run)


def relearning_curve(
    descent: Descent, problem: Problem, measure: Callable[[nn.Module], Found], run: Run
) -> list[Found]:
    """Performance of the problem's model after 0, 1, 2 ... steps of a descent, in one pass.

    Args:
        descent: the relearning: fine-tuning on the forgotten rows, or on all training rows.
        problem: the model to start from, and the rows; the model stays as it is.
        measure: the performance of a model in evaluation mode, which it must not change.
        run: fixes the order of the rows; the same for a model and its oracle.
    """
    curve = [measure(problem.model)]
    descent.minimise(problem, run, "relearning", each=lambda _, model: curve.append(measure(model)))
    return curve


def _score(model: nn.Module, family: Family, asked: Samples, run: Run) -> float:
    metric = metric_of(family)
    score = float(ask(family, model, asked, run).query(metric.query)[0].double().mean())
    return -score if metric.direction == "lower" else score


def _check_rows(shown: Samples, asked: Samples) -> None:
    if not len(shown) or not len(asked):
        raise ExpungeError(
            f"Relearning got {len(shown)} rows to show and {len(asked)} to ask for; at least one "
            "of each is expected."
        )
    both = set(shown.ids) & set(asked.ids)
    if both:
        raise ExpungeError(
            f"Relearning would show {len(both)} of the {len(asked)} rows that it asks for, such as "
            f"{min(both)!r}; rows that are not shown are expected, since any model learns those "
            "that are."
        )
