"""The family of regressors, and the methods that run on it."""

import pytest
import torch
from torch import Tensor, nn

from expunge.aggregation.sum import Sum
from expunge.audit.course import follow
from expunge.audit.measure import Panel, measure
from expunge.changes.weights import parameters_of
from expunge.data.samples import TensorSamples
from expunge.deployment import Deployment
from expunge.descent.optimisers import AdamW
from expunge.errors import ExpungeError
from expunge.families.abilities import (
    HasErrors,
    HasLogits,
    HasLoss,
    HasMargins,
    HasNeutral,
    HasOutputs,
    able,
)
from expunge.families.classifier import Classifier
from expunge.families.regressor import Regressor
from expunge.learning.supervised.plain import Plain
from expunge.methods.fine_tune import FineTune
from expunge.methods.gradient_ascent import GradientAscent
from expunge.methods.gradient_difference import GradientDifference
from expunge.methods.protocol import Method
from expunge.methods.retrain import Retrain
from expunge.recipe import Recipe, Role
from expunge.requests import Request, Rows
from expunge.run import Run
from expunge.signals import mean_absolute_error, root_mean_squared_error
from expunge.signals.ask import ask


def rows(count: int = 6, targets: int = 2) -> TensorSamples:
    generator = torch.Generator().manual_seed(0)
    ids = [f"row {i}" for i in range(count)]
    image = torch.randn(count, 3, generator=generator)
    target = image @ torch.randn(3, targets, generator=generator)
    return TensorSamples(ids, ids, {"image": image, "target": target.squeeze(1)})


def test_the_loss_is_the_squared_error_mean_over_the_targets() -> None:
    batch = rows().columns
    model = nn.Linear(3, 2)
    losses = Regressor().losses(model, batch)
    expected = (model(batch["image"]) - batch["target"]).square().mean(1)
    assert torch.allclose(losses.means(), expected)
    assert losses.values.shape == (6, 1)


@pytest.mark.parametrize("squeezed", [True, False])
def test_one_number_may_come_with_or_without_its_own_dimension(squeezed: bool) -> None:
    class Sum(nn.Module):
        def forward(self, picture: Tensor) -> Tensor:
            return picture.sum(1, keepdim=not squeezed)

    batch = {"image": torch.tensor([[1.0, 2.0], [3.0, 4.0]]), "target": torch.tensor([2.0, 7.0])}
    assert Regressor().outputs(Sum(), batch).tolist() == [[3.0], [7.0]]
    assert Regressor().losses(Sum(), batch).means().tolist() == [1.0, 0.0]
    column = {**batch, "target": batch["target"].unsqueeze(1)}
    assert Regressor().losses(Sum(), column).means().tolist() == [1.0, 0.0]


def test_errors_are_in_the_unit_of_the_user() -> None:
    batch = rows().columns
    model = nn.Linear(3, 2)
    plain = Regressor().errors(model, batch)
    scaled = Regressor(units=(10.0, 0.5)).errors(model, batch)
    assert torch.allclose(scaled, plain * torch.tensor([10.0, 0.5]))
    assert torch.equal(
        Regressor(units=(10.0, 0.5)).losses(model, batch).values,
        Regressor().losses(model, batch).values,
    )


def test_another_number_of_targets_is_refused_and_not_broadcast() -> None:
    batch = rows(targets=1).columns
    with pytest.raises(ExpungeError, match="2 numbers each and the table has 1 target columns"):
        Regressor().losses(nn.Linear(3, 2), batch)
    with pytest.raises(ExpungeError, match=r"numbers of shape \(6, 3, 1\)"):
        Regressor().losses(nn.Unflatten(1, (3, 1)), batch)


def test_units_for_another_number_of_targets_are_refused() -> None:
    with pytest.raises(ExpungeError, match="2 units and 1 target"):
        Regressor(units=(1.0, 2.0)).errors(nn.Linear(3, 1), rows(targets=1).columns)


def test_it_has_no_classes_and_so_neither_margins_nor_neutral_targets() -> None:
    family = Regressor()
    assert all(isinstance(family, ability) for ability in (HasLoss, HasOutputs, HasErrors))
    for lacking in (HasLogits, HasMargins, HasNeutral):
        with pytest.raises(ExpungeError, match=f"'regressor' lacks {lacking.__name__}"):
            able(family, lacking)


def test_several_fields_are_passed_by_their_names_and_one_by_its_place() -> None:
    class Two(nn.Module):
        def forward(self, *, second: Tensor, first: Tensor) -> Tensor:
            return first - second

    batch = {"first": torch.tensor([[3.0]]), "second": torch.tensor([[1.0]])}
    wanted = {**batch, "target": torch.tensor([2.0]), "label": torch.tensor([0])}
    assert float(Regressor(("second", "first")).losses(Two(), wanted).mean()) == 0.0
    assert Classifier(("second", "first")).logits(Two(), wanted).tolist() == [[2.0]]
    assert Classifier(("first",)).logits(nn.Identity(), wanted).tolist() == [[3.0]]


def test_signals_of_numbers_are_their_errors() -> None:
    samples = TensorSamples(
        ["a", "b"],
        ["x", "x"],
        {"image": torch.tensor([[1.0, 2.0], [3.0, 9.0]]), "target": torch.tensor([[0.0, 4.0]] * 2)},
    )
    found = ask(Regressor(), nn.Identity(), samples, Run())
    assert found.query("absolute error").tolist() == [[1.5, 4.0]]
    assert found.query("squared error").tolist() == [[2.5, 17.0]]
    assert mean_absolute_error(found).tolist() == [2.75]
    assert root_mean_squared_error(found).tolist() == pytest.approx([9.75**0.5])
    diverged = nn.Linear(2, 2)
    nn.init.constant_(diverged.weight, float("nan"))
    with pytest.raises(ExpungeError, match="NaN or infinite errors"):
        ask(Regressor(), diverged, samples, Run())


def test_a_panel_is_scored_with_the_mean_absolute_error() -> None:
    samples = rows(4, targets=1)
    table = {"id": list(samples.ids), "subject": ["a", "a", "b", "c"]}

    class Table(dict[str, list[str]]):
        column_names = ("id", "subject")

        def __len__(self) -> int:
            return 4

    request = Request("a", Rows("subject", ("a",)))
    panel = Panel.of(samples, Table(table), [request])  # type: ignore[arg-type]
    zero = nn.Linear(3, 1)
    for parameter in zero.parameters():
        nn.init.zeros_(parameter)
    found = measure(Regressor(), zero, panel, Run())
    distances = samples.columns["target"].abs()
    assert float(found.requests[0]) == pytest.approx(float(distances[:2].mean()))
    assert found.retained == pytest.approx(float(distances[2:].mean()))
    assert (found.metric.name, found.metric.direction) == ("mean absolute error", "lower")
    assert found.confidence.isnan().all()
    low, high = found.retained_interval().low, found.retained_interval().high
    assert low <= found.retained <= high


@pytest.fixture(scope="module")
def trained() -> tuple[Recipe, TensorSamples, nn.Module]:
    """A network that has learned by heart what each row, one of four people's, is worth."""
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(80, 6, generator=generator)
    people = [f"person {i % 4}" for i in range(80)]
    own = torch.tensor([0.0, 0.0, 0.0, 3.0])[torch.arange(80) % 4]
    image[:, 0] = torch.arange(80) % 4 == 3
    target = image[:, 1] + own
    ids = [str(i) for i in range(80)]
    samples = TensorSamples(ids, people, {"image": image, "target": target})

    def build(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 1))

    recipe = Recipe(build, Regressor(), Plain(60, 16, AdamW(1e-2)))
    return recipe, samples, recipe.make({Role.TRAIN: samples}, Run()).model


METHODS = [
    GradientAscent(epochs=4, learning_rate=1e-2),
    GradientDifference(epochs=10, learning_rate=3e-3, forget_weight=0.05),
    FineTune(epochs=3, learning_rate=1e-2),
    Retrain(),
]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_a_person_s_numbers_are_forgotten(
    method: Method, trained: tuple[Recipe, TensorSamples, nn.Module]
) -> None:
    recipe, samples, model = trained

    class Table(dict[str, list[str]]):
        column_names = ("id", "subject")

        def __len__(self) -> int:
            return len(samples)

    table = Table(id=list(samples.ids), subject=list(samples.subjects))
    request = Request("one", Rows("subject", ("person 3",)))
    panel = Panel.of(samples, table, [request])  # type: ignore[arg-type]
    deployment = Deployment(model, Regressor(), samples, table, Sum(), recipe=recipe)  # type: ignore[arg-type]
    course = follow(deployment, [request], method, panel, Run())
    assert course.before.requests[0] < 0.2
    assert course.final.requests[0] > 1.5 * course.before.requests[0]
    matrix = course.matrix()
    assert matrix.before[0] == -float(course.before.requests[0].double())  # performance: higher
    assert matrix.after[0, 0] < matrix.before[0]


def test_the_blocks_divide_the_parameters() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
    anatomy = Regressor().anatomy(model)
    assert [n for names in anatomy.blocks.values() for n in names] == list(parameters_of(model))
    assert anatomy.head == ("1.weight", "1.bias")
