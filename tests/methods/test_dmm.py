"""Datamodel matching: exact where the attribution is, blind to labels, one model at a time."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from expunge.benchmarks.shipped import digits_classifier_work
from expunge.changes.delta import Delta
from expunge.changes.history import History
from expunge.changes.weights import digest_of
from expunge.data.samples import Samples, TensorSamples
from expunge.descent.optimisers import SGD
from expunge.errors import AccessError, ExpungeError
from expunge.families.abilities import Family
from expunge.families.classifier import Classifier
from expunge.families.regressor import Regressor
from expunge.learning.attribution import LeaveOuts
from expunge.learning.datamodels import DifferenceOfMeans, HalfDataModels, Ridge
from expunge.learning.supervised.plain import Plain
from expunge.learning.trak import Trak
from expunge.methods.dmm import DMM, FACTOR
from expunge.methods.presets import AtPreset, preset_of
from expunge.methods.protocol import Artifact, missing, preparation_of, unlearn
from expunge.models.mlp import small_digits_classifier
from expunge.problem import Access, Problem
from expunge.recipe import Recipe, Role
from expunge.requests import Request, Rows
from expunge.run import Run
from expunge.signals.outputs import outputs_of

FORGOTTEN = 6
FEW = HalfDataModels(32, engine="stacked")


def problem_of(
    model: nn.Module, family: Family, rows: TensorSamples, recipe: Recipe | None = None
) -> Problem:
    """The first rows are to be forgotten."""
    data = {
        Role.TRAIN: rows,
        Role.FORGET: rows.select(torch.arange(FORGOTTEN)),
        Role.RETAIN: rows.select(torch.arange(FORGOTTEN, len(rows))),
    }
    request = Request("some", Rows("id", tuple(rows.ids[:FORGOTTEN])))
    return Problem(model, family, request, data, History(), recipe=recipe)


@pytest.fixture(scope="module")
def digits() -> Problem:
    rows = digits_classifier_work().data[Role.TRAIN].select(torch.arange(100))
    assert isinstance(rows, TensorSamples)
    recipe = Recipe(small_digits_classifier, Classifier(classes=10), Plain(15, 16, SGD(0.1, 0.9)))
    model = recipe.make({Role.TRAIN: rows}, Run()).model
    return problem_of(model, recipe.family, rows, recipe)


@dataclass(frozen=True)
class Exact:
    """The effect of the forget rows in ridge regression, by solving it again."""

    difference: Tensor
    needs: ClassVar[tuple[type, ...]] = ()
    prepares_with: ClassVar[Access] = Access()
    preparation: ClassVar[str] = "exact"

    def prepare(self, problem: Problem, run: Run) -> Artifact:
        return Artifact()

    def presence(
        self, artifact: Artifact, problem: Problem, rows: Sequence[str], asked: Samples, run: Run
    ) -> Tensor:
        added: Tensor = asked.batch(torch.arange(len(asked)))["image"] @ self.difference
        return added


def ridge(x: Tensor, y: Tensor) -> Tensor:
    gram = x.T @ x + 0.3 * torch.eye(x.shape[1], dtype=x.dtype)
    found: Tensor = torch.linalg.solve(gram, x.T @ y)
    return found


def linear(weights: Tensor) -> nn.Module:
    features, targets = weights.shape
    model = nn.Linear(features, targets, bias=False, dtype=torch.float64)
    with torch.no_grad():
        model.weight.copy_(weights.T)
    return model


@pytest.mark.parametrize(("retained", "spans"), [(20, True), (2, False)])
def test_with_exact_attribution_it_ends_at_the_ridge_regression_without_the_rows(
    retained: int, spans: bool
) -> None:
    draws = torch.Generator().manual_seed(0)
    x = torch.randn(60, 12, generator=draws, dtype=torch.float64)
    y = torch.randn(60, 2, generator=draws, dtype=torch.float64)
    whole, without = ridge(x, y), ridge(x[FORGOTTEN:], y[FORGOTTEN:])
    rows = TensorSamples([str(i) for i in range(60)], ["-"] * 60, {"image": x, "target": y})
    problem = problem_of(linear(whole), Regressor(), rows)
    method = DMM(
        Exact(whole - without),
        epochs=1200,
        learning_rate=0.05,
        rate_decay=0.985,
        batch_size=1000,
        retain_ratio=retained,
        forget_repeats=1,
    )
    if not spans:  # fewer points than features
        problem = replace(
            problem,
            data={
                role: rows.select(torch.arange(3))
                for role, rows in problem.data.items()
                if role != Role.TRAIN
            },
        )
    [change] = unlearn(method, problem, Run()).changes
    assert isinstance(change, Delta)
    found = next(change.applied_to(problem.model).parameters()).detach().T
    assert float((whole - without).abs().max()) > 1e-2
    assert (float((found - without).abs().max()) < 1e-6) == spans


def test_an_attribution_of_nothing_leaves_the_model_as_it_is(digits: Problem) -> None:
    method = DMM(FEW, strength=0.0)
    artifact = method.prepare(digits, Run())
    [change] = method.unlearn(digits, artifact, Run()).changes
    assert isinstance(change, Delta)
    assert digest_of(change.applied_to(digits.model)) == digest_of(digits.model)


def test_it_comes_nearer_to_the_models_without_the_rows(digits: Problem) -> None:
    method = DMM(HalfDataModels(200, engine="stacked"), epochs=8, learning_rate=1e-3, batch_size=15)
    [change] = unlearn(method, digits, Run()).changes
    assert isinstance(change, Delta)
    forget, recipe = digits.data[Role.FORGET], digits.recipe
    assert recipe is not None
    kept = {Role.TRAIN: digits.data[Role.RETAIN]}
    oracle = torch.stack(
        [
            outputs_of(recipe.family, recipe.with_seed(s).make(kept, Run()).model, forget, Run())
            for s in range(8)
        ]
    ).mean(0)
    before, after = (
        float((outputs_of(recipe.family, model, forget, Run()) - oracle).square().mean())
        for model in (digits.model, change.applied_to(digits.model))
    )
    assert after < 0.8 * before


def test_a_request_reads_inputs_and_no_label(digits: Problem) -> None:
    method = DMM(FEW, epochs=1)
    image = frozenset({"image"})
    assert method.prepares_with == Access.to(Role.TRAIN, recipe=True)
    assert method.unlearns_with == Access({Role.FORGET: image, Role.RETAIN: image})
    artifact = method.prepare(digits.opened(method.prepares_with), Run())
    opened = digits.opened(method.unlearns_with)
    method.unlearn(opened, artifact, Run())
    with pytest.raises(AccessError, match="label"):
        opened.data[Role.FORGET].batch(torch.arange(1), {"label"})


def test_a_pass_shows_forget_rows_again_and_again_and_a_sample_of_the_others(
    digits: Problem,
) -> None:
    shown = DMM(forget_repeats=3, retain_ratio=4).shown(digits, Run())
    forget, retain = (list(shown.data[role].ids) for role in (Role.FORGET, Role.RETAIN))
    assert forget == 3 * list(digits.data[Role.FORGET].ids)
    assert len(retain) == len(set(retain)) == 4 * FORGOTTEN
    assert set(retain) <= set(digits.data[Role.RETAIN].ids)
    everything = DMM(retain_ratio=100).shown(digits, Run()).data[Role.RETAIN]
    assert len(everything) == len(digits.data[Role.RETAIN])


def test_the_simulated_oracle_is_of_the_model_at_hand(digits: Problem) -> None:
    method = DMM(FEW, strength=0.5)
    artifact, forget = method.prepare(digits, Run()), digits.data[Role.FORGET]
    other = replace(digits, model=small_digits_classifier(7))
    for problem in (digits, other):
        added = FEW.presence(artifact, problem, list(forget.ids), forget, Run())
        own = outputs_of(problem.family, problem.model, forget, Run())
        found = method.direct(problem, artifact, forget, Run())
        assert torch.allclose(found, own - 0.5 * added)


def test_estimates_share_the_models_that_were_trained() -> None:
    means, regression = (
        DMM(HalfDataModels(estimate=estimate)) for estimate in (DifferenceOfMeans(), Ridge(0.5))
    )
    assert preparation_of(means) == preparation_of(replace(regression, strength=2.0))
    assert preparation_of(means) != preparation_of(DMM(HalfDataModels(models=2000)))
    scaled = DMM(HalfDataModels(), LeaveOuts())
    assert preparation_of(scaled) != preparation_of(means)


def test_leave_outs_scale_what_is_taken_away(digits: Problem) -> None:
    method = DMM(FEW, LeaveOuts(2, 5, 3, engine="stacked"), epochs=1)
    artifact = method.prepare(digits, Run())
    factor = artifact.facts[FACTOR]
    assert isinstance(factor, float)
    assert 0 < factor < 2
    [change] = method.unlearn(digits, artifact, Run()).changes
    assert isinstance(change, Delta)
    assert change.facts["scale"] == factor
    with pytest.raises(ExpungeError, match="without leave-outs"):
        method.unlearn(digits, FEW.prepare(digits, Run()), Run())


def test_trak_needs_no_recipe_and_half_data_models_say_so(digits: Problem) -> None:
    bare = replace(digits, recipe=None)
    method = DMM(Trak(64), epochs=1, learning_rate=1e-3)
    [change] = unlearn(method, bare, Run()).changes
    assert isinstance(change, Delta)
    assert change.norm() > 0
    assert [lack.clause for lack in missing(DMM(), bare)] == ["needs the recipe; there is none"]
    further = DMM(Trak(64, further_models=1), epochs=1)
    assert missing(further, bare)
    assert unlearn(further, digits, Run()).changes


def test_it_runs_on_a_regressor(digits: Problem) -> None:
    rows = digits.data[Role.TRAIN]
    assert isinstance(rows, TensorSamples)
    numbers = rows.with_column("target", rows.columns["label"].float())

    recipe = Recipe(_number, Regressor(), Plain(2, 16, SGD(1e-3)))
    model = recipe.make({Role.TRAIN: numbers}, Run()).model
    problem = problem_of(model, recipe.family, numbers, recipe)
    [change] = unlearn(DMM(FEW, epochs=1), problem, Run()).changes
    assert isinstance(change, Delta)
    assert change.norm() > 0
    with pytest.raises(ExpungeError, match="HasMargins"):
        unlearn(DMM(Trak(16)), problem, Run())


def _number(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 1))


def test_the_preset_takes_small_steps_and_leaves_the_attribution(digits: Problem) -> None:
    method = DMM(FEW)
    found = preset_of(method, digits)
    assert isinstance(found, DMM)
    assert found.attribution == method.attribution
    assert (found.epochs, found.batch_size) == (8, 16)
    assert isinstance(AtPreset.of(method), AtPreset)


def test_fields_without_use_are_refused() -> None:
    with pytest.raises(ExpungeError, match="0 repeats"):
        DMM(forget_repeats=0)
    with pytest.raises(ExpungeError, match="TRAK got"):
        Trak(dimensions=0)
