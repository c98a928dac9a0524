"""What commands print: tables on the terminal, the same figures as JSON where asked."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from expunge.storage import write_bytes

JsonPath = Annotated[
    Path | None, typer.Option("--json", help="Write the printed figures to this file too.")
]

console = Console(highlight=False)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """A table whose first column is text and whose others are numbers."""
    shown = Table(title=title, title_justify="left", header_style="bold")
    for i, column in enumerate(columns):
        shown.add_column(column, justify="left" if i == 0 else "right", overflow="fold")
    for row in rows:
        shown.add_row(*(cell(value) for value in row))
    return shown


def cell(value: object) -> str:
    """A number with two decimals below 10, a dash for nothing, anything else as it is."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.2f}" if abs(value) < 10 else f"{value:,.0f}"
    return str(value)


def write_json(path: Path | None, figures: object) -> None:
    """Write figures as JSON where a path was given."""
    if path is not None:
        write_bytes(path, (json.dumps(figures, indent=2, sort_keys=True) + "\n").encode())
        console.print(f"Figures: {path}")
