"""What can be switched off in a deployed model, and that the model underneath comes out."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

from expunge.attacks import switchable, switched_off
from expunge.benchmarks.shipped import Work
from expunge.models.digits_dual import DigitsDualEncoder
from expunge.models.mlp import Mlp

FORGOTTEN = 3


class Around(nn.Module):
    """Holds a model as a child ``model``."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model


class Refusal(Around):
    """A guard that never answers with one class."""

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images).clone()
        logits[:, FORGOTTEN] = -1e4
        return logits


class Masked(Around):
    """The same without an assignment, so that its graph can be drawn."""

    def forward(self, images: Tensor) -> Tensor:
        penalty = 1e4 * nn.functional.one_hot(torch.tensor(FORGOTTEN), 10)
        logits: Tensor = self.model(images) - penalty
        return logits


class Detecting(Around):
    """A guard with a detector beside the model."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.detector = nn.Linear(64, 1)

    def forward(self, images: Tensor) -> Tensor:
        found = self.detector(images.flatten(1)) > 0
        logits: Tensor = self.model(images).masked_fill(found, 0.0)
        return logits


class Choosing(nn.Module):
    """A guard that asks its detector first, and says what it guards."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.detector, self.guarded = nn.Linear(64, 1), model

    def forward(self, images: Tensor) -> Tensor:
        if self.detector(images.flatten(1)).abs().mean() > 0:
            return torch.zeros(len(images), 10)
        logits: Tensor = self.guarded(images)
        return logits


class Branch(nn.Module):
    """A low-rank branch of two layers beside one."""

    def __init__(self, layer: nn.Linear, rank: int = 4) -> None:
        super().__init__()
        self.layer = layer
        self.down = nn.Linear(layer.in_features, rank, bias=False)
        self.up = nn.Linear(rank, layer.out_features, bias=False)

    def forward(self, values: Tensor) -> Tensor:
        changed: Tensor = self.layer(values) + self.up(self.down(values))
        return changed


class Lora(nn.Linear):
    """A layer with the two matrices of a branch as parameters of its own."""

    def __init__(self, layer: nn.Linear, rank: int = 4) -> None:
        super().__init__(layer.in_features, layer.out_features)
        self.weight, self.bias = layer.weight, layer.bias
        self.down = nn.Parameter(torch.randn(rank, layer.in_features))
        self.up = nn.Parameter(torch.randn(layer.out_features, rank))

    def forward(self, values: Tensor) -> Tensor:
        return super().forward(values) + values @ self.down.T @ self.up.T


class Product(nn.Module):
    """A parametrisation that adds a low-rank product to a weight."""

    def __init__(self, outputs: int, inputs: int) -> None:
        super().__init__()
        self.up, self.down = (
            nn.Parameter(torch.ones(outputs, 1)),
            nn.Parameter(torch.ones(1, inputs)),
        )

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.up @ self.down


class Adapted(nn.Module):
    """An adapter under the name that libraries give the layer, of a form of its own."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.base_layer, self.scale = layer, nn.Parameter(torch.zeros(layer.out_features))

    def forward(self, values: Tensor) -> Tensor:
        scaled: Tensor = self.base_layer(values) * self.scale
        return scaled


def hooked(model: Mlp) -> nn.Module:
    model.layers[5].register_forward_hook(lambda module, inputs, answer: answer * 0)
    return model


def hooked_before(model: Mlp) -> nn.Module:
    model.register_forward_pre_hook(lambda module, inputs: (inputs[0] * 0,))
    return model


def hooked_and_watched(model: Mlp) -> nn.Module:
    """The hook holds an answer with its graph, which cannot be copied."""
    held: list[Tensor] = []

    class Watch:
        def __init__(self) -> None:
            self.held = held

        def __call__(self, module: nn.Module, inputs: object, answer: Tensor) -> Tensor:
            self.held.append(answer)
            return -answer

    model.layers[3].register_forward_hook(Watch())
    model(torch.ones(1, 8, 8))
    return model


def branched(model: Mlp) -> nn.Module:
    layer = model.layers[3]
    assert isinstance(layer, nn.Linear)
    model.layers[3] = Branch(layer)
    return model


def lora(model: Mlp) -> nn.Module:
    layer = model.layers[3]
    assert isinstance(layer, nn.Linear)
    model.layers[3] = Lora(layer)
    return model


def adapted(model: Mlp) -> nn.Module:
    layer = model.layers[3]
    assert isinstance(layer, nn.Linear)
    model.layers[3] = Adapted(layer)
    return model


def parametrised(model: Mlp) -> nn.Module:
    parametrize.register_parametrization(model.layers[1], "weight", Product(96, 64))
    return model


def pruned(model: Mlp) -> nn.Module:
    prune.l1_unstructured(model.layers[1], "weight", amount=0.9)  # type: ignore[no-untyped-call]
    return model


def replaced(model: Mlp) -> nn.Module:
    model.forward = lambda images: torch.zeros(len(images), 10)  # type: ignore[method-assign]
    return model


def everything(model: Mlp) -> nn.Module:
    return Refusal(Masked(hooked(copy.deepcopy(branched(model)))))  # type: ignore[arg-type]


EDITED: dict[str, tuple[Callable[[Mlp], nn.Module], tuple[str, ...]]] = {
    "a guard": (Refusal, ("wrapper Refusal",)),
    "a guard with a graph": (Masked, ("wrapper Masked",)),
    "a guard with a detector": (Detecting, ("wrapper Detecting",)),
    "a guard that chooses": (Choosing, ("wrapper Choosing",)),
    "a hook": (hooked, ("forward hook on layers.5",)),
    "a hook on the inputs": (hooked_before, ("forward pre hook",)),
    "a hook that cannot be copied": (hooked_and_watched, ("forward hook on layers.3",)),
    "a branch": (branched, ("low-rank branch on layers.3",)),
    "a layer with a branch": (lora, ("low-rank branch on layers.3",)),
    "an adapter by name": (adapted, ("adapter on layers.3",)),
    "a parametrisation": (parametrised, ("parametrisation on layers.1.weight",)),
    "a mask": (pruned, ("mask on layers.1.weight",)),
    "a forward method": (replaced, ("forward method",)),
    "several": (
        everything,
        (
            "forward hook on model.model.layers.5",
            "wrapper Refusal",
            "wrapper Masked on model",
            "low-rank branch on model.model.layers.3",
        ),
    ),
}


@pytest.fixture(scope="module")
def images(digits_work: Work) -> Tensor:
    return digits_work.test.batch(torch.arange(200), {"image"})["image"]


@pytest.mark.parametrize("name", EDITED)
def test_what_stands_around_the_weights_is_named_and_the_model_underneath_comes_out(
    name: str, digits_model: nn.Module, images: Tensor
) -> None:
    edit, names = EDITED[name]
    under = copy.deepcopy(digits_model)
    assert isinstance(under, Mlp)
    torch.manual_seed(0)
    deployed = edit(under)
    with torch.no_grad():
        served, true = deployed(images), digits_model(images)
        assert not torch.equal(served, true)
        assert switchable(deployed) == names
        bare = switched_off(deployed)
        assert torch.equal(bare(images), true)
        assert torch.equal(deployed(images), served)
    assert switchable(bare) == ()
    assert not {id(p) for p in bare.parameters()} & {id(p) for p in deployed.parameters()}
    assert {n: t.shape for n, t in bare.state_dict().items()} == {
        n: t.shape for n, t in digits_model.state_dict().items()
    }


class Reshaping(Around):
    """A plain model that calls its one child ``model``."""

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images.flatten(1))
        return logits


class Trunk(nn.Module):
    """A head on a trunk that is called ``base``."""

    def __init__(self) -> None:
        super().__init__()
        self.base, self.head = nn.Linear(64, 16), nn.Linear(16, 10)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.base(images.flatten(1)).relu())
        return logits


class Bottleneck(nn.Module):
    """Layers without biases one after another, of the sizes of a branch."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(64, 64, bias=False)
        self.second, self.third = nn.Linear(64, 8, bias=False), nn.Linear(8, 64, bias=False)

    def forward(self, values: Tensor) -> Tensor:
        found: Tensor = self.third(self.second(self.first(values)))
        return found


PLAIN: dict[str, Callable[[], nn.Module]] = {
    "the digits classifier": lambda: Mlp(torch.Generator()),
    "one child and more than a call": lambda: DigitsDualEncoder(torch.Generator()),
    "a child called model": lambda: Reshaping(nn.Linear(64, 10)),
    "a head on a trunk": Trunk,
    "layers like a branch": Bottleneck,
    "attention": lambda: nn.TransformerEncoderLayer(16, 2, 32),
    "weight norm": lambda: parametrizations.weight_norm(nn.Linear(64, 10)),
    "spectral norm": lambda: nn.Sequential(nn.utils.spectral_norm(nn.Linear(64, 10))),
}


@pytest.mark.parametrize("name", PLAIN)
def test_plain_weights_have_nothing_to_switch_off(name: str) -> None:
    model = PLAIN[name]()
    assert switchable(model) == ()
    assert list(switched_off(model).state_dict()) == list(model.state_dict())


def test_a_layer_that_is_used_twice_stays_one() -> None:
    branch = Branch(nn.Linear(64, 64))
    bare = switched_off(nn.Sequential(branch, nn.ReLU(), branch))
    assert isinstance(bare, nn.Sequential)
    assert isinstance(bare[0], nn.Linear)
    assert bare[0] is bare[2]
