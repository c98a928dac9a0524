"""Quantised weights: their levels, what is left alone, and what it costs on the digits."""

import pytest
import torch
from torch import Tensor, nn

from expunge.attacks import quantised
from expunge.benchmarks.shipped import Work
from expunge.changes.weights import digest_of
from expunge.errors import ExpungeError
from expunge.run import Run
from expunge.signals import accuracy
from expunge.signals.ask import ask


def levels(channel: Tensor, bits: int) -> Tensor:
    """The weights of one channel in units of its largest level."""
    values = channel.double()
    largest: int = 2 ** (bits - 1) - 1
    return values * largest / values.abs().max()


def test_eight_bits_cost_less_than_a_point_of_accuracy(
    digits_work: Work, digits_model: nn.Module
) -> None:
    def right(model: nn.Module) -> float:
        return float(accuracy(ask(digits_work.recipe.family, model, digits_work.test, Run()))[0])

    assert abs(right(digits_model) - right(quantised(digits_model, 8))) < 0.01


@pytest.mark.parametrize("bits", [8, 4])
def test_every_channel_has_whole_levels_and_keeps_its_largest_weight(
    bits: int, digits_model: nn.Module
) -> None:
    rounded = dict(quantised(digits_model, bits).named_parameters())
    for name, weight in digits_model.named_parameters():
        if weight.dim() < 2:
            assert torch.equal(rounded[name], weight)
            continue
        assert not torch.equal(rounded[name], weight)
        for before, after in zip(weight.detach(), rounded[name].detach(), strict=True):
            at = levels(after, bits)
            torch.testing.assert_close(at, at.round(), atol=1e-4, rtol=0)
            assert len(after.unique()) <= 2**bits - 1
            torch.testing.assert_close(after.abs().max(), before.abs().max())
            step = before.abs().max() / (2 ** (bits - 1) - 1)
            assert (after - before).abs().max() <= step / 2 + 1e-6


def test_the_sign_of_all_weights_turns_the_sign_of_all_levels() -> None:
    layer, turned = nn.Linear(30, 5), nn.Linear(30, 5)
    with torch.no_grad():
        turned.weight.copy_(-layer.weight)
    one, other = (quantised(each, 4).get_parameter("weight") for each in (layer, turned))
    assert torch.equal(one, -other)


def test_changes_below_half_a_level_are_undone() -> None:
    weight = quantised(nn.Linear(40, 6), 4).get_parameter("weight").detach()
    level = weight.abs().amax(1, keepdim=True) / 7
    edited = nn.Linear(40, 6)
    with torch.no_grad():
        drawn = torch.rand(weight.shape, generator=torch.Generator().manual_seed(0)) - 0.5
        largest = weight.abs() == weight.abs().amax(1, keepdim=True)
        edited.weight.copy_(weight + (0.9 * level * drawn).masked_fill(largest, 0))
    assert not torch.equal(edited.weight, weight)
    torch.testing.assert_close(quantised(edited, 4).get_parameter("weight").detach(), weight)


class Tied(nn.Module):
    """An embedding whose weight is the head's too, norms of one and of two dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 4)
        self.norm = nn.LayerNorm((3, 4))
        self.batch = nn.BatchNorm1d(3)
        self.head = nn.Linear(4, 7, bias=False)
        self.head.weight = self.embedding.weight


def test_tied_weights_stay_tied_and_norms_stay_as_they_are() -> None:
    model = Tied()
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    before = digest_of(model)
    rounded = quantised(model, 4)
    assert isinstance(rounded, Tied)
    assert rounded.head.weight is rounded.embedding.weight
    assert not torch.equal(rounded.head.weight, model.head.weight)
    for norm in ("norm", "batch"):
        own = rounded.get_submodule(norm).state_dict()
        assert all(
            torch.equal(t, own[n]) for n, t in model.get_submodule(norm).state_dict().items()
        )
    assert digest_of(model) == before


def test_a_transposed_convolution_has_its_output_channels_on_the_second_axis() -> None:
    weight = quantised(nn.ConvTranspose2d(8, 2, 5), 4).get_parameter("weight")
    for channel in weight.detach().unbind(1):
        at = levels(channel, 4)
        torch.testing.assert_close(at, at.round(), atol=1e-4, rtol=0)


def test_a_channel_of_zeros_stays_zero() -> None:
    layer = nn.Linear(3, 2)
    nn.init.zeros_(layer.weight)
    assert torch.equal(quantised(layer, 8).get_parameter("weight"), layer.weight)


def test_other_widths_and_weights_that_are_not_finite_are_refused() -> None:
    for bits in (1, 32):
        with pytest.raises(ExpungeError, match=f"{bits} bits"):
            quantised(nn.Linear(2, 2), bits)
    broken = nn.Linear(2, 2)
    nn.init.constant_(broken.weight, float("nan"))
    with pytest.raises(ExpungeError, match="'weight' is not finite"):
        quantised(broken, 8)
