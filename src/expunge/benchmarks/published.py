"""Published benchmark sets in a folder of the user's: JSON, JSON lines, Parquet or ``datasets``.

The layouts are those in which TOFU, MUSE and WMDP are published: a configuration is a file
(``forget10.json``), a folder of split files (``knowmem/forget_qa-00000-of-00001.parquet``), a
folder of split folders (``knowmem/forget_qa/0000.parquet``), or what ``datasets`` saves.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from expunge.errors import ExpungeError, IntegrityError

Row = Mapping[str, Any]
ENDINGS = (".json", ".jsonl", ".parquet")
SAVED, SAVED_SPLITS = "state.json", "dataset_dict.json"


def rows(folder: Path, name: str, split: str = "train") -> list[Row]:
    """The rows of a split of a configuration.

    Args:
        folder: where the set lies.
        name: of the configuration.
        split: of the configuration; a file without splits is its ``train``.

    Raises:
        ExpungeError: there is none.
        IntegrityError: a file cannot be read.
    """
    found = _rows(folder, name, split)
    if not found:
        raise ExpungeError(
            f"There is no {name!r} with rows of the split {split!r} in {folder}; a file "
            f"{name}.json, .jsonl or .parquet, a folder {name} with files of the split, or what "
            "`datasets` saves there is expected, as the set is published."
        )
    return found


def has(folder: Path, name: str, split: str = "train") -> bool:
    """Whether there are rows of this split."""
    return bool(_rows(folder, name, split))


def checked(found: Sequence[Row], name: str, columns: Iterable[str]) -> Sequence[Row]:
    """The rows, all of which have these columns.

    Raises:
        ExpungeError: one lacks a column.
    """
    for number, row in enumerate(found):
        for column in columns:
            if row.get(column) is None:
                raise ExpungeError(
                    f"Row {number} of {name!r} lacks {column!r} and has {', '.join(row)}; the "
                    "columns of the published set are expected."
                )
    return found


def _rows(folder: Path, name: str, split: str) -> list[Row]:
    inside = folder / name
    if (inside / SAVED).is_file() or (inside / SAVED_SPLITS).is_file():
        return _saved(inside, split)
    files = [folder / f"{name}{ending}" for ending in ENDINGS if split == "train"]
    files += [inside / f"{split}{ending}" for ending in ENDINGS]
    for parts in ([f] for f in files):
        if parts[0].is_file():
            return _read(parts[0])
    shards = sorted(
        path
        for pattern in (f"{split}-*", f"{split}/*")
        for path in inside.glob(pattern)
        if path.suffix in ENDINGS
    )
    return [row for path in shards for row in _read(path)]


def _saved(folder: Path, split: str) -> list[Row]:
    import datasets

    try:
        found = datasets.load_from_disk(str(folder))
    except (OSError, ValueError, KeyError) as error:
        raise IntegrityError(
            f"{folder} was saved by `datasets` and cannot be read ({error}); save it again."
        ) from None
    if isinstance(found, datasets.DatasetDict):
        return list(found[split]) if split in found else []
    return list(found)


def _read(path: Path) -> list[Row]:
    try:
        if path.suffix == ".parquet":
            import pyarrow.parquet

            table: list[Row] = pyarrow.parquet.read_table(path).to_pylist()
            return table
        text = path.read_text(encoding="utf-8")
        if text.lstrip().startswith("["):
            return list(json.loads(text))
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise IntegrityError(
            f"{path} cannot be read ({str(error).splitlines()[0]}); JSON, JSON lines or Parquet "
            "as published is expected."
        ) from None
