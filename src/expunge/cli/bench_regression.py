"""``expunge bench regression``: forgetting where models answer with numbers."""

from pathlib import Path
from typing import Annotated

import typer

from expunge.benchmarks.regression import protocol, tables
from expunge.benchmarks.regression.work import SUBJECTS
from expunge.benchmarks.regression.worlds import WORLDS
from expunge.cli.bench_options import CORES, Processes
from expunge.cli.output import JsonPath, show, told, writable_folder, write_json


def regression(
    out: Annotated[
        Path, typer.Option(help="Folder of models and results; a stopped run goes on.")
    ] = Path("bench-regression"),
    worlds: Annotated[
        list[str] | None, typer.Option("--world", help=f"One of {', '.join(WORLDS)}; repeatable.")
    ] = None,
    methods: Annotated[
        list[str] | None,
        typer.Option("--method", help=f"One of {', '.join(SUBJECTS)}; repeatable."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=2, help="Number of seeds, and of oracles.")] = 3,
    processes: Processes = CORES,
    json: JsonPath = None,
) -> None:
    """Blindspot and Gaussian beside retraining: houses, diamonds, flights, electricity, texts."""
    writable_folder(out, "The folder of --out,")
    result = protocol.Protocol(
        out, tuple(worlds or WORLDS), tuple(methods or SUBJECTS), seeds, processes
    ).conduct(told)
    show(tables.tables(result), (tables.CAPTION, *tables.sentences(result)))
    write_json(json, result)
