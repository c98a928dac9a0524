"""``expunge evaluate``: measure stored weights on every request and on everything else."""

from collections.abc import Collection
from pathlib import Path
from typing import Annotated

import typer

from expunge.audit.measure import Measured, measure
from expunge.audit.oracle import retrained
from expunge.changes.guarded import Guarded
from expunge.cli.audited import deployed_of
from expunge.cli.drawn import ORACLE, ORIGINAL, drawn, judged_real
from expunge.cli.forget import GOALS, forget_rows_table, panels, row_of, say_notes
from expunge.cli.output import JsonPath, cell, console, numbers, table, write_json
from expunge.cli.output import scores as written
from expunge.cli.stored import MODEL
from expunge.errors import ExpungeError
from expunge.run_file.reading import read
from expunge.signals.accuracy import Interval
from expunge.signals.ask import metric_of
from expunge.signals.metric import Metric


def evaluate(
    run_file: Annotated[Path, typer.Argument(help="YAML run file; docs/run_file.md explains it.")],
    weights: Annotated[
        list[Path] | None,
        typer.Option(
            help="Weights to measure beside the run file's own: a safetensors file, or a Hugging "
            "Face folder where the run file has a checkpoint; may be repeated."
        ),
    ] = None,
    oracle: Annotated[
        bool, typer.Option("--oracle", help="Retrain the oracle from the recipe, too.")
    ] = False,
    json: JsonPath = None,
) -> None:
    """Measure models on each request of a run file and on what nobody asked to remove."""
    loaded = read(run_file)
    base, family = loaded.deployment.base, loaded.deployment.family
    if oracle and loaded.deployment.recipe is None:
        raise ExpungeError("--oracle was given and the run file has no `recipe` to retrain from.")
    stored = loaded.out / MODEL
    say_notes(loaded)
    real = judged_real(loaded)  # a poor judge is refused before any work
    models = {ORIGINAL: base}
    if not weights and stored.exists():
        models[_named(stored)] = deployed_of(loaded, None)
        if isinstance(models[_named(stored)], Guarded):
            console.print(f"{stored.name} is measured behind the guards that were stored.")
    models |= {_named(path): loaded.with_weights(path) for path in weights or ()}
    if oracle:
        run = loaded.run(console=console)
        models[ORACLE] = retrained(loaded.deployment, loaded.requests, run)
    held_out, own = panels(loaded)
    found = {name: measure(family, model, held_out, loaded.run()) for name, model in models.items()}
    trained = {name: measure(family, model, own, loaded.run()) for name, model in models.items()}
    intervals = {name: _interval(scores) for name, scores in found.items()}
    short = {name: _short(name, models) for name in models}
    names, metric = held_out.names, metric_of(family)
    console.print(
        table(
            f"Held-out {metric.name}",
            ["model", *names, "retained", "95 %"],
            [
                [short[name], *row_of(scores), _shown(intervals[name], metric)]
                for name, scores in found.items()
            ],
        )
    )
    own_scores = [(short[name], scores) for name, scores in trained.items()]
    console.print(forget_rows_table(metric, names, own_scores))
    console.print(GOALS[metric.direction])
    pictures = drawn(loaded, real, models)
    if pictures is not None:
        pictures.show(short)
    if not oracle:
        console.print(
            "No oracle: ask with --oracle."
            if loaded.deployment.recipe is not None
            else "There is no oracle: the run file gives no recipe to retrain from."
        )
    write_json(
        json,
        {
            name: {
                "metric": metric.name,
                "requests": _by_name(names, scores.requests.tolist()),
                "confidence": _by_name(names, scores.confidence.tolist()),
                "forget rows": _by_name(names, trained[name].requests.tolist()),
                "retained": scores.retained,
                "interval": _ends(intervals[name]),
                **({} if pictures is None else {"drawings": pictures.figures_of(name)}),
            }
            for name, scores in found.items()
        },
    )


def _named(path: Path) -> str:
    """The path; a file or folder that is called as a row is does not take its place."""
    return f"./{path}" if str(path) in (ORIGINAL, ORACLE) else str(path)


def _by_name(names: tuple[str, ...], values: list[float]) -> dict[str, float | None]:
    return dict(zip(names, numbers(values), strict=True))


def _interval(scores: Measured) -> Interval | None:
    """None where the retained rows are of one subject, which tells nothing of others."""
    kept = {scores.signals.subjects[i] for i in scores.panel.retained.tolist()}
    return scores.retained_interval() if len(kept) > 1 else None


def _shown(interval: Interval | None, metric: Metric) -> str:
    if interval is None:
        return "-"
    return "-".join(cell(end) for end in written(metric, (interval.low, interval.high)))


def _ends(interval: Interval | None) -> list[float] | None:
    return None if interval is None else [interval.low, interval.high]


def _short(name: str, models: Collection[str]) -> str:
    """The file's name alone where no other has it."""
    last = Path(name).name
    return last if sum(Path(other).name == last for other in models) == 1 else name
