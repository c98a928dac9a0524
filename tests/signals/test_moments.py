"""Second moments of inputs: of every layer whose weight is a matrix, over what it reads."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from expunge.data.samples import TensorSamples
from expunge.errors import ExpungeError
from expunge.families.classifier import Classifier
from expunge.models.efficientnet_lite import Convolution
from expunge.run import Run
from expunge.signals.moments import as_matrix, input_moments

GENERATOR = torch.Generator().manual_seed(0)


def rows(count: int = 7) -> TensorSamples:
    pictures = torch.randn(count, 3, 6, 6, generator=GENERATOR)
    labels = torch.arange(count) % 4
    names = [str(i) for i in range(count)]
    return TensorSamples(names, names, {"image": pictures, "label": labels})


def added(layer: nn.Module, given: Tensor, change: Tensor) -> Tensor:
    """What a change of the weight adds to the answers of a layer."""
    before = layer(given)
    with torch.no_grad():
        layer.get_parameter("weight").add_(change)
    after: Tensor = layer(given) - before
    with torch.no_grad():
        layer.get_parameter("weight").sub_(change)
    return after


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(3, 5, 3, padding=1),
        nn.Conv2d(3, 5, 3, stride=2, padding=2, padding_mode="reflect"),
        nn.Conv2d(3, 5, (2, 3), padding="same"),
        nn.Conv2d(3, 5, 1),
        nn.Conv2d(3, 5, 3, dilation=2),
    ],
    ids=["3x3", "reflected, in steps of two", "same", "1x1", "dilated"],
)
def test_the_moments_of_a_convolution_say_what_a_change_of_it_adds(layer: nn.Conv2d) -> None:
    model = nn.Sequential(layer, nn.Flatten(), nn.LazyLinear(4))
    samples = rows()
    model(samples.columns["image"])
    moments = input_moments(Classifier(classes=4), model, samples, Run(), batch_size=3)
    change = torch.randn(layer.weight.shape, generator=GENERATOR)
    with torch.no_grad():
        square = added(layer, samples.columns["image"], change).square().sum(1).mean()
    matrix = as_matrix(change)
    assert float(square) == pytest.approx(
        float((matrix @ moments["0.weight"] @ matrix.T).trace()), rel=1e-4
    )


def test_one_by_one_filters_of_any_layer_are_matrices_and_filters_of_one_channel_are_not() -> None:
    model = nn.Sequential(
        Convolution(3, 6), Convolution(6, 6, 3, groups=6), nn.Flatten(), nn.LazyLinear(4)
    )
    samples = rows()
    model(samples.columns["image"])
    moments = input_moments(Classifier(classes=4), model, samples, Run())
    pixels = samples.columns["image"].permute(0, 2, 3, 1).reshape(-1, 3)
    assert set(moments) == {"0.weight", "3.weight"}
    torch.testing.assert_close(moments["0.weight"], pixels.T @ pixels / len(pixels))


def test_a_linear_layer_is_read_at_every_position_and_batches_do_not_matter() -> None:
    class Positions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.outer = nn.Linear(6, 5), nn.Linear(5, 4)

        def forward(self, image: Tensor) -> Tensor:
            found: Tensor = self.outer(self.inner(image).relu().mean((1, 2)))
            return found

    model, samples = Positions(), rows()
    one, many = (
        input_moments(Classifier(classes=4), model, samples, Run(), size) for size in (2, 64)
    )
    read = samples.columns["image"].reshape(-1, 6)
    torch.testing.assert_close(many["inner.weight"], read.T @ read / len(read))
    torch.testing.assert_close(one["outer.weight"], many["outer.weight"])


def test_frozen_and_shared_weights_are_left_out_and_the_model_stays_as_it_is() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(108, 108, bias=False), nn.Linear(108, 108)
            self.second.weight = self.first.weight
            self.frozen, self.last = nn.Linear(108, 8), nn.Linear(8, 4)
            self.frozen.requires_grad_(False)

        def forward(self, image: Tensor) -> Tensor:
            shown = F.relu(self.second(self.first(image.flatten(1))))
            found: Tensor = self.last(self.frozen(shown))
            return found

    model = Tied().train()
    assert set(input_moments(Classifier(classes=4), model, rows(), Run())) == {"last.weight"}
    assert model.training
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_a_model_without_a_matrix_that_moves_and_no_rows_are_told() -> None:
    frozen = nn.Sequential(nn.Flatten(), nn.Linear(108, 4)).requires_grad_(False)
    with pytest.raises(ExpungeError, match="No weight matrix of Sequential"):
        input_moments(Classifier(classes=4), frozen, rows(), Run())
    with pytest.raises(ExpungeError, match="at least one row"):
        input_moments(
            Classifier(classes=4), frozen, rows().select(torch.tensor([], dtype=torch.long)), Run()
        )
