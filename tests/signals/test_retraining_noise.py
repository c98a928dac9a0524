"""On digits: two retrainings differ by noise only, and the model before unlearning by far more."""

from dataclasses import dataclass, replace

import pytest
import torch

from expunge.benchmarks.shipped import Work
from expunge.data.samples import Samples
from expunge.descent.optimisers import AdamW
from expunge.learning.supervised.plain import Plain
from expunge.recipe import Role
from expunge.run import Run
from expunge.signals import (
    ACTIVATION_DISTANCE,
    COMPLETENESS,
    DIVERGENCE,
    SVC_MIA,
    TUG_OF_WAR,
    UNLEARNING_ACCURACY,
    ZERO_RETRAIN_FORGETTING,
    Accuracies,
    Predictions,
    accuracy,
    activation_distance,
    average_gap,
    beside,
    beside_pairs,
    completeness,
    divergence,
    logistic_mia,
    membership_features,
    svc_mia,
    tug_of_war,
    unlearning_accuracy,
    zero_retrain_forgetting,
)
from expunge.signals.ask import predict

FORGOTTEN = 3
"""The class that is forgotten; also the seed of the untrained model."""


@dataclass(frozen=True)
class Asked:
    """The original, two oracles, and an untrained model, on forget, retain and test rows."""

    forget: Predictions
    retain: Predictions
    test: Predictions
    untrained: Predictions

    def one(self, model: str) -> Predictions:
        return self.forget.of_models([model])


@pytest.fixture(scope="module")
def asked(digits_work: Work) -> Asked:
    recipe = replace(digits_work.recipe, learner=Plain(10, 64, AdamW(3e-3)))
    train, run = digits_work.data[Role.TRAIN], Run()
    of_class = torch.tensor(digits_work.table["label"]) == FORGOTTEN
    unseen = torch.tensor(digits_work.test_table["label"]) != FORGOTTEN
    forget, retain = (train.select(rows.nonzero().reshape(-1)) for rows in (of_class, ~of_class))
    test = digits_work.test.select(unseen.nonzero().reshape(-1))
    models = {"original": recipe.make({Role.TRAIN: train}, run).model}
    for seed in (1, 2):
        models[f"oracle {seed}"] = recipe.with_seed(seed).make({Role.TRAIN: retain}, run).model

    def answers(rows: Samples) -> Predictions:
        return Predictions.stacked(
            predict(recipe.family, model, rows, run, name) for name, model in models.items()
        )

    untrained = predict(recipe.family, recipe.builder(FORGOTTEN), forget, run)
    return Asked(answers(forget), answers(retain), answers(test), untrained)


def test_accuracies_and_membership_of_two_retrainings_agree(asked: Asked) -> None:
    shares = [
        unlearning_accuracy(asked.forget.signals()),
        accuracy(asked.retain.signals()),
        accuracy(asked.test.signals()),
        svc_mia(asked.forget, asked.retain, asked.test, membership_features.confidence),
    ]
    again = average_gap(beside(UNLEARNING_ACCURACY, s[1], s[2:]) for s in shares)
    original = average_gap(beside(UNLEARNING_ACCURACY, s[0], s[2:]) for s in shares)
    assert again < 0.02
    assert original > 0.4
    assert shares[3].tolist()[1:] == [1.0, 1.0]  # far from 0.5: the oracle is the reference
    assert SVC_MIA.direction == "closer to the oracle"


def test_attacks_and_zrf_tell_two_retrainings_apart_less_than_from_the_original(
    asked: Asked,
) -> None:
    for attacked in (
        logistic_mia(asked.forget, asked.retain, asked.test, membership_features.entropy),
        zero_retrain_forgetting(asked.forget, asked.untrained),
    ):
        original, first, second = attacked.tolist()
        assert abs(first - second) < 0.5 * abs(original - (first + second) / 2)


def test_the_tug_of_war_of_two_retrainings_is_near_one(asked: Asked) -> None:
    rows = [accuracy(p.signals()).tolist() for p in (asked.forget, asked.retain, asked.test)]
    original, first, second = (Accuracies(*shares) for shares in zip(*rows, strict=True))
    found = beside_pairs(TUG_OF_WAR, tug_of_war, original, [first, second])
    assert found.oracle > 0.95
    assert found.value < 0.1


def test_predictions_of_two_retrainings_are_near(asked: Asked) -> None:
    oracles = [asked.one("oracle 1"), asked.one("oracle 2")]
    for metric, distance in (
        (ACTIVATION_DISTANCE, activation_distance),
        (DIVERGENCE, divergence),
    ):
        found = beside_pairs(metric, distance, asked.one("original"), oracles)
        assert found.value > 2 * found.oracle > 0
    same = beside_pairs(COMPLETENESS, completeness, asked.one("original"), oracles)
    assert same.value < 0.1
    assert same.oracle > 0.5


def test_zrf_of_a_retraining_is_above_the_originals_and_below_one(asked: Asked) -> None:
    original, *oracles = zero_retrain_forgetting(asked.forget, asked.untrained).tolist()
    found = beside(ZERO_RETRAIN_FORGETTING, original, oracles)
    assert found.difference < -0.03
    assert found.oracle < 0.9
