"""``expunge train``: make a model from its recipe: a shipped one, or that of a run file."""

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from torch import nn

from expunge.benchmarks import contact_sheet, shipped, shipped_drawing
from expunge.changes.weights import digest_of, stored_tensors
from expunge.cli.forget import described, say_notes
from expunge.cli.output import (
    JsonPath,
    console,
    table,
    writable,
    writable_folder,
    write_json,
)
from expunge.cli.stored import CHECKPOINT, MODEL
from expunge.errors import ExpungeError
from expunge.recipe import LEARNER, Record, Role
from expunge.run import Run
from expunge.run_file.reading import Loaded, to_train
from expunge.run_file.records import RECORD
from expunge.signals.ask import ask, metric_of
from expunge.storage import write_bytes, write_tensors

RUN_FILES = (".yaml", ".yml")
MODELS: Mapping[str, Callable[[], shipped.Work | shipped_drawing.Drawing]] = {
    **shipped.MODELS,
    **shipped_drawing.SHIPPED,
}


def train(
    model: Annotated[str, typer.Argument(help=f"A run file, or one of {', '.join(MODELS)}.")],
    out: Annotated[
        Path | None,
        typer.Option(
            help="Of a shipped model: the file of its weights (safetensors). Of a run file: a "
            "folder; without it, the weights and the record go where the run file names them."
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, max=2**63 - 1, help="Another seed than the shipped one.")
    ] = None,
    sheet: Annotated[
        Path | None,
        typer.Option(help="Of a model that draws: a contact sheet too, real rows first (PNG)."),
    ] = None,
    json: JsonPath = None,
) -> None:
    """Train a model from its recipe, and measure it; a learner's record is written beside it."""
    if Path(model).suffix in RUN_FILES:
        if seed is not None:
            raise ExpungeError(
                "--seed is of the shipped models; give a run file's as `recipe.seed`, which its "
                "oracle is retrained from, too."
            )
        _draws(model, None, sheet)
        _train_own(to_train(Path(model)), out, json)
        return
    if model not in MODELS:
        raise ExpungeError(
            f"There is no model {model!r} to train; there are {', '.join(MODELS)}, and run "
            "files (RUN.yaml)."
        )
    if out is None:
        raise ExpungeError(f"--out is missing: the file where the weights of {model} go.")
    _check_free(out)
    work = MODELS[model]()
    drawing = _draws(model, work, sheet)
    run = Run(console=console)
    recipe = work.recipe if seed is None else work.recipe.with_seed(seed)
    unfinished = out.with_name(f"{out.name}.unfinished")
    if unfinished.exists():
        console.print(
            f"{unfinished} is of a training that was stopped: going on from it if it is this one. "
            "The seconds are those of the rest.",
            soft_wrap=True,
        )
    unfinished.mkdir(parents=True, exist_ok=True)
    with run.meter.measured():
        trained = recipe.make(work.data, replace(run, checkpoints=unfinished)).model
    _write_weights(trained, out)
    shutil.rmtree(unfinished)
    scores = work.score(trained, run)
    rows = [[name, f"{found['value']:.3f}", _interval(found)] for name, found in scores.items()]
    console.print(table(model, [work.figures, "", "95 %"], rows))
    _say_cost(run)
    if drawing is not None and sheet is not None:
        shown = drawing.shown(trained, run)
        write_bytes(sheet, contact_sheet.sheet(shown.rows, columns=shown.columns))
        console.print(f"Contact sheet: {sheet}", soft_wrap=True)
    write_json(json, {"scores": scores, "seconds": run.meter.seconds})


def _draws(
    model: str, work: shipped.Work | shipped_drawing.Drawing | None, sheet: Path | None
) -> shipped_drawing.Drawing | None:
    """The model as one that draws, if it does.

    Raises:
        ExpungeError: it does not, and a sheet was asked for, or the sheet cannot be written.
    """
    drawing = work if isinstance(work, shipped_drawing.Drawing) else None
    if sheet is not None:
        if drawing is None:
            raise ExpungeError(
                f"--sheet was given for {model}, which draws nothing; it is of "
                f"{', '.join(shipped_drawing.SHIPPED)}. Leave it out."
            )
        writable(sheet, "The file of --sheet,")
    return drawing


def _interval(found: Mapping[str, float]) -> str:
    return f"{found['low']:.3f}-{found['high']:.3f}" if "low" in found else "-"


def _train_own(loaded: Loaded, out: Path | None, json: Path | None) -> None:
    """Train the model of a run file, and write what it is made of."""
    weights, place = _places(loaded, out)
    say_notes(loaded)
    deployment, recipe = loaded.deployment, loaded.deployment.recipe
    assert recipe is not None  # a run file without one is no model to train
    run = loaded.run(console=console)
    with run.meter.measured():
        trained = recipe.make({**deployment.data, Role.TRAIN: deployment.train}, run)
    family = deployment.family
    metric = metric_of(family)
    scores = {
        name: float(ask(family, trained.model, rows, run).query(metric.query)[0].double().mean())
        for name, rows in (("training", deployment.train), ("held-out", loaded.test))
    }
    title = f"{metric.name[0].upper()}{metric.name[1:]}"
    console.print(
        table(
            title,
            ["rows", "of them", metric.name],
            [
                ["training", len(deployment.train), scores["training"]],
                ["held-out", len(loaded.test), scores["held-out"]],
            ],
        )
    )
    _say_cost(run)
    if loaded.checkpoint is not None:
        loaded.checkpoint.save(trained.model, weights)
        console.print(f"Written to {weights}", soft_wrap=True)
    else:
        _write_weights(trained.model, weights)
    if trained.record is None:
        console.print("The learner keeps no record.")
    else:
        trained.record.save(place)
        _say_record(trained.record, place)
    write_json(
        json,
        {
            "metric": described(metric),
            "scores": scores,
            "seconds": run.meter.seconds,
            "weights": str(weights),
            "record": None if trained.record is None else str(place),
            "learner": type(recipe.learner).__name__,
            "digest": digest_of(trained.model),
        },
    )


def _places(loaded: Loaded, out: Path | None) -> tuple[Path, Path]:
    """Where weights (or the folder of a checkpoint) and record go, both known to be free.

    Raises:
        ExpungeError: something is there, or the run file does not say where they go.
    """
    part, folder = loaded.file.model, loaded.folder
    if out is not None:
        writable_folder(out, "The folder of --out,")
        weights = out / (MODEL if loaded.checkpoint is None else CHECKPOINT)
        record = out / RECORD
    elif loaded.checkpoint is not None:
        raise ExpungeError(
            "--out FOLDER is missing: the model of this run file is a `checkpoint`, which is not "
            "overwritten."
        )
    else:
        assert part.weights is not None  # the keys were checked
        weights = folder / part.weights
        record = weights.with_name(RECORD) if part.record is None else folder / part.record
    weights, record = (Path(os.path.normpath(path)) for path in (weights, record))
    for path in (weights, record):
        _check_free(path)
    return weights, record


def _check_free(path: Path) -> None:
    if path.exists():
        raise ExpungeError(f"{path} exists; name another file, or remove it.")
    writable(path, "The file of --out,")


def _write_weights(model: nn.Module, path: Path) -> None:
    write_tensors(path, stored_tensors(model), {"digest": digest_of(model)})
    console.print(f"Written to {path}", soft_wrap=True)


def _say_cost(run: Run) -> None:
    console.print(f"{run.meter.seconds:.0f} s, {run.meter.peak_bytes / 2**20:.0f} MiB at most")


def _say_record(record: Record, path: Path) -> None:
    size = sum(t.numel() * t.element_size() for t in record.tensors.values())
    console.print(
        f"Record of the learner {record.facts.get(LEARNER, '?')} ({size / 2**10:,.0f} KiB): {path}."
        " It is made of the training rows: keep it as they are kept, and give it as "
        "`model.record`.",
        soft_wrap=True,
    )
