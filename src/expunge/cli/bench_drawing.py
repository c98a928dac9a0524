"""``expunge bench drawing``: a diffusion model that must not draw a class any more."""

from pathlib import Path
from typing import Annotated

import typer

from expunge.benchmarks.drawing import picture, protocol, tables
from expunge.benchmarks.drawing.rivals import RIVALS
from expunge.cli.bench_options import CORES, Processes
from expunge.cli.output import JsonPath, console, show, told, writable_folder, write_json
from expunge.storage import write_bytes


def drawing(
    out: Annotated[
        Path, typer.Option(help="Folder of models and results; a stopped run goes on.")
    ] = Path("bench-drawing"),
    forget: Annotated[str, typer.Option(help="The class that is reported on.")] = (
        protocol.FORGOTTEN
    ),
    tried_on: Annotated[
        str, typer.Option(help="The class that strengths are chosen on.")
    ] = protocol.TRIED_ON,
    rows: Annotated[
        list[str] | None, typer.Option("--row", help=f"One of: {'; '.join(RIVALS)}. Repeatable.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds, from 0.")] = 3,
    sheet: Annotated[
        Path | None, typer.Option(help="Also write a contact sheet, a PNG, to this path.")
    ] = None,
    processes: Processes = CORES,
    json: JsonPath = None,
) -> None:
    """Forget a class in a diffusion model of digits: what is drawn, and what is kept."""
    writable_folder(out, "The folder of --out,")
    asked = protocol.Protocol(out, forget, tried_on, tuple(rows or RIVALS), seeds, processes)
    result = asked.conduct(told)
    verdicts = tables.verdicts(result)
    show(tables.tables(result), (tables.CAPTION, *verdicts))
    if sheet is not None:
        write_bytes(sheet, picture.sheet(asked, result["strengths"]))
        console.print(f"Contact sheet, the same noise in every row: {sheet}", soft_wrap=True)
    write_json(json, result | {"verdicts": verdicts})
