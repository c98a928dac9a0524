"""``expunge data``: what is there, what it may be used for, and that it is what was pinned."""

import json
from pathlib import Path
from types import MappingProxyType

import datasets
import pytest
from typer.testing import CliRunner

from expunge.cli.main import app
from expunge.data import catalogue
from expunge.data.prepared import DataSet, Sources
from expunge.errors import ExpungeError


def table(_: Sources) -> datasets.Dataset:
    rows = {"id": ["a", "b"], "subject": ["x", "x"], "split": ["train", "test"]}
    return datasets.Dataset.from_dict({**rows, "licence": ["GPL-2.0"] * 2, "size": [1.5, 2.5]})


def broken(_: Sources) -> datasets.Dataset:
    raise ExpungeError("It broke.")


@pytest.fixture(autouse=True)
def two_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A catalogue of one set that works and one that does not, and a cache of the test's own."""
    monkeypatch.setenv("EXPUNGE_CACHE", str(tmp_path / "cache"))
    note = "Fetched, never shipped."
    good = DataSet("good", "two rows", (), "GPL-2.0", False, 2, None, table, "person", (), note)
    bad = DataSet("bad", "no row", (), "MIT", True, 2, None, broken, "person")
    entries = MappingProxyType({"bad": bad, "good": good})
    monkeypatch.setattr(catalogue, "entries", lambda: entries)


def called(*arguments: str) -> str:
    """What a command prints; its error is raised."""
    result = CliRunner().invoke(app, ["data", *arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return " ".join(result.output.split())


def test_the_list_says_what_is_here(tmp_path: Path) -> None:
    called("fetch", "good")
    called("list", "--json", str(tmp_path / "list.json"))
    bad, good = json.loads((tmp_path / "list.json").read_text())
    assert (bad["here"], good["here"]) == (False, True)
    assert (bad["permissive"], good["permissive"]) == (True, False)


def test_a_set_that_may_not_be_shipped_says_so_when_fetched_and_described() -> None:
    assert "Not to be shipped" in called("fetch", "good")
    assert "never shipped" in called("info", "good")


def test_info_counts_rows_splits_and_subjects(tmp_path: Path) -> None:
    assert "expunge data fetch good" in called("info", "good")
    called("fetch", "good")
    shown = called("info", "good", "--json", str(tmp_path / "info.json"))
    assert "2 rows (1 test, 1 train); 1 subjects, each a person" in shown
    facts = json.loads((tmp_path / "info.json").read_text())
    assert facts["splits"] == {"test": 1, "train": 1} and facts["columns"]["size"] == "float64"


def test_one_that_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    with pytest.raises(ExpungeError, match=r"1 of 2 were not fetched\. bad: It broke\."):
        called("fetch", "--all", "--json", str(tmp_path / "fetch.json"))
    figures = json.loads((tmp_path / "fetch.json").read_text())
    assert list(figures["fetched"]) == ["good"] and figures["failed"] == ["bad: It broke."]
    assert "good: as pinned" in called("verify")


def test_a_damaged_set_is_reported_and_fetched_again(tmp_path: Path) -> None:
    called("fetch", "good")
    (arrow,) = (tmp_path / "cache/data/prepared/good").glob("*.arrow")
    arrow.write_bytes(arrow.read_bytes()[:50])
    with pytest.raises(ExpungeError, match="good was damaged"):
        called("verify", "good")
    called("fetch", "good")
    assert "good: as pinned" in called("verify", "good")


def test_fetch_wants_names_or_all() -> None:
    for arguments in (["fetch"], ["fetch", "good", "--all"]):
        with pytest.raises(ExpungeError, match="one of the two"):
            called(*arguments)


def test_verifying_nothing_is_an_error() -> None:
    with pytest.raises(ExpungeError, match="Nothing was fetched"):
        called("verify")
