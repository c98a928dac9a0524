"""O3 on five topics of invented facts: three requests in turn, the gate as it is, open and shut.

Gao, Wang et al. (2025). On Large Language Model Continual Unlearning. No rows of other topics are
opened. Beside each figure stand the model before, and an oracle retrained without all facts that
were requested, paraphrases too. Fields were set by hand on seed 0 (the paper's are for a model of
7 billion weights), on the same rows; seeds from 1 chose nothing.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from statistics import fmean, stdev
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn

from expunge.aggregation.sum import Sum
from expunge.benchmarks.o3.world import OPTIONS, REQUESTED, TOPICS, World, world
from expunge.changes.adapter import LowRank
from expunge.changes.adapter_bank import AdapterBank, GatedAdapter
from expunge.data.samples import TensorSamples
from expunge.deployment import Deployment
from expunge.methods.o3 import O3, Gatekeeping, O3Published
from expunge.recipe import Role
from expunge.requests import Request, Rows
from expunge.run import Run
from expunge.signals.ask import ask
from expunge.signals.roc import Roc

FIELDS: dict[str, Any] = {
    "epochs": 80,
    "learning_rate": 3e-3,
    "batch_size": 16,
    "detector_epochs": 10,
    "detector_learning_rate": 1e-3,
}
"""What fits a model of a hundred thousand weights."""

METHODS: dict[str, Gatekeeping] = {
    "o3": O3(**FIELDS),
    "o3, lambda 0": O3(**FIELDS, orthogonality=0.0),
    "o3, detector untrained": O3(**{**FIELDS, "detector_epochs": 0}),
    "o3-published": O3Published(**FIELDS),
    "o3-published, lambda 0": O3Published(**FIELDS, orthogonality=0.0),
}

QUICK = ("o3", "o3, lambda 0", "o3-published")
"""Methods of the quick form."""

KEPT = tuple(topic for topic in TOPICS if topic not in REQUESTED)
"""Topics that nobody requests."""

WORLDS = {"names of each topic": False, "names of all topics": True}
"""Whether names are drawn from all topics' names."""

GATES = {"as it is": None, "open": 1.0, "shut": 0.0}
"""The weight that all texts get; None for that of the gate."""


def run(
    seeds: int = 1, methods: Sequence[str] = QUICK, console: Console | None = None
) -> dict[str, Any]:
    """Figures of methods in both worlds, for seeds 0, 1, ...

    Args:
        seeds: worlds, models and adapters.
        methods: of :data:`METHODS`.
        console: where progress is drawn.

    Returns:
        JSON values; accuracies are shares of greedy answers that are wholly right.
    """
    cells = []
    with Run(console=console).progress("O3", seeds * len(WORLDS) * len(methods)) as bar:
        for seed in range(seeds):
            for name, shared in WORLDS.items():
                here = world(seed, names_of_all=shared)
                base = here.recipe.make(here.data, Run(seed)).model
                oracle = here.recipe.make({Role.TRAIN: here.without_requested()}, Run(seed)).model
                models = {"original": base, "oracle": oracle}
                found = {label: _panel(here, model) for label, model in models.items()}
                for label in methods:
                    found[label] = measured(here, base, METHODS[label], Run(seed))
                    bar.advance()
                cells.append({"seed": seed, "world": name, "found": found})
    return {"seeds": seeds, "chance": 1 / OPTIONS, "requests": list(REQUESTED), "cells": cells}


def measured(here: World, base: nn.Module, method: Gatekeeping, run: Run) -> dict[str, Any]:
    """Three requests in turn by one method, and all its figures."""
    deployment = Deployment(base, here.recipe.family, here.samples, here.table, Sum())
    steps = []
    for topic in REQUESTED:
        deployment.forget(Request(topic, Rows("part", (topic,))), method, run)
        steps.append(_panel(here, deployment.model))
    bank: AdapterBank = deployment.model.bank  # type: ignore[assignment]
    return {
        "steps": steps,
        "gate": {
            name: _panel(here, replace(bank, held=weight).around(base))
            for name, weight in GATES.items()
        },
        "bit for bit": _unchanged(here, base, replace(bank, held=0.0).around(base)),
        "detectors": [
            _detector(here, base, entry, topic)
            for entry, topic in zip(bank.entries, REQUESTED, strict=True)
        ],
        "overlap": [
            overlap(one.adapter, other.adapter) for one, other in combinations(bank.entries, 2)
        ],
    }


def overlap(one: LowRank, other: LowRank) -> float:
    """Root of the sum over layers of ||A_1 A_2^T||_F^2."""
    found = [
        (factors.A @ other.factors[name].A.T).square().sum()
        for name, factors in one.factors.items()
    ]
    return float(torch.stack(found).sum().sqrt())


def _panel(here: World, model: nn.Module) -> dict[str, float]:
    """Accuracy by the part that rows play."""
    parts = {"kept": here.of(KEPT)}
    for topic in REQUESTED:
        parts |= {f"{topic}, {name}": rows for name, rows in _parts(here, topic).items()}
    return {
        name: float(ask(here.recipe.family, model, rows, Run()).query("correct").mean())
        for name, rows in parts.items()
    }


def _parts(here: World, topic: str) -> dict[str, TensorSamples]:
    return {
        "requested": here.rows((topic,), requested=True, paraphrased=False),
        "paraphrased": here.rows((topic,), requested=True, paraphrased=True),
        "other names": here.rows((topic,), requested=False, paraphrased=False),
    }


def _unchanged(here: World, base: nn.Module, guarded: nn.Module) -> bool:
    ids = here.samples.columns["input_ids"]
    with torch.inference_mode():
        one, other = (model.eval()(input_ids=ids).logits for model in (base, guarded))
    return torch.equal(one, other)


def _detector(here: World, base: nn.Module, entry: GatedAdapter, topic: str) -> dict[str, float]:
    """AUROC against all rows of other topics, and the shares of rows at which it fires."""
    others = _scores(base, entry, here.of([one for one in TOPICS if one != topic]))
    usual = entry.detector.usual

    def fires(scores: Tensor) -> float:
        return float((usual.weights(usual.usualness(scores)) > 0).double().mean())

    found = {"fires, other topics": fires(others)}
    for part, rows in _parts(here, topic).items():
        scores = _scores(base, entry, rows)
        member = torch.cat([torch.ones(len(scores)), torch.zeros(len(others))]).bool()
        found[f"AUROC, {part}"] = Roc.of(torch.cat([scores, others]), member).auc
        found[f"fires, {part}"] = fires(scores)
    return found


def _scores(base: nn.Module, entry: GatedAdapter, rows: TensorSamples) -> Tensor:
    detector = entry.detector
    with torch.inference_mode():
        return detector.scores(detector.reader.states(base.eval(), rows.columns["input_ids"]))


def tables(result: dict[str, Any]) -> list[tuple[str, Sequence[str], list[Sequence[object]]]]:
    """Title, columns and rows of what is printed."""
    found = []
    for name in WORLDS:
        cells = [cell["found"] for cell in result["cells"] if cell["world"] == name]
        found += [_accuracies(name, cells, result), _gates(name, cells)]
    return found


def _accuracies(
    name: str, cells: Sequence[dict[str, Any]], result: dict[str, Any]
) -> tuple[str, Sequence[str], list[Sequence[object]]]:
    title = (
        f"{name.capitalize()}: accuracy after {len(REQUESTED)} requests, "
        f"{result['seeds']} seed(s), chance {result['chance']:.2f}. worst: request, after any "
        "later step; kept: topics that nobody requested"
    )
    columns = (
        "", "requested", "worst", "paraphrased", "other names", "kept", "kept, gate open",
        "requested, gate shut", "||A A'||",
    )  # fmt: skip
    rows: list[Sequence[object]] = []
    for label in ("original", "oracle"):
        panels = [cell[label] for cell in cells]
        shown = [_mean([_over(p, part) for p in panels]) for part in PARTS]
        rows.append(
            [label, shown[0], "", *shown[1:], _mean([p["kept"] for p in panels]), *[""] * 3]
        )
    for label in (name for name in METHODS if name in cells[0]):
        every = [cell[label] for cell in cells]
        gate = [one["gate"]["as it is"] for one in every]
        opened = [one["gate"]["open"]["kept"] for one in every]
        shut = [_over(one["gate"]["shut"], "requested") for one in every]
        shown = [_mean([_over(p, part) for p in gate]) for part in PARTS]
        rows.append(
            [
                label,
                shown[0],
                _mean([_worst(one["steps"]) for one in every]),
                *shown[1:],
                _mean([p["kept"] for p in gate]),
                _mean(opened),
                _mean(shut),
                _mean([value for one in every for value in one["overlap"]]),
            ]
        )
    return title, columns, rows


PARTS = ("requested", "paraphrased", "other names")
"""Rows of a topic: as requested, the same facts in other words, and facts about other names."""


def _gates(
    name: str, cells: Sequence[dict[str, Any]]
) -> tuple[str, Sequence[str], list[Sequence[object]]]:
    title = f"{name.capitalize()}: detectors against all rows of other topics; least of all, mean"
    keys = [f"{kind}, {part}" for part in PARTS for kind in ("AUROC", "fires")]
    keys.append("fires, other topics")
    rows: list[Sequence[object]] = []
    for label in (name for name in ("o3", "o3, detector untrained") if name in cells[0]):
        every = [one for cell in cells for one in cell[label]["detectors"]]
        shown = []
        for key in keys:
            values = [one[key] for one in every]
            edge = max(values) if key == "fires, other topics" else min(values)
            shown.append(f"{edge:.2f}, {fmean(values):.2f}")
        rows.append([label, *shown])
    return title, ["", *keys], rows


def _over(panel: dict[str, float], part: str) -> float:
    """Mean over requests."""
    return fmean(panel[f"{topic}, {part}"] for topic in REQUESTED)


def _worst(steps: Sequence[dict[str, float]]) -> float:
    """The largest accuracy on a request's rows after it or any later request."""
    return max(
        panel[f"{topic}, requested"]
        for number, topic in enumerate(REQUESTED)
        for panel in steps[number:]
    )


def _mean(values: Sequence[float]) -> str:
    shown = f"{fmean(values):.2f}"
    return f"{shown}±{stdev(values):.2f}" if len(values) > 1 else shown
