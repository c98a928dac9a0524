"""Rows that a model is asked about, and what its answers say: accuracies, attacks, distances.

Every figure stands for a model beside oracles: a membership attack on a model that never saw a row
does not say a half, and two retrainings differ from each other.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

import torch
from torch import Tensor, nn

from expunge.attacks.relearning import Relearning
from expunge.audit.anamnesis import anamnesis_index
from expunge.audit.measure import rows_held
from expunge.benchmarks.classification.worlds import Kind, World
from expunge.data.samples import Samples, all_but
from expunge.descent.optimisers import AdamW
from expunge.problem import Problem
from expunge.recipe import Role
from expunge.run import Run
from expunge.signals.accuracy import ACCURACY
from expunge.signals.ask import predict
from expunge.signals.divergence import (
    activation_distance,
    completeness,
    divergence,
    zero_retrain_forgetting,
)
from expunge.signals.membership import cross_validated_mia, logistic_mia, svc_mia
from expunge.signals.membership_features import confidence, entropy, loss
from expunge.signals.predictions import Predictions
from expunge.signals.unlearning import Accuracies, tug_of_war

Part = Literal["validation", "test"]

MOST: Mapping[Part, int] = {"validation": 1_500, "test": 4_000}
"""Rows of each set that are asked about at most."""

MOST_VECTORS = 1_000
"""Rows of each side that support vectors are fitted on; their time grows with the square."""

FEWEST = 10
"""Forget rows below which the cross-validated attack says nothing."""

RELEARNING = Relearning(40, 64, AdamW(3e-3))
"""On all training rows; the level to reach is that of :func:`anamnesis`."""

MOST_RELEARNED = 200
"""Forget rows that are asked about after every step of relearning."""

UNTRAINED = 10_000
"""Seed of the untrained model of ZRF, which no benchmark's seed is."""

Figures = Mapping[str, float | None]
"""The figures of one model; None is what has no row."""


@dataclass(frozen=True, eq=False)
class Asked:
    """The rows of a request in a world.

    Args:
        forget: training rows to be forgotten.
        retain: those of the others that methods are shown.
        measured: as many of ``retain`` as are asked about.
        others: held-out rows that the request does not mean.
        same: held-out rows of what is to be forgotten; none for requests for single rows.
    """

    forget: Samples
    retain: Samples
    measured: Samples
    others: Samples
    same: Samples | None

    @classmethod
    def of(cls, world: World, kind: Kind, part: Part) -> "Asked":
        """The rows for a request, with held-out rows of one part."""
        target, most = world.request(kind).target, MOST[part]
        wanted = target.rows(world.train_table)
        retain = world.train.select(all_but(len(world.train), wanted))
        shown = retain.select(_fewer(retain, world.shown))
        samples, table = {
            "validation": (world.validation, world.validation_table),
            "test": (world.test, world.test_table),
        }[part]
        held = rows_held(target, table)
        others, same = samples.select(all_but(len(samples), held)), samples.select(held)
        return cls(
            world.train.select(wanted),
            shown,
            shown.select(_fewer(shown, most)),
            others.select(_fewer(others, most)),
            same if len(held) else None,
        )

    def shown(self, problem: Problem) -> dict[Role, Samples]:
        """The data of a problem with the retain rows cut to those that methods are shown."""
        train = problem.data[Role.TRAIN]
        known = {*self.forget.ids, *self.retain.ids}
        rows = [place for place, name in enumerate(train.ids) if name in known]
        return {
            **problem.data,
            Role.RETAIN: self.retain,
            Role.TRAIN: train.select(torch.tensor(rows)),
        }


@dataclass(frozen=True, eq=False)
class Answers:
    """What a model answers on the rows of a request, as :class:`Asked` names them."""

    forget: Predictions
    retain: Predictions
    others: Predictions
    same: Predictions | None

    @classmethod
    def of(cls, world: World, asked: Asked, model: nn.Module, run: Run) -> "Answers":
        """The answers of a model."""

        def predicted(samples: Samples) -> Predictions:
            return predict(world.family, model, samples, run)

        return cls(
            predicted(asked.forget),
            predicted(asked.measured),
            predicted(asked.others),
            None if asked.same is None else predicted(asked.same),
        )

    @property
    def accuracies(self) -> Accuracies:
        """Shares of right answers on forget, retain and other held-out rows."""
        return Accuracies(
            share_right(self.forget), share_right(self.retain), share_right(self.others)
        )

    def quick(self) -> Figures:
        """The four that the average gap is made of."""
        found = self.accuracies
        return {
            "UA": 1 - found.forget,
            "RA": found.retain,
            "TA": found.test,
            "LR-MIA": float(logistic_mia(self.forget, self.retain, self.others, entropy)[0]),
        }

    def figures(self) -> Figures:
        """All that one model says without others beside it."""
        enough = len(self.forget.samples) >= FEWEST
        return {
            **self.quick(),
            "held-out forgotten": None if self.same is None else share_right(self.same),
            "SVC-MIA": float(
                svc_mia(self.forget, self.retain, self.others, confidence, most=MOST_VECTORS)[0]
            ),
            "loss MIA": float(cross_validated_mia(self.forget, self._unseen(), loss)[0])
            if enough
            else None,
        }

    def _unseen(self) -> Predictions:
        """Held-out rows of the same kind as the forget rows, where there are enough."""
        same = self.same
        return same if same is not None and len(same.samples) >= FEWEST else self.others

    def distances(self, oracles: Sequence["Answers"]) -> Figures:
        """How far the forget rows' predictions are from those of oracles, on average; and ToW."""

        def mean(values: Sequence[Tensor | float]) -> float:
            return fmean(map(float, values))

        return {
            "JSD": mean([divergence(self.forget, o.forget) for o in oracles]),
            "activation distance": mean(
                [activation_distance(self.forget, o.forget) for o in oracles]
            ),
            "completeness": mean([completeness(self.forget, o.forget) for o in oracles]),
            "ToW": mean([tug_of_war(self.accuracies, o.accuracies) for o in oracles]),
        }


def zrf(world: World, asked: Asked, answers: Answers, run: Run) -> Figures:
    """ZRF, against an untrained model that is the same for all."""
    untrained = predict(world.family, world.recipe.builder(UNTRAINED), asked.forget, run)
    return {"ZRF": float(zero_retrain_forgetting(answers.forget, untrained)[0])}


def watched(world: World, asked: Asked, model: nn.Module, run: Run) -> float:
    """Accuracy on at most :data:`MOST_RELEARNED` of the forget rows."""
    few = asked.forget.select(_fewer(asked.forget, MOST_RELEARNED))
    return share_right(predict(world.family, model, few, run))


def relearning(world: World, asked: Asked, model: nn.Module, run: Run) -> list[float]:
    """That accuracy after 0, 1, 2 ... steps on all training rows.

    Raises:
        ExpungeError: the loss is not finite, or a method left nothing that could learn.
    """
    return RELEARNING.followed(
        model, world.family, world.train, lambda one: watched(world, asked, one, run), run
    )


def anamnesis(
    curve: Sequence[float], oracles: Sequence[Sequence[float]], original: float
) -> Figures:
    """The mean index over oracles that were relearned alike, and whether the model was still short
    of the level after all steps (``not relearned``, 1 or 0), so that the index is a lower bound.

    There is none beside an oracle that was still short of it, too, where the model was; or where
    the original knew nothing.

    Args:
        curve: of the model, as :func:`relearning` makes it.
        oracles: the same of each oracle.
        original: accuracy before the request, on the same rows.
    """
    if not original:
        return {"AIN": None, "not relearned": None}
    found = [anamnesis_index(curve, oracle, original, ACCURACY) for oracle in oracles]
    told = [its.ratio for its in found if its.ratio is not None]
    return {
        "AIN": fmean(told) if told else None,
        "not relearned": float(found[0].model.steps is None),
    }


def share_right(found: Predictions) -> float:
    """Share of right answers of one model."""
    return float(found.share_right()[0])


def gap(found: Figures, oracles: Sequence[Figures], names: Sequence[str]) -> float:
    """Mean distance of the named figures to their means over oracles."""
    return fmean(
        abs(_measured(found, name) - fmean(_measured(oracle, name) for oracle in oracles))
        for name in names
    )


def _measured(found: Figures, name: str) -> float:
    value = found[name]
    assert value is not None
    return value


def _fewer(samples: Samples, most: int) -> Tensor:
    """Positions, ascending, of at most so many rows: the first by the digests of their ids."""
    if len(samples) <= most:
        return torch.arange(len(samples))
    ids = samples.ids
    order = sorted(
        range(len(ids)), key=lambda row: hashlib.sha256(f"shown:{ids[row]}".encode()).digest()
    )
    return torch.tensor(sorted(order[:most]))
