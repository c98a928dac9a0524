"""A course of requests: everything is measured before the first and after each."""

from expunge.aggregation.sum import Sum
from expunge.audit.course import follow
from expunge.audit.measure import Panel, measure
from expunge.benchmarks.shipped import digits_classifier_work
from expunge.deployment import Deployment
from expunge.methods.gradient_difference import GradientDifference
from expunge.recipe import Role
from expunge.requests import Request, Rows
from expunge.run import Run


def test_every_request_is_measured_at_every_step_on_both_kinds_of_rows() -> None:
    work = digits_classifier_work()
    base = work.recipe.make(work.data, Run()).model
    requests = [Request(f"digit {c}", Rows("label", (c,))) for c in ("8", "3")]
    train = work.data[Role.TRAIN]
    held_out = Panel.of(work.test, work.test_table, requests)
    own = Panel.of_forget_rows(train, work.table, requests)
    deployment = Deployment(base, work.recipe.family, train, work.table, Sum())
    method = GradientDifference(epochs=6, learning_rate=3e-4)
    course = follow(deployment, requests, method, held_out, Run(), [1.0, 0.0], own)

    assert course.forget_rows_before is not None
    assert course.forget_rows_before.requests.min() > 0.9
    steps = [step.forget_rows for step in course.steps]
    assert all(step is not None and len(step.requests) == 2 for step in steps)
    assert course.matrix().after.shape == (2, 2)
    assert len(course.retained()) == 3
    # the second request was answered with strength 0, so the model stays as after the first
    first, second = (step.measured for step in course.steps)
    assert first.requests.tolist() == second.requests.tolist()
    again = measure(work.recipe.family, deployment.model, held_out, Run())
    assert again.requests.tolist() == course.final.requests.tolist()
    assert course.steps[1].touched[Role.FORGET.value] > 0


def test_without_a_second_panel_only_held_out_rows_are_measured() -> None:
    work = digits_classifier_work()
    base = work.recipe.builder(0)
    requests = [Request("digit 8", Rows("label", ("8",)))]
    deployment = Deployment(base, work.recipe.family, work.data[Role.TRAIN], work.table, Sum())
    panel = Panel.of(work.test, work.test_table, requests)
    course = follow(deployment, requests, GradientDifference(epochs=1), panel, Run())
    assert course.forget_rows_before is None
    assert course.steps[0].forget_rows is None
