"""The U-Net that predicts noise: an architecture of ``diffusers``, drawn by its seed alone."""

import pytest
import torch

from expunge.changes.weights import digest_of
from expunge.data import digits
from expunge.errors import ExpungeError
from expunge.families.score import Score
from expunge.models.denoisers import ScoreUNet


def test_a_seed_fixes_the_weights_and_leaves_the_global_numbers_alone() -> None:
    state = torch.random.get_rng_state()
    one, same, other = (ScoreUNet()(seed) for seed in (0, 0, 1))
    assert digest_of(one) == digest_of(same) != digest_of(other)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("shape", [ScoreUNet(), ScoreUNet((3, 16, 16), (8, 16, 16))])
def test_it_answers_pictures_with_noise_of_their_shape_and_every_weight_moves(
    shape: ScoreUNet,
) -> None:
    images = digits.tensors(digits.load("test"))["image"][:4]
    channels, side, _ = shape.shape
    images = images.expand(-1, channels, -1, -1).repeat(1, 1, side // 8, side // 8)
    model, family = shape(0), Score()
    batch = family.draw({"image": images}, torch.Generator().manual_seed(0))
    losses = family.losses(model, batch).values
    assert losses.shape == (4, images[0].numel())
    named = dict(model.named_parameters())
    gradients = torch.autograd.grad(losses.mean(), list(named.values()))
    for name, gradient in zip(named, gradients, strict=True):
        assert bool((gradient != 0).any()), name


def test_its_blocks_are_found_and_a_picture_of_another_depth_is_refused() -> None:
    model = ScoreUNet()(0)
    anatomy = Score().anatomy(model)
    assert len(anatomy.blocks) > 4
    assert sum(len(names) for names in anatomy.blocks.values()) == len(list(model.parameters()))
    with pytest.raises(RuntimeError, match="channels"):
        model(torch.zeros(2, 3, 8, 8), torch.zeros(2))


@pytest.mark.parametrize("wrong", [
    {"shape": (1, 9, 8)}, {"widths": (12, 32)}, {"widths": ()},
    {"shape": (1, 6, 6), "widths": (8, 8, 8)},
])  # fmt: skip
def test_sides_and_widths_that_do_not_divide_are_said(wrong: dict[str, object]) -> None:
    with pytest.raises(ExpungeError, match="multiple"):
        ScoreUNet(**wrong)  # type: ignore[arg-type]
