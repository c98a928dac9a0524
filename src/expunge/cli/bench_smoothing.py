"""``expunge bench smoothing``: whether smoothed forgetting resists relearning at one level."""

from pathlib import Path
from typing import Annotated

import typer

from expunge.benchmarks.smoothing import protocol, tables
from expunge.benchmarks.smoothing.forms import FORMS
from expunge.cli.bench_options import CORES, Draws, Processes
from expunge.cli.output import JsonPath, show, told, writable_folder, write_json


def smoothing(
    out: Annotated[
        Path, typer.Option(help="Folder of models and results; a stopped run goes on.")
    ] = Path("bench-smoothing"),
    full: Annotated[bool, typer.Option("--full", help="Five draws, every form.")] = False,
    forms: Annotated[
        list[str] | None,
        typer.Option("--form", help=f"One of {', '.join(f.name for f in FORMS)}; repeatable."),
    ] = None,
    draws: Draws = None,
    processes: Processes = CORES,
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
    ).conduct(told)
    verdicts = tables.verdicts(result)
    show(tables.tables(result), (tables.CAPTION, *verdicts))
    write_json(json, result | {"verdicts": verdicts})
