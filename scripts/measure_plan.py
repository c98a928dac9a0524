"""Prints what `expunge plan` estimates beside what the same work takes: seconds, and rows read.

    python scripts/measure_plan.py digits
    python scripts/measure_plan.py mnist
    python scripts/measure_plan.py emoji negation gradient-difference

Names of methods after the set choose among its three: negation, gradient-difference, retrain.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass

import torch

from expunge.aggregation import Sum
from expunge.audit.planning import plan
from expunge.audit.probe import Probe
from expunge.benchmarks import demo, shipped
from expunge.data import mnist, own
from expunge.deployment import Deployment
from expunge.families.classifier import Classifier
from expunge.learning.supervised.plain import Plain
from expunge.methods.gradient_difference import GradientDifference
from expunge.methods.negation import Negation
from expunge.methods.protocol import Method
from expunge.methods.retrain import Retrain
from expunge.models.cnn import SmallCnn
from expunge.recipe import Recipe, Role
from expunge.requests import Named, Request, Rows
from expunge.run import Run

DIGITS = tuple(Request(f"digit {k}", Rows("label", (str(k),))) for k in (8, 3))


@dataclass(frozen=True)
class Setting:
    """A model in use and what it is asked to forget."""

    deployment: Callable[[], Deployment]
    requests: tuple[Request, ...]
    test: Named
    methods: tuple[Method, ...]


def of_work(work: shipped.Work, model: torch.nn.Module) -> Callable[[], Deployment]:
    train = work.data[Role.TRAIN]
    family = work.recipe.family
    return lambda: Deployment(model, family, train, work.table, Sum(), recipe=work.recipe)


def on_digits() -> Setting:
    work = shipped.digits_classifier_work()
    model = work.recipe.make(work.data, Run()).model
    methods = (Negation(), GradientDifference(6, 3e-4), Retrain())
    return Setting(of_work(work, model), DIGITS, work.test_table, methods)


def on_mnist() -> Setting:
    """Untrained weights, which cost as much as trained ones."""

    def build(seed: int) -> torch.nn.Module:
        return SmallCnn(torch.Generator().manual_seed(seed))

    table = mnist.load("train")
    train = own.samples(table, mnist.tensors(table))
    recipe = Recipe(build, Classifier(classes=10), Plain(3))
    model = build(0)

    def deployment() -> Deployment:
        return Deployment(model, recipe.family, train, table, Sum(), recipe=recipe)

    methods = (Negation(), GradientDifference(3, 3e-4), Retrain())
    return Setting(deployment, DIGITS, mnist.load("test"), methods)


def on_emoji() -> Setting:
    work = shipped.emoji_dual_encoder()
    made = of_work(work, shipped.emoji_base())
    methods = (demo.NEGATION, GradientDifference(1), Retrain())
    return Setting(made, demo.requests()[:2], work.test_table, methods)


def main() -> None:
    torch.set_num_threads(1)
    chosen, *names = sys.argv[1:]
    setting = {"digits": on_digits, "mnist": on_mnist, "emoji": on_emoji}[chosen]()
    methods = {m.name: m for m in setting.methods if not names or m.name in names}
    first = next(iter(methods.values()))
    found = plan(
        setting.deployment(),
        setting.requests,
        first,
        setting.test,
        registered={},
        others=methods,
        probe=Probe(),
    )
    print(f"{chosen}: the probe took {found.probed:.1f} s")
    print(
        "method               request      how    estimate  range            true     ratio  rows"
    )
    for costed in found.costs:
        if costed.name not in methods or costed.cost is None:
            continue
        deployment = setting.deployment()
        for request, estimate in zip(setting.requests, costed.cost.estimates, strict=True):
            run = Run()
            deployment.forget(request, methods[costed.name], run)
            true = run.meter.seconds
            rows = "exact" if dict(estimate.touched) == dict(run.meter.touched) else "differ"
            print(
                f"{costed.name:20s} {request.name:12s} {estimate.how:6s} {estimate.seconds:8.3f}"
                f"  {estimate.low:6.3f} - {estimate.high:7.3f} {true:8.3f}  "
                f"{estimate.seconds / true:5.2f}  {rows}",
                flush=True,
            )


if __name__ == "__main__":
    main()
