"""``expunge bench label-free``: forgetting without labels beside methods that read them."""

from pathlib import Path
from typing import Annotated

import typer

from expunge.benchmarks.label_free import protocol, tables
from expunge.benchmarks.label_free.tasks import TASKS, WORLDS
from expunge.cli.bench_options import CORES, Processes
from expunge.cli.output import JsonPath, show, told, writable_folder, write_json


def label_free(
    out: Annotated[
        Path, typer.Option(help="Folder of models and results; a stopped run goes on.")
    ] = Path("bench-label-free"),
    full: Annotated[bool, typer.Option("--full", help="Clothes and a CNN, too.")] = False,
    worlds: Annotated[
        list[str] | None, typer.Option("--world", help=f"One of {', '.join(WORLDS)}; repeatable.")
    ] = None,
    tasks: Annotated[
        list[str] | None, typer.Option("--task", help=f"One of {', '.join(TASKS)}; repeatable.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=2, help="Number of seeds, and of oracles.")] = 3,
    processes: Processes = CORES,
    json: JsonPath = None,
) -> None:
    """A class, rows of classes and wrong labels forgotten without a label, beside the oracles."""
    writable_folder(out, "The folder of --out,")
    chosen = tuple(worlds or (protocol.FULL if full else protocol.QUICK))
    result = protocol.Protocol(out, chosen, tuple(tasks or TASKS), seeds, processes).conduct(told)
    show(tables.tables(result), tables.sentences(result))
    write_json(json, result | {"checks": tables.checks(result)})
