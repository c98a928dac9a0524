"""``expunge forget``: answer the requests of a run file, measure all of them after each, store."""

from pathlib import Path
from typing import Annotated

import typer

from expunge.audit.course import Course, follow
from expunge.audit.measure import Measured, Panel, measure
from expunge.changes.delta import Delta
from expunge.changes.kinds import Replacement
from expunge.changes.weights import buffers_of, digest_of, parameters_of
from expunge.cli.output import JsonPath, console, table, write_json
from expunge.cli.run_file import Loaded, read
from expunge.errors import ExpungeError
from expunge.methods.retrain import Retrain
from expunge.problem import Problem
from expunge.recipe import Role
from expunge.requests import resolve
from expunge.run import Run
from expunge.storage import write_tensors


def forget(
    run_file: Annotated[Path, typer.Argument(help="YAML run file; docs/run_file.md explains it.")],
    json: JsonPath = None,
) -> None:
    """Answer every request of a run file, one after another, and store what changed."""
    loaded = read(run_file)
    if loaded.out.exists() and any(loaded.out.iterdir()):
        raise ExpungeError(
            f"The folder {loaded.out} is not empty and holds an earlier result; name another "
            "`out`, or remove it."
        )
    panel = Panel.of(loaded.test, loaded.test_table, loaded.requests)
    run = loaded.run(console=console)
    oracle = retrained(loaded, panel, loaded.run())
    strengths = [loaded.file.strength] * len(loaded.requests)
    course = follow(loaded.deployment, loaded.requests, loaded.method, panel, run, strengths)
    store(loaded)
    show(loaded, course, oracle)
    write_json(json, figures(loaded, course, oracle))


def retrained(loaded: Loaded, panel: Panel, run: Run) -> Measured | None:
    """The oracle's score: the recipe run again without the rows of all requests."""
    deployment = loaded.deployment
    if deployment.recipe is None:
        return None
    *earlier, last = loaded.requests
    rows = resolve(last, deployment.table, earlier)
    data = {Role.RETAIN: deployment.train.select(rows.retain)}
    problem = Problem(
        deployment.base, deployment.family, last, data, deployment.history, recipe=deployment.recipe
    )
    [new] = Retrain().unlearn(problem, Retrain().prepare(problem, run), run).changes
    assert isinstance(new, Replacement)
    return measure(deployment.family, new.applied_to(deployment.base), panel, run)


def store(loaded: Loaded) -> None:
    """Write the model and one file for each change."""
    for i, entry in enumerate(
        served for epoch in loaded.deployment.history.epochs for served in epoch.served
    ):
        for change in entry.changes:
            if isinstance(change, Delta | Replacement):
                kind = "delta" if isinstance(change, Delta) else "replacement"
                change.save(loaded.out / f"{i + 1}-{kind}.safetensors")
    model = loaded.deployment.model
    write_tensors(
        loaded.out / "model.safetensors",
        {**parameters_of(model), **buffers_of(model)},
        {"digest": digest_of(model)},
    )


def show(loaded: Loaded, course: Course, oracle: Measured | None) -> None:
    """Print the whole persistence matrix, with the original and the oracle."""
    names = [request.name for request in loaded.requests]
    rows: list[list[object]] = [
        ["original", *course.before.requests.tolist(), course.before.retained, None]
    ]
    rows += [
        [
            f"after {step.request.name}",
            *step.measured.requests.tolist(),
            step.measured.retained,
            step.seconds,
        ]
        for step in course.steps
    ]
    if oracle is not None:
        rows.append(["oracle (retrained)", *oracle.requests.tolist(), oracle.retained, None])
    console.print(
        table(
            f"Held-out accuracy, {loaded.method.name}, {loaded.file.aggregation}",
            ["model", *names, "retained", "seconds"],
            rows,
        )
    )
    if oracle is None:
        console.print("There is no oracle: the run file gives no recipe to retrain from.")
    console.print(
        "Deletion state: edited, base kept. The base and the changes together restore "
        "what was forgotten; protect both."
    )
    console.print(f"Written to {loaded.out}")


def figures(loaded: Loaded, course: Course, oracle: Measured | None) -> dict[str, object]:
    """The printed figures as JSON values."""
    return {
        "requests": [request.name for request in loaded.requests],
        "before": {"requests": course.before.requests.tolist(), "retained": course.before.retained},
        "after": [
            {
                "requests": s.measured.requests.tolist(),
                "retained": s.measured.retained,
                "seconds": s.seconds,
                "touched": s.touched,
            }
            for s in course.steps
        ],
        "oracle": None
        if oracle is None
        else {"requests": oracle.requests.tolist(), "retained": oracle.retained},
        "model": digest_of(loaded.deployment.model),
        "seed": loaded.file.seed,
    }
