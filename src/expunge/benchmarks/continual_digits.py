"""Requests in a row on a miniature dual encoder: all rules of aggregation within one budget.

Lin, Dong, Chen, Zhang, Xu, Chen (2026). CATA. The paper compares with the plain mean alone; here
the plain sum and six further rules stand beside it, each with the strength that forgets most on
the validation split while never costing more than five points of retained accuracy there, at any
step. Reported figures are of the test split, which chose nothing. The same rules combine vectors
that are confined to what their request reads (methods/confined.py).

Data: the scikit-learn digits, 8 x 8 pictures of ten classes. Model: an image network with unit-norm
output against ten frozen unit vectors that stand for prompts, logits 20 times the cosine.
"""

from collections.abc import Sequence
from typing import Any

import torch
from rich.console import Console

from expunge import registry
from expunge.aggregation import Aggregation, Sum, fold_each
from expunge.audit.course import matrix_of
from expunge.audit.measure import Measured
from expunge.audit.oracle import retrained
from expunge.benchmarks.setting import Setting
from expunge.benchmarks.shipped import digits_dual_encoder
from expunge.changes.delta import Delta
from expunge.deployment import Deployment
from expunge.methods.confined import ConfinedNegation
from expunge.methods.gradient_ascent import GradientAscent
from expunge.methods.negation import Negation
from expunge.methods.protocol import Method
from expunge.recipe import Role
from expunge.requests import Request, Rows
from expunge.run import Run

METHOD = Negation(epochs=8, learning_rate=1e-3, weight_decay=0.0, batch_size=32)
"""The protocol's task vectors: eight epochs of Adam at 1e-3, the largest 30 % kept."""

CONFINED = ConfinedNegation(
    METHOD.epochs, METHOD.learning_rate, METHOD.weight_decay, METHOD.batch_size
)
"""The same descent, its vector confined in the place of trimmed."""

STRENGTHS = tuple(0.05 * 1.12**k for k in range(56))
"""Strengths that are tried, 0.05 to 25; wide, since the mean divides by the number of requests."""

BUDGET = 0.05
"""Retained accuracy that may be lost on validation, at any step."""


def run(seeds: int = 6, requests: int = 5, console: Console | None = None) -> dict[str, Any]:
    """The figures of all rules over seeds 0, 1, ...

    Args:
        seeds: models, orders and task vectors.
        requests: classes to forget, one after another, in a random order.
        console: where progress is drawn.
    """
    per_seed = []
    progress = Run(console=console)
    with progress.progress("digits", seeds) as bar:
        for seed in range(seeds):
            per_seed.append(_one_seed(seed, requests))
            bar.advance()
    names = list(per_seed[0])
    return {
        "seeds": seeds,
        "requests": requests,
        "chance": 0.1,
        "budget": BUDGET,
        "by seed": per_seed,
        "summary": {name: _summary([s[name] for s in per_seed]) for name in names},
        "seeds with less forgotten accuracy than mean": {
            name: sum(s[name]["forgotten"] < s["mean"]["forgotten"] for s in per_seed)
            for name in names
        },
        "seeds with less forgotten accuracy than sum": {
            name: sum(s[name]["forgotten"] < s["sum"]["forgotten"] for s in per_seed)
            for name in names
        },
    }


def tables(
    result: dict[str, Any],
) -> list[tuple[str, Sequence[str], list[Sequence[object]]]]:
    """Title, columns and rows of what is printed."""
    columns = ["in %", "forgotten", "sd", "worst", "kept", "sd", "drift", "RE", "<mean", "<sum"]
    rows: list[Sequence[object]] = []
    for name, s in result["summary"].items():
        rows.append(
            [
                name,
                *(
                    f"{100 * s[key]:.1f}"
                    for key in ("forgotten", "forgotten sd", "worst", "retained", "retained sd")
                ),
                f"{100 * s['avg delta']:.1f}",
                f"{100 * s['re-emergence']:.1f}",
                f"{result['seeds with less forgotten accuracy than mean'][name]}/{result['seeds']}",
                f"{result['seeds with less forgotten accuracy than sum'][name]}/{result['seeds']}",
            ]
        )
    title = (
        f"{result['requests']} of 10 digit classes forgotten in a row, {result['seeds']} seeds. "
        f"Test split, chance 10 %. At most {100 * BUDGET:.0f} points of retained accuracy lost on "
        "validation at any step. drift: Avg. Delta; RE: worst re-emergence; <mean: seeds with less "
        "forgotten accuracy than mean"
    )
    return [(title, columns, rows)]


def _one_seed(seed: int, count: int) -> dict[str, dict[str, Any]]:
    work = digits_dual_encoder(seed)
    run = Run(seed)
    base = work.recipe.make(work.data, run).model
    order = torch.randperm(10, generator=run.generator("order"))[:count].tolist()
    asked = tuple(Request(f"digit {c}", Rows("label", (str(c),)), labels=(c,)) for c in order)
    deployment = Deployment(
        base, work.recipe.family, work.data[Role.TRAIN], work.table, Sum(), recipe=work.recipe
    )
    setting = Setting.of(base, retrained(deployment, asked, run), work, asked, run)
    found: dict[str, dict[str, Any]] = {}
    untouched, oracle = (setting.scored(m, setting.test) for m in (base, setting.oracle))
    found["original"] = _figures(setting, [untouched] * count, None)
    found["oracle"] = _figures(setting, [oracle] * count, None)
    kinds: dict[str, Method] = {"": METHOD, "confined, ": CONFINED}
    for before, method in kinds.items():
        deltas = _vectors(setting, method)
        for name in registry.names("aggregations"):
            rule = registry.load("aggregations", name)()
            found[f"{before}{name}"] = _rule(setting, rule, deltas)
    found["ascent, sequential"] = _sequential(setting, GradientAscent(8, 1e-3, 32, sequential=True))
    return found


def _vectors(setting: Setting, method: Method) -> list[Delta]:
    deployment = setting.deployment(Sum())
    outcomes = (deployment.unlearn(request, method, setting.run) for request in setting.requests)
    return [change for o in outcomes for change in o.changes if isinstance(change, Delta)]


def _rule(setting: Setting, rule: Aggregation[Any], deltas: Sequence[Delta]) -> dict[str, Any]:
    """Every rule is homogeneous in a common strength, so each step is folded once."""
    folded = fold_each(rule, [(delta, 1.0) for delta in deltas])
    floor = setting.scored(setting.base, setting.validation).retained - BUDGET
    best, forgets = 0.0, float("inf")
    for strength in STRENGTHS:
        steps = [
            setting.scored(f.applied_to(setting.base, strength), setting.validation) for f in folded
        ]
        if min(step.retained for step in steps) < floor:
            break
        if float(steps[-1].requests.mean()) < forgets:
            best, forgets = strength, float(steps[-1].requests.mean())
    steps = [setting.scored(f.applied_to(setting.base, best), setting.test) for f in folded]
    return _figures(setting, steps, best)


def _sequential(setting: Setting, method: Method) -> dict[str, Any]:
    deployment = setting.deployment(Sum())
    steps = []
    for request in setting.requests:
        deployment.forget(request, method, setting.run)
        steps.append(setting.scored(deployment.model, setting.test))
    return _figures(setting, steps, None)


def _figures(setting: Setting, steps: Sequence[Measured], strength: float | None) -> dict[str, Any]:
    before = setting.scored(setting.base, setting.test)
    matrix = matrix_of(before, steps)
    return {
        "forgotten": float(matrix.final.mean()),
        "worst": float(matrix.final.max()),
        "retained": steps[-1].retained,
        "avg delta": matrix.avg_delta(),
        "re-emergence": float(matrix.re_emergence().max(initial=-1.0)),
        "matrix": matrix.after.tolist(),
        "strength": strength,
    }


def _summary(seeds: Sequence[dict[str, Any]]) -> dict[str, float]:
    keys = ("forgotten", "worst", "retained", "avg delta", "re-emergence")
    columns = {k: torch.tensor([float(s[k]) for s in seeds], dtype=torch.float64) for k in keys}
    spread = {
        f"{k} sd": float(c.std(correction=1)) if len(c) > 1 else 0.0 for k, c in columns.items()
    }
    return {**{k: float(c.mean()) for k, c in columns.items()}, **spread}
