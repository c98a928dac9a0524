"""The second form of l1-sparse: how sparse it ends, and that what was pruned stays out."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from expunge.changes.delta import Delta
from expunge.changes.weights import digest_of, parameters_of
from expunge.deployment import Deployment
from expunge.descent.loop import Descended, Descent
from expunge.errors import ExpungeError
from expunge.families.regressor import Regressor
from expunge.methods.l1_sparse_pruned import L1SparsePruned
from expunge.methods.presets import preset_of
from expunge.methods.protocol import Outcome, unlearn
from expunge.problem import Access, Problem
from expunge.recipe import Role
from expunge.requests import Request, Rows
from expunge.run import Run
from expunge.signals import accuracy
from expunge.signals.ask import ask

THREES = Request("the threes", Rows("label", ("3",)))
Trained = Callable[[int], Deployment]


def of(sparsity: float, epochs: int = 10, rate: float = 0.02) -> L1SparsePruned:
    return L1SparsePruned(sparsity, epochs, learning_rate=rate, batch_size=64)


def after(method: L1SparsePruned, problem: Problem) -> nn.Module:
    outcome: Outcome = unlearn(method, problem, Run())
    [change] = outcome.changes
    assert isinstance(change, Delta)
    return change.applied_to(problem.model)


def zeros(model: nn.Module) -> list[Tensor]:
    """Where the weights of the linear layers are 0."""
    return [w == 0 for n, w in parameters_of(model).items() if w.dim() == 2]


def count(masks: list[Tensor]) -> tuple[int, int]:
    return sum(int(m.sum()) for m in masks), sum(m.numel() for m in masks)


@pytest.mark.parametrize("epochs", [1, 2, 3, 6])
@pytest.mark.parametrize("sparsity", [0.5, 0.95])
def test_it_ends_at_the_sparsity_that_was_asked_for(
    sparsity: float, epochs: int, trained: Trained
) -> None:
    problem = trained(0).problem(THREES, of(sparsity))
    found, whole = count(zeros(after(of(sparsity, epochs), problem)))
    assert found == int(sparsity * whole)


def test_each_pruning_takes_the_same_share_of_what_is_left_and_nothing_comes_back(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts, ends, lengths, minimise = [], [], [], Descent.minimise

    def watched(self: Descent, problem: Problem, run: Run, name: str = "descent") -> Descended:
        found = minimise(self, problem, run, name)
        starts.append(zeros(problem.model))
        ends.append(zeros(found.model))
        lengths.append(self.length.steps(lambda role: len(problem.data[role]), 64))
        return found

    monkeypatch.setattr(Descent, "minimise", watched)
    problem = trained(0).problem(THREES, of(0.9, 7))
    after(of(0.9, 7), problem)
    left = [1 - found / whole for found, whole in map(count, starts)]
    assert left == pytest.approx([0.1 ** (k / 4) for k in (1, 2, 3, 4)], abs=1e-3)
    assert lengths == [2 * lengths[-1]] * 3 + [lengths[-1]]  # seven epochs: 2, 2, 2, 1
    for before, now, later in zip(starts, ends, [*starts[1:], ends[-1]], strict=True):
        for one, two, three in zip(before, now, later, strict=True):
            assert torch.equal(one, two)
            assert (three | ~two).all()


def test_the_smallest_of_all_layers_go(trained: Trained) -> None:
    """At a rate of next to nothing the survivors are what was largest at the start."""
    problem = trained(0).problem(THREES, of(0.8))
    model = after(of(0.8, 2, rate=1e-12), problem)
    sizes = torch.cat([w.abs().flatten() for w in parameters_of(problem.model).values()])
    gone = torch.cat([(w == 0).flatten() for w in parameters_of(model).values()])
    matrices = torch.cat(
        [torch.full((w.numel(),), w.dim() == 2) for w in parameters_of(model).values()]
    )
    assert sizes[gone].max() <= sizes[matrices & ~gone].min()
    assert not gone[~matrices & (sizes > 0)].any()


def test_without_sparsity_nothing_is_pruned(trained: Trained) -> None:
    problem = trained(0).problem(THREES, of(0.0))
    assert count(zeros(after(of(0.0, 2), problem)))[0] == 0


def test_a_model_that_was_pruned_further_stays_so(trained: Trained) -> None:
    problem = trained(0).problem(THREES, of(0.9))
    sparse = after(of(0.9, 2), problem)
    support = {n: w != 0 for n, w in parameters_of(sparse).items() if w.dim() == 2}
    again = replace(problem, model=sparse, support=support)
    for less in (0.0, 0.5, 0.9):
        assert count(zeros(after(of(less, 2), again))) == count(zeros(sparse))


def test_sparser_models_forget_more(trained: Trained) -> None:
    """The pattern of the paper, at one small rate: of a class that nothing pushes away."""
    problem, left = trained(0).problem(THREES, of(0.0)), []
    for sparsity in (0.0, 0.8, 0.95):
        model = after(of(sparsity), problem)
        shares = [
            float(accuracy(ask(problem.family, model, problem.data[role], Run()))[0])
            for role in (Role.FORGET, Role.RETAIN)
        ]
        left.append(shares[0])
        assert shares[1] > 0.94
    assert left[0] > 0.8
    assert left[0] > left[1] > left[2]


def test_the_preset_prunes_less_where_the_retain_rows_are_lost(trained: Trained) -> None:
    problem = trained(0).problem(THREES, of(0.0))
    asked, kept = L1SparsePruned(), preset_of(L1SparsePruned(), problem)
    most = preset_of(replace(asked, sparsity=0.999), problem)
    assert isinstance(kept, L1SparsePruned)
    assert isinstance(most, L1SparsePruned)
    assert kept.sparsity == asked.sparsity
    assert most.sparsity < 0.999
    assert most.learning_rate == kept.learning_rate


def test_it_reads_the_retain_set_alone_and_runs_on_a_regressor(trained: Trained) -> None:
    assert L1SparsePruned().unlearns_with == Access.to(Role.RETAIN)
    problem = trained(0).problem(THREES, L1SparsePruned())
    retain = problem.data[Role.RETAIN]
    targets = retain.with_column("target", retain.columns["label"].float())  # type: ignore[attr-defined]
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 1))
    numbers = replace(problem, model=model, family=Regressor(), data={Role.RETAIN: targets})
    assert count(zeros(after(of(0.5, 2, rate=1e-3), numbers))) == (32, 64)


def test_a_model_whose_matrices_are_frozen_is_refused(trained: Trained) -> None:
    problem = trained(0).problem(THREES, of(0.5))
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    model[1].weight.requires_grad_(False)
    before = digest_of(model)
    with pytest.raises(ExpungeError, match="none can be pruned"):
        unlearn(of(0.5), replace(problem, model=model), Run())
    assert digest_of(model) == before


@pytest.mark.parametrize("wrong", [{"sparsity": 1.0}, {"sparsity": -0.1}, {"epochs": 0}])
def test_pruning_everything_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ExpungeError, match="at least 0 and below 1, and at least one epoch"):
        L1SparsePruned(**wrong)  # type: ignore[arg-type]
