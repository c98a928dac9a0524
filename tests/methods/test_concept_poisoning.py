"""Concept poisoning: its carriers, its labels, where a class goes, and what it refuses."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from expunge.benchmarks.concepts.worlds import concept_world
from expunge.changes.delta import Delta
from expunge.changes.kinds import Replacement
from expunge.changes.stored import load as load_change
from expunge.changes.stored import save as save_change
from expunge.changes.weights import digest_of
from expunge.data.samples import Samples, TensorSamples
from expunge.deployment import Deployment
from expunge.descent.given_labels import GivenLabels, LabelsAmong
from expunge.descent.length import Epochs
from expunge.descent.loop import Descent
from expunge.descent.optimisers import SGD
from expunge.descent.player import Player
from expunge.descent.retain_terms import Loss
from expunge.errors import AccessError, ExpungeError
from expunge.learning.concepts.bank import ConceptBank, examples_of
from expunge.methods.concept_poisoning import (
    ConceptPoisoning,
    ConceptPoisoningTargeted,
    Drawn,
    DrawnOnce,
    Labels,
    MostAttributed,
    OneClass,
    Poisoned,
    Poisoning,
    Redrawn,
)
from expunge.methods.fine_tune import FineTune
from expunge.methods.presets import AtPreset
from expunge.methods.protocol import Artifact, Method, missing, unlearn
from expunge.problem import Problem
from expunge.recipe import Role
from expunge.requests import Request, Rows
from expunge.run import Run
from expunge.run_file.made import make
from expunge.signals.ask import predict

THREES = Request("the threes", Rows("label", ("3",)), labels=(3,))
TEST = concept_world("digits").world.test
EXAMPLES = concept_world("digits").examples
SETTING: Mapping[str, float] = {"epochs": 40, "learning_rate": 0.03, "retain_ratio": 4.0}


def quick(method: type[Poisoning], **more: object) -> Poisoning:
    return method(**{**SETTING, "batch_size": 16, **more})  # type: ignore[arg-type]


@pytest.fixture
def deployed(trained: Callable[[int], Deployment]) -> Callable[[int], Deployment]:
    """The model of a seed, with examples of concepts beside its rows."""

    def given(seed: int) -> Deployment:
        found = trained(seed)
        found.data.update(EXAMPLES)
        return found

    return given


@cache
def examples_without(name: str, side: Role) -> dict[Role, Samples]:
    """The examples without one concept's rows on one side."""
    rows = EXAMPLES[side]
    kept = [place for place, given in enumerate(rows.subjects) if given != name]
    return {**EXAMPLES, side: rows.select(torch.tensor(kept, dtype=torch.int64))}


def answers(model: nn.Module, problem: Problem) -> tuple[Tensor, float, Tensor]:
    """Answers to held-out threes, accuracy on the others, and probabilities of the threes."""
    found = predict(problem.family, model, TEST, Run())
    said, own = found.logits[0].argmax(1), found.labels == 3
    right = float((said[~own] == found.labels[~own]).double().mean())
    return said[own], right, found.logits[0][own].double().softmax(1)


def share(said: Tensor, label: int) -> float:
    return float((said == label).double().mean())


def entropy(probabilities: Tensor) -> float:
    return float(-(probabilities * probabilities.clamp(min=1e-12).log()).sum(1).mean())


def after(method: Method, problem: Problem, artifact: Artifact | None = None) -> nn.Module:
    return unlearn(method, problem, Run(), artifact).applied_to(problem.model)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_targeted_labels_lead_the_class_to_one_other_and_random_ones_spread_it(
    seed: int, deployed: Callable[[int], Deployment]
) -> None:
    deployment = deployed(seed)
    targeted, random = quick(ConceptPoisoningTargeted), quick(ConceptPoisoning)
    problem = deployment.problem(THREES, random)
    artifact = random.prepare(problem.opened(random.prepares_with), Run())
    before, right, _ = answers(problem.model, problem)
    assert share(before, 3) > 0.9
    outcome = unlearn(targeted, problem, Run(), artifact)
    [change] = outcome.changes
    assert isinstance(change, Delta)
    given: Any = change.facts["labels"]
    [target] = given
    led, led_right, led_sure = answers(outcome.applied_to(problem.model), problem)
    spread, spread_right, spread_sure = answers(after(random, problem, artifact), problem)
    assert share(led, 3) < 0.02
    assert share(led, int(target)) > 0.9
    assert share(spread, 3) < 0.1
    assert entropy(spread_sure) > 2 * entropy(led_sure)
    assert led_right > right - 0.03
    assert spread_right > right - 0.03


def test_fine_tuning_on_the_retained_rows_alone_keeps_the_class(
    deployed: Callable[[int], Deployment],
) -> None:
    method = FineTune(4, 0.003)
    problem = deployed(0).problem(THREES, method)
    assert share(answers(after(method, problem), problem)[0], 3) > 0.8


def poisoned(
    deployment: Deployment, method: Poisoning | None = None
) -> tuple[Problem, Poisoned, Artifact]:
    method = method or ConceptPoisoning()
    problem = deployment.problem(THREES, method)
    artifact = method.prepare(problem.opened(method.prepares_with), Run())
    return problem, method.poisoned(problem.opened(method.unlearns_with), artifact, Run()), artifact


def test_carriers_are_the_half_to_which_the_concepts_add_most(
    deployed: Callable[[int], Deployment],
) -> None:
    _, found, _ = poisoned(deployed(0))
    rows = MostAttributed().rows(found, Run())
    carried = found.concepts.attributions[:, found.concepts.important(3, 5)].sum(1)
    others = torch.ones(len(carried), dtype=torch.bool)
    others[rows] = False
    assert len(rows) == len(carried) // 2
    assert float(carried[rows].min()) >= float(carried[others].max())
    assert torch.equal(rows, rows.sort().values)


def test_a_share_is_of_each_class(deployed: Callable[[int], Deployment]) -> None:
    labels = torch.tensor([3] * 10 + [5] * 20)
    both = Poisoned(labels, (0, 1))
    for carriers, own in ((Drawn(0.5), (5, 10)), (Drawn(0.01), (1, 1)), (Drawn(), (10, 20))):
        rows = carriers.rows(both, Run())
        assert [int((labels[rows] == label).sum()) for label in (3, 5)] == list(own)
    assert not torch.equal(Drawn(0.5).rows(both, Run(0)), Drawn(0.5).rows(both, Run(1)))


def test_rows_that_carry_nothing_are_not_learned_from(
    deployed: Callable[[int], Deployment],
) -> None:
    method = quick(ConceptPoisoning, carriers=Drawn(0.5), epochs=2)
    problem, found, _ = poisoned(deployed(0), method)
    rows, forget = Drawn(0.5).rows(found, Run()), problem.data[Role.FORGET]
    assert isinstance(forget, TensorSamples)

    def spoiled(where: Tensor) -> Problem:
        image = forget.columns["image"].clone()
        image[where] = 0.5
        data = {**problem.data, Role.FORGET: forget.with_column("image", image)}
        return replace(problem, data=data)

    left = torch.ones(len(forget), dtype=torch.bool)
    left[rows] = False
    before = digest_of(after(method, problem))
    assert digest_of(after(method, spoiled(left.nonzero().reshape(-1)))) == before
    assert digest_of(after(method, spoiled(rows[:1]))) != before


def test_labels_are_those_of_retained_rows_and_never_the_own(
    deployed: Callable[[int], Deployment],
) -> None:
    two = Poisoned(torch.tensor([3, 3, 5, 5, 5]), (0, 1, 2, 4, 6, 7, 8, 9))
    rows = torch.tensor([0, 2, 3])
    redrawn = Redrawn().term(two, rows, Run())
    assert isinstance(redrawn, LabelsAmong)
    assert redrawn.classes == two.others
    once = DrawnOnce().term(two, rows, Run())
    assert isinstance(once, GivenLabels)
    assert once == DrawnOnce().term(two, rows, Run())
    assert len(once.labels) == 3
    assert set(once.labels) <= set(two.others)
    assert OneClass(4).term(two, rows, Run()) == GivenLabels((4, 4, 4))


def test_the_target_is_the_class_whose_concepts_are_nearest(
    deployed: Callable[[int], Deployment],
) -> None:
    method = ConceptPoisoningTargeted()
    _, found, _ = poisoned(deployed(0), method)
    labels: Labels = method.labels
    term = labels.term(found, torch.arange(4), Run())
    assert isinstance(term, GivenLabels)
    assert term.labels == (found.concepts.nearest(3, found.others),) * 4


def test_given_labels_teach_what_the_rows_own_labels_would(
    deployed: Callable[[int], Deployment],
) -> None:
    """With the rows' own labels the term is the loss itself, in every bit."""
    problem = deployed(0).problem(THREES, FineTune())
    count = len(problem.data[Role.FORGET])
    ended = [
        digest_of(
            Descent(Player(forget=term), length=Epochs(2), batch_size=16)
            .minimise(problem, Run())
            .model
        )
        for term in (GivenLabels((3,) * count), Loss(), GivenLabels((4,) * count))
    ]
    assert ended[0] == ended[1] != ended[2]


def test_redrawn_labels_are_uniform_among_the_others(
    deployed: Callable[[int], Deployment],
) -> None:
    """A model with one logit of its own for every class is led to the classes drawn among."""
    problem = deployed(0).problem(THREES, FineTune())
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    nn.init.zeros_(model[1].weight)  # type: ignore[arg-type]
    nn.init.zeros_(model[1].bias)  # type: ignore[arg-type]
    model[1].weight.requires_grad_(False)
    descent = Descent(
        Player(forget=LabelsAmong((0, 7)), optimiser=SGD(0.5)),
        length=Epochs(200),
        batch_size=110,
    )
    led = descent.minimise(replace(problem, model=model), Run()).model
    bias = dict(led.named_parameters())["1.bias"].detach()
    shares = bias.softmax(0)
    assert float(shares[[0, 7]].sum()) > 0.95
    assert float(shares[0]) == pytest.approx(0.5, abs=0.15)


def test_terms_weigh_as_many_as_their_rows(deployed: Callable[[int], Deployment]) -> None:
    [player] = ConceptPoisoning(retain_ratio=3.0).descent(LabelsAmong((0,))).players
    assert player.forget is not None
    assert player.retain is not None
    assert (player.forget.weight, player.retain.weight) == (0.25, 0.75)
    assert player.retain.batch_size == 192


def test_without_concepts_no_example_is_touched(trained: Callable[[int], Deployment]) -> None:
    """Random labels on a random half need no bank; concept-chosen halves do."""
    deployment = trained(0)
    method = quick(ConceptPoisoning, carriers=Drawn(0.5), epochs=1)
    assert not method.prepares_with.roles
    assert missing(method, deployment.problem(THREES, method)) == ()
    deployment.forget(THREES, method, Run())
    eights = Request("the eights", Rows("label", ("8",)))
    lacks = missing(ConceptPoisoning(), deployment.problem(eights, ConceptPoisoning()))
    assert [lack.clause[:22] for lack in lacks] == [
        "needs the positive set",
        "needs the negative set",
    ]


def test_examples_are_read_while_preparing_alone(deployed: Callable[[int], Deployment]) -> None:
    method = ConceptPoisoning()
    problem = deployed(0).problem(THREES, method)
    assert set(method.prepares_with.roles) == {Role.POSITIVE, Role.NEGATIVE}
    with pytest.raises(AccessError, match="positive"):
        problem.opened(method.unlearns_with).data[Role.POSITIVE]
    with pytest.raises(AccessError, match="forget"):
        problem.opened(method.prepares_with).data[Role.FORGET]


def test_what_was_found_is_in_the_change_and_survives_storage(
    deployed: Callable[[int], Deployment], tmp_path: Path
) -> None:
    deployment = deployed(0)
    served = deployment.forget(THREES, quick(ConceptPoisoning, epochs=1), Run())
    [change] = served.changes
    assert isinstance(change, Delta)
    facts = json.loads(json.dumps(change.facts))
    assert (facts["poisoned"], facts["of"]) == (55, 110)
    assert facts["labels"] == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    found = facts["concepts"]
    assert found["bank condition"] >= 1
    assert 0 < found["agreement with the model on forget rows"] <= 1
    told = found["classes"]["3"]
    assert len(told) == 5
    importances = [each["importance"] for each in told]
    assert importances == sorted(importances, reverse=True)
    assert {each["concept"] for each in told} <= set(EXAMPLES[Role.POSITIVE].subjects)
    path = tmp_path / "change.safetensors"
    save_change(change, path)
    stored = load_change("delta", path)
    assert isinstance(stored, Delta)
    assert stored.facts == facts


def test_a_sequential_one_gives_new_weights(deployed: Callable[[int], Deployment]) -> None:
    deployment = deployed(0)
    deployment.forget(THREES, quick(ConceptPoisoning, epochs=1, sequential=True), Run())
    eights = Request("the eights", Rows("label", ("8",)))
    served = deployment.forget(eights, quick(ConceptPoisoning, epochs=1, sequential=True), Run())
    [change] = served.changes
    assert isinstance(change, Replacement)
    assert change.facts["labels"] == [0, 1, 2, 4, 5, 6, 7, 9]  # none of the earlier class either


@pytest.mark.slow
@pytest.mark.parametrize("method", [ConceptPoisoning(), ConceptPoisoningTargeted()])
def test_the_preset_forgets_a_class_and_keeps_the_rest(
    method: Poisoning, deployed: Callable[[int], Deployment]
) -> None:
    deployment = deployed(0)
    problem = deployment.problem(THREES, method)
    _, right, _ = answers(problem.model, problem)
    deployment.forget(THREES, AtPreset.of(method), Run())
    said, kept, _ = answers(deployment.model, problem)
    assert share(said, 3) < 0.1
    assert kept > right - 0.03


def test_fields_of_a_run_file_say_which_carriers_and_labels_are_meant() -> None:
    given = make(ConceptPoisoning, {"carriers": {"top": 3, "share": 0.25}, "labels": {"target": 7}})
    assert given == ConceptPoisoning(OneClass(7), MostAttributed(3, 0.25))
    drawn = make(ConceptPoisoningTargeted, {"carriers": {"drawn": 0.5}, "bank": {"examples": 20}})
    assert drawn.carriers == Drawn(0.5)
    assert drawn.bank.examples == 20


# ---- what is refused ----


def refused(deployment: Deployment, method: Poisoning, request: Request = THREES) -> str:
    with pytest.raises(ExpungeError) as error:
        deployment.forget(request, method, Run())
    assert not deployment.history.requests()
    return str(error.value)


def test_without_examples_the_role_is_named(trained: Callable[[int], Deployment]) -> None:
    assert "needs the positive set" in refused(trained(0), ConceptPoisoning())


def test_a_bank_without_positives_is_refused(trained: Callable[[int], Deployment]) -> None:
    none = {
        Role.POSITIVE: EXAMPLES[Role.POSITIVE].select(torch.tensor([], dtype=torch.int64)),
        Role.NEGATIVE: EXAMPLES[Role.NEGATIVE],
    }
    deployment = trained(0)
    deployment.data.update(none)
    assert "no positive one" in refused(deployment, ConceptPoisoning())
    problem = deployment.problem(THREES, ConceptPoisoning())
    [lack] = missing(ConceptPoisoning(), problem)
    assert "positive examples of concepts; there is none" in lack.clause


@pytest.mark.parametrize("side", [Role.POSITIVE, Role.NEGATIVE])
def test_a_concept_with_one_sided_examples_is_refused(
    side: Role, trained: Callable[[int], Deployment]
) -> None:
    deployment = trained(0)
    deployment.data.update(examples_without("tall", side))
    said = refused(deployment, ConceptPoisoning())
    assert f"'tall' has 0 {side.value}" in said
    [lack] = missing(ConceptPoisoning(), deployment.problem(THREES, ConceptPoisoning()))
    assert lack.sentence == said


def test_where_no_concept_is_found_it_is_said(trained: Callable[[int], Deployment]) -> None:
    deployment = trained(0)
    draws = torch.Generator().manual_seed(0)
    validation = concept_world("digits").world.validation
    noise = torch.rand(len(validation), generator=draws) > 0.5
    positive, negative = examples_of(validation, {"noise": noise})
    deployment.data.update({Role.POSITIVE: positive, Role.NEGATIVE: negative})
    assert "None of the 1 concepts can be read" in refused(deployment, ConceptPoisoning())


@pytest.mark.parametrize(
    ("target", "said"), [(3, "is the one that is to be forgotten"), (11, "class 11 is unknown")]
)
def test_a_target_that_is_forgotten_or_unknown_is_refused(
    target: int, said: str, deployed: Callable[[int], Deployment]
) -> None:
    assert said in refused(deployed(0), ConceptPoisoning(OneClass(target), Drawn()))


def test_rows_of_an_unknown_class_are_refused(deployed: Callable[[int], Deployment]) -> None:
    problem = deployed(0).problem(THREES, ConceptPoisoning())
    forget = problem.data[Role.FORGET]
    assert isinstance(forget, TensorSamples)
    tens = forget.with_column("label", torch.full((len(forget),), 10))
    strange = replace(problem, data={**problem.data, Role.FORGET: tens})
    with pytest.raises(ExpungeError, match="class 10, which the model does not know"):
        unlearn(ConceptPoisoning(), strange, Run())


def test_a_part_of_a_class_is_refused(deployed: Callable[[int], Deployment]) -> None:
    deployment = deployed(0)
    some = Request("some", Rows("id", tuple(map(str, deployment.table["id"][:20]))))
    said = refused(deployment, ConceptPoisoning(carriers=Drawn()), some)
    assert "forgets whole classes" in said
    assert "`random-label`" in said


def test_a_bank_of_another_embedding_is_refused(deployed: Callable[[int], Deployment]) -> None:
    problem = deployed(0).problem(THREES, ConceptPoisoning())
    other = ConceptBank(("a",), torch.ones(1, 5).double(), torch.zeros(1), torch.ones(1))
    with pytest.raises(ExpungeError, match="directions of 5 numbers"):
        unlearn(ConceptPoisoning(), problem, Run(), other.bundle())
    with pytest.raises(ExpungeError, match="holds no concept bank"):
        unlearn(ConceptPoisoning(), problem, Run(), Artifact())


@pytest.mark.parametrize(
    "given",
    [
        lambda: ConceptPoisoning(retain_ratio=0.0),
        lambda: ConceptPoisoning(steps=0),
        lambda: MostAttributed(top=0),
        lambda: MostAttributed(share=0.0),
        lambda: Drawn(1.5),
    ],
)
def test_fields_that_mean_nothing_are_refused(given: Callable[[], object]) -> None:
    with pytest.raises(ExpungeError, match="expected"):
        given()


def test_labels_must_be_as_many_as_rows(deployed: Callable[[int], Deployment]) -> None:
    problem = deployed(0).problem(THREES, FineTune())
    short = Descent(Player(forget=GivenLabels((4, 4))), length=Epochs(1), batch_size=16)
    with pytest.raises(ExpungeError, match="2 labels were given for 110 rows"):
        short.minimise(problem, Run())
