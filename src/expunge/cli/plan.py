"""``expunge plan``: what a run file would do, cost and risk, without doing it."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from expunge.audit.planning import Asked, Costed, Fit, Plan
from expunge.audit.planning import plan as planned
from expunge.audit.probe import Estimate, How, Probe
from expunge.audit.risks import Risk, risks_of
from expunge.cli.output import JsonPath, console, table, write_json
from expunge.cli.own_method import method_classes
from expunge.methods.presets import AtPreset
from expunge.run_file.made import known_methods
from expunge.run_file.reading import read

HOW: Mapping[How, str] = {
    "whole": "it ran to its end, so nothing is extrapolated",
    "steps": "it was stopped; the pace of its steps leads to their known number",
    "rows": "a line through its time on two shares of the rows leads to all of them",
    "between": "not tried; it lies between requests with fewer and with more rows",
}
"""How an estimate was found."""


def plan(
    run_file: Annotated[Path, typer.Argument(help="YAML run file; docs/run_file.md explains it.")],
    method: Annotated[
        list[str] | None,
        typer.Option(help="Estimate this method too, at its preset: a name, or a .py file."),
    ] = None,
    no_probe: Annotated[
        bool, typer.Option("--no-probe", help="Try nothing out: no times and no memory.")
    ] = False,
    json: JsonPath = None,
) -> None:
    """Say what a run file would do, how long it takes and what could go wrong; change nothing."""
    loaded = read(run_file)
    others = {each.name: AtPreset.of(each.made({})) for each in method_classes(method or [])}
    others.pop(loaded.method.name, None)  # with the run file's own hyper-parameters
    known, broken = known_methods()
    run = loaded.run()
    found = planned(
        loaded.deployment,
        loaded.requests,
        loaded.method,
        loaded.test_table,
        registered=known,
        others=others,
        probe=None
        if no_probe
        else Probe(seed=run.seed, device=run.device, precision=run.precision),
    )
    recipe = loaded.file.recipe
    risks = risks_of(
        found,
        loaded.deployment,
        loaded.requests,
        loaded.method.name,
        pretrained=recipe is not None and recipe.initial is not None,
    )
    _show_rows(found.asked)
    _show_fits(found.fits, broken)
    _show_costs(found)
    _show_risks(risks)
    console.print("This was a plan: nothing was changed and nothing was written.")
    write_json(json, _figures(found, risks, broken))


def _show_rows(asked: Sequence[Asked]) -> None:
    columns = ["request", "forget", "retain", "left out", "held-out"]
    groups = {"label": "classes", "subject": "subjects"}
    shown = [column for column in groups if any(each.of(column) for each in asked)]
    rows: list[list[object]] = []
    for each in asked:
        counts = [f"{each.forget} ({each.share:.1%})", each.retain, each.excluded, each.held_out]
        if each.refused is not None:
            counts = ["refused", *[None] * 3]
        rows.append([each.name, *counts, *(len(each.of(column)) or None for column in shown)])
    titles = [*columns, *(groups[column] for column in shown)]
    console.print(table("Rows of each request (share of the training set)", titles, rows))
    console.print("left out: rows that earlier requests removed", soft_wrap=True)


def _show_fits(fits: Sequence[Fit], broken: Sequence[str]) -> None:
    fitting = [[f.name, f.reads, f.returns, f.state] for f in fits if not f.lacks]
    console.print(table("Methods that fit", ["method", "reads", "returns", "leaves"], fitting))
    for fit in fits:
        if not fit.lacks and fit.prepares_with != "nothing":
            console.print(f"{fit.name} prepares with: {fit.prepares_with}", soft_wrap=True)
    for fit in fits:
        if fit.lacks:
            console.print(f"{fit.name} does not fit: {'; '.join(fit.lacks)}", soft_wrap=True)
    for sentence in broken:
        console.print(sentence, soft_wrap=True)


def _show_costs(found: Plan) -> None:
    if not found.costs:
        console.print("Times and memory are not estimated: nothing was probed.")
        return
    names = [asked.name for asked in found.asked if asked.refused is None]
    for costed in found.costs:
        _show_cost(costed, names)
    if found.oracle is not None:
        console.print(
            f"The oracle, which `expunge forget` retrains once beside all this: "
            f"{_seconds(found.oracle)}",
            soft_wrap=True,
        )
    used = dict.fromkeys(e.how for c in found.costs if c.cost for e in c.cost.estimates)
    for how in used:
        console.print(f"{how}: {HOW[how]}", soft_wrap=True)
    console.print(f"The probe took {found.probed:.1f} s on {found.device}.")


def _show_cost(costed: Costed, names: Sequence[str]) -> None:
    cost, total = costed.cost, costed.total
    if cost is None or total is None:
        reason = costed.failed or "no step ended within the time of the probe"
        console.print(f"{costed.name}: no estimate ({reason})", soft_wrap=True)
        return
    rows = [
        [name, _two(e.seconds), _range(e), sum(e.touched.values()), e.how]
        for name, e in zip(names, cost.estimates, strict=True)
    ]
    if len(names) > 1:
        rows.append(["in all", _two(total.seconds), _range(total), sum(total.touched.values()), ""])
    title = f"Estimated cost of {costed.name}"
    console.print(table(title, ["request", "seconds", "range", "rows read", "how"], rows))
    use = cost.footprint
    stored = "not seen" if use.change is None else _bytes(use.change)
    console.print(
        f"Memory of a step: {_bytes(use.working)} (weights {_bytes(use.weights)}, gradients "
        f"{_bytes(use.gradients)}, optimiser {_bytes(use.optimiser)}, activations "
        f"{_bytes(use.activations)}); the whole process peaked at {_bytes(use.peak)}. On disk for "
        f"each request: {stored}.",
        soft_wrap=True,
    )


def _show_risks(risks: Sequence[Risk]) -> None:
    console.print("Risks" if risks else "No risk was found.")
    for risk in risks:
        where = "" if risk.request is None else f", {risk.request}"
        console.print(
            f"  {risk.weight}: {risk.name}{where}: {risk.says.rstrip('.')}. {risk.advice}",
            soft_wrap=True,
        )


def _seconds(estimate: Estimate) -> str:
    return f"{_two(estimate.seconds)} s ({_range(estimate)})"


def _range(estimate: Estimate) -> str:
    return f"{_two(estimate.low)} to {_two(estimate.high)}"


def _two(seconds: float) -> str:
    """Two figures, and no exponent."""
    return f"{seconds:.0f}" if seconds >= 10 else f"{float(f'{seconds:.2g}'):g}"


def _bytes(count: float) -> str:
    """In the unit that leaves fewer than four figures before the point."""
    power = min(3, int(math.log(max(1, count), 1000)))
    number = count / 1000**power
    return f"{number:.{0 if power == 0 or number >= 100 else 1}f} {('B', 'kB', 'MB', 'GB')[power]}"


def _figures(found: Plan, risks: Sequence[Risk], broken: Sequence[str]) -> dict[str, Any]:
    """The plan as JSON values."""
    return {
        "requests": [dataclasses.asdict(asked) for asked in found.asked],
        "overlaps": [dataclasses.asdict(pair) for pair in found.overlaps],
        "methods": [{**dataclasses.asdict(fit), "fits": not fit.lacks} for fit in found.fits],
        "broken": list(broken),
        "costs": [_cost_figures(costed) for costed in found.costs],
        "oracle": None if found.oracle is None else dataclasses.asdict(found.oracle),
        "probe": {"seconds": found.probed, "device": found.device},
        "risks": [dataclasses.asdict(risk) for risk in risks],
    }


def _cost_figures(costed: Costed) -> dict[str, Any]:
    total = costed.total
    return {
        **dataclasses.asdict(costed),
        "total": None if total is None else dataclasses.asdict(total),
    }
