"""``expunge bench msgm``: score models that are turned away from undesired pictures."""

from pathlib import Path
from typing import Annotated

import typer

from expunge.benchmarks.msgm import picture, protocol, tables
from expunge.benchmarks.msgm.worlds import WORLDS
from expunge.cli.bench_options import CORES, Processes
from expunge.cli.output import JsonPath, console, show, told, writable_folder, write_json
from expunge.storage import write_bytes


def msgm(
    out: Annotated[
        Path, typer.Option(help="Folder of models and results; a stopped run goes on.")
    ] = Path("bench-msgm"),
    full: Annotated[bool, typer.Option("--full", help="Every world and form.")] = False,
    worlds: Annotated[
        list[str] | None, typer.Option("--world", help=f"One of {', '.join(WORLDS)}; repeatable.")
    ] = None,
    forms: Annotated[
        list[str] | None,
        typer.Option("--form", help=f"One of {', '.join(protocol.EVERY)}; repeatable."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds, from 0.")] = 3,
    processes: Processes = CORES,
    sheets: Annotated[
        Path | None,
        typer.Option(help="Folder for contact sheets; by default `pictures` in that of --out."),
    ] = None,
    json: JsonPath = None,
) -> None:
    """Moderated score models beside retraining: what they draw, and what they still know."""
    writable_folder(out, "The folder of --out,")
    sheets = sheets or out / "pictures"
    writable_folder(sheets, "The folder of --sheets,")
    asked = protocol.Protocol(
        out,
        tuple(worlds or (tuple(WORLDS) if full else protocol.QUICK)),
        tuple(forms or (protocol.EVERY if full else protocol.PAPERS)),
        seeds,
        processes,
    )
    result = asked.conduct(told)
    verdicts = tables.verdicts(result)
    show(tables.tables(result), (tables.CAPTION, *verdicts))
    for name, sheet in picture.sheets(asked, result).items():
        path = sheets / f"msgm-{name}.png"
        write_bytes(path, sheet)
        console.print(f"Contact sheet, the same noise in every row: {path}", soft_wrap=True)
    write_json(json, result | {"verdicts": verdicts})
