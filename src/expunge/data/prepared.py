"""Prepared sets and weights: made once from pinned packages, checked, kept in the cache.

A set becomes a Hugging Face table with the columns ``id``, ``subject``, ``split`` and ``licence``;
weights become safetensors. What was made is named by the digest of its content (of a picture: its
decoded pixels), which is pinned as well, so that a drawing library of another version is noticed.
Everything is made in a scratch folder and moved into place whole.
"""

import hashlib
import importlib.util
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import datasets
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch
from safetensors import SafetensorError, safe_open

from expunge.data import cache, splits, tables
from expunge.data.packages import Origin, archive, locked, scratch, sha256
from expunge.errors import ExpungeError, IntegrityError
from expunge.storage import write_bytes

Sources = Mapping[str, Path]
"""The unpacked folder of each package, by the package's name."""

ENTRY = "entry.json"
COLUMNS = ("id", "subject", "split", "licence")
"""Columns that every set has."""
BESIDE = ("cache-", "tmp")
"""Beginnings of the files that `datasets` itself puts beside a table, for what is made of it."""


class Entry(Protocol):
    """A set or weights of the catalogue."""

    @property
    def name(self) -> str:
        """The name by which it is asked for."""
        ...

    @property
    def title(self) -> str:
        """One line on what it is."""
        ...

    @property
    def origins(self) -> tuple[Origin, ...]:
        """What it is made from."""
        ...

    @property
    def licence(self) -> str:
        """Under which terms the content may be used."""
        ...

    @property
    def permissive(self) -> bool:
        """Whether the licence would allow shipping; others are fetched and never shipped."""
        ...

    @property
    def digest(self) -> str | None:
        """The pinned digest of the content; None for what is frozen when it is first fetched."""
        ...

    @property
    def note(self) -> str:
        """What a user should know before using it."""
        ...

    @property
    def modules(self) -> tuple[str, ...]:
        """Python modules that making it needs, all in the extra ``data``."""
        ...

    def make(self, sources: Sources, folder: Path) -> None:
        """Write the prepared files into ``folder``, which is empty."""
        ...

    def content(self, folder: Path) -> str:
        """The digest of what lies in ``folder``.

        Raises:
            IntegrityError: it cannot be read.
        """
        ...


@dataclass(frozen=True)
class DataSet:
    """A table of the catalogue.

    Args:
        name: the name by which it is asked for.
        title: one line on what it is.
        origins: the packages it is made from.
        licence: of the content.
        permissive: whether the licence would allow shipping.
        rows: how many there are; 0 where this depends on when it was frozen.
        digest: of the content, see :func:`content_digest`.
        table: makes the table from the unpacked packages.
        unit: what one forgets of it: person, class, concept, sender ...
        modules: Python modules that ``table`` needs beyond the core.
        note: what a user should know before using it.
    """

    name: str
    title: str
    origins: tuple[Origin, ...]
    licence: str
    permissive: bool
    rows: int
    digest: str | None
    table: Callable[[Sources], datasets.Dataset]
    unit: str
    modules: tuple[str, ...] = ()
    note: str = ""

    def make(self, sources: Sources, folder: Path) -> None:
        """Make the table and save it.

        Raises:
            IntegrityError: it has another number of rows than the catalogue says, lacks a column
                that every set has, or repeats an id.
        """
        made = self.table(sources)
        missing = [c for c in COLUMNS if c not in made.column_names]
        ids = made.with_format("arrow")["id"][:].to_pylist() if not missing else []
        if missing or (self.rows and len(made) != self.rows) or len(set(ids)) != len(ids):
            raise IntegrityError(
                f"{self.name} was made with {len(made)} rows, {len(set(ids))} different ids and "
                f"the columns {', '.join(made.column_names)}; {self.rows or 'some'} rows with "
                f"{', '.join(COLUMNS)} are expected. Remove its archives and fetch again."
            )
        made.save_to_disk(str(folder))

    def content(self, folder: Path) -> str:
        """The digest of the table in ``folder``."""
        return content_digest(_opened(folder))


@dataclass(frozen=True)
class Weights:
    """Real pretrained weights of the catalogue, as safetensors in a folder.

    Args:
        name: the name by which they are asked for.
        title: one line on what they are.
        origins: the packages they are made from.
        licence: of the weights.
        permissive: whether the licence would allow shipping.
        digest: over the digests of all tensors.
        convert: writes safetensors (and configuration) from the unpacked packages into a folder.
        modules: Python modules that ``convert`` needs beyond the core.
        note: what a user should know before using them.
    """

    name: str
    title: str
    origins: tuple[Origin, ...]
    licence: str
    permissive: bool
    digest: str | None
    convert: Callable[[Sources, Path], None]
    modules: tuple[str, ...] = ()
    note: str = ""

    def make(self, sources: Sources, folder: Path) -> None:
        """Convert into the folder."""
        self.convert(sources, folder)

    def content(self, folder: Path) -> str:
        """SHA-256 over the name, type, shape and bytes of every tensor."""
        sha = hashlib.sha256()
        for path in sorted(folder.glob("*.safetensors")):
            for name, content in _tensors(path):
                sha.update(f"{name}{content.shape}".encode())
                sha.update(content.tobytes())
        return sha.hexdigest()


@dataclass(frozen=True)
class Prepared:
    """Something that was fetched: its folder, and what was written down about it.

    ``made_from`` holds the SHA-256 of each archive, ``files`` that of each file in the folder.
    """

    entry: Entry
    folder: Path
    digest: str
    made_from: Mapping[str, str]
    files: Mapping[str, str]

    def load(self, split: str | None = None) -> datasets.Dataset:
        """The table of a set, memory-mapped; one split of it, or all rows.

        Raises:
            ExpungeError: this is no set, or there is no split of that name.
        """
        if not isinstance(self.entry, DataSet):
            raise ExpungeError(
                f"{self.entry.name} are weights, no table; read the safetensors in {self.folder}."
            )
        try:
            table = _opened(self.folder)
        except IntegrityError as error:
            name = self.entry.name
            raise IntegrityError(
                f"{error}; run `expunge data verify {name}`, which removes what is damaged, and "
                f"`expunge data fetch {name}`."
            ) from None
        return table if split is None else tables.of_split(table, split, self.entry.name)


def place(entry: Entry) -> Path:
    """Where an entry is kept once it was made."""
    return cache.folder() / "data" / "prepared" / entry.name


def prepared(entry: Entry) -> Prepared | None:
    """What the cache holds of an entry; None where it was not fetched, or from other packages."""
    folder = place(entry)
    try:
        facts = json.loads((folder / ENTRY).read_text(encoding="utf-8"))
        written = [dict(facts[name]) for name in ("made from", "files")]
        found = Prepared(entry, folder, str(facts["digest"]), *written)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    pinned = {o.file: o.sha256 for o in entry.origins if o.sha256 is not None}
    stale = any(found.made_from.get(file) != hash_ for file, hash_ in pinned.items())
    return None if stale or entry.digest not in (None, found.digest) else found


def fetch(entry: Entry, say: Callable[[str], None] = lambda _: None) -> Prepared:
    """The prepared entry, fetched and made where the cache does not hold it.

    Two processes that ask for the same entry make it once; an interrupted call leaves nothing that
    a later one would take for whole.

    Args:
        entry: what to fetch.
        say: is told in words what is being done.

    Raises:
        ExpungeError: a client or a module is missing, a fetch failed, or the disk is full.
        IntegrityError: an archive or what was made from it is not what was pinned.
    """
    folder = place(entry)
    with locked(folder):
        if found := prepared(entry):
            return found
        _check_modules(entry)
        with scratch() as aside:
            made = _made(entry, aside, say)
            _remove(folder)
            folder.parent.mkdir(parents=True, exist_ok=True)
            os.replace(made, folder)
    found = prepared(entry)
    assert found is not None
    return found


def _made(entry: Entry, aside: Path, say: Callable[[str], None]) -> Path:
    """The entry, made and described in a folder below ``aside``."""
    sources, made_from = {}, {}
    for i, origin in enumerate(entry.origins):
        say(f"{origin.describe()}, {origin.size / 1e6:.1f} MB")
        packed = archive(origin)
        unpacked = aside / f"package-{i}"
        unpacked.mkdir()
        origin.unpack(packed, unpacked)
        sources[origin.name] = unpacked
        made_from[origin.file] = origin.sha256 or sha256(packed)
    say(f"preparing {entry.name}")
    target = aside / "prepared"
    target.mkdir()
    entry.make(sources, target)
    digest = entry.content(target)
    if entry.digest not in (None, digest):
        raise IntegrityError(
            f"{entry.name} was made with the digest {digest[:16]}..., and "
            f"{str(entry.digest)[:16]}... is pinned; nothing was kept. Its packages are the right "
            "ones, so a library that decodes or draws differs: install the pinned versions with: "
            "pip install -c constraints.txt 'expunge[data]'"
        )
    facts = {
        "name": entry.name,
        "digest": digest,
        "made from": made_from,
        "files": {path.name: sha256(path) for path in sorted(target.iterdir())},
    }
    write_bytes(target / ENTRY, (json.dumps(facts, indent=2) + "\n").encode())
    return target


def verify(entry: Entry) -> tuple[str, ...]:
    """What is wrong with the cached copy of an entry, read through once: nothing, or sentences.

    A damaged copy is taken out of the way, so that the next fetch makes it again.
    """
    with locked(place(entry)):
        found = prepared(entry)
        if found is None:
            return (f"{entry.name} is not fetched; run `expunge data fetch {entry.name}`.",)
        said = _damage(found)
        if said is None:
            return ()
        _remove(found.folder)
    return (
        f"{entry.name} was damaged ({said}) and was removed; run `expunge data fetch "
        f"{entry.name}`.",
    )


def _remove(folder: Path) -> None:
    """Take a folder out of its place at once, so that a killed call leaves no half of it."""
    if folder.exists():
        with scratch() as aside:
            os.replace(folder, aside / "removed")


def _damage(found: Prepared) -> str | None:
    for name, hash_ in found.files.items():
        path = found.folder / name
        if not path.is_file() or sha256(path) != hash_:
            return f"its file {name} is {'changed' if path.is_file() else 'missing'}"
    for name in sorted({path.name for path in found.folder.iterdir()} - {ENTRY, *found.files}):
        if not name.startswith(BESIDE):  # a reader of a folder of weights might take it for a part
            return f"the file {name} does not belong to it"
    try:
        digest = found.entry.content(found.folder)
    except IntegrityError as error:
        return str(error)
    if digest == found.digest:
        return None
    return f"it has the digest {digest[:16]}..., and {found.digest[:16]}... was written down"


def content_digest(table: datasets.Dataset) -> str:
    """SHA-256 over the columns in alphabetical order and their values in row order.

    Pictures enter as size and decoded RGB pixels, so that the digest does not depend on how they
    are compressed; lists of numbers as their bytes and lengths.
    """
    whole = hashlib.sha256()
    for name in sorted(table.column_names):
        whole.update(f"{name}:{len(table)}:{_column_digest(table, name)}".encode())
    return whole.hexdigest()


def _column_digest(table: datasets.Dataset, name: str) -> str:
    values, lengths = hashlib.sha256(), hashlib.sha256()
    if isinstance(table.features[name], datasets.Image):
        for row in table.select_columns(name).with_format(None):
            picture = row[name].convert("RGB")
            lengths.update(f"{picture.size}".encode())
            values.update(np.asarray(picture).tobytes())
    else:
        column = tables.column(table, name)
        lists = pa.types.is_list(column.type) or pa.types.is_fixed_size_list(column.type)
        numeric = lists and pa.types.is_primitive(column.type.value_type)
        for chunk in column.chunks:
            if numeric:
                lengths.update(pc.list_value_length(chunk).to_numpy(zero_copy_only=False).tobytes())
                values.update(chunk.flatten().to_numpy(zero_copy_only=False).tobytes())
            else:
                values.update("".join(f"{value!r}\0" for value in chunk.to_pylist()).encode())
    return values.hexdigest() + lengths.hexdigest()


def split_by_id(ids: list[str], labels: list[int] | None = None) -> list[str]:
    """The package's own deterministic 60/20/20 split, for sets that come without one."""
    return splits.stratified(ids, [0] * len(ids) if labels is None else labels)


def _check_modules(entry: Entry) -> None:
    missing = [name for name in entry.modules if importlib.util.find_spec(name) is None]
    if missing:
        raise ExpungeError(
            f"{entry.name} is prepared with {', '.join(missing)}, not installed here; install it "
            "with: pip install 'expunge[data]'"
        )


def _opened(folder: Path) -> datasets.Dataset:
    try:
        return datasets.load_from_disk(str(folder))
    except Exception as error:  # the reader fails in many ways on a damaged folder
        raise IntegrityError(f"{folder} cannot be read as a table ({error})") from None


def _tensors(path: Path) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    try:
        with safe_open(path, framework="pt") as stored:
            for name in sorted(stored.keys()):
                tensor = stored.get_tensor(name)
                # a number alone cannot be viewed as bytes
                content = tensor.contiguous() if tensor.ndim else tensor.reshape(1)
                yield f"{name}{tensor.dtype}", content.view(torch.uint8).numpy()
    except (SafetensorError, OSError) as error:
        raise IntegrityError(f"{path} cannot be read ({error})") from None
