"""``expunge forget``: answer the requests of a run file, measure all of them after each, store."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from expunge.audit.course import Course, follow
from expunge.audit.measure import Measured, Panel, measure
from expunge.audit.oracle import retrained
from expunge.changes.weights import digest_of
from expunge.cli.output import JsonPath, console, numbers, table, write_json
from expunge.cli.run_file import Loaded, read
from expunge.cli.stored import check_folder, deletion_state, folds_deltas, store
from expunge.signals.metric import Metric

GOALS = {
    "higher": "Accuracy zero on forgotten samples is not the goal; the oracle's level is.",
    "lower": "A large error on forgotten samples is not the goal; the oracle's level is.",
}
"""What is said below the tables, by the direction of the metric."""

STATES = {
    "retrained": "Deletion state: retrained without the forgotten rows. The original weights still "
    "hold them; remove these once the new model is in use.",
    "edited, base kept": "Deletion state: edited, base kept. The base and the changes together "
    "restore what was forgotten; protect both.",
}


def forget(
    run_file: Annotated[Path, typer.Argument(help="YAML run file; docs/run_file.md explains it.")],
    json: JsonPath = None,
) -> None:
    """Answer every request of a run file, one after another, and store what changed."""
    loaded = read(run_file)
    check_folder(loaded.out)
    say_notes(loaded)
    held_out, own = panels(loaded)
    deployment, oracle = loaded.deployment, None
    if deployment.recipe is not None:
        model = retrained(deployment, loaded.requests, loaded.run())
        oracle = tuple(
            measure(deployment.family, model, panel, loaded.run()) for panel in (held_out, own)
        )
    strengths = [_strength(loaded)] * len(loaded.requests)
    run = loaded.run(console=console)
    course = follow(deployment, loaded.requests, loaded.method, held_out, run, strengths, own)
    store(loaded)
    show(loaded, course, oracle)
    write_json(json, figures(loaded, course, oracle))


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


def show(loaded: Loaded, course: Course, oracle: Sequence[Measured] | None) -> None:
    """Print the whole persistence matrix on both kinds of rows, with original and oracle."""
    history = loaded.deployment.history
    how = loaded.method.name
    if folds_deltas(history):
        how += f", {loaded.file.aggregation}"
    names = [request.name for request in loaded.requests]
    steps = [f"after {name}" for name in names]
    scores = [course.before, *(step.measured for step in course.steps)]
    seconds = [None, *(step.seconds for step in course.steps)]
    rows: list[list[object]] = [
        [name, *found.requests.tolist(), found.retained, cost]
        for name, found, cost in zip(["original", *steps], scores, seconds, strict=True)
    ]
    if oracle is not None:
        rows.append(["oracle (retrained)", *oracle[0].requests.tolist(), oracle[0].retained, None])
    columns = ["model", *names, "retained", "seconds"]
    metric = course.before.metric
    console.print(table(f"Held-out {metric.name}, {how}", columns, rows))
    own = [course.forget_rows_before, *(step.forget_rows for step in course.steps)]
    own_scores = list(zip(["original", *steps], own, strict=True))
    if oracle is not None:
        own_scores.append(("oracle (retrained)", oracle[1]))
    console.print(forget_rows_table(metric, names, own_scores))
    console.print(GOALS[metric.direction])
    if oracle is None:
        console.print("There is no oracle: the run file gives no recipe to retrain from.")
    console.print(STATES[deletion_state(history)])
    console.print(f"Written to {loaded.out}", soft_wrap=True)


def forget_rows_table(
    metric: Metric, names: Sequence[str], scores: Sequence[tuple[str, Measured | None]]
) -> Any:
    """The table of scores on the training rows that the requests name."""
    return table(
        f"{metric.name[0].upper()}{metric.name[1:]} on the forget rows (training)",
        ["model", *names],
        [[name, *found.requests.tolist()] for name, found in scores if found is not None],
    )


def figures(loaded: Loaded, course: Course, oracle: Sequence[Measured] | None) -> dict[str, object]:
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
        "deletion state": deletion_state(history),
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
