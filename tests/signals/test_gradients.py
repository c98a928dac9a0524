"""Row gradients: the vectorised form is the loop, on every kind of model."""

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import nn

from expunge.benchmarks.shipped import Work
from expunge.changes.weights import digest_of
from expunge.data import digits, own
from expunge.data.samples import Samples, TensorSamples
from expunge.errors import ExpungeError
from expunge.families.abilities import Family
from expunge.families.classifier import Classifier
from expunge.families.regressor import Regressor
from expunge.models.cnn import SmallCnn
from expunge.recipe import Role
from expunge.run import Run
from expunge.signals import gradients
from expunge.signals.gradients import (
    losses_of,
    mean_gradient,
    one_by_one,
    row_gradients,
    vectorised,
)

Case = tuple[Family, nn.Module, Samples]


def few(count: int = 24) -> TensorSamples:
    table = digits.load("validation").select(range(count))
    return own.samples(table, digits.tensors(table))


def convolutional() -> Case:
    rows = few()
    large = nn.functional.interpolate(rows.columns["image"], size=28)
    return (
        Classifier(classes=10),
        SmallCnn(torch.Generator().manual_seed(0)),
        rows.with_column("image", large),
    )


def with_batch_norm() -> Case:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(), nn.Flatten(),
        nn.Linear(144, 10),
    )  # fmt: skip
    return Classifier(classes=10), model, few()


def regression() -> Case:
    torch.manual_seed(0)
    rows = few()
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 1))
    return Regressor(), model, rows.with_column("target", rows.columns["label"].float())


def vision_transformer() -> Case:
    from transformers import ViTConfig, ViTForImageClassification

    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        image_size=8, patch_size=4, num_channels=1, num_labels=10,
    )  # fmt: skip
    rows = few()
    return (
        Classifier(("pixel_values",), 10),
        ViTForImageClassification(config),
        rows.with_column("pixel_values", rows.columns["image"]),
    )


def text_transformer() -> Case:
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=17, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32, num_labels=10,
    )  # fmt: skip
    rows = few()
    words = (rows.columns["image"].flatten(1)[:, 20:28] * 16).long()
    mask = torch.ones_like(words)
    mask[::2, 5:] = 0
    given = rows.with_column("input_ids", words).with_column("attention_mask", mask)
    model = BertForSequenceClassification(config)
    return Classifier(("input_ids", "attention_mask"), 10), model, given


CASES = (convolutional, with_batch_norm, regression, vision_transformer, text_transformer)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.filterwarnings("ignore")
def test_the_default_form_equals_the_plain_derivative_of_each_row(
    case: Callable[[], Case], monkeypatch: pytest.MonkeyPatch
) -> None:
    family, model, rows = case()
    before = digest_of(model)
    monkeypatch.setattr(gradients, "MOST_ROWS", 10)  # the last chunk is smaller
    values = losses_of(family)
    found = list(row_gradients(values, family, model, rows, Run()))
    assert model.training
    model.eval()
    for row in (0, 9, 10, 23):
        loss = values(model, rows.batch(torch.tensor([row]))).sum()
        expected = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
        scale = max(float(g.abs().max()) for g in expected if g is not None)
        for (name, parameter), gradient in zip(model.named_parameters(), expected, strict=True):
            mine = torch.cat([chunk[name] for chunk in found])[row]
            wanted = torch.zeros_like(parameter) if gradient is None else gradient
            assert torch.allclose(mine, wanted, rtol=1e-4, atol=1e-6 * scale), name
    assert digest_of(model) == before


def test_what_vmap_cannot_take_goes_row_by_row_and_says_so() -> None:
    family, model, rows = text_transformer()
    with pytest.warns(UserWarning, match="row by row"):
        list(row_gradients(losses_of(family), family, model, rows, Run()))
    with pytest.raises(RuntimeError, match="vmap"):
        list(row_gradients(losses_of(family), family, model, rows, Run(), vectorised))


def test_the_rows_add_up_to_the_gradient_of_the_mean(
    digits_work: Work, digits_model: nn.Module
) -> None:
    rows = digits_work.data[Role.TRAIN].select(torch.arange(130))
    family, values = digits_work.recipe.family, losses_of(digits_work.recipe.family)
    mean = mean_gradient(values, family, digits_model, rows, Run(), batch_size=50)
    sums = [
        {name: part.sum(0) for name, part in chunk.items()}
        for chunk in row_gradients(values, family, digits_model, rows, Run(), one_by_one)
    ]
    for name, gradient in mean.items():
        total = torch.stack([part[name] for part in sums]).sum(0) / 130
        assert torch.allclose(gradient, total, atol=1e-6)


def test_a_frozen_parameter_has_no_gradient_and_an_unused_one_has_zeros() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    model[1].bias.requires_grad_(False)
    model.register_parameter("idle", nn.Parameter(torch.ones(3)))
    family = Classifier(classes=10)
    for form in (vectorised, one_by_one):
        [chunk] = row_gradients(losses_of(family), family, model, few(), Run(), form)
        assert set(chunk) == {"1.weight", "idle"}
        assert not chunk["idle"].any()


def test_what_has_no_gradients_is_refused() -> None:
    family, model, rows = with_batch_norm()
    values = losses_of(family)
    empty = rows.select(torch.tensor([], dtype=torch.int64))
    with pytest.raises(ExpungeError, match="no rows"):
        list(row_gradients(values, family, model, empty, Run()))
    with pytest.raises(ExpungeError, match="reads the field 'label'"):
        given = TensorSamples(rows.ids, rows.subjects, {"image": few().columns["image"]})
        list(row_gradients(values, family, model, given, Run()))
    with torch.no_grad():
        model[5].weight.fill_(torch.nan)  # type: ignore[index]
    with pytest.raises(ExpungeError, match="NaN"), warnings.catch_warnings():
        list(row_gradients(values, family, model, rows, Run()))
    with pytest.raises(ExpungeError, match="requires a gradient"):
        list(row_gradients(values, family, model.requires_grad_(False), rows, Run()))
