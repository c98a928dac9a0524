"""``expunge forget``: answer the requests of a run file, measure all of them after each, store."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from torch import nn

from expunge.audit.course import Course, follow
from expunge.audit.gone import Gone, gone
from expunge.audit.kept import LEAST, WORN, Kept
from expunge.audit.measure import Measured, Panel, measure
from expunge.audit.oracle import retrained
from expunge.changes.deletion import DeletionState, certified, deletion_state
from expunge.changes.kinds import acts_on
from expunge.changes.weights import digest_of
from expunge.cli.drawn import FINAL, ORACLE, ORIGINAL, Drawn, drawn, judged_real
from expunge.cli.output import JsonPath, console, numbers, table, write_json
from expunge.cli.output import scores as written
from expunge.cli.stored import check_folder, folds_deltas, record_now, store
from expunge.errors import ExpungeError
from expunge.methods.presets import HasPreset, fields_of, inside, presets_of, starting_point
from expunge.methods.protocol import Suppresses
from expunge.methods.retrain import Retrain
from expunge.run_file.reading import PAPER, PRESET, Loaded, read
from expunge.run_file.records import RECORD
from expunge.signals.denoising import DENOISING_LOSS
from expunge.signals.metric import Metric

GOALS = {
    "higher": "Accuracy zero on forgotten samples is not the goal; the oracle's level is.",
    "lower": "A large error on forgotten samples is not the goal; the oracle's level is.",
}
"""What is said below the tables, by the direction of the metric."""

NO_JUDGE = (
    "What is drawn was not looked at: the run file names no `judge`, and a denoising loss does not "
    "say what a picture shows."
)
"""Of a model that draws."""

STATES = {
    DeletionState.RETRAINED: "Deletion state: retrained without the forgotten rows. The original "
    "weights still hold them; remove these once the new model is in use.",
    DeletionState.SUPPRESSED: "Deletion state: suppressed. model.safetensors holds the weights as "
    "they were, which know what is refused; only behind the guards and refusals that are stored "
    "beside it is it kept back, and no `checkpoint` is written. Change the weights by the "
    "deadline, and then destroy these: some are made from the forgotten rows.",
    DeletionState.EXACT: "Deletion state: exact, as far as is certified below. The original "
    "weights still hold the forgotten rows; remove these once the new model is in use.",
    DeletionState.EDITED: "Deletion state: edited, base kept. The base and the changes together "
    "restore what was forgotten; protect both.",
}


def forget(
    run_file: Annotated[Path, typer.Argument(help="YAML run file; docs/run_file.md explains it.")],
    keep_at_least: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            metavar="SHARE",
            help="Store nothing if less of the retained score is kept; 0 stores whatever came.",
        ),
    ] = LEAST,
    json: JsonPath = None,
) -> None:
    """Answer every request of a run file, one after another, and store what changed."""
    loaded = read(run_file)
    check_folder(loaded.out)
    say_notes(loaded)
    held_out, own = panels(loaded)
    deployment, oracle = loaded.deployment, None
    models = {ORIGINAL: deployment.base}
    real = judged_real(loaded)  # a poor judge is refused before any work
    if deployment.recipe is not None:
        models[ORACLE] = retrained(deployment, loaded.requests, loaded.run())
        oracle = tuple(
            measure(deployment.family, models[ORACLE], panel, loaded.run())
            for panel in (held_out, own)
        )
    strengths = [_strength(loaded)] * len(loaded.requests)
    run = loaded.run(console=console)
    course = follow(deployment, loaded.requests, loaded.method, held_out, run, strengths, own)
    pictures = drawn(loaded, real, {ORIGINAL: models[ORIGINAL], FINAL: deployment.model, **models})
    show(loaded, course, oracle, pictures)
    left = kept(loaded, models[ORIGINAL], course)
    stays = untouched(loaded, course, oracle)
    for one in stays:
        console.print(f"Warning: {one.told()} {_stronger(loaded)}", soft_wrap=True)
    found = figures(loaded, course, oracle, left, pictures, stays)
    try:
        _check_kept(loaded, left, keep_at_least)
        if pictures is not None:
            for drawing in pictures.kept(ORIGINAL, FINAL):
                _check_kept(loaded, drawing, keep_at_least, f"{pictures.count} drawings")
    except ExpungeError:  # what was measured is worth reading, most of all of a refused model
        write_json(json, {**found, "stored": False})
        raise
    store(loaded)
    state = deletion_state(loaded.deployment.history)
    assert state is not None  # a run file has a request
    console.print(STATES.get(state, f"Deletion state: {state}."))
    proven = certified(loaded.deployment.history)
    if proven is not None:
        console.print(f"Certified: {proven.told()}. Nothing else is.", soft_wrap=True)
    _say_record(loaded)
    console.print(f"Written to {loaded.out}", soft_wrap=True)
    write_json(json, {**found, "stored": True})


def _say_record(loaded: Loaded) -> None:
    """What became of the training record of the model, where its weights changed."""
    served = (one for epoch in loaded.deployment.history.epochs for one in epoch.served)
    moved = {acts_on(change) for one in served for change in one.changes} & {"weights", "base"}
    if loaded.deployment.record is None or not moved:
        return
    if record_now(loaded) is None:
        console.print(
            f"No record was written: {loaded.method.name} keeps none, and the one of the original "
            "model is not that of the new weights. Methods that need it refuse them until they are "
            "retrained.",
            soft_wrap=True,
        )
        return
    console.print(
        f"The record of the new weights is {RECORD} beside them. The one from before shows what "
        "was removed: remove it once the new one is in use.",
        soft_wrap=True,
    )


def kept(loaded: Loaded, original: nn.Module, course: Course) -> Kept:
    """What all requests left of the retained score: on validation rows, where there are any."""
    if loaded.validation is None or loaded.validation_table is None:
        return Kept.of(course.before, course.final)
    deployment = loaded.deployment
    panel = Panel.of(loaded.validation, loaded.validation_table, loaded.requests)
    run = loaded.run()
    before, after = (
        measure(deployment.family, model, panel, run) for model in (original, deployment.model)
    )
    return Kept.of(before, after)


def untouched(loaded: Loaded, course: Course, oracle: Sequence[Measured] | None) -> list[Gone]:
    """The requests of which next to nothing is gone, by the rows that they name.

    None of methods that only hold back: what they leave the same is what "suppressed" says. None of
    models that draw either, since a denoising loss does not say what a picture shows.
    """
    if isinstance(starting_point(loaded.method), Suppresses):
        return []
    if course.before.metric is DENOISING_LOSS:
        return []
    before, after = course.forget_rows_before, course.steps[-1].forget_rows
    if before is None or after is None:
        return []
    names = [step.request.name for step in course.steps]
    found = gone(names, before, after, None if oracle is None else oracle[1])
    return [one for one in found if one.little]


def _stronger(loaded: Loaded) -> str:
    """What to do about a model that forgot nothing."""
    if inside(loaded.method) is not None:
        return "Put it around another method, or around this one with stronger fields."
    if isinstance(starting_point(loaded.method), HasPreset):
        return "Find stronger settings with `expunge tune`, or take another method."
    return "Give stronger settings, or take another method (`expunge methods` lists them)."


def _check_kept(loaded: Loaded, left: Kept, least: float, of: str = "") -> None:
    """Refuse a collapsed model, and warn of a worn one.

    Args:
        loaded: the run file.
        left: of one score.
        least: share of it that has to be kept.
        of: what it was measured on; by default the rows that everything else is.

    Raises:
        ExpungeError: less than the share ``least`` of the retained score was kept.
    """
    rows = of or f"{'held-out' if loaded.validation is None else 'validation'} rows"
    try:
        left.check(least)
    except ExpungeError as error:
        raise ExpungeError(
            f"{str(error).removesuffix('.')} ({rows}; settings of {loaded.method.name}: "
            f"{loaded.settings}). Nothing was stored; {_milder(loaded)}, or store what came with "
            "--keep-at-least 0."
        ) from None
    if left.share < WORN:
        console.print(
            f"Warning: the {left.fall()}: {left.share:.1%} is kept ({rows}).", soft_wrap=True
        )


def _strength(loaded: Loaded) -> float:
    """How far each change is applied: new weights come whole, whatever the file says."""
    if not loaded.method.sequential or loaded.file.strength == 1:
        return loaded.file.strength
    console.print(f"`strength` is not used: {loaded.method.name} returns new weights.")
    return 1.0


def say_notes(loaded: Loaded) -> None:
    """Print what was left out of the tables."""
    for note in loaded.notes:
        console.print(note, soft_wrap=True)


def panels(loaded: Loaded) -> tuple[Panel, Panel]:
    """Held-out rows, and the training rows that the requests name."""
    deployment = loaded.deployment
    return (
        Panel.of(loaded.test, loaded.test_table, loaded.requests),
        Panel.of_forget_rows(deployment.train, deployment.table, loaded.requests),
    )


def _milder(loaded: Loaded) -> str:
    """What to do about a collapsed model."""
    if loaded.method.name == Retrain.name:
        return "give the recipe of the model"
    if inside(loaded.method) is not None:
        return "put it around another method, or around this one with milder fields"
    if not isinstance(starting_point(loaded.method), HasPreset):
        return "give milder settings, or take another method (`expunge methods` lists them)"
    if loaded.settings == PRESET:
        return "find milder settings with `expunge tune`, or take another method"
    key = "preset" if loaded.settings == PAPER else "parameters"
    return f"find milder settings with `expunge tune`, or leave `method.{key}` out for the preset"


def show(
    loaded: Loaded, course: Course, oracle: Sequence[Measured] | None, pictures: Drawn | None
) -> None:
    """Print the whole persistence matrix on both kinds of rows, with original and oracle; and what
    is drawn."""
    history = loaded.deployment.history
    how = loaded.method.name
    if folds_deltas(history):
        how += f", {loaded.file.aggregation}"
    names = [request.name for request in loaded.requests]
    steps = [f"after {name}" for name in names]
    scores = [course.before, *(step.measured for step in course.steps)]
    seconds = [None, *(step.seconds for step in course.steps)]
    rows: list[list[object]] = [
        [name, *row_of(found), cost]
        for name, found, cost in zip([ORIGINAL, *steps], scores, seconds, strict=True)
    ]
    if oracle is not None:
        rows.append([ORACLE, *row_of(oracle[0]), None])
    columns = ["model", *names, "retained", "seconds"]
    metric = course.before.metric
    console.print(table(f"Held-out {metric.name}, {how}", columns, rows))
    own = [course.forget_rows_before, *(step.forget_rows for step in course.steps)]
    own_scores = list(zip([ORIGINAL, *steps], own, strict=True))
    if oracle is not None:
        own_scores.append((ORACLE, oracle[1]))
    console.print(forget_rows_table(metric, names, own_scores))
    console.print(GOALS[metric.direction])
    if pictures is not None:
        pictures.show({})
    elif metric is DENOISING_LOSS:
        console.print(NO_JUDGE, soft_wrap=True)
    if oracle is None:
        console.print("There is no oracle: the run file gives no recipe to retrain from.")
    _show_settings(loaded)


def _show_settings(loaded: Loaded) -> None:
    """Where the fields of the method come from, and what a preset made of them."""
    start = fields_of(starting_point(loaded.method))
    found = _presets(loaded)
    given = ", ".join(f"{name} {_short(value)}" for name, value in start.items())
    shown = "" if found or not given else f" ({given})"
    console.print(f"Settings of {loaded.method.name}: {loaded.settings}{shown}", soft_wrap=True)
    for name, fields in found.items():
        new = [f"{key} {_short(v)}" for key, v in fields.items() if v != start[key]]
        console.print(f"  {name}: {', '.join(new) or 'as the paper'}", soft_wrap=True)


def _presets(loaded: Loaded) -> dict[str, dict[str, Any]]:
    """The fields that a preset found, by request."""
    entries = [e for epoch in loaded.deployment.history.epochs for e in epoch.served]
    found = {entry.request.name: presets_of(entry.changes) for entry in entries}
    return {name: fields for name, fields in found.items() if fields is not None}


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def forget_rows_table(
    metric: Metric, names: Sequence[str], scores: Sequence[tuple[str, Measured | None]]
) -> Any:
    """The table of scores on the training rows that the requests name."""
    return table(
        f"{metric.name[0].upper()}{metric.name[1:]} on the forget rows (training)",
        ["model", *names],
        [
            [name, *written(metric, found.requests.tolist())]
            for name, found in scores
            if found is not None
        ],
    )


def row_of(found: Measured) -> list[object]:
    """The scores on each request and on everything else, as cells."""
    return written(found.metric, [*found.requests.tolist(), found.retained])


def figures(
    loaded: Loaded,
    course: Course,
    oracle: Sequence[Measured] | None,
    left: Kept,
    pictures: Drawn | None = None,
    stays: Sequence[Gone] = (),
) -> dict[str, object]:
    """The printed figures as JSON values; None where a request has no held-out row."""
    history = loaded.deployment.history
    return {
        "requests": [request.name for request in loaded.requests],
        "metric": described(course.before.metric),
        "before": _scored(course.before, course.forget_rows_before),
        "after": [
            {
                **_scored(step.measured, step.forget_rows),
                "seconds": step.seconds,
                "touched": step.touched,
            }
            for step in course.steps
        ],
        "oracle": None if oracle is None else _scored(oracle[0], oracle[1]),
        "kept": left.share,
        "next to nothing gone": [asdict(one) for one in stays],
        "drawings": None if pictures is None else pictures.figures(),
        "settings": loaded.settings,
        "presets": _presets(loaded),
        "deletion state": deletion_state(history),
        "certified": None if (proven := certified(history)) is None else asdict(proven),
        "model": digest_of(loaded.deployment.model),
        "seed": loaded.file.seed,
    }


def described(metric: Metric) -> dict[str, str]:
    """What the figures are, as JSON values."""
    return {"name": metric.name, "better": metric.direction, "measures": metric.measures}


def _scored(held_out: Measured, own: Measured | None) -> dict[str, object]:
    return {
        "requests": numbers(held_out.requests.tolist()),
        "forget rows": None if own is None else numbers(own.requests.tolist()),
        "retained": held_out.retained,
    }
