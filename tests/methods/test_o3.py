"""O3: the checks of a small continual run, and what its parts compute."""

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from sklearn.covariance import LedoitWolf
from torch import Tensor, nn

from expunge.aggregation.sum import Sum
from expunge.benchmarks.o3.protocol import KEPT, measured, overlap
from expunge.benchmarks.o3.world import OPTIONS, REQUESTED, World, world
from expunge.changes.adapter import Factors, LowRank
from expunge.changes.adapter_bank import AdapterBank, Gated, GrowingAdapter
from expunge.changes.deletion import DeletionState, deletion_state
from expunge.changes.guarded import unguarded
from expunge.changes.history import History
from expunge.changes.weights import digest_of
from expunge.data.samples import TensorSamples
from expunge.deployment import Deployment
from expunge.descent.factor_terms import Orthogonality
from expunge.descent.factors import Shape, with_factors
from expunge.descent.player import Setting
from expunge.descent.random_answers import RandomAnswers
from expunge.errors import ExpungeError
from expunge.families.language import IGNORED
from expunge.methods.o3 import O3, O3Published
from expunge.methods.o3_detector import _layered, prompt_end
from expunge.problem import Problem
from expunge.recipe import Role
from expunge.requests import NO_REQUEST, Request, Rows
from expunge.run import Run

CHANCE = 1 / OPTIONS
METHOD = O3(
    epochs=80,
    learning_rate=1e-2,
    batch_size=24,
    detector_epochs=5,
    detector_learning_rate=1e-3,
    layers=1.0,  # of two
)


@dataclass(frozen=True)
class Course:
    """Three requests in turn on one small model."""

    world: World
    base: nn.Module
    found: dict[str, Any]

    def over(self, panel: dict[str, float], part: str) -> list[float]:
        return [panel[f"{topic}, {part}"] for topic in REQUESTED]


@pytest.fixture(scope="module")
def course() -> Course:
    here = world(entities=16, width=32, layers=2, epochs=30, batch_size=32, learning_rate=8e-3)
    base = here.recipe.make(here.data, Run()).model.eval()
    return Course(here, base, measured(here, base, METHOD, Run()))


def deployment_of(course: Course) -> Deployment:
    here = course.world
    return Deployment(course.base, here.recipe.family, here.samples, here.table, Sum())


def request(topic: str) -> Request:
    return Request(topic, Rows("part", (topic,)))


def test_each_detector_tells_its_topic_from_the_others(course: Course) -> None:
    for detector in course.found["detectors"]:
        assert detector["AUROC, requested"] >= 0.95
        assert detector["AUROC, paraphrased"] >= 0.85
        # names that no request holds are new words, as those of other topics are: 0.77 to 1.00 here
        assert detector["AUROC, other names"] >= 0.7


def test_the_gate_keeps_what_the_open_adapter_loses(course: Course) -> None:
    gate = course.found["gate"]
    original = gate["shut"]["kept"]
    assert original >= 0.95
    assert gate["as it is"]["kept"] >= original - 0.01
    assert gate["open"]["kept"] < original - 0.10


def test_what_was_requested_stays_forgotten_after_every_later_request(course: Course) -> None:
    for number, topic in enumerate(REQUESTED):
        for panel in course.found["steps"][number:]:
            assert panel[f"{topic}, requested"] <= CHANCE + 0.05
        for panel in course.found["steps"][:number]:  # nor is it damaged before it is requested
            assert panel[f"{topic}, requested"] >= 0.95


def test_the_penalty_keeps_adapters_apart(course: Course) -> None:
    deployment, first, second = deployment_of(course), *map(request, REQUESTED[:2])
    quick = replace(METHOD, epochs=40, detector_epochs=0)
    deployment.forget(first, replace(quick, epochs=2), Run())
    (earlier,) = bank_of(deployment).entries
    found = []
    for weight in (0.1, 0.0):
        (change,) = deployment.unlearn(second, replace(quick, orthogonality=weight), Run()).changes
        assert isinstance(change, AdapterBank)
        found.append(overlap(earlier.adapter, change.entries[0].adapter))
    assert found[1] >= 3 * found[0]


def test_with_the_gate_shut_nothing_was_deleted(course: Course) -> None:
    assert course.found["bit for bit"] is True
    assert min(course.over(course.found["gate"]["shut"], "requested")) >= 0.95


def bank_of(deployment: Deployment) -> AdapterBank:
    model = deployment.model
    assert isinstance(model, Gated)
    assert unguarded(model) is not model
    return model.bank


def test_a_deployment_serves_and_withdraws_each_request_alone(course: Course) -> None:
    quick = replace(METHOD, epochs=1, detector_epochs=0)
    deployment = deployment_of(course)
    for topic in REQUESTED[:2]:
        deployment.forget(request(topic), quick, Run())
    assert deletion_state(deployment.history) is DeletionState.SUPPRESSED
    assert digest_of(deployment.model) == digest_of(course.base)
    both = bank_of(deployment).entries
    assert [entry.request for entry in both] == [request(t).digest() for t in REQUESTED[:2]]
    deployment.revoke(request(REQUESTED[0]))
    assert bank_of(deployment).entries == (both[1],)


def test_the_published_form_goes_on_from_the_adapter_before(course: Course) -> None:
    still = O3Published(epochs=1, learning_rate=1e-12, detector_epochs=0)
    deployment = deployment_of(course)
    for topic in REQUESTED[:2]:
        deployment.forget(request(topic), still, Run())
    bank = bank_of(deployment)
    assert isinstance(bank, GrowingAdapter)
    first, last = (entry.adapter.factors for entry in bank.entries)
    assert all(torch.allclose(first[n].A, last[n].A, atol=1e-9) for n in first)
    assert bank.adapter(0) is bank.adapter(1) is bank.entries[1].adapter


def test_no_row_of_another_role_is_opened(course: Course) -> None:
    assert set(METHOD.unlearns_with.roles) == {Role.FORGET}
    assert METHOD.prepares_with.roles == {}
    assert len(KEPT) == 2


def test_a_request_with_too_few_rows_or_one_answer_is_refused(course: Course) -> None:
    deployment, ids = deployment_of(course), course.world.samples.ids
    few = Request("few", Rows("id", tuple(ids[:9])))
    with pytest.raises(ExpungeError, match="has 9 rows"):
        deployment.unlearn(few, replace(METHOD, epochs=1), Run())
    one = [i for i, f in zip(ids, course.world.facts, strict=True) if (f.topic, f.option) == (0, 1)]
    with pytest.raises(ExpungeError, match="have one answer"):
        deployment.unlearn(Request("one", Rows("id", tuple(one))), METHOD, Run())


def tokens(prompts: list[list[int]], answers: list[list[int]]) -> TensorSamples:
    rows = [p + a for p, a in zip(prompts, answers, strict=True)]
    width = max(map(len, rows))
    ids, labels = torch.zeros(len(rows), width).long(), torch.full((len(rows), width), IGNORED)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
        labels[i, len(prompts[i]) : len(row)] = ids[i, len(prompts[i]) : len(row)]
    names = [str(i) for i in range(len(rows))]
    return TensorSamples(names, names, {"input_ids": ids, "labels": labels})


@pytest.mark.parametrize(
    ("prompts", "end"),
    [
        ([[5, 6, 3], [7, 3]], (3,)),
        ([[4, 8, 6, 9, 2, 4], [4, 5, 7, 9, 2, 4]], (2, 4)),  # 4 alone begins each prompt, too
        ([[5, 6], [7, 8]], ()),
        ([[5, 5], [6, 5, 5]], (5, 5)),
    ],
)
def test_what_ends_every_prompt_and_stands_nowhere_before(
    prompts: list[list[int]], end: tuple[int, ...]
) -> None:
    assert prompt_end(tokens(prompts, [[1], [2]])) == end


def test_answers_are_those_of_other_rows_and_never_the_own(course: Course) -> None:
    samples = tokens([[5, 6], [7], [8, 9], [7]], [[1], [2, 2], [1], [3]])
    seen: list[list[int]] = []

    class Recording(type(course.world.recipe.family)):  # type: ignore[misc]
        def losses(self, model: nn.Module, batch: Any) -> Any:
            seen.extend(row[row != IGNORED].tolist() for row in batch["labels"])
            return super().losses(model, batch)

    family = Recording()
    problem = Problem(course.base, family, NO_REQUEST, {Role.FORGET: samples}, History())
    setting = Setting(problem, {"model": course.base}, lambda: course.base, Run())
    term = RandomAnswers()
    prepared = term.start(setting, samples)
    batch = samples.batch(torch.arange(4))
    for step in range(20):
        term.value(replace(setting, step=step), batch, prepared)
    own = [[1], [2, 2], [1], [3]]
    for row in range(4):
        drawn = {tuple(answer) for answer in seen[row::4]}
        assert drawn == {(1,), (2, 2), (3,)} - {tuple(own[row])}


def test_the_penalty_is_the_squared_overlap_of_down_projections(course: Course) -> None:
    model = with_factors(course.base, Shape(2, targets=("q_proj",)), Run())
    layers = [n for n, _ in model.named_modules() if n.endswith("q_proj")]
    given: Any = model
    downs = {layer: given.get_submodule(layer).lora_A["default"].weight for layer in layers}
    earlier = {layer: torch.randn(3, down.shape[1]) for layer, down in downs.items()}
    problem = Problem(course.base, course.world.recipe.family, NO_REQUEST, {}, History())
    setting = Setting(problem, {"model": model}, lambda: model, Run())
    found = Orthogonality((earlier, earlier)).value(setting, {}, None)
    want = sum(2 * (earlier[n] @ downs[n].T).square().sum() for n in layers)
    assert torch.isclose(found, torch.as_tensor(want))


def test_nearness_is_the_shrunk_mahalanobis_distance_and_the_nearest_cosine() -> None:
    draw = torch.Generator().manual_seed(0)
    states = torch.randn(30, 2, 6, generator=draw) * torch.arange(1, 7)
    asked = torch.randn(5, 2, 6, generator=draw) + 1
    near = _layered(states).nearness(asked)
    for layer in range(2):
        reference = LedoitWolf().fit(states[:, layer].double().numpy())
        want = torch.tensor(reference.mahalanobis(asked[:, layer].double().numpy()))
        assert torch.allclose(near[:, layer, 0].double(), -0.5 * want, rtol=1e-3)
        cosine = torch.cosine_similarity(asked[:, None, layer], states[None, :, layer], dim=2)
        assert torch.allclose(near[:, layer, 1], cosine.amax(1), atol=1e-5)


def test_fewer_rows_than_dimensions_are_no_hindrance() -> None:
    states: Tensor = torch.randn(10, 1, 40, generator=torch.Generator().manual_seed(1))
    reference = LedoitWolf().fit(states[:, 0].double().numpy())
    asked = torch.randn(4, 1, 40, generator=torch.Generator().manual_seed(2))
    want = torch.tensor(reference.mahalanobis(asked[:, 0].double().numpy()))
    found = _layered(states).nearness(asked)[:, 0, 0].double()
    assert torch.allclose(found, -0.5 * want, rtol=1e-3)


def test_adapters_of_other_bases_are_refused(course: Course) -> None:
    (change,) = (
        deployment_of(course)
        .unlearn(request(REQUESTED[0]), replace(METHOD, epochs=1, detector_epochs=0), Run())
        .changes
    )
    assert isinstance(change, AdapterBank)
    other = LowRank("0" * 64, {"x.weight": Factors(torch.ones(1, 2), torch.ones(2, 1))})
    entry = replace(change.entries[0], adapter=other)
    with pytest.raises(ExpungeError, match="another base"):
        AdapterBank(change.weights, (entry,))
