"""Random labels and SalUn: exact freezing, what the mask ranks, and the card's small check."""

import io
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from expunge.changes.delta import Delta
from expunge.changes.weights import digest_of, parameters_of
from expunge.data.samples import TensorSamples
from expunge.deployment import Deployment
from expunge.descent.selections import Saliency
from expunge.errors import ExpungeError
from expunge.families.classifier import Classifier
from expunge.families.regressor import Regressor
from expunge.methods.l1_sparse import L1Sparse
from expunge.methods.protocol import Method, unlearn
from expunge.methods.random_label import RandomLabel
from expunge.methods.salun import SalUn
from expunge.problem import Access, Problem
from expunge.recipe import Role
from expunge.requests import Request, Rows
from expunge.run import Run
from expunge.signals import accuracy
from expunge.signals.ask import ask

THREES = Request("the threes", Rows("label", ("3",)))
Trained = Callable[[int], Deployment]
SMALL = {"learning_rate": 0.01, "batch_size": 64}


def moved(method: Method, problem: Problem, seed: int = 0) -> nn.Module:
    [change] = unlearn(method, problem, Run(seed)).changes
    assert isinstance(change, Delta)
    return change.applied_to(problem.model)


def share_correct(problem: Problem, model: nn.Module, role: Role) -> float:
    return float(accuracy(ask(problem.family, model, problem.data[role], Run()))[0])


def masks(kept: float, problem: Problem) -> dict[str, Tensor]:
    found = Saliency(kept).select(problem.model, problem, Run())
    return {name: mask for name, mask in found.items() if mask is not None}


def test_the_mask_holds_the_largest_gradients_of_the_whole_model(trained: Trained) -> None:
    problem = trained(0).problem(THREES, SalUn())
    everything = problem.data[Role.FORGET].batch(torch.arange(len(problem.data[Role.FORGET])))
    assert isinstance(problem.family, Classifier)
    loss = problem.family.losses(problem.model, everything).values.sum()
    named = dict(problem.model.named_parameters())
    gradients = torch.autograd.grad(loss, list(named.values()))
    flat = torch.cat([g.reshape(-1).abs() for g in gradients])
    found = masks(0.25, problem)
    assert list(found) == list(named)
    mask = torch.cat([m.reshape(-1) for m in found.values()])
    assert int(mask.sum()) == int(0.25 * len(flat))
    assert flat[mask].min() >= flat[~mask].max() - 1e-4 * flat.max()


def test_masks_of_smaller_shares_lie_inside_those_of_larger_ones(trained: Trained) -> None:
    problem = trained(0).problem(THREES, SalUn())
    few, many = masks(0.1, problem), masks(0.6, problem)
    assert all(not (few[name] & ~many[name]).any() for name in few)


@pytest.mark.parametrize("kept", [0.05, 0.5])
def test_salun_leaves_the_other_weights_bit_for_bit(kept: float, trained: Trained) -> None:
    method = SalUn(kept, 3, learning_rate=0.05, weight_decay=0.1, batch_size=64)
    problem = trained(0).problem(THREES, method)
    after, chosen = parameters_of(moved(method, problem)), masks(kept, problem)
    for name, before in parameters_of(problem.model).items():
        outside = ~chosen[name]
        assert torch.equal(after[name][outside], before[outside])
    changed = sum(int((after[n] != w).sum()) for n, w in parameters_of(problem.model).items())
    assert changed > 0.9 * sum(int(m.sum()) for m in chosen.values())


def test_as_published_weight_decay_moves_what_the_mask_was_to_freeze(trained: Trained) -> None:
    published = SalUn(0.5, 2, weight_decay=0.1, batch_size=64, as_published=True)
    problem = trained(0).problem(THREES, published)
    after, chosen = parameters_of(moved(published, problem)), masks(0.5, problem)
    outside = [(after[n][~m], parameters_of(problem.model)[n][~m]) for n, m in chosen.items()]
    shrunk = torch.cat([a.abs() < b.abs() for a, b in outside if len(b)])
    assert shrunk.double().mean() > 0.99
    bare = replace(published, weight_decay=0.0)
    exact = replace(bare, as_published=False)
    assert digest_of(moved(bare, problem)) == digest_of(moved(exact, problem))


def test_salun_on_all_weights_is_random_label(trained: Trained) -> None:
    whole = SalUn(1.0, 2, learning_rate=0.01, batch_size=64)
    relabelling = RandomLabel(2, learning_rate=0.01, batch_size=64)
    problem = trained(0).problem(THREES, whole)
    assert digest_of(moved(whole, problem)) == digest_of(moved(relabelling, problem))


@pytest.mark.parametrize("seed", [0, 1])
def test_salun_forgets_a_class_where_fine_tuning_does_not(seed: int, trained: Trained) -> None:
    problem = trained(seed).problem(THREES, SalUn())
    assert share_correct(problem, problem.model, Role.FORGET) > 0.95
    for method in (RandomLabel(**SMALL), SalUn(**SMALL)):  # type: ignore[arg-type]
        after = moved(method, problem)
        assert share_correct(problem, after, Role.FORGET) < 0.2
        assert share_correct(problem, after, Role.RETAIN) > 0.97
    tuned = moved(L1Sparse(gamma=0.0, **SMALL), problem)  # type: ignore[arg-type]
    assert share_correct(problem, tuned, Role.FORGET) > 0.9


def test_the_least_salient_weights_forget_less_than_the_most_salient(trained: Trained) -> None:
    class Complement(Saliency):
        def select(self, module: nn.Module, problem: Problem, run: Run) -> dict[str, Tensor | None]:
            chosen = super().select(module, problem, run)
            return {name: None if m is None else ~m for name, m in chosen.items()}

    problem = trained(0).problem(THREES, SalUn())
    left = {}
    for name, selection in {"most": Saliency(0.5), "least": Complement(0.5)}.items():
        descent = SalUn(epochs=2, **SMALL).descent()  # type: ignore[arg-type]
        [player] = descent.players
        descent.players = (replace(player, parameters=selection),)
        after = descent.minimise(problem, Run()).model
        left[name] = share_correct(problem, after, Role.FORGET)
    assert left["most"] < left["least"]


def test_both_read_the_forget_and_the_retain_set(trained: Trained) -> None:
    for method in (RandomLabel(), SalUn()):
        assert method.unlearns_with == Access.to(Role.FORGET, Role.RETAIN)
        assert method.prepares_with == Access()


@pytest.mark.parametrize("kept", [0.0, -0.1, 1.1, 1e-6, float("nan")])
def test_a_mask_that_keeps_nothing_is_refused(kept: float, trained: Trained) -> None:
    problem = trained(0).problem(THREES, SalUn())
    with pytest.raises(ExpungeError, match="above 0 and at most 1 that keeps at least one"):
        unlearn(SalUn(kept), problem, Run())


def test_a_loss_without_slope_has_no_salient_weights(trained: Trained) -> None:
    problem = trained(0).problem(THREES, SalUn())
    blind = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.Threshold(1e9, 0.0))
    flat = replace(problem, model=blind)
    with pytest.raises(ExpungeError, match="zero everywhere"):
        Saliency().select(flat.model, flat, Run())
    blind.requires_grad_(False)
    with pytest.raises(ExpungeError, match="No parameter of the model requires a gradient"):
        Saliency().select(flat.model, flat, Run())


def test_a_parameter_that_the_loss_does_not_reach_is_said(trained: Trained) -> None:
    problem = trained(0).problem(THREES, SalUn())
    problem.model.unused = nn.Linear(2, 2)
    said = io.StringIO()
    try:
        found = Saliency().select(problem.model, problem, Run(console=Console(file=said)))
        with pytest.warns(UserWarning, match="No gradient of the forget loss reaches"):
            Saliency().select(problem.model, problem, Run())
    finally:
        del problem.model.unused
    assert "reaches 'unused.bias' and 1 others" in " ".join(said.getvalue().split())
    mask = found["unused.weight"]
    assert mask is not None
    assert not mask.any()


def test_rows_without_labels_have_no_salient_weights(trained: Trained) -> None:
    problem = trained(0).problem(THREES, SalUn())
    forget = problem.data[Role.FORGET]
    assert isinstance(forget, TensorSamples)
    images = TensorSamples(forget.ids, forget.subjects, {"image": forget.columns["image"]})
    unlabelled = replace(problem, data={**problem.data, Role.FORGET: images})
    with pytest.raises(ExpungeError, match=r"field 'label' of the rows is needed.*have image;"):
        unlearn(SalUn(), unlabelled, Run())


def test_a_family_without_neutral_targets_is_refused(trained: Trained) -> None:
    problem = trained(0).problem(THREES, SalUn())
    with pytest.raises(ExpungeError, match="lacks HasNeutral"):
        unlearn(SalUn(), replace(problem, family=Regressor()), Run())
