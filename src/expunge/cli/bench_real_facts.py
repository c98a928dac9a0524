"""``expunge bench real-facts``: a pretrained model forgets capitals or people that it knows."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from expunge.benchmarks.real_facts import protocol, tables
from expunge.cli.bench_options import CORES
from expunge.cli.output import JsonPath, show, told, writable_folder, write_json
from expunge.errors import ExpungeError


def real_facts(
    out: Annotated[Path, typer.Option(help="Folder of results; a stopped run goes on.")] = Path(
        "bench-real-facts"
    ),
    full: Annotated[
        bool, typer.Option("--full", help="Capitals and people, twelve subjects, every method.")
    ] = False,
    topics: Annotated[
        list[str] | None, typer.Option("--topic", help="capitals or people; repeatable.")
    ] = None,
    methods: Annotated[
        list[str] | None,
        typer.Option("--method", help=f"One of {', '.join(protocol.METHODS)}; repeatable."),
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Number of seeds, from 0.")] = None,
    preset: Annotated[
        bool,
        typer.Option("--preset", help="Beside equal steps: presets as they are, with their end."),
    ] = False,
    tune: Annotated[
        bool, typer.Option("--tune", help="Try multiples of the rates on the development half.")
    ] = False,
    processes: Annotated[
        int, typer.Option(min=1, help="Jobs that run at once, of some 3 GB of memory each.")
    ] = min(2, CORES),
    json: JsonPath = None,
) -> None:
    """Real facts in SmolLM2: measured first, then forgotten, beside neighbours that stay."""
    writable_folder(out, "The folder of --out,")
    form = protocol.FULL if full else protocol.QUICK
    known = {str(name): name for name in protocol.FULL.topics}
    if unknown := [name for name in topics or () if name not in known]:
        raise ExpungeError(f"There is no topic {unknown[0]!r}; {' or '.join(known)} is expected.")
    form = replace(
        form,
        topics=tuple(known[name] for name in topics) if topics else form.topics,
        methods=tuple(methods) if methods else form.methods,
        seeds=seeds or form.seeds,
    )
    result = protocol.Protocol(
        out, form, ("budget", "preset") if preset else ("budget",), tune, processes
    ).conduct(told)
    verdicts = tables.verdicts(result)
    show(tables.tables(result), (tables.CAPTION, *verdicts))
    write_json(json, result | {"verdicts": verdicts})
