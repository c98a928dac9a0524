"""Diagonals of the Fisher information against their definitions."""

import pytest
import torch
from torch import nn

from expunge.benchmarks.shipped import Work
from expunge.models.vit import VisionTransformer
from expunge.recipe import Role
from expunge.run import Run
from expunge.signals.fisher import batch_fisher, classes_of, diagonal_fisher, expected_fisher
from expunge.signals.gradients import one_by_one, vectorised


def test_the_vectorised_fisher_is_the_loop(digits_work: Work, digits_model: nn.Module) -> None:
    family, rows = digits_work.recipe.family, digits_work.data[Role.TRAIN].select(torch.arange(90))
    fast = diagonal_fisher(family, digits_model, rows, Run())
    slow = diagonal_fisher(family, digits_model, rows, Run(), one_by_one)
    largest = max(float(tensor.max()) for tensor in slow.values())
    for name, tensor in fast.items():
        assert torch.allclose(tensor, slow[name], rtol=1e-4, atol=1e-7 * largest)
        assert tensor.dtype == torch.float32
        assert tensor.min() >= 0


def test_parameters_that_are_added_to_one_another_do_not_share_their_squares(
    digits_work: Work,
) -> None:
    model = VisionTransformer(torch.Generator().manual_seed(0), 8, 1, 12, patch=4, channels=1)
    family, rows = digits_work.recipe.family, digits_work.data[Role.TRAIN].select(torch.arange(30))
    fast = diagonal_fisher(family, model, rows, Run(), vectorised)
    slow = diagonal_fisher(family, model, rows, Run(), one_by_one)
    largest = max(float(tensor.max()) for tensor in slow.values())
    for name, tensor in fast.items():  # the class token and its position have one gradient
        assert torch.allclose(tensor, slow[name], rtol=1e-3, atol=1e-6 * largest), name


def test_the_batch_form_at_one_row_is_the_per_sample_form(
    digits_work: Work, digits_model: nn.Module
) -> None:
    family, rows = digits_work.recipe.family, digits_work.data[Role.TRAIN].select(torch.arange(60))
    each = diagonal_fisher(family, digits_model, rows, Run())
    single = batch_fisher(family, digits_model, rows, Run(), batch_size=1)
    whole = batch_fisher(family, digits_model, rows, Run(), batch_size=60)
    for name, tensor in each.items():
        assert torch.allclose(tensor, single[name], rtol=1e-3, atol=1e-9)
        assert (whole[name] <= tensor * (1 + 1e-4) + 1e-12).all()  # (E g)^2 <= E g^2


def test_the_fisher_of_all_rows_is_the_mean_of_its_parts(
    digits_work: Work, digits_model: nn.Module
) -> None:
    family, rows = digits_work.recipe.family, digits_work.data[Role.TRAIN].select(torch.arange(80))
    parts = [rows.select(torch.arange(20)), rows.select(torch.arange(20, 80))]
    whole, there, here = (
        diagonal_fisher(family, digits_model, part, Run()) for part in (rows, *parts)
    )
    for name, tensor in whole.items():
        assert torch.allclose(tensor, there[name] / 4 + 3 * here[name] / 4, rtol=1e-3, atol=1e-9)
        assert (there[name] <= 4 * tensor * (1 + 1e-4) + 1e-12).all()  # the ceiling of SSD


def test_the_expected_fisher_of_a_linear_layer_has_its_closed_form(digits_work: Work) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    rows = digits_work.test.select(torch.arange(30))
    family = digits_work.recipe.family
    assert classes_of(family, model, rows, Run()) == 10
    found = expected_fisher(family, model, rows, Run())
    batch = rows.batch(torch.arange(30))
    share = model(batch["image"]).softmax(1).detach()
    variance = share * (1 - share)  # of the error of each logit, over the predicted classes
    weight = variance.T @ batch["image"].flatten(1).square() / 30
    assert torch.allclose(found["1.bias"], variance.mean(0), rtol=1e-4)
    assert torch.allclose(found["1.weight"], weight, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_batch_form_shuffles_by_the_run(
    seed: int, digits_work: Work, digits_model: nn.Module
) -> None:
    family, rows = digits_work.recipe.family, digits_work.data[Role.TRAIN].select(torch.arange(64))
    once, again, other = (
        batch_fisher(family, digits_model, rows, Run(s), 16) for s in (seed, seed, seed + 7)
    )
    name = next(iter(once))
    assert torch.equal(once[name], again[name])
    assert not torch.equal(once[name], other[name])
