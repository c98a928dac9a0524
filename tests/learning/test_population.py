"""Populations: every engine trains the same models, and halves are halves."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import nn

from expunge.benchmarks.shipped import digits_classifier_work
from expunge.data.samples import TensorSamples
from expunge.descent.optimisers import SGD, AdamW, Cosine
from expunge.errors import ExpungeError
from expunge.families.classifier import Classifier
from expunge.learning.population import Member, Population, Timing, halves, members
from expunge.learning.supervised.plain import Plain
from expunge.recipe import Recipe, Role
from expunge.run import Run

FEW = 60


@pytest.fixture(scope="module")
def digits() -> TensorSamples:
    found = digits_classifier_work().data[Role.TRAIN].select(torch.arange(FEW))
    assert isinstance(found, TensorSamples)
    return found


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))


def normed(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False),  # Adam would make steps of its rounding alone
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(4 * 36, 10),
    )


def dropping(seed: int) -> nn.Module:
    return nn.Sequential(network(seed), nn.Dropout(0.5))


def population(digits: TensorSamples, build: object = network) -> Population:
    learner = Plain(2, 16, AdamW(1e-2, weight_decay=0.1, schedule=Cosine()))
    recipe = Recipe(build, Classifier(classes=10), learner)  # type: ignore[arg-type]
    return Population(recipe, digits, Run(3), processes=2)


def weights(found: Sequence[tuple[Member, nn.Module]]) -> dict[int, torch.Tensor]:
    return {
        one.seed: torch.cat([t.double().reshape(-1) for t in model.state_dict().values()])
        for one, model in found
    }


def answers(
    found: Sequence[tuple[Member, nn.Module]], samples: TensorSamples
) -> dict[int, torch.Tensor]:
    """Logits of every model, by its seed."""
    with torch.inference_mode():
        return {one.seed: model.eval()(samples.columns["image"]) for one, model in found}


def test_halves_hold_every_row_in_half_of_the_models() -> None:
    member = halves(8, 21, seed=1)
    assert member.shape == (8, 21)
    assert bool((member.sum(0) == 4).all())
    assert set(member.sum(1).tolist()) == {10, 11}
    assert torch.equal(member, halves(8, 21, seed=1))
    assert not torch.equal(member, halves(8, 21, seed=2))
    for wrong in ((3, 10), (0, 10), (4, 1)):
        with pytest.raises(ExpungeError, match="an even number of models"):
            halves(*wrong, seed=0)


@pytest.mark.parametrize("build", [network, normed])
def test_a_stack_trains_the_models_that_are_trained_alone(
    digits: TensorSamples, build: object
) -> None:
    if build is normed:
        images = digits.columns["image"].reshape(FEW, 1, 8, 8)
        digits = digits.with_column("image", images)
    those = population(digits, build)
    wanted = members(halves(4, FEW, seed=0))
    alone = answers(list(those.trained(wanted, "one by one")), digits)
    together = answers(list(those.trained(wanted, "stacked")), digits)
    assert alone.keys() == together.keys() == {0, 1, 2, 3}
    for seed, found in alone.items():
        assert torch.allclose(found, together[seed], atol=1e-4)
    assert not torch.allclose(alone[0], alone[1], atol=1e-2)


def test_members_of_other_sizes_are_in_stacks_of_their_own(digits: TensorSamples) -> None:
    those = population(digits)
    wanted = [Member(0, tuple(range(20))), Member(1, tuple(range(33))), Member(2, (*range(20),))]
    alone = weights(list(those.trained(wanted, "one by one")))
    together = weights(list(those.trained(wanted, "stacked")))
    assert all(torch.allclose(alone[s], together[s], atol=1e-5) for s in (0, 1, 2))


def test_processes_give_the_same_bits(digits: TensorSamples) -> None:
    those = population(digits)
    wanted = members(halves(2, FEW, seed=0))
    alone = weights(list(those.trained(wanted, "one by one")))
    sent = weights(list(those.trained(wanted, "processes")))
    assert all(torch.equal(alone[seed], sent[seed]) for seed in (0, 1))


def test_the_rows_of_a_member_come_in_an_order_of_its_own() -> None:
    first, second = (Member(seed, tuple(range(50))).shuffled() for seed in (0, 1))
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(50))
    assert not torch.equal(first, second)


def test_what_an_engine_cannot_do_is_said(digits: TensorSamples) -> None:
    wanted = [Member(0, (0, 1, 2)), Member(1, (2, 3, 4))]
    with pytest.raises(ExpungeError, match="dropout draws other random numbers"):
        list(population(digits, dropping).trained(wanted, "stacked"))
    with pytest.raises(ExpungeError, match="has no training row"):
        list(population(digits).trained([Member(7, ())]))
    with pytest.raises(ExpungeError, match="cannot be sent to a process"):
        list(population(digits, lambda seed: network(seed + 1)).trained(wanted, "processes"))


def test_the_fastest_engine_is_chosen_and_named(digits: TensorSamples) -> None:
    those = population(digits)
    timing = those.timed(members(halves(4, FEW, seed=0)))
    assert timing.engine == min(timing.seconds, key=lambda name: timing.seconds[name])
    assert set(timing.seconds) == {"stacked", "processes", "one by one"}
    unfit = population(digits, dropping).timed([Member(0, (0, 1, 2)), Member(1, (3, 4, 5))])
    assert "dropout" in unfit.unfit["stacked"]
    said = Timing("one by one", {"one by one": 3.0}, {"stacked": "no"}).sentence()
    assert said == "trained one by one (one by one about 3 s; stacked not possible: no)"


def test_a_stack_of_sgd_with_momentum_is_exact_to_rounding(digits: TensorSamples) -> None:
    those = population(digits)
    moving = replace(those.recipe, learner=Plain(3, 8, SGD(0.05, 0.9, 1e-3, nesterov=True)))
    those = replace(those, recipe=moving)
    wanted = members(halves(2, FEW, seed=5))
    alone = weights(list(those.trained(wanted, "one by one")))
    together = weights(list(those.trained(wanted, "stacked")))
    assert all(torch.allclose(alone[s], together[s], atol=1e-5) for s in (0, 1))
