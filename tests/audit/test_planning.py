"""Plans: rows, fits, costs and risks of requests that nobody has answered."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import datasets
import pytest
import torch
from torch import nn

from expunge.aggregation import Sum
from expunge.audit.planning import Plan, fit_of, plan, problems, rows_of
from expunge.audit.probe import Budget, Cost, Estimate, Probe, stored_bytes
from expunge.audit.risks import Limits, Risk, risks_of
from expunge.benchmarks.shipped import Work
from expunge.changes.delta import Delta
from expunge.changes.weights import digest_of
from expunge.data.samples import TensorSamples
from expunge.deployment import Deployment
from expunge.errors import ExpungeError
from expunge.families.classifier import Classifier
from expunge.learning.supervised.plain import Plain
from expunge.methods.fine_tune import FineTune
from expunge.methods.gradient_ascent import GradientAscent
from expunge.methods.gradient_difference import GradientDifference
from expunge.methods.negation import Negation
from expunge.methods.protocol import Artifact, Method, Outcome, unlearn
from expunge.methods.retrain import Retrain
from expunge.problem import Access, Problem
from expunge.recipe import Recipe, Role
from expunge.requests import Request, Rows
from expunge.run import Run

REQUESTS = tuple(Request(f"digit {k}", Rows("label", (str(k),))) for k in (8, 3, 5))


def deploy(work: Work, model: nn.Module, *, recipe: bool = True) -> Deployment:
    return Deployment(
        model,
        work.recipe.family,
        work.data[Role.TRAIN],
        work.table,
        Sum(),
        recipe=work.recipe if recipe else None,
    )


class HasMore:
    """An ability that no family has."""


@dataclass(frozen=True)
class Counting:
    """A method of a researcher's own, without a loop that shows: it reads, and takes its time."""

    spend: Callable[[float], None] = field(compare=False)
    fixed: float = 0.1
    per_row: float = 0.001
    name: ClassVar[str] = "counting"
    paper: ClassVar[str] = "none"
    sequential: ClassVar[bool] = False
    needs: ClassVar[tuple[type, ...]] = ()
    prepares_with: ClassVar[Access] = Access()
    unlearns_with: ClassVar[Access] = Access.to(Role.FORGET, Role.RETAIN)

    def prepare(self, problem: Problem, run: Run) -> Artifact:
        return Artifact()

    def unlearn(self, problem: Problem, artifact: Artifact, run: Run) -> Outcome:
        self.spend(self.fixed)
        for role, passes in ((Role.FORGET, 3), (Role.RETAIN, 1)):
            for _ in range(passes):
                for part in torch.split(torch.arange(len(problem.data[role])), 10):
                    run.meter.touch(role.value, len(part))
                    self.spend(self.per_row * len(part))
        with torch.no_grad():  # it breaks the rule that a model is never changed
            for parameter in problem.model.parameters():
                parameter.zero_()
        torch.rand(3)
        return Outcome(())


@dataclass(frozen=True)
class Needy(Counting):
    """It needs what is not there."""

    name: ClassVar[str] = "needy"
    needs: ClassVar[tuple[type, ...]] = (HasMore,)
    prepares_with: ClassVar[Access] = Access.to(Role.PRIOR)
    unlearns_with: ClassVar[Access] = Access.to(Role.FORGET, recipe=True, record=True)


@dataclass(frozen=True)
class Broken(Counting):
    """Its properties fail."""

    @property
    def needs(self) -> tuple[type, ...]:  # type: ignore[override]
        raise RuntimeError("no such thing")


def still(seconds: float) -> None:
    """Take no time."""


def test_rows_are_those_that_answering_the_requests_would_use(
    digits_work: Work, digits_model: nn.Module
) -> None:
    deployment = deploy(digits_work, digits_model)
    asked = rows_of(deployment, REQUESTS, digits_work.test_table)
    served = deploy(digits_work, digits_model)
    for request, found in zip(REQUESTS, asked, strict=True):
        data = served.problem(request, Retrain()).data
        assert (found.forget, found.retain) == (len(data[Role.FORGET]), len(data[Role.RETAIN]))
        assert found.forget + found.retain + found.excluded == len(served.train)
        assert found.share == found.forget / len(served.train)
        served.serve(request, Retrain(), Outcome(()))
    labels = [str(label) for label in digits_work.test_table["label"]]
    assert [found.held_out for found in asked] == [labels.count(k) for k in "835"]
    [group] = asked[1].of("label")
    assert (group.value, group.named, group.rows, group.left) == ("3", 110, 110, 0)


def test_what_was_answered_before_the_plan_is_left_out(
    digits_work: Work, digits_model: nn.Module
) -> None:
    deployment = deploy(digits_work, digits_model)
    planned = rows_of(deployment, REQUESTS, digits_work.test_table)
    deployment.serve(REQUESTS[0], Negation(), Outcome(()))
    assert rows_of(deployment, REQUESTS[1:], digits_work.test_table) == planned[1:]


def test_a_refused_request_is_said_and_hides_no_other(
    digits_work: Work, digits_model: nn.Module
) -> None:
    deployment = deploy(digits_work, digits_model)
    everything = Request("all", Rows("label", tuple("0123456789")))
    unknown = Request("unknown", Rows("label", ("11",)))
    asked = rows_of(
        deployment, (everything, REQUESTS[0], unknown, REQUESTS[1]), digits_work.test_table
    )
    assert "names all" in str(asked[0].refused)
    assert "'11', which the column 'label' does not hold" in str(asked[2].refused)
    alone = rows_of(deployment, REQUESTS[:2], digits_work.test_table)
    assert (asked[1], asked[3]) == alone


def test_a_method_fits_exactly_where_unlearning_does_not_refuse_it(
    digits_work: Work, digits_model: nn.Module
) -> None:
    method = Needy(still)
    for recipe in (True, False):
        deployment = deploy(digits_work, digits_model, recipe=recipe)
        for each in (Retrain(), Negation(), GradientDifference(1), method):
            assert isinstance(each, Method)
            refused = False
            try:
                unlearn(each, problems(deployment, REQUESTS[:1], each)[0], Run())
            except ExpungeError:
                refused = True
            except AssertionError:
                raise
            assert bool(fit_of("it", each, deployment, REQUESTS).lacks) == refused
    assert fit_of("needy", method, deployment, REQUESTS).lacks == (
        "the family 'classifier' lacks HasMore",
        "needs the prior set; there is forget, retain, train",
        "needs the recipe; there is none",
        "needs the training record; there is none",
    )


def test_a_method_that_fails_when_asked_does_not_fit(
    digits_work: Work, digits_model: nn.Module
) -> None:
    [lack] = fit_of("b", Broken(still), deploy(digits_work, digits_model), REQUESTS).lacks
    assert lack == "cannot be used: RuntimeError: no such thing"


@pytest.mark.parametrize(
    "method",
    [
        GradientDifference(epochs=5, batch_size=32, retain_batch_size=48),
        GradientAscent(epochs=3, batch_size=103),  # 104 rows: the last joins the batch before it
        FineTune(epochs=2, batch_size=100),
        Negation(epochs=7, batch_size=10),
        Retrain(),
    ],
    ids=lambda method: method.name,
)
def test_rows_of_a_stopped_descent_are_foretold_exactly(
    method: Method, digits_work: Work, digits_model: nn.Module
) -> None:
    work = replace(digits_work, recipe=replace(digits_work.recipe, learner=Plain(2)))
    deployment = deploy(work, digits_model)
    seen = problems(deployment, REQUESTS[:2], method)
    cost = Probe().cost(method, seen, 0.0)  # no time: each try is stopped after its first step
    assert cost.kinds == ()
    assert cost.footprint.change is None
    for request, estimate in zip(REQUESTS, cost.estimates, strict=False):
        assert estimate.how == "steps"
        assert estimate.low < estimate.seconds < estimate.high
        run = Run()
        deployment.forget(request, method, run)
        assert estimate.touched == run.meter.touched


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """A clock that stands still until time is spent."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def spend(seconds: float) -> None:
        now[0] += seconds

    return spend


def test_a_line_through_two_shares_of_the_rows_is_exact_for_a_linear_method(
    clock: Callable[[float], None], digits_work: Work, digits_model: nn.Module
) -> None:
    deployment, method = deploy(digits_work, digits_model), Counting(clock)
    seen = problems(deployment, REQUESTS[:1], method)
    [estimate] = Probe().cost(method, seen, 1.0).estimates
    assert estimate.how == "rows"
    assert estimate.touched == {"forget": 3 * 104, "retain": 974}
    assert estimate.seconds == pytest.approx(0.1 + 0.001 * (3 * 104 + 974))
    [whole] = Probe().cost(method, seen, 60.0).estimates
    assert (whole.how, whole.touched) == ("whole", estimate.touched)
    assert whole.seconds == pytest.approx(estimate.seconds)


def test_requests_that_are_not_tried_lie_between_those_that_are(
    clock: Callable[[float], None], digits_work: Work, digits_model: nn.Module
) -> None:
    deployment, method = deploy(digits_work, digits_model), Counting(clock)
    ids = deployment.train.ids
    starts = (0, 10, 30, 60, 100)
    requests = [
        Request(str(end), Rows("id", tuple(ids[start:end])))
        for start, end in zip(starts, (*starts[1:], 150), strict=True)
    ]  # of 10, 20, 30, 40 and 50 rows
    seen = problems(deployment, requests, method)
    cost = Probe(Budget(requests=3)).cost(method, seen, 600.0)
    assert [e.how for e in cost.estimates] == ["whole", "between", "whole", "between", "whole"]
    seconds = [e.seconds for e in cost.estimates]
    assert seconds[1] == pytest.approx((seconds[0] + seconds[2]) / 2)
    assert cost.estimates[3].touched["forget"] == 3 * 40


@pytest.mark.parametrize("seconds", [0.0, 60.0])
def test_a_probe_changes_neither_model_nor_random_numbers_nor_history(
    seconds: float, digits_work: Work, digits_model: nn.Module
) -> None:
    deployment = deploy(digits_work, digits_model)
    before = digest_of(deployment.base), deployment.history, torch.get_rng_state().tolist()
    modes = [module.training for module in digits_model.modules()]
    for method in (Counting(still), GradientDifference(1)):
        Probe().cost(method, problems(deployment, REQUESTS[:2], method), seconds)
    after = digest_of(deployment.base), deployment.history, torch.get_rng_state().tolist()
    assert after == before
    assert digest_of(deployment.model) == before[0]
    assert [module.training for module in digits_model.modules()] == modes
    assert all(p.requires_grad and p.grad is None for p in digits_model.parameters())


def test_memory_is_that_of_adam_and_disk_that_of_the_stored_delta(
    tmp_path: Path, digits_work: Work, digits_model: nn.Module
) -> None:
    deployment, method = deploy(digits_work, digits_model), Negation(kept=0.1)
    use = Probe().cost(method, problems(deployment, REQUESTS[:1], method), 60.0).footprint
    weights = sum(4 * p.numel() for p in digits_model.parameters())
    steps = 4 * len(list(digits_model.parameters()))
    assert (use.weights, use.gradients, use.optimiser) == (weights, weights, 2 * weights + steps)
    batch = 104 * 64 * 4  # bytes of the pictures of a step, which the first layer keeps
    assert batch <= use.activations < 10 * batch
    [delta] = deployment.unlearn(REQUESTS[0], method, Run()).changes
    assert isinstance(delta, Delta)
    delta.save(tmp_path / "delta.safetensors")
    written = (tmp_path / "delta.safetensors").stat().st_size
    assert use.change == stored_bytes(delta)
    assert 0 <= written - stored_bytes(delta) < 4096  # the header


def test_a_method_that_fails_in_its_probe_leaves_the_plan_of_the_others(
    digits_work: Work, digits_model: nn.Module
) -> None:
    def fail(seconds: float) -> None:
        raise RuntimeError("out of order")

    found = planned(
        deploy(digits_work, digits_model),
        Negation(1),
        others={"counting": Counting(fail)},
        probe=Probe(Budget(seconds=1.0)),
    )
    by_name = {costed.name: costed for costed in found.costs}
    assert by_name["counting"].failed == "RuntimeError: out of order"
    assert by_name["counting"].total is None
    total = by_name["negation"].total
    assert total is not None
    assert total.touched == {"forget": 104 + 110 + 109}
    assert found.oracle is not None  # the recipe is known, so retraining is estimated too
    assert found.oracle.touched == {"train": 30 * (1078 - 104 - 110 - 109)}


def planned(deployment: Deployment, method: Method, **more: Any) -> Plan:
    given = {"registered": {}, "others": {}, "probe": None, **more}
    table = digits_test_table(deployment)
    return plan(deployment, given.pop("requests", REQUESTS), method, table, **given)


def digits_test_table(deployment: Deployment) -> datasets.Dataset:
    from expunge.data import digits

    return digits.load("test")


TABLE: dict[str, list[Any]] = {
    "id": [f"r{i}" for i in range(60)],
    "subject": ["anna"] * 20 + ["boris"] * 25 + ["clara"] * 15,
    "label": [0] * 20 + [1] * 25 + [0] * 3 + [2] * 12,
}


def small(*, frozen: bool = False, recipe: bool = False) -> Deployment:
    """Sixty rows of three people; rows 50 and 3 have one content."""
    table = datasets.Dataset.from_dict(TABLE)
    image = torch.arange(120.0).reshape(60, 2)
    image[50] = image[3]
    samples = TensorSamples(
        TABLE["id"], TABLE["subject"], {"image": image, "label": torch.tensor(TABLE["label"])}
    )
    model = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))
    model[0].requires_grad_(not frozen)
    family = Classifier(classes=3)
    made = Recipe(lambda seed: model, family, Plain(1)) if recipe else None
    return Deployment(model, family, samples, table, Sum(), recipe=made)


def rows(name: str, *positions: int) -> Request:
    return Request(name, Rows("id", tuple(f"r{i}" for i in positions)))


def risks(
    requests: Sequence[Request],
    deployment: Deployment | None = None,
    method: Method | None = None,
    **more: Any,
) -> dict[str, Risk]:
    deployment, method = deployment or small(), method or Negation()
    held = datasets.Dataset.from_dict({name: column[::2] for name, column in TABLE.items()})
    found = plan(deployment, requests, method, held, registered={}, others={}, probe=None)
    return {r.name: r for r in risks_of(found, deployment, requests, method.name, **more)}


ANNA = Request("anna", Rows("subject", ("anna",)))


def test_identical_rows_that_stay_are_found_until_a_request_names_them_too() -> None:
    found = risks([rows("one", 3, 4)])["identical rows retained"]
    assert found.figures == {"rows": 1}
    assert "'r50'" in found.says
    assert "`expunge find`" in found.advice
    assert "identical rows retained" not in risks([rows("both", 3, 4, 50)])
    assert "identical rows retained" not in risks([rows("one", 3), rows("other", 50)])


def test_a_class_of_which_few_rows_are_left_is_a_risk() -> None:
    almost = rows("almost", *range(48, 57))
    found = risks([almost])["class too small"]
    assert found.figures == {"classes": 1, "fewest left": 3}
    assert "3 of 12" in found.says
    assert "class too small" not in risks([almost], limits=Limits(rows_left=3))
    assert "class too small" in risks([rows("a", *range(48, 52)), rows("b", *range(52, 57))])


def test_a_class_that_disappears_is_a_risk_unless_it_was_asked_for() -> None:
    by_id = risks([rows("the twos", *range(48, 60))])["class disappears"]
    assert by_id.weight == "risk"
    by_label = risks([Request("twos", Rows("label", ("2",)))])["class disappears"]
    assert by_label.weight == "note"
    assert "class disappears" not in risks([rows("some", 48, 49)])


def test_a_subject_named_in_part_stays_in_the_retain_set() -> None:
    found = risks([rows("some of anna", *range(5))])["subject in part"]
    assert found.figures == {"subjects": 1, "rows left": 15}
    whole = risks([ANNA])
    assert "subject in part" not in whole
    assert "subject disappears" not in whole  # it is what was asked for
    assert "subject disappears" in risks([rows("all of anna", *range(20))])


def test_requests_that_share_rows_stop() -> None:
    found = risks([ANNA, rows("again", 18, 20, 21)])["overlap"]
    assert (found.weight, found.request) == ("stops", "again")
    assert found.figures == {"training rows": 1, "held-out rows": 1}


def test_a_method_that_does_not_fit_stops_and_those_that_fit_are_named() -> None:
    found = risks([ANNA], method=Retrain())["method"]
    assert found.weight == "stops"
    assert "needs the recipe" in found.says
    assert "method" not in risks([ANNA], small(recipe=True), Retrain())


def test_size_and_held_out_rows_are_held_against_their_limits() -> None:
    found = risks([ANNA])
    assert found["forget set too large"].figures["share"] == 20 / 60
    assert "forget set too large" not in risks([ANNA], limits=Limits(share=0.34))
    assert "held-out rows" not in found
    assert "single row" not in found
    one = risks([rows("one", 1)])
    assert "single row" in one
    assert one["held-out rows"].figures == {"held-out rows": 0}
    assert "moves the accuracy by 0.50" in risks([rows("four", 0, 1, 2, 3)])["held-out rows"].says


def test_what_no_request_reaches_in_the_model_is_counted() -> None:
    assert "backbone not covered" not in risks([ANNA])
    found = risks([ANNA], small(frozen=True))
    assert found["backbone not covered"].figures == {"parameters": 12, "share": 12 / 35}
    assert found["buffers not covered"].figures == {"buffers": 2}
    assert "pretrained start" not in found
    assert "pretrained start" in risks([ANNA], pretrained=True)
    tied = small()
    tied.base.append(nn.Linear(4, 3))  # type: ignore[operator]
    tied.base[3].weight = tied.base[2].weight  # type: ignore[index]
    assert "'3.weight'" in risks([ANNA], tied)["tied weights"].says
    assert "tied weights" not in found


def test_without_a_recipe_the_level_to_reach_is_unknown() -> None:
    assert "no oracle" in risks([ANNA])
    assert "no oracle" not in risks([ANNA], small(recipe=True))


def test_only_deltas_restore_what_was_forgotten() -> None:
    assert "stored deltas" in risks([ANNA])
    assert "stored deltas" not in risks([ANNA], small(recipe=True), Retrain())


def costed(found: Plan, name: str, seconds: float) -> Plan:
    from expunge.audit.planning import Costed
    from expunge.audit.probe import Footprint

    estimate = Estimate(seconds, seconds, seconds, {}, "whole")
    cost = Cost((estimate,), Footprint(0, 0, 0, 0, 0, None), ())
    return replace(found, costs=(*found.costs, Costed(name, cost)))


@pytest.mark.parametrize(("retraining", "cheaper"), [(0.9, True), (1.1, False)])
def test_retraining_is_advised_where_it_is_estimated_to_be_cheaper(
    retraining: float, cheaper: bool, digits_work: Work, digits_model: nn.Module
) -> None:
    deployment = deploy(digits_work, digits_model)
    found = costed(planned(deployment, Negation()), "negation", 1.0)
    found = costed(found, "retrain", retraining)
    names = {risk.name for risk in risks_of(found, deployment, REQUESTS, "negation")}
    assert ("retraining is cheaper" in names) == cheaper
    names = {risk.name for risk in risks_of(found, deployment, REQUESTS, "retrain")}
    assert "retraining is cheaper" not in names


def test_risks_that_stop_come_first() -> None:
    held = datasets.Dataset.from_dict(TABLE)
    deployment, requests = small(), [ANNA, rows("again", 19, 20)]
    found = plan(deployment, requests, Retrain(), held, registered={}, others={}, probe=None)
    weights = [risk.weight for risk in risks_of(found, deployment, requests, "retrain")]
    assert weights == sorted(weights, key=["stops", "risk", "note"].index)
    assert weights[0] == "stops"
    assert weights[-1] == "note"


def test_targets_of_numbers_are_no_classes() -> None:
    deployment = small()
    numbers = datasets.Dataset.from_dict({**TABLE, "label": [float(i) for i in range(60)]})
    measured = Deployment(deployment.base, deployment.family, deployment.train, numbers, Sum())
    [asked] = rows_of(measured, [ANNA], numbers)
    assert asked.of("label") == ()
    assert len(asked.of("subject")) == 1
