"""``expunge bench concepts``: whether rows that are chosen by concepts carry a class."""

from pathlib import Path
from typing import Annotated

import typer

from expunge.benchmarks.concepts import protocol, tables
from expunge.benchmarks.concepts.worlds import WORLDS
from expunge.cli.bench_options import CORES, Processes
from expunge.cli.output import JsonPath, show, told, writable_folder, write_json


def concepts(
    out: Annotated[
        Path, typer.Option(help="Folder of models and results; a stopped run goes on.")
    ] = Path("bench-concepts"),
    full: Annotated[
        bool, typer.Option("--full", help="All worlds instead of the digits; two are fetched.")
    ] = False,
    worlds: Annotated[
        list[str] | None, typer.Option("--world", help=f"One of {', '.join(WORLDS)}; repeatable.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=2, help="Number of seeds, and of oracles.")] = 3,
    processes: Processes = CORES,
    json: JsonPath = None,
) -> None:
    """Poison the half of a class that carries its concepts, and random halves of the same size."""
    writable_folder(out, "The folder of --out,")
    chosen = tuple(worlds or (WORLDS if full else protocol.QUICK))
    result = protocol.Protocol(out, chosen, seeds, processes).conduct(told)
    show(tables.tables(result), tables.sentences(result))
    write_json(json, result)
