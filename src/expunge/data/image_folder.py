"""Folders of pictures: ``class/picture.png`` or ``split/class/picture.png``, with a table of more.

The layout is that of the ``imagefolder`` reader of Hugging Face ``datasets``: a file
``metadata.csv`` or ``metadata.jsonl`` in the folder, or in the folder of a split, has one row a
picture and names it in the column ``file_name``; it may stand in for the class folders.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datasets
import pandas as pd

from expunge.errors import ExpungeError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm"})
METADATA = ("metadata.csv", "metadata.jsonl")
NAME = "file_name"
SAVED = ("state.json", "dataset_dict.json")
"""What ``save_to_disk`` of ``datasets`` leaves in a folder."""


def is_image_folder(path: Path) -> bool:
    """Whether a folder holds pictures, and nothing that ``datasets`` saved."""
    if not path.is_dir() or any((path / name).exists() for name in SAVED):
        return False
    return any(p.suffix.lower() in SUFFIXES for p in path.rglob("*"))


def read(path: Path) -> datasets.Dataset:
    """The pictures of a folder in alphabetical order of their paths.

    Returns:
        A table with the columns ``image``, ``file_name`` (relative to ``path``), ``label`` (the
        name of the class folder) where there are class folders, ``split`` where these lie in
        folders of splits, and those of the metadata.

    Raises:
        ExpungeError: pictures lie at different depths, or the metadata names no file, a file that
            is not there, or leaves a picture out.
    """
    found = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES)
    names = [p.relative_to(path).as_posix() for p in found]
    parts = [name.split("/")[:-1] for name in names]
    more = _metadata(path)
    columns: dict[str, list[Any]] = {
        "image": [str(p) for p in found],
        NAME: names,
        **_folders(path, parts, labelled=any("label" in row for row in more.values())),
    }
    if more:
        columns |= _joined(path, names, more)
    table = datasets.Dataset.from_dict(columns)
    return table.cast_column("image", datasets.Image())


def _folders(path: Path, parts: list[list[str]], labelled: bool) -> dict[str, list[Any]]:
    """Split and class by the names of the folders; ``labelled`` where the metadata has classes."""
    depths = {len(folders) for folders in parts}
    if len(depths) > 1 or max(depths) > 2:
        raise ExpungeError(
            f"The pictures of {path} lie {', '.join(map(str, sorted(depths)))} folders deep; one "
            "layout is expected: class/picture.png, or split/class/picture.png."
        )
    [depth] = depths
    if labelled:
        return {"split": [folders[0] for folders in parts]} if depth else {}
    if depth == 2:
        return {"split": [folders[0] for folders in parts], "label": [f[1] for f in parts]}
    return {"label": [folders[0] for folders in parts]} if depth else {}


def _metadata(path: Path) -> dict[str, dict[str, Any]]:
    """Rows of metadata by the picture's path relative to ``path``."""
    rows: dict[str, dict[str, Any]] = {}
    for folder in (path, *sorted(p for p in path.iterdir() if p.is_dir())):
        for kind in METADATA:
            file = folder / kind
            if not file.exists():
                continue
            try:
                frame = pd.read_csv(file) if file.suffix == ".csv" else _json_lines(file)
            except ValueError as error:
                raise ExpungeError(f"{file} cannot be read as a table: {error}") from None
            if NAME not in frame.columns:
                raise ExpungeError(
                    f"{file} has no column {NAME!r}, which names each row's picture; it has "
                    f"{', '.join(map(str, frame.columns))}."
                )
            prefix = folder.relative_to(path).as_posix()
            for row in frame.to_dict("records"):
                name = str(row.pop(NAME))
                rows[name if prefix == "." else f"{prefix}/{name}"] = row
    return rows


def _json_lines(file: Path) -> pd.DataFrame:
    return pd.read_json(file, lines=True)


def _joined(
    path: Path, names: list[str], more: Mapping[str, Mapping[str, Any]]
) -> dict[str, list[Any]]:
    known = set(names)
    for name in more:
        if name not in known:
            raise ExpungeError(
                f"The metadata of {path} name {name!r}, which is no picture there; mend the table."
            )
    for name in names:
        if name not in more:
            raise ExpungeError(
                f"The metadata of {path} leave out the picture {name!r}; one row for each picture "
                "is expected."
            )
    columns = dict.fromkeys(column for row in more.values() for column in row)
    return {column: [more[name].get(column) for name in names] for column in columns}
