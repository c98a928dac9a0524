"""What a mask holds keeps every bit, and a pruned model is not regrown by any step."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from expunge.changes.history import History
from expunge.changes.weights import digest_of
from expunge.data import digits
from expunge.data.samples import Batch, Samples, TensorSamples
from expunge.descent.forget_terms import NeutralTargets
from expunge.descent.holding import Held, within
from expunge.descent.length import Epochs, Steps
from expunge.descent.loop import Descent
from expunge.descent.optimisers import SGD, AdamW, Optimiser
from expunge.descent.player import Matching, Parameters, Player, Setting, Trainable
from expunge.descent.retain_terms import Loss
from expunge.descent.selections import Saliency
from expunge.families.classifier import Classifier
from expunge.models.resnet import ResNet18
from expunge.models.vit import VisionTransformer
from expunge.problem import Problem
from expunge.recipe import Role
from expunge.requests import NO_REQUEST
from expunge.run import Run

ODD = [0.0, -0.0, float("nan"), float("inf"), float("-inf"), 1e-44, 3.5, -2.0]
"""Values that arithmetic with zeros and ones would not bring back."""


def rows() -> Samples:
    table = digits.load("validation")
    return TensorSamples(table["id"], table["subject"], digits.tensors(table)).select(
        torch.arange(96)
    )


def problem(model: nn.Module, support: Mapping[str, Tensor] | None = None) -> Problem:
    data = {Role.FORGET: rows().select(torch.arange(32)), Role.RETAIN: rows()}
    family = Classifier(classes=10)
    return Problem(model, family, NO_REQUEST, data, History(), support=support or {})


def mlp() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 20), nn.ReLU(), nn.Linear(20, 10))


def models() -> dict[str, nn.Module]:
    generator = torch.Generator().manual_seed(0)
    return {
        "mlp": mlp(),
        "cnn, channels last": ResNet18(generator, 4, 1).to(memory_format=torch.channels_last),  # type: ignore[call-overload]
        "vit": VisionTransformer(generator, 8, 1, 12, 3, 2, 1),
    }


def halves(model: nn.Module) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(7)
    return {n: torch.rand(p.shape, generator=generator) < 0.5 for n, p in model.named_parameters()}


@dataclass(frozen=True)
class Given:
    """Every parameter under given masks."""

    share: float

    def select(self, module: nn.Module, problem: Problem, run: Run) -> Mapping[str, Tensor | None]:
        masks = halves(module)
        if self.share == 1:
            return {n: torch.ones_like(m) for n, m in masks.items()}
        return dict(masks)


def descent(
    parameters: Parameters | None = None, optimiser: Optimiser | None = None, holds: bool = True
) -> Descent:
    player = Player(
        forget=NeutralTargets(),
        retain=Loss(),
        parameters=parameters or Trainable(),
        optimiser=optimiser or SGD(0.1, 0.9, 0.01, nesterov=True),
        holds=holds,
    )
    return Descent(player, length=Epochs(2), batch_size=16)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_held_entries_keep_their_bits_whatever_they_are(dtype: torch.dtype) -> None:
    weight = torch.tensor(ODD, dtype=dtype)
    mask = torch.tensor([False, True] * 4)
    bits = weight.view(torch.uint8).reshape(8, -1).clone()
    held = Held(mask, weight)
    for step in (1.0, 2.0):
        held.keep(weight)
        weight.fill_(step)
        held.restore(weight)
        assert torch.equal(weight.view(torch.uint8).reshape(8, -1)[~mask], bits[~mask])
        assert weight[mask].tolist() == [step] * 4


def test_the_gradient_of_held_entries_is_zero_even_where_it_is_no_number() -> None:
    gradient = torch.tensor(ODD)
    cut = Held(torch.arange(8) < 2, gradient).cut(gradient)
    assert cut.tolist() == [0.0] * 8
    assert bool(cut[1].signbit())  # -0.0 went through as it was
    expanded = torch.ones(()).expand(3, 2)
    assert Held(torch.eye(3, 2).bool(), expanded).cut(expanded).tolist() == torch.eye(3, 2).tolist()


@pytest.mark.parametrize("name", list(models()))
@pytest.mark.parametrize("holds", [True, False])
def test_a_mask_of_ones_is_no_mask_to_the_last_bit(name: str, holds: bool) -> None:
    ends = {
        digest_of(descent(each, holds=holds).minimise(problem(models()[name]), Run()).model)
        for each in (Trainable(), Given(1.0))
    }
    assert len(ends) == 1


@pytest.mark.parametrize("optimiser", [SGD(0.1, 0.9, 0.1, nesterov=True), AdamW(0.01)])
@pytest.mark.parametrize("name", list(models()))
def test_a_mask_holds_its_entries_on_every_network(name: str, optimiser: Optimiser) -> None:
    model = models()[name]
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    after = descent(Given(0.5), optimiser).minimise(problem(model), Run()).model
    masks = halves(model)
    for parameter_name, parameter in after.named_parameters():
        mask, old = masks[parameter_name], before[parameter_name]
        assert torch.equal(parameter[~mask], old[~mask])
    assert sum(int((p != before[n]).sum()) for n, p in after.named_parameters()) > 100


# ---- the support of a pruned model ----


def pruned() -> tuple[nn.Module, dict[str, Tensor]]:
    model = mlp()
    support = {n: m for n, m in halves(model).items() if n.endswith("weight")}
    with torch.no_grad():
        for name, mask in support.items():
            model.get_parameter(name).mul_(mask)
    return model, support


@pytest.mark.parametrize("holds", [True, False])
@pytest.mark.parametrize("selection", [Trainable(), Saliency(0.5), Matching(("3.",))])
def test_no_step_regrows_a_pruned_weight(selection: Parameters, holds: bool) -> None:
    """Also where the method's own mask holds gradients alone, as some papers released it."""
    model, support = pruned()
    strays: list[int] = []

    def look(step: int, live: nn.Module) -> None:
        strays.append(
            sum(int(live.get_parameter(n)[~m].count_nonzero()) for n, m in support.items())
        )

    asked = problem(model, support)
    after = descent(selection, holds=holds).minimise(asked, Run(), each=look).model
    assert strays == [0] * 4
    assert digest_of(after) != digest_of(model)
    free = descent(selection, holds=holds).minimise(replace(asked, support={}), Run()).model
    assert any(free.get_parameter(n)[~m].count_nonzero() for n, m in support.items())


def test_the_support_of_ones_changes_no_bit() -> None:
    model = mlp()
    whole = {n: torch.ones_like(p, dtype=torch.bool) for n, p in model.named_parameters()}
    ends = [descent().minimise(problem(model, each), Run()).model for each in ({}, whole)]
    assert digest_of(ends[0]) == digest_of(ends[1])


class OfTheTwin(Loss):
    """The loss of the companion in the place of the model."""

    def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor:
        twin = replace(setting, modules={"model": setting.modules["twin"]})
        return super().value(twin, batch, prepared)


def test_the_support_is_of_the_model_and_not_of_a_companion() -> None:
    model, support = pruned()
    asked = replace(problem(model, support), companions={"twin": mlp()})
    player = Player("twin", retain=OfTheTwin(), optimiser=SGD(0.1, weight_decay=0.5))
    moved = Descent(player, length=Steps(1)).minimise(asked, Run()).companions["twin"]
    for name, mask in support.items():  # a companion may have the same names
        assert bool((moved.get_parameter(name) != mlp().get_parameter(name))[~mask].any())


def test_what_a_method_adds_behind_the_end_may_move() -> None:
    grown = within(torch.zeros(2, 3, dtype=torch.bool), torch.zeros(4, 3))
    assert grown.tolist() == [[False] * 3] * 2 + [[True] * 3] * 2


def test_the_checkpoint_of_another_support_is_not_resumed(tmp_path: Path) -> None:
    model, support = pruned()
    steps: list[float] = []

    class Watching(Loss):
        def value(self, *given: object) -> Tensor:
            if len(steps) == 3:
                steps.append(0.0)
                raise KeyboardInterrupt
            value = super().value(*given)  # type: ignore[arg-type]
            steps.append(float(value.detach()))
            return value

    player = Player(retain=Watching(), optimiser=SGD(0.01))
    going = Descent(player, length=Epochs(1, of=Role.RETAIN), batch_size=16)
    run = Run(checkpoints=tmp_path, checkpoint_every=2)
    with pytest.raises(KeyboardInterrupt):
        going.minimise(problem(model, support), run)
    steps.clear()
    other = {n: torch.ones_like(m) for n, m in support.items()}
    steps.extend([1.0] * 5)  # do not stop again
    going.minimise(problem(model, other), run)
    assert len(steps) == 5 + 6
