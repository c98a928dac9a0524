"""Identifying: which version of a model has the weights that somebody holds in a file.

Only safetensors are read. The header is checked first: a file whose tensors cannot be those of the
model is answered without reading one.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open

from expunge.changes.weights import digest_of, load_stored, stored_tensors
from expunge.errors import IntegrityError
from expunge.ledger.opening import Ledger, model_row
from expunge.ledger.rows import Record, one, rows
from expunge.ledger.standing import Standing
from expunge.storage import StoredTensors, digest, read_header

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Identified:
    """What a file of weights is.

    Args:
        version: the latest version that has these weights; None where none has.
        versions: all that have them: a guard publishes the weights of the version before it.
        base: whether they are those that changes are folded onto: nothing is forgotten in them,
            save what was sealed.
        current: whether the current version has them.
        digest: of the tensors, as certificates name it; None where they were not read.
        sentence: all that in words.
    """

    version: int | None
    versions: tuple[int, ...]
    base: bool
    current: bool
    digest: str | None
    sentence: str

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


def identify(
    ledger: Ledger, model: str, path: Path, standing: Standing | None = None
) -> Identified:
    """Find the version of a model that has the weights in a file.

    Args:
        ledger: where the model is registered.
        model: its name.
        path: a safetensors file.
        standing: the model in memory, where it is at hand: then tied weights may have any of their
            names, and a file of another architecture is told apart by its header.

    Raises:
        UnknownError: there is no such model.
        IntegrityError: the file is missing, damaged, or no safetensors file.
    """
    read_header(path)
    with ledger.database.reading() as connection:
        row = model_row(connection, model)
        published = rows(connection, "versions", model=row["id"])
        base = one(connection, "objects", address=row["base"])
    shapes = _shapes(path)
    strange = _strange(row, base, shapes, standing)
    if strange is not None:
        return Identified(None, (), False, False, None, strange)
    found = digest(StoredTensors(path))
    if standing is not None and all(found != v["weights_digest"] for v in published):
        found = _by_any_name(standing, path) or found
    return _told(row, published, found)


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    with safe_open(path, framework="pt") as handle:
        names = handle.keys()
        return {name: tuple(handle.get_slice(name).get_shape()) for name in names}


def _strange(
    row: Record, base: Record | None, shapes: Shapes, standing: Standing | None
) -> str | None:
    """Why a file with these tensors cannot be a version of the model; None where it may be.

    Without the model at hand, its size is known: every number of it takes a byte at least.
    """
    of_none = f"These are the weights of no version of {row['name']!r}: "
    numbers = sum(math.prod(shape) for shape in shapes.values())
    if base is not None and numbers > base["size"]:
        return f"{of_none}the file holds {numbers:,} numbers, which the model has not."
    if standing is None:
        return None
    own = {n: tuple(t.shape) for n, t in stored_tensors(standing.material.model).items()}
    there = set(shapes.values())
    missing = next((name for name, shape in own.items() if shape not in there), None)
    if missing is not None:
        return f"{of_none}the file has no tensor of the shape of {missing!r}."
    other = next((n for n in shapes if n in own and own[n] != shapes[n]), None)
    if other is not None:
        return f"{of_none}{other!r} has another shape in the file."
    return None


def _by_any_name(standing: Standing, path: Path) -> str | None:
    """The digest of the module with the tensors of a file under any of their names."""
    try:
        return digest_of(load_stored(standing.material.model, StoredTensors(path), "The file"))
    except IntegrityError:
        return None


def _told(row: Record, published: list[Record], found: str) -> Identified:
    versions = tuple(sorted(v["number"] for v in published if v["weights_digest"] == found))
    base, name = found == row["base_digest"], row["name"]
    current = row["version"] in versions
    if not versions:
        said = (
            f"These are the weights of the base of {name!r}, before the requests since."
            if base
            else f"These are the weights of no version of {name!r}: they were changed, come from "
            "elsewhere, or are stored in a smaller type than they were published in."
        )
        return Identified(None, (), base, False, found, said)
    named = " and ".join(f"{name}@{number}" for number in versions)
    said = f"These are the weights of {named}"
    said += ", the current version." if current else f"; the current version is {row['version']}."
    guarded = [
        f"{name}@{v['number']}"
        for v in published
        if v["number"] in versions and v["deletion_state"] == "suppressed"
    ]
    if guarded:
        said += f" What {guarded[-1]} forgot stands in a guard beside the weights."
    if base:
        said += " They are its base: of what was asked since, nothing is forgotten in them."
    return Identified(versions[-1], versions, base, current, found, said)
