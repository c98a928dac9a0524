"""``expunge bench identity``: persons are forgotten, the task stays."""

from pathlib import Path
from typing import Annotated

import typer

from expunge.benchmarks.identity import protocol, tables
from expunge.benchmarks.identity.folders import TASKS
from expunge.benchmarks.identity.forms import forms
from expunge.benchmarks.identity.people import AS_PUBLISHED
from expunge.benchmarks.identity.worlds import DRAWN, Source
from expunge.cli.bench_options import CORES, Processes
from expunge.cli.output import JsonPath, show, told, writable_folder, write_json
from expunge.errors import ExpungeError

Folder = Annotated[
    Path | None,
    typer.Option(exists=True, file_okay=False, help="Folder of the published set; never shipped."),
]


def identity(
    out: Annotated[
        Path, typer.Option(help="Folder of models and results; a stopped run goes on.")
    ] = Path("bench-identity"),
    full: Annotated[
        bool, typer.Option("--full", help="Larger pictures and models, longer training.")
    ] = False,
    world: Annotated[str, typer.Option(help=f"{' or '.join(DRAWN)}.")] = DRAWN[0],
    mufac: Folder = None,
    mucac: Folder = None,
    task: Annotated[str, typer.Option(help=f"Of MUCAC: {', '.join(TASKS)}.")] = "smiling",
    as_published: Annotated[
        bool,
        typer.Option(
            "--as-published", help="Published sets: cut after rows; nobody is held out for tuning."
        ),
    ] = False,
    rows: Annotated[
        int, typer.Option(min=1, help="Training rows of MUFAC to be forgotten.")
    ] = AS_PUBLISHED.rows,
    methods: Annotated[
        list[str] | None,
        typer.Option("--method", help=f"One of {', '.join(forms(protocol.ALL_LAST))}; repeatable."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=2, help="Models of each kind.")] = protocol.SEEDS,
    draws: Annotated[
        int | None, typer.Option(min=1, help="Splits of drawn persons, from 0.")
    ] = None,
    processes: Processes = CORES,
    json: JsonPath = None,
) -> None:
    """Persons leave, the task stays: the protocol of MUFAC and MUCAC beside retrained models."""
    writable_folder(out, "The folder of --out,")
    if mufac is not None and mucac is not None:
        raise ExpungeError("--mufac and --mucac were given; one published set is expected.")
    if world not in DRAWN:
        raise ExpungeError(
            f"There is no world {world!r}; {' or '.join(DRAWN)} is expected, or a published set "
            "with --mufac or --mucac."
        )
    if task not in TASKS:
        raise ExpungeError(f"MUCAC has no task {task!r}; {', '.join(TASKS)} are expected.")
    folder = mufac or mucac
    if as_published and folder is None:
        raise ExpungeError("--as-published is for --mufac and --mucac; leave it out.")
    name = "mufac" if mufac else f"mucac-{task}" if mucac else world
    result = protocol.Protocol(
        out,
        Source(name, 0, full, folder, rows, as_published),
        tuple(methods or ()),
        seeds,
        draws,
        processes,
    ).conduct(told)
    show(tables.tables(result), tables.sentences(result))
    write_json(json, result)
