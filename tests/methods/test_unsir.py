"""Facts about UNSIR: what its noise does, what it reads, and that it forgets a class."""

from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from expunge.aggregation.sum import Sum
from expunge.benchmarks.shipped import Work, digits_dual_encoder
from expunge.changes.delta import Delta
from expunge.changes.history import History
from expunge.changes.weights import digest_of
from expunge.data.samples import TensorSamples
from expunge.deployment import Deployment
from expunge.descent.noise_terms import NOISE, Noise
from expunge.errors import AccessError, ExpungeError
from expunge.families.classifier import Classifier
from expunge.families.regressor import Regressor
from expunge.methods.protocol import unlearn
from expunge.methods.unsir import Unsir
from expunge.models.resnet import ResNet18
from expunge.models.vit import VisionTransformer
from expunge.problem import Problem
from expunge.recipe import Role
from expunge.requests import NO_REQUEST, Request, Rows
from expunge.run import Run
from expunge.signals import accuracy_by_subject
from expunge.signals.ask import ask

EIGHTS = Request("the eights", Rows("label", ("8",)))


def deployed(work: Work, model: nn.Module) -> Deployment:
    return Deployment(model, work.recipe.family, work.data[Role.TRAIN], work.table, Sum())


@pytest.fixture
def problem(digits_work: Work, digits_model: nn.Module) -> Problem:
    return deployed(digits_work, digits_model).problem(EIGHTS, Unsir())


def after(method: Unsir, problem: Problem) -> nn.Module:
    [change] = unlearn(method, problem, Run()).changes
    assert isinstance(change, Delta)
    return change.applied_to(problem.model)


def started(method: Unsir, problem: Problem) -> Problem:
    return replace(problem, companions={NOISE: method._noise(problem, Run())})


def loss_on(model: nn.Module, noise: nn.Module) -> float:
    assert isinstance(noise, Noise)
    with torch.no_grad():
        rows = noise.rows(torch.arange(len(noise)))
        return float(Classifier().losses(model, rows).mean())


def test_the_noise_raises_the_error_and_the_model_stays(problem: Problem) -> None:
    method = Unsir(penalty=0.0)
    begun = started(method, problem)
    ended = method.noise().minimise(begun, Run())
    before = loss_on(problem.model, begun.companions[NOISE])
    assert loss_on(problem.model, ended.companions[NOISE]) > 2 * before
    assert digest_of(ended.model) == digest_of(problem.model)


def test_the_penalty_shortens_the_noise(problem: Problem) -> None:
    norms = []
    for penalty in (0.0, 0.1, 10.0):
        method = Unsir(penalty=penalty)
        noise = method.noise().minimise(started(method, problem), Run()).companions[NOISE]
        norms.append(
            float(noise.get_parameter("learned.image").detach().square().flatten(1).sum(1).mean())
        )
    assert norms[0] > norms[1] > norms[2]


def test_it_never_looks_at_an_input_of_the_forget_set(problem: Problem) -> None:
    assert Unsir().unlearns_with.describe() == "forget (label), retain"
    forget = problem.data[Role.FORGET]
    assert isinstance(forget, TensorSamples)
    other = forget.with_column("image", torch.full_like(forget.columns["image"], 9.0))
    spoiled = replace(problem, data={**problem.data, Role.FORGET: other})
    assert digest_of(after(Unsir(), problem)) == digest_of(after(Unsir(), spoiled))
    opened = problem.opened(Unsir().unlearns_with)
    with pytest.raises(AccessError, match="'image' of the forget set"):
        opened.data[Role.FORGET].batch(torch.tensor([0]), {"image"})


def test_its_preset_forgets_one_class_and_keeps_nine(digits_work: Work, problem: Problem) -> None:
    method = Unsir().for_problem(problem, Run())
    found = accuracy_by_subject(
        ask(problem.family, after(method, problem), digits_work.test, Run())
    )
    others = [float(value[0]) for subject, value in found.items() if subject != "digit 8"]
    assert float(found["digit 8"][0]) <= 0.1
    assert sum(others) / 9 >= 0.85


def test_the_repair_starts_where_impairing_ended(problem: Problem) -> None:
    method = Unsir(impair_learning_rate=1e-2, repair_learning_rate=1e-30)
    impaired = replace(method, repair_epochs=0)
    one, other = after(method, problem), after(impaired, problem)
    assert digest_of(one) == digest_of(other) != digest_of(problem.model)


def test_the_labels_of_the_noise_are_those_to_be_forgotten(problem: Problem) -> None:
    noise = Unsir(noise_rows=8)._noise(problem, Run()).samples(3)
    assert len(noise) == 24 and len(set(noise.ids)) == 24
    assert set(noise.columns["label"].tolist()) == {8}
    assert torch.equal(noise.columns["image"][:8], noise.columns["image"][16:])


class Watched(nn.Module):
    """A classifier that notes which shares of its training batches lie outside [0, 1]."""

    shares: ClassVar[list[float]] = []

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            flat = image.detach().flatten(1)
            outside = (flat.amin(1) < 0) | (flat.amax(1) > 1)
            self.shares.append(float(outside.float().mean()))
        found: Tensor = self.model(image)
        return found


def test_noise_and_retain_rows_come_in_one_stream(problem: Problem) -> None:
    method = Unsir(noise_rows=64, noise_steps=1, copies=4, repair_epochs=0)
    watched = replace(problem, model=Watched(problem.model))
    Watched.shares.clear()
    after(method, watched)
    steps = Watched.shares[method.noise_steps :]  # those before are on the noise alone
    rows = 256 + len(problem.data[Role.RETAIN])
    assert len(steps) == -(-rows // 64)
    assert all(0 < share < 0.6 for share in steps)  # no batch is all noise or all retain rows
    assert abs(sum(steps) / len(steps) - 256 / rows) < 0.05


def test_its_preset_has_the_published_share_of_noise(problem: Problem) -> None:
    method = Unsir().for_problem(problem, Run())
    published = Unsir().noise_rows * Unsir().copies / 8000
    share = method.noise_rows * method.copies / len(problem.data[Role.RETAIN])
    assert abs(share - published) < 256 / len(problem.data[Role.RETAIN])


def test_it_runs_on_a_dual_encoder_a_resnet_and_a_transformer(digits_work: Work) -> None:
    pictures = digits_work.data[Role.TRAIN]
    dual = digits_dual_encoder()
    resnet = ResNet18(torch.Generator().manual_seed(0), 4, 1).eval()
    vit = VisionTransformer(torch.Generator().manual_seed(0), 8, 1, 12, 3, channels=1).eval()
    for work, model in (
        (dual, dual.recipe.builder(0)),
        (digits_work, resnet),
        (digits_work, vit),
    ):
        few = pictures.select(torch.arange(60))
        table = work.table.select(range(60))  # type: ignore[attr-defined]
        small = Deployment(model, work.recipe.family, few, table, Sum())
        method = Unsir(noise_rows=8, noise_steps=2)
        changed = after(method, small.problem(EIGHTS, method))
        assert digest_of(changed) != digest_of(model)


def regression(columns: dict[str, Tensor]) -> Problem:
    rows = TensorSamples(list("abcd"), list("abcd"), columns)
    roles = {Role.FORGET: rows.select(torch.tensor([0])), Role.RETAIN: rows}
    return Problem(nn.Linear(2, 1), Regressor(("input",)), NO_REQUEST, roles, History())


def test_numbers_can_be_targets() -> None:
    problem = regression({"input": torch.rand(4, 2), "target": torch.rand(4)})
    method = Unsir(noise_rows=4, noise_steps=3, target="target")
    noise = method._noise(problem, Run())
    assert set(noise.learned) == {"input"}
    assert set(noise.get_buffer("fixed_target").tolist()) == {
        float(problem.data[Role.FORGET].batch(torch.tensor([0]))["target"])
    }
    assert digest_of(after(method, problem)) != digest_of(problem.model)


def test_inputs_that_are_tokens_are_refused() -> None:
    tokens = regression({"input": torch.ones(4, 2).long(), "label": torch.zeros(4).long()})
    with pytest.raises(ExpungeError, match="real numbers; the retain set has input of whole"):
        unlearn(Unsir(), tokens, Run())


def test_a_forget_set_without_labels_is_refused() -> None:
    numbers = regression({"input": torch.rand(4, 2), "target": torch.rand(4)})
    with pytest.raises(ExpungeError, match=r"'label' of the forget set.*give `target`"):
        unlearn(Unsir(), numbers, Run())


@pytest.mark.parametrize("name", ["noise_rows", "noise_steps", "copies", "impair_epochs"])
def test_nothing_to_impair_with_is_refused(name: str) -> None:
    with pytest.raises(ExpungeError, match=f"{name} 0; at least 1"):
        Unsir(**{name: 0})  # type: ignore[arg-type]
