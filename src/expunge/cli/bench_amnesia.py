"""``expunge bench amnesia``: facts, the layers that a trace finds, and what moving these gains."""

import os
from pathlib import Path
from typing import Annotated

import typer

from expunge.benchmarks.amnesia import protocol, tables
from expunge.cli.output import JsonPath, console, table, writable_folder, write_json


def amnesia(
    out: Annotated[
        Path, typer.Option(help="Folder of models and results; a stopped run goes on.")
    ] = Path("bench-amnesia"),
    full: Annotated[
        bool,
        typer.Option("--full", help="Three draws of people, and three strengths of each choice."),
    ] = False,
    draws: Annotated[int | None, typer.Option(min=1, help="Draws of people, from 0.")] = None,
    oracles: Annotated[
        int | None, typer.Option(min=1, help="Seeds of oracles of each draw; 1, with --full 2.")
    ] = None,
    processes: Annotated[int, typer.Option(min=1, help="Jobs that run at once.")] = (
        os.cpu_count() or 1
    ),
    json: JsonPath = None,
) -> None:
    """Causal traces of an eight-layer model; forgetting by moving traced, random or all layers."""
    writable_folder(out, "The folder of --out,")
    draws, seeds, strides = (draws or 3, oracles or 2, 3) if full else (draws or 1, oracles or 1, 1)
    result = protocol.Protocol(out, draws, seeds, strides, processes).conduct(_told)
    for title, columns, rows in tables.tables(result):
        console.print(table(title, columns, rows))
    console.print(tables.CAPTION, soft_wrap=True)
    for line in tables.verdicts(result):
        console.print(line, soft_wrap=True, markup=False)
    write_json(json, result | {"verdicts": tables.verdicts(result)})


def _told(title: str, stored: bool) -> None:
    console.print(f"{title}{', stored before' if stored else ''}", soft_wrap=True)
