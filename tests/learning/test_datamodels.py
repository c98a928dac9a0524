"""Datamodels: estimates are right where outputs are linear in who is trained on, and add up."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from expunge.benchmarks.shipped import digits_classifier_work
from expunge.changes.history import History
from expunge.data.samples import Samples, TensorSamples
from expunge.descent.optimisers import SGD
from expunge.errors import ExpungeError
from expunge.families.classifier import Classifier
from expunge.learning.attribution import LeaveOuts, scale_of
from expunge.learning.datamodels import DifferenceOfMeans, HalfDataModels, Ridge, kept_answers
from expunge.learning.population import halves
from expunge.learning.supervised.plain import Plain
from expunge.models.mlp import small_digits_classifier
from expunge.problem import Problem
from expunge.recipe import Recipe, Role
from expunge.requests import NO_REQUEST
from expunge.run import Run
from expunge.storage import Bundle

ROWS, MODELS = 30, 400


@pytest.fixture(scope="module")
def digits() -> TensorSamples:
    found = digits_classifier_work().data[Role.TRAIN].select(torch.arange(60))
    assert isinstance(found, TensorSamples)
    return found


def problem(samples: TensorSamples) -> Problem:
    recipe = Recipe(small_digits_classifier, Classifier(classes=10), Plain(6, 16, SGD(0.1)))
    data = {Role.TRAIN: samples}
    model = recipe.make(data, Run()).model
    return Problem(model, recipe.family, NO_REQUEST, data, History(), recipe=recipe)


def samples_of(ids: Sequence[str]) -> TensorSamples:
    return TensorSamples(list(ids), list(ids), {"image": torch.zeros(len(ids), 1)})


@pytest.fixture(scope="module")
def linear() -> tuple[Tensor, Bundle]:
    """Effects (rows, rows, 2) of every row on every output, and answers that are their sums."""
    draws = torch.Generator().manual_seed(0)
    effects = torch.randn(ROWS, ROWS, 2, generator=draws)
    member = halves(MODELS, ROWS, 1)
    outputs = 3.0 + torch.einsum("mi,ixk->mxk", member.float(), effects)
    return effects, kept_answers(member, outputs, [str(i) for i in range(ROWS)])


def presence(estimate: DifferenceOfMeans | Ridge, artifact: Bundle, rows: Sequence[int]) -> Tensor:
    ids = artifact.facts["ids"]
    assert isinstance(ids, list)
    asked: Samples = samples_of(ids)
    nothing: Problem = None  # type: ignore[assignment]  # the answers are all that is read
    names = [ids[row] for row in rows]
    return HalfDataModels(estimate=estimate).presence(artifact, nothing, names, asked, Run())


def test_ridge_finds_the_effects_where_outputs_are_linear(linear: tuple[Tensor, Bundle]) -> None:
    effects, artifact = linear
    found = presence(Ridge(1e-6), artifact, [4, 9])
    expected = effects[4] + effects[9]
    # halves all have the same size, so that a common part of all effects cannot be seen
    unseen = 2 * effects.mean(0)
    assert torch.allclose(found, expected - unseen, atol=1e-3)


def test_the_difference_of_means_is_right_on_average(linear: tuple[Tensor, Bundle]) -> None:
    effects, artifact = linear
    found = torch.stack([presence(DifferenceOfMeans(), artifact, [i]) for i in range(ROWS)])
    inside = torch.corrcoef(torch.stack([found.reshape(-1), effects.reshape(-1)]))[0, 1]
    assert inside > 0.9
    slope = (found * effects).sum() / effects.square().sum()
    assert float(slope) == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("estimate", [DifferenceOfMeans(), Ridge(0.1)])
def test_effects_of_rows_add_up(
    estimate: DifferenceOfMeans | Ridge, linear: tuple[Tensor, Bundle]
) -> None:
    both, one, other = (presence(estimate, linear[1], rows) for rows in ([2, 7], [2], [7]))
    assert torch.allclose(both, one + other, atol=1e-4)


def test_a_large_penalty_leaves_the_difference_of_means_but_for_its_scale(
    linear: tuple[Tensor, Bundle],
) -> None:
    shrunk, means = (presence(e, linear[1], [3]) for e in (Ridge(1e6), DifferenceOfMeans()))
    assert torch.allclose(shrunk * 1e6, means, atol=1e-3)


def test_what_cannot_be_estimated_is_refused(linear: tuple[Tensor, Bundle]) -> None:
    _, artifact = linear
    everywhere = artifact.tensors["member"].clone()
    everywhere[:, 5] = True
    always = Bundle({**artifact.tensors, "member": everywhere}, artifact.facts)
    with pytest.raises(ExpungeError, match="in all of the 400 models or in none"):
        presence(DifferenceOfMeans(), always, [5])
    with pytest.raises(ExpungeError, match="penalty of 0"):
        Ridge(0.0)
    estimate, nothing = HalfDataModels(), None
    with pytest.raises(ExpungeError, match="'new' is not among the 30"):
        estimate.presence(artifact, nothing, ["new"], samples_of(["3"]), Run())  # type: ignore[arg-type]
    with pytest.raises(ExpungeError, match="with 2 ids"):
        kept_answers(artifact.tensors["member"], artifact.tensors["outputs"], ["a", "b"])


def test_half_data_models_answer_on_all_rows_and_a_row_helps_itself(digits: TensorSamples) -> None:
    method = HalfDataModels(64, engine="stacked")
    artifact = method.prepare(here := problem(digits), Run())
    assert artifact.tensors["member"].sum(0).tolist() == [32] * 60
    assert artifact.tensors["outputs"].shape == (64, 60, 10)
    ones = [digits.select(torch.tensor([i])) for i in range(60)]
    own = torch.cat([method.presence(artifact, here, one.ids, one, Run()) for one in ones])
    labels = digits.columns["label"]
    right = own.gather(1, labels.unsqueeze(1)).squeeze(1)
    assert float(right.mean()) > float(own.mean()) + 0.1


def test_real_leave_outs_give_the_scale(digits: TensorSamples) -> None:
    effects = LeaveOuts(groups=3, rows=5, models=4, engine="stacked").effects(
        problem(digits), Run()
    )
    assert [len(group) for group, _ in effects] == [5, 5, 5]
    by_ids = {tuple(group.ids): effect for group, effect in effects}

    def twice(rows: Sequence[str], asked: Samples) -> Tensor:
        return 2 * by_ids[tuple(rows)]

    assert scale_of(twice, effects) == pytest.approx(0.5)
    labels = torch.cat([group.batch(torch.arange(5))["label"] for group, _ in effects])
    whole = torch.cat([effect for _, effect in effects])
    right = whole.gather(1, labels.unsqueeze(1))
    assert float(right.mean()) > float(whole.mean())  # presence adds to the right answer


def test_leaving_out_everything_is_refused(digits: TensorSamples) -> None:
    with pytest.raises(ExpungeError, match="groups of 60 of 60"):
        LeaveOuts(rows=60).effects(problem(digits), Run())
