"""ResNet-18 and the vision transformer: sizes, shapes, anatomy, and that they learn the digits."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from expunge.changes.weights import buffers_of, digest_of, parameters_of
from expunge.data import digits, own
from expunge.descent.optimisers import AdamW
from expunge.errors import ExpungeError
from expunge.families.classifier import Classifier
from expunge.learning.supervised.plain import Plain
from expunge.models.normalisation import Normalisation
from expunge.models.resnet import ResNet18
from expunge.models.vit import VisionTransformer
from expunge.recipe import Recipe, Role
from expunge.run import Run
from expunge.signals import accuracy
from expunge.signals.ask import ask


def seed(number: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def size(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def small_resnet(number: int) -> nn.Module:
    return ResNet18(seed(number), width=4, channels=1)


def small_vit(number: int) -> nn.Module:
    return VisionTransformer(seed(number), 8, depth=2, width=32, heads=2, patch=2, channels=1)


SMALL = {"resnet": small_resnet, "vit": small_vit}
each_model = pytest.mark.parametrize("build", SMALL.values(), ids=SMALL)
Builder = Callable[[int], nn.Module]


@pytest.mark.parametrize(
    ("width", "parameters"), [(64, 11_173_962), (32, 2_797_610), (16, 701_466)]
)
def test_resnet_18_has_the_published_number_of_parameters(width: int, parameters: int) -> None:
    with torch.device("meta"):
        model = ResNet18(seed(), width)
    assert size(model) == parameters


@pytest.mark.parametrize(("depth", "parameters"), [(12, 5_362_762), (6, 2_693_578)])
def test_vit_tiny_has_the_published_number_of_parameters(depth: int, parameters: int) -> None:
    with torch.device("meta"):
        model = VisionTransformer(seed(), depth=depth)
    assert size(model) == parameters


@pytest.mark.parametrize(("channels", "side"), [(1, 8), (1, 28), (3, 32), (4, 64)])
def test_pictures_of_any_size_and_channels_become_logits(channels: int, side: int) -> None:
    pictures = torch.rand(2, channels, side, side, generator=seed())
    resnet = ResNet18(seed(), 4, channels, classes=7)
    vit = VisionTransformer(seed(), side, 1, 12, 3, channels=channels, classes=7)
    assert resnet(pictures).shape == vit(pictures).shape == (2, 7)


def test_the_stages_of_a_resnet_halve_the_side_and_double_the_channels() -> None:
    model, features = ResNet18(seed(), 4).eval(), torch.rand(1, 3, 32, 32, generator=seed())
    shapes = {}
    for name, part in model.named_children():
        features = part(features)
        shapes[name] = tuple(features.shape[1:])
    assert shapes["stem"] == shapes["stage1"] == (4, 32, 32)
    assert shapes["stage2"] == (8, 16, 16)
    assert shapes["stage4"] == (32, 4, 4)


@each_model
def test_blocks_stand_in_forward_order_and_the_head_is_the_last_layer(build: Builder) -> None:
    model, entered = build(0), []
    for name, part in model.named_children():
        part.register_forward_hook(lambda *_, name=name: entered.append(name))
    model(torch.rand(2, 1, 8, 8))
    anatomy = Classifier().anatomy(model)
    assert list(anatomy.blocks) == [n for n in entered if n in anatomy.blocks]
    assert anatomy.head == ("head.weight", "head.bias")
    assert {n for names in anatomy.blocks.values() for n in names} == set(parameters_of(model))
    assert set(anatomy.buffers) == set(buffers_of(model))


def test_pictures_are_normalised_inside_the_model() -> None:
    means, deviations = (0.1, 0.2, 0.3), (0.5, 1.0, 2.0)
    pictures = torch.rand(2, 3, 8, 8, generator=seed())
    raw = ResNet18(seed(), 4, means=means, deviations=deviations).eval()
    scaled = ResNet18(seed(), 4, means=(0.0,), deviations=(1.0,)).eval()
    by_hand = (pictures - torch.tensor(means).view(1, 3, 1, 1)) / torch.tensor(deviations).view(
        1, 3, 1, 1
    )
    assert torch.equal(raw(pictures), scaled(by_hand))
    assert {"normalisation.means", "normalisation.deviations"} <= set(raw.state_dict())


@each_model
def test_the_seed_draws_every_weight(build: Builder) -> None:
    assert digest_of(build(3)) == digest_of(build(3)) != digest_of(build(4))
    ones, others = parameters_of(build(3)), parameters_of(build(4))
    for name, tensor in ones.items():
        constant = tensor.numel() > 1 and bool((tensor == tensor.flatten()[0]).all())  # norms
        assert constant or not torch.equal(tensor, others[name])


@each_model
def test_a_row_does_not_see_the_other_rows_in_evaluation(build: Builder) -> None:
    model, pictures = build(0).eval(), torch.rand(3, 1, 8, 8, generator=seed())
    alone = torch.cat([model(picture.unsqueeze(0)) for picture in pictures])
    assert torch.allclose(model(pictures), alone, atol=1e-6)


@each_model
def test_gradients_of_single_samples_can_be_vectorised(build: Builder) -> None:
    model, pictures = build(0).eval(), torch.rand(3, 1, 8, 8, generator=seed())
    weights = {n: p.detach() for n, p in model.named_parameters()}
    buffers = dict(model.named_buffers())

    def loss(weights: dict[str, Tensor], picture: Tensor) -> Tensor:
        logits: Tensor = functional_call(model, (weights, buffers), (picture.unsqueeze(0),))
        return -logits.log_softmax(1)[0, 3]

    together = vmap(grad(loss), in_dims=(None, 0))(weights, pictures)
    for row, picture in enumerate(pictures):
        for name, gradient in grad(loss)(weights, picture).items():
            assert torch.allclose(together[name][row], gradient, atol=1e-5)


@pytest.mark.parametrize(
    ("build", "learner"),
    [(small_resnet, Plain(3, 64, AdamW(4e-3))), (small_vit, Plain(8, 64, AdamW(4e-3)))],
    ids=SMALL,
)
def test_they_learn_the_digits(build: Builder, learner: Plain) -> None:
    train, test = (own.samples(t, digits.tensors(t)) for t in map(digits.load, ("train", "test")))
    family = Classifier(classes=10)
    model = Recipe(build, family, learner, 0).make({Role.TRAIN: train}, Run()).model
    assert float(accuracy(ask(family, model, test, Run()))[0]) > 0.7  # 0.1 by chance


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: ResNet18(seed(), 0), "width 0 was asked for; 1 is the least"),
        (lambda: VisionTransformer(seed(), 30), "side must be a multiple of patch"),
        (lambda: VisionTransformer(seed(), width=64), "width must be a multiple of heads"),
        (lambda: VisionTransformer(seed(), depth=0), "depth 0 was asked for"),
        (lambda: Normalisation(3, (0.1, 0.2), (1.0,)), "2 means were given for .* 3 channels"),
        (lambda: Normalisation(1, (0.0,), (0.0,)), "numbers above 0"),
    ],
)
def test_sizes_that_cannot_be_are_said(make: Callable[[], nn.Module], sentence: str) -> None:
    with pytest.raises(ExpungeError, match=sentence):
        make()
