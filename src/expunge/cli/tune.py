"""``expunge tune``: the same number of trials for every method, on validation rows."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from torch import nn

from expunge.audit.case import Case
from expunge.audit.gap import Scores, unit_of
from expunge.audit.kept_models import KeptModels
from expunge.audit.measure import Panel, measure
from expunge.audit.tuning import Objective, Trial, Trials, Tuned
from expunge.cli.cases import (
    case_of,
    given_oracle,
    setting_digest,
    shared_setting,
    validation_panel,
)
from expunge.cli.output import JsonPath, console, table, writable, write_json
from expunge.cli.own_method import MethodClass, method_classes
from expunge.errors import ExpungeError
from expunge.methods.presets import inside
from expunge.run_file.reading import Loaded, read
from expunge.signals.ask import metric_of
from expunge.storage import write_bytes

COLUMNS = ("method", "best", "paper's defaults", "preset", "at trial", "trials")

OBJECTIVE = (
    "Average gap to the oracle on validation rows: the mean of the absolute differences on the "
    "forget rows, on the requests' held-out rows, and on the retained held-out rows."
)


def tune(
    run_file: Annotated[Path, typer.Argument(help="YAML run file; docs/run_file.md explains it.")],
    methods: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[METHOD]",
            help="Registered names, or your own .py file, which is run. The run file's by default.",
        ),
    ] = None,
    trials: Annotated[int, typer.Option(min=1, help="Trials of each method.")] = 20,
    storage: Annotated[Path, typer.Option(help="SQLite file of all trials.")] = Path("trials.db"),
    oracle: Annotated[
        Path | None, typer.Option(help="Weights of the oracle, where there is no recipe.")
    ] = None,
    write: Annotated[
        Path | None, typer.Option(help="Write the best `method:` of each to this YAML file.")
    ] = None,
    json: JsonPath = None,
) -> None:
    """Find hyper-parameters: the same budget for each method, never on test rows."""
    for path, what in ((storage, "The file of --storage,"), (write, "The file of --write,")):
        if path is not None:
            writable(path, what)
    loaded = read(run_file)
    validation = validation_panel(loaded, "Hyper-parameters are tuned")
    classes = method_classes(methods or [loaded.file.method.name])
    _check_reference(loaded, oracle)
    case, given = case_of(loaded), given_oracle(loaded, oracle)
    _check_fit(case, classes)
    database = Trials(storage)
    with database.alone():
        shared = shared_setting(loaded, case, validation, given)
        model = given or _retrained(loaded, case, storage, setting_digest(shared))
        objective, original = _objective(loaded, case, validation, model)
        found = [
            database.tune(
                each.name,
                setting_digest(shared, each),
                each.space,
                each.made,
                objective,
                trials,
                loaded.file.seed,
                partial(_told, each.name, trials if each.space.ranges else 1),
                each.at_preset(),
            )
            for each in classes
        ]
    _show(found, classes, original, loaded)
    if write is not None:
        write_bytes(write, fragment(found).encode())
        console.print(f"Written to {write}", soft_wrap=True)
    write_json(json, _figures(found, original, objective, loaded))


def _check_reference(loaded: Loaded, oracle: Path | None) -> None:
    if oracle is None and loaded.deployment.recipe is None:
        raise ExpungeError(
            "Trials are judged by their distance to the oracle, and the run file has no `recipe` "
            "to retrain it from; add a `recipe`, or give the oracle's weights with --oracle."
        )


def _check_fit(case: Case, classes: list[MethodClass]) -> None:
    for each in classes:
        if (inner := inside(each.made({}))) is not None:
            raise ExpungeError(
                f"{each.name!r} is put around another method, such as {inner.name!r}, whose fields "
                "a search does not reach; tune that method by itself, and give the fields in "
                "`method.parameters`."
            )
        if (why := case.unfit(each.made({}))) is not None:
            raise ExpungeError(
                f"The method {each.name!r} does not fit: {why}. Leave it out; `expunge plan` lists "
                "those that fit."
            )


def _retrained(loaded: Loaded, case: Case, storage: Path, key: str) -> nn.Module:
    """The oracle, from the folder beside the database if it was made before."""
    kept = KeptModels(storage.with_name(f"{storage.name}.oracles"))
    model, was_there = kept.get(key, case.base, lambda: case.retrained(loaded.run(console=console)))
    console.print(
        "The oracle was retrained before, and is used again."
        if was_there
        else f"The oracle was retrained from the recipe, and is kept in {kept.folder}.",
        soft_wrap=True,
    )
    return model


def _objective(
    loaded: Loaded, case: Case, validation: Panel, oracle: nn.Module
) -> tuple[Objective, float]:
    """The objective, and what the original scores on it."""
    own, family = case.forget_rows(), case.family
    original, reference = (
        Scores.of(
            measure(family, model, validation, loaded.run()),
            measure(family, model, own, loaded.run()),
        )
        for model in (case.base, oracle)
    )
    unit = unit_of(metric_of(family), original)
    objective = Objective(case, validation, own, reference, unit, loaded.run)
    return objective, objective.gap_of(original)


def _told(name: str, trials: int, trial: Trial) -> None:
    result = f"failed: {trial.reason}" if trial.gap is None else f"gap {trial.gap:.4f}"
    which = " (preset)" if trial.preset else ""
    console.print(f"{name}, trial {trial.number}{which} of {trials}: {result}", soft_wrap=True)


def _show(found: list[Tuned], classes: list[MethodClass], original: float, loaded: Loaded) -> None:
    rows = [["original", f"{original:.4f}", *[None] * 4]]
    rows += [
        [
            each.method,
            "failed" if each.best is None else _gap(each.best),
            _gap(each.defaults),
            "-" if each.preset is None else _gap(each.preset),
            "-" if each.best is None else str(each.best.number),
            str(len(each.trials)),
        ]
        for each in found
    ]
    title = f"Average gap to the oracle, validation rows, seed {loaded.file.seed}"
    console.print(table(title, COLUMNS, rows))
    for each, kind in zip(found, classes, strict=True):
        if each.best is None:
            console.print(
                f"{each.method}: every trial failed: {each.defaults.reason}", soft_wrap=True
            )
        else:
            values = ", ".join(f"{n} {_short(v)}" for n, v in each.best.parameters.items())
            without = "its preset" if each.best.preset else "its defaults"
            console.print(f"{each.method}: {values or without}", soft_wrap=True)
        if not kind.space.declared or not kind.space.ranges:
            console.print(f"  tuned: {kind.space.note}", soft_wrap=True)
    console.print(OBJECTIVE, soft_wrap=True)
    console.print("No test row was looked at; measure what was found with `expunge compare`.")


def _gap(trial: Trial) -> str:
    return "failed" if trial.gap is None else f"{trial.gap:.4f}"


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def fragment(found: list[Tuned]) -> str:
    """The best hyper-parameters as `method:` keys of a run file, one YAML document each."""
    parts = [
        {"method": {"name": each.method, **_chosen(each.best)}}
        for each in found
        if each.best is not None
    ]
    text: str = yaml.safe_dump_all(parts, sort_keys=False, explicit_start=len(parts) > 1)
    return text


def _chosen(best: Trial) -> dict[str, Any]:
    """The keys beside the name: a run file without parameters takes the preset."""
    if best.preset:
        return {}
    parameters = dict(best.parameters)
    return {"parameters": parameters} if parameters else {"preset": False}


def _figures(
    found: list[Tuned], original: float, objective: Objective, loaded: Loaded
) -> dict[str, Any]:
    """The printed figures, every trial, as JSON values."""
    return {
        "objective": OBJECTIVE,
        "seed": loaded.file.seed,
        "unit": objective.unit,
        "original": original,
        "methods": {
            each.method: {
                "tuned": each.space.note,
                "best": None if each.best is None else each.best.number,
                "trials": [
                    {
                        "number": trial.number,
                        "preset": trial.preset,
                        "parameters": dict(trial.parameters),
                        "gap": trial.gap,
                        "failed": trial.reason,
                        **trial.figures,
                    }
                    for trial in each.trials
                ],
            }
            for each in found
        },
    }
