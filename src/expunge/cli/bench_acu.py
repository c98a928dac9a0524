"""``expunge bench acu``: whether a ridge head after a thousand requests is the retrained one."""

from pathlib import Path
from typing import Annotated

import typer

from expunge.benchmarks.acu import protocol, tables
from expunge.benchmarks.acu.places import PLACES, QUICK
from expunge.cli.bench_options import CORES, Processes
from expunge.cli.output import JsonPath, show, told, writable_folder, write_json


def acu(
    out: Annotated[Path, typer.Option(help="Folder of results; a stopped run goes on.")] = Path(
        "bench-acu"
    ),
    full: Annotated[
        bool, typer.Option("--full", help="Emoji under all 1,280 features, too.")
    ] = False,
    places: Annotated[
        list[str] | None, typer.Option("--place", help=f"One of {', '.join(PLACES)}; repeatable.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds, from 0.")] = 3,
    processes: Processes = CORES,
    json: JsonPath = None,
) -> None:
    """ACU: 1,000 requests on real features against retraining, and baselines beside it."""
    writable_folder(out, "The folder of --out,")
    chosen = tuple(places or (PLACES if full else QUICK))
    result = protocol.Protocol(out, chosen, seeds, processes).conduct(told)
    show(tables.tables(result), tables.sentences(result))
    write_json(json, result)
