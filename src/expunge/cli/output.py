"""What commands print: tables on the terminal, the same figures as JSON where asked.

Names, paths and messages of the user are printed as they are: never as Rich markup or emoji codes.
"""

import json
import math
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement, measure_renderables
from rich.table import Table
from rich.text import Text

from expunge.errors import ExpungeError
from expunge.signals.metric import Metric
from expunge.storage import write_bytes

NAMES = 24
"""Characters of a row's name that a narrow terminal does not break."""

ROOM = 10_000
"""Characters that no table needs."""


class Terminal(Console):
    """A console that cuts no column off: a table that needs more than the terminal has runs over
    its edge, as the lines of other programs do."""

    def print(self, *objects: Any, **more: Any) -> None:
        """Print; a single table at the width that it needs."""
        if len(objects) == 1 and isinstance(objects[0], Table):
            with self._room_for(objects[0], more.pop("width", None) or self.width):
                super().print(*objects, **more)
        else:
            super().print(*objects, **more)

    @contextmanager
    def _room_for(self, shown: Table, wanted: int) -> Iterator[None]:
        """The console as wide as is wanted, or as a table is at its narrowest; and the widths of
        its columns fixed where they have to be broken: Rich would break them below their least."""
        options = self.options.update(max_width=ROOM)
        natural = Measurement.get(self, options, shown).maximum
        needs = [
            measure_renderables(self, options, [column.header, *column.cells])
            for column in shown.columns
        ]
        least = [
            max(n.minimum, c.min_width or 0) for n, c in zip(needs, shown.columns, strict=True)
        ]
        widths = [max(n.maximum, low) for n, low in zip(needs, least, strict=True)]
        between = natural - sum(widths)
        while between + sum(widths) > wanted and widths != least:
            widest = max(
                (i for i in range(len(widths)) if widths[i] > least[i]), key=lambda i: widths[i]
            )
            widths[widest] -= 1
        given = [column.width for column in shown.columns]
        before, self.width = self._width, max(wanted, between + sum(widths))
        try:
            for column, width in zip(shown.columns, widths, strict=True):
                column.width = width
            yield
        finally:
            self._width = before
            for column, own in zip(shown.columns, given, strict=True):
                column.width = own


console = Terminal(highlight=False, markup=False, emoji=False)


def writable(path: Path, what: str) -> None:
    """Make sure that a file can be written at ``path``, before any work is done for it.

    Raises:
        ExpungeError: it is a folder, lies under a file, or may not be written.
    """
    if path.is_dir():
        raise ExpungeError(f"{what} {path} is a folder; give the path of a file.")
    _place(path if path.exists() else path.parent, what, path)


def writable_folder(path: Path, what: str) -> None:
    """Make sure that files can be written in the folder ``path``, which need not be there yet.

    Raises:
        ExpungeError: it is a file, lies under one, or may not be written.
    """
    if path.exists() and not path.is_dir():
        raise ExpungeError(f"{what} {path} is a file; give a folder that is empty or absent.")
    _place(path, what, path)


def _place(start: Path, what: str, path: Path) -> None:
    found = start
    while not found.exists() and found != found.parent:
        found = found.parent
    if found.is_file() and found != path:
        raise ExpungeError(f"{what} {path} cannot be made, since {found} is a file; name another.")
    folder = found.parent if found.is_file() else found
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ExpungeError(
            f"{what} {path} cannot be written: {folder} takes no file ({error.strerror}); name "
            "another."
        ) from None


def _json_path(path: Path | None) -> Path | None:
    if path is not None:
        writable(path, "The file of --json,")
    return path


JsonPath = Annotated[
    Path | None,
    typer.Option("--json", help="Write the printed figures to this file too.", callback=_json_path),
]


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """A table whose first column is text and whose others are numbers."""
    cells = [[cell(value) for value in row] for row in rows]
    shown = Table(title=Text(title), title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    widest = max((len(row[0]) for row in cells), default=0)
    for i, column in enumerate(columns):
        shown.add_column(
            Text(column),
            justify="right" if i else "left",
            overflow="fold",
            min_width=None if i else min(widest, NAMES),
        )
    for row in cells:
        shown.add_row(*map(Text, row))
    return shown


def show(
    tables: Iterable[tuple[str, Sequence[str], Iterable[Sequence[object]]]],
    sentences: Iterable[str] = (),
) -> None:
    """Print tables (title, columns, rows), and sentences below them."""
    for title, columns, rows in tables:
        console.print(table(title, columns, rows))
    for sentence in sentences:
        console.print(sentence, soft_wrap=True)


def told(title: str, stored: bool) -> None:
    """Say that a piece of work is done, and whether its result was stored before."""
    console.print(f"{title}{', stored before' if stored else ''}", soft_wrap=True)


def cell(value: object) -> str:
    """A number with two decimals below 10, a dash for nothing, anything else as it is."""
    if value is None:
        return "-"
    if isinstance(value, float):
        if math.isnan(value):
            return "-"
        return f"{value:.2f}" if abs(value) < 10 else f"{value:,.0f}"
    return str(value)


def scores(metric: Metric, values: Iterable[float]) -> list[object]:
    """Scores as cells, in the metric's decimals."""
    if metric.decimals == 2:
        return list(values)
    return [None if math.isnan(value) else f"{value:.{metric.decimals}f}" for value in values]


def numbers(values: Iterable[float]) -> list[float | None]:
    """Figures as JSON values: NaN, which stands for nothing measured, becomes None."""
    return [None if math.isnan(value) else value for value in values]


def write_json(path: Path | None, figures: object) -> None:
    """Write figures as JSON where a path was given."""
    if path is not None:
        write_bytes(path, (json.dumps(figures, indent=2, sort_keys=True) + "\n").encode())
        console.print(f"Figures: {path}", soft_wrap=True)


def write_picture(path: Path, png: bytes) -> None:
    """Write a picture, and say where it is."""
    write_bytes(path, png)
    console.print(f"Picture: {path}", soft_wrap=True)
