"""``expunge bench canvas``: text-to-image models forget an object or a style of a full grid."""

from pathlib import Path
from typing import Annotated

import typer

from expunge.benchmarks.canvas import picture, tables
from expunge.benchmarks.canvas.protocol import OBJECT, STYLE, Protocol
from expunge.benchmarks.canvas.work import FORMS
from expunge.benchmarks.canvas.worlds import DOMAINS, WORLDS, Target
from expunge.cli.bench_options import CORES, Processes
from expunge.cli.output import JsonPath, console, show, told, writable_folder, write_json
from expunge.errors import ExpungeError
from expunge.storage import write_bytes


def canvas(
    out: Annotated[
        Path, typer.Option(help="Folder of models and results; a stopped run goes on.")
    ] = Path("bench-canvas"),
    world: Annotated[str, typer.Option(help=f"One of {', '.join(WORLDS)}.")] = "small",
    targets: Annotated[
        list[str] | None,
        typer.Option("--target", help="DOMAIN:WORD:ANCHOR, as object:fish:tree; repeatable."),
    ] = None,
    forms: Annotated[
        list[str] | None, typer.Option("--form", help=f"One of {', '.join(FORMS)}; repeatable.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Number of bases, from seed 0.")] = 1,
    count: Annotated[int, typer.Option(min=1, help="Pictures of every cell.")] = 4,
    full: Annotated[
        bool,
        typer.Option("--full", help="Retrained oracles, requests in turn, and relearning as well."),
    ] = False,
    processes: Processes = CORES,
    sheets: Annotated[
        Path | None, typer.Option(help="Folder for contact sheets: the same noise in every row.")
    ] = None,
    json: JsonPath = None,
) -> None:
    """Concepts out of a text-to-image model: what goes, and what else goes with it."""
    writable_folder(out, "The folder of --out,")
    if sheets is not None:
        writable_folder(sheets, "The folder of --sheets,")
    named = [":".join(OBJECT), ":".join(STYLE)] if targets is None else targets
    asked = Protocol(
        out,
        world,
        tuple(_target(text) for text in named),
        tuple(forms or FORMS),
        seeds,
        count,
        oracles=full,
        in_turn=full,
        relearn=full,
        processes=processes,
    )
    result = asked.conduct(told)
    show(tables.tables(result), (tables.CAPTION,))
    if sheets is not None:
        for name, sheet in picture.sheets(asked, result).items():
            path = sheets / f"canvas-{name}.png"
            write_bytes(path, sheet)
            console.print(f"Contact sheet: {path}", soft_wrap=True)
    write_json(json, result)


def _target(text: str) -> Target:
    """A target from its text.

    Raises:
        ExpungeError: it is not of this form.
    """
    parts = text.split(":")
    for domain in DOMAINS:
        if len(parts) == 3 and parts[0] == domain:
            return Target(domain, parts[1], parts[2])
    raise ExpungeError(
        f"The target {text!r} was given; {' or '.join(DOMAINS)}, a word and its anchor are "
        "expected, as object:fish:tree."
    )
