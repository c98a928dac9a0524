"""``expunge bench smoothing``: whether smoothed forgetting resists relearning at one level."""

import os
from pathlib import Path
from typing import Annotated

import typer

from expunge.benchmarks.smoothing import protocol, tables
from expunge.benchmarks.smoothing.forms import FORMS
from expunge.cli.output import JsonPath, console, table, writable_folder, write_json


def smoothing(
    out: Annotated[
        Path, typer.Option(help="Folder of models and results; a stopped run goes on.")
    ] = Path("bench-smoothing"),
    full: Annotated[bool, typer.Option("--full", help="Five draws, every form.")] = False,
    forms: Annotated[
        list[str] | None,
        typer.Option("--form", help=f"One of {', '.join(f.name for f in FORMS)}; repeatable."),
    ] = None,
    draws: Annotated[int | None, typer.Option(min=1, help="Draws of people, from 0.")] = None,
    processes: Annotated[int, typer.Option(min=1, help="Jobs that run at once.")] = (
        os.cpu_count() or 1
    ),
    json: JsonPath = None,
) -> None:
    """NPO with sharpness awareness and its kin beside plain NPO, as far gone as the oracle."""
    writable_folder(out, "The folder of --out,")
    every = tuple(form.name for form in FORMS)
    result = protocol.Protocol(
        out,
        tuple(forms) if forms else every if full else protocol.QUICK,
        draws or (5 if full else 1),
        processes=processes,
    ).conduct(_told)
    for title, columns, rows in tables.tables(result):
        console.print(table(title, columns, rows))
    console.print(tables.CAPTION, soft_wrap=True)
    lines = tables.verdicts(result)
    for line in lines:
        console.print(line, soft_wrap=True, markup=False)
    write_json(json, result | {"verdicts": lines})


def _told(title: str, stored: bool) -> None:
    console.print(f"{title}{', stored before' if stored else ''}", soft_wrap=True)
