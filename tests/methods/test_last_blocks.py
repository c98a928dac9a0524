"""CF-k and EU-k: what moves, what rests, and where EU-k begins."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from expunge.changes.delta import Delta
from expunge.changes.guarded import Guarded
from expunge.changes.history import History
from expunge.changes.weights import digest_of
from expunge.data import digits
from expunge.data.samples import TensorSamples
from expunge.deployment import Deployment
from expunge.descent.selections import LastBlocks
from expunge.errors import ExpungeError
from expunge.families.classifier import Classifier
from expunge.learning.supervised.plain import Plain
from expunge.methods.cf_k import CfK
from expunge.methods.eu_k import EuK
from expunge.methods.l1_sparse import L1Sparse
from expunge.methods.protocol import Method, unlearn
from expunge.problem import Access, Problem
from expunge.recipe import Recipe, Role
from expunge.requests import Request, Rows
from expunge.run import Run
from expunge.signals import accuracy
from expunge.signals.ask import ask

THREES = Request("the threes", Rows("label", ("3",)))
BOTH = (Role.FORGET, Role.RETAIN)
Trained = Callable[[int], Deployment]


class Normed(nn.Sequential):
    """Two convolutional stages with batch norm and dropout, and a head."""

    def __init__(self, seed: int) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            super().__init__(
                nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.2)),
                nn.Sequential(nn.Conv2d(4, 4, 3, 2), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten()),
                nn.Linear(16, 10),
            )


def normed_problem(builder: Callable[[int], nn.Module] = Normed) -> Problem:
    table = digits.load("validation")
    rows = TensorSamples(table["id"], table["subject"], digits.tensors(table))
    threes = rows.columns["label"] == 3
    family = Classifier(classes=10)
    return Problem(
        builder(0),
        family,
        THREES,
        {
            Role.FORGET: rows.select(threes.nonzero().reshape(-1)),
            Role.RETAIN: rows.select((~threes).nonzero().reshape(-1)),
        },
        History.of("base"),
        recipe=Recipe(builder, family, Plain()),
    )


def moved(method: Method, problem: Problem) -> nn.Module:
    [change] = unlearn(method, problem, Run()).changes
    assert isinstance(change, Delta)
    return change.applied_to(problem.model)


def tensors(model: nn.Module) -> dict[str, Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


@pytest.mark.parametrize("method", [CfK(1, 1), CfK(2, 1), EuK(1, 1), EuK(2, 1)], ids=repr)
def test_the_prefix_keeps_its_bits_and_its_statistics(method: CfK | EuK) -> None:
    problem = normed_problem()
    after, before = tensors(moved(method, problem)), tensors(problem.model)
    changed = {n.split(".")[0] for n in before if not torch.equal(after[n], before[n])}
    assert changed == {str(block) for block in range(3 - method.k, 3)}
    assert before.keys() == after.keys()


def test_eu_k_without_a_step_is_the_untrained_suffix_with_its_statistics() -> None:
    problem = normed_problem()
    problem.model[1][1].running_mean.fill_(5.0)  # type: ignore[index]
    still = EuK(2, 1, learning_rate=1e-30, weight_decay=0.0)
    assert problem.recipe is not None
    fresh = tensors(problem.recipe.untrained(Run()))
    after = tensors(moved(still, problem))
    for name in ("1.0.weight", "2.weight", "2.bias"):
        assert torch.allclose(after[name], fresh[name], atol=1e-6)
        assert not torch.allclose(after[name], tensors(problem.model)[name], atol=1e-3)
    assert float(after["1.1.running_mean"].abs().max()) < 5 * 0.9**1 * 0.9  # it began at zero


class Flat(nn.Sequential):
    """Frozen and moving layers side by side, with norms that have no weights and dropouts."""

    def __init__(self, seed: int) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            super().__init__(
                nn.Dropout(0.5),
                nn.Flatten(),
                nn.Linear(64, 16),
                nn.BatchNorm1d(16, affine=False),
                nn.ReLU(),
                nn.Dropout(0.5),
                nn.Linear(16, 16),
                nn.BatchNorm1d(16, affine=False),
                nn.ReLU(),
                nn.Linear(16, 10),
            )


@pytest.mark.parametrize("method", [CfK(2, 1), EuK(2, 1)], ids=repr)
def test_what_has_no_weights_rests_with_the_blocks_before_it(method: CfK | EuK) -> None:
    problem = normed_problem(Flat)
    known = LastBlocks(2).weightless(problem.model, problem)
    assert known == dict.fromkeys("01345", False) | dict.fromkeys("78", True)
    before, after = tensors(problem.model), tensors(moved(method, problem))
    assert torch.equal(after["3.running_mean"], before["3.running_mean"])
    assert not torch.equal(after["7.running_mean"], before["7.running_mean"])
    assert LastBlocks(3).weightless(problem.model, problem)["0"]  # it leads into the first layer


class Called(nn.Module):
    """Layers that are called in another order than they are registered in."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU())
            self.between = nn.Dropout(0.5)
            self.hidden = nn.Linear(16, 16)
            self.head = nn.Linear(16, 10)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.hidden(self.body(images))
        scores: Tensor = self.head(self.between(hidden))
        return scores


def test_only_of_a_sequence_is_the_order_known() -> None:
    problem = normed_problem(Called)
    assert LastBlocks(2).weightless(problem.model, problem) == {"body.0": False, "body.2": False}
    modes: list[bool] = []
    problem.model.between.register_forward_hook(  # type: ignore[union-attr]
        lambda module, *_: modes.append(module.training)
    )
    CfK(2, 1).descent().minimise(problem, Run())
    assert any(modes)  # it is between two layers that move


def test_what_is_called_by_another_name_than_it_is_tied_by_goes_with_its_block() -> None:
    def tied(seed: int) -> nn.Module:
        model = Flat(seed)
        model[6].weight = nn.Parameter(torch.eye(16))
        model.insert(6, nn.Linear(16, 16))
        model[6].weight = model[7].weight
        return model

    problem = normed_problem(tied)
    known = LastBlocks(2).weightless(problem.model, problem)
    assert known["8"]
    assert not known["3"]


def test_a_guarded_model_has_the_same_blocks() -> None:
    problem = normed_problem(Flat)
    plain = LastBlocks(2).weightless(problem.model, problem)
    guarded = replace(problem, model=Guarded(problem.model))
    assert LastBlocks(2).weightless(guarded.model, guarded) == plain


def test_statistics_of_a_frozen_norm_are_not_renewed() -> None:
    problem = normed_problem()
    problem.model[1][1].requires_grad_(False)  # type: ignore[index]
    problem.model[1][1].running_mean.fill_(5.0)  # type: ignore[index]
    after = tensors(moved(EuK(2, 1), problem))
    assert torch.equal(after["1.1.running_mean"], torch.full((4,), 5.0))


def test_eu_k_renews_statistics_without_weights() -> None:
    problem = normed_problem(Flat)
    problem.model[7].running_mean.fill_(100.0)  # type: ignore[index]
    after = tensors(moved(EuK(2, 1, learning_rate=1e-30, weight_decay=0.0), problem))
    assert float(after["7.running_mean"].abs().max()) < 50


def test_cf_k_over_all_blocks_is_fine_tuning(trained: Trained) -> None:
    problem = trained(0).problem(THREES, CfK())
    every = CfK(3, 2, batch_size=64)
    [whole] = every.descent().players
    tuned = L1Sparse(0.0, 2, learning_rate=every.learning_rate, batch_size=64).descent()
    [player] = tuned.players
    tuned.players = (replace(player, optimiser=whole.optimiser),)
    ended = [descent.minimise(problem, Run()).model for descent in (tuned, every.descent())]
    assert digest_of(ended[0]) == digest_of(ended[1])


def test_new_last_layers_forget_a_class_and_old_ones_do_not(trained: Trained) -> None:
    problem = trained(0).problem(THREES, EuK())
    methods: dict[str, Method] = {"cf": CfK(1, batch_size=64), "eu": EuK(1, batch_size=64)}
    shares: dict[str, list[float]] = {}
    for name, method in methods.items():
        after = moved(method, problem)
        answers = [ask(problem.family, after, problem.data[role], Run()) for role in BOTH]
        shares[name] = [float(accuracy(signals)[0]) for signals in answers]
    assert shares["eu"][0] == 0.0
    assert shares["cf"][0] > 0.9
    assert min(shares["cf"][1], shares["eu"][1]) > 0.98


def test_eu_k_reads_the_retain_set_and_the_recipe(trained: Trained) -> None:
    assert CfK().unlearns_with == Access.to(Role.RETAIN)
    assert EuK().unlearns_with == Access.to(Role.RETAIN, recipe=True)
    with pytest.raises(ExpungeError, match="recipe"):
        unlearn(EuK(), replace(trained(0).problem(THREES, EuK()), recipe=None), Run())


@pytest.mark.parametrize("k", [0, 4])
def test_more_blocks_than_there_are_is_refused(k: int, trained: Trained) -> None:
    problem = trained(0).problem(THREES, CfK())
    for method in (CfK(k), EuK(k)):
        with pytest.raises(ExpungeError, match=r"this model has 3 .*a number from 1 to 3"):
            unlearn(method, problem, Run())


def test_the_last_blocks_of_a_frozen_head_are_refused(trained: Trained) -> None:
    frozen = normed_problem()
    frozen.model[2].requires_grad_(False)  # type: ignore[index]
    with pytest.raises(ExpungeError, match="No parameter of 'model' was selected"):
        unlearn(CfK(1), frozen, Run())
