"""``expunge bench s3t``: S3T and SISA, accuracy, removals served and what an attack finds."""

from pathlib import Path
from typing import Annotated

import typer

from expunge.benchmarks.sharded import protocol, tables
from expunge.benchmarks.sharded.room import ROOMS
from expunge.cli.bench_options import CORES, Processes
from expunge.cli.output import JsonPath, show, told, writable_folder, write_json


def s3t(
    out: Annotated[
        Path, typer.Option(help="Folder of models and results; a stopped run goes on.")
    ] = Path("bench-s3t"),
    full: Annotated[bool, typer.Option("--full", help="Five seeds, 1,000 streams each.")] = False,
    room: Annotated[str, typer.Option(help=f"Rows and model: {', '.join(ROOMS)}.")] = "clothes",
    seeds: Annotated[int | None, typer.Option(min=2, help="Number of seeds, from 0.")] = None,
    processes: Processes = CORES,
    json: JsonPath = None,
) -> None:
    """Training in shards and slices: accuracy beside joint training, removals served, leaks."""
    writable_folder(out, "The folder of --out,")
    result = protocol.Protocol(
        out,
        room,
        seeds=seeds or (5 if full else 3),
        streams=1000 if full else 100,
        processes=processes,
    ).conduct(told)
    verdicts = tables.verdicts(result)
    show(tables.tables(result), (tables.CAPTION, *verdicts))
    write_json(json, result | {"verdicts": verdicts})
