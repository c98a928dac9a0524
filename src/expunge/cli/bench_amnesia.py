"""``expunge bench amnesia``: facts, the layers that a trace finds, and what moving these gains."""

from pathlib import Path
from typing import Annotated

import typer

from expunge.benchmarks.amnesia import protocol, tables
from expunge.cli.bench_options import CORES, Draws, Processes
from expunge.cli.output import JsonPath, show, told, writable_folder, write_json


def amnesia(
    out: Annotated[
        Path, typer.Option(help="Folder of models and results; a stopped run goes on.")
    ] = Path("bench-amnesia"),
    full: Annotated[
        bool,
        typer.Option("--full", help="Three draws of people, and three strengths of each choice."),
    ] = False,
    draws: Draws = None,
    oracles: Annotated[
        int | None, typer.Option(min=1, help="Seeds of oracles of each draw; 1, with --full 2.")
    ] = None,
    processes: Processes = CORES,
    json: JsonPath = None,
) -> None:
    """Causal traces of an eight-layer model; forgetting by moving traced, random or all layers."""
    writable_folder(out, "The folder of --out,")
    draws, seeds, strides = (draws or 3, oracles or 2, 3) if full else (draws or 1, oracles or 1, 1)
    result = protocol.Protocol(out, draws, seeds, strides, processes).conduct(told)
    verdicts = tables.verdicts(result)
    show(tables.tables(result), (tables.CAPTION, *verdicts))
    write_json(json, result | {"verdicts": verdicts})
