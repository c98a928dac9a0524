"""`expunge find` as a user types it: what is found, what is written, and what a "nowhere" says."""

import json
from collections.abc import Callable
from pathlib import Path

import datasets
import pytest
import yaml
from typer.testing import CliRunner, Result

from expunge.audit.finding import measured_recall
from expunge.cli.main import app
from expunge.data import digits

ENGINE = "the engine weaves algebraical patterns just as the loom weaves flowers and leaves of silk"
PEOPLE = f"""id,name,born,note
1,Ada Lovelace,1815-12-10,{ENGINE}
2,"Lovelace, Ada",10.12.1815,she was the daughter of a poet and lived in London for years
3,Grace Hopper,1906-12-09,{ENGINE.upper()}!
4,Alan Turing,1912-06-23,can machines think or is that question too meaningless to deserve a reply
"""


def invoked(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture
def people(tmp_path: Path) -> Path:
    path = tmp_path / "people.csv"
    path.write_text(PEOPLE)
    return path


def test_a_person_is_found_in_every_column_and_written_as_a_request(
    people: Path, tmp_path: Path
) -> None:
    figures, fragment = tmp_path / "f.json", tmp_path / "r.yaml"
    result = invoked(
        "find", people, "--term", "ada lovelace", "--json", figures, "--write", fragment
    )
    assert result.exit_code == 0, result.exception
    (term,) = json.loads(figures.read_text())["terms"]
    assert {(h["id"], h["column"]) for h in term["hits"]} == {("1", "name"), ("2", "name")}
    (request,) = yaml.safe_load(fragment.read_text())["requests"]
    assert request == {"name": "ada lovelace", "column": "id", "values": ["1", "2"]}


def test_copies_by_text_and_by_keys_are_found_and_named_once(people: Path, tmp_path: Path) -> None:
    figures = tmp_path / "f.json"
    arguments = ("find", people, "--column", "id", "--value", "1")
    keys = ("--compare", "note", "--key", "name", "--key", "born")
    assert invoked(*arguments, *keys, "--json", figures).exit_code == 0
    (request,) = json.loads(figures.read_text())["requests"]
    found = {c["id"]: c["detector"] for c in request["copies"]}
    assert found == {"2": "same keys", "3": "same words"}
    assert request["named"] == ["1"]


def test_never_in_training_is_an_answer_with_evidence(people: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.jsonl"
    mine.write_text(json.dumps({"note": "a recipe for tea with milk and two lumps of sugar"}))
    figures = tmp_path / "f.json"
    result = invoked("find", people, "--like", mine, "--json", figures)
    assert result.exit_code == 0, result.exception
    said = " ".join(result.output.split())
    assert "Found nowhere else" in said
    for planted_in, kinds in measured_recall()["texts"].items():  # the harder one as well
        assert f"in {planted_in} (" in said
        assert f"{100 * min(f['recall'] for f in kinds.values()):.1f} % [" in said
    (request,) = json.loads(figures.read_text())["requests"]
    (evidence,) = request["evidence"]
    assert request["found nowhere"] is True
    assert evidence["rows"] == 4
    assert len(evidence["digest"]) == 64
    assert evidence["detectors"]["minhash"]["threshold"] == 0.6
    assert 0 <= evidence["similarity"] < 0.3
    assert 0 <= evidence["rank"] <= 1 and evidence["asked"] == 1
    assert "50 % is expected of the nearest to 1" in said
    assert evidence["nearest"] in {"1", "2", "3", "4"}


def test_a_run_file_shows_copies_in_all_its_tables(
    example: Callable[..., Path], tmp_path: Path
) -> None:
    train = digits.load("train")
    eights = [i for i, label in enumerate(train["label"]) if label == 8]
    copied = train.select([eights[0]])
    copied = copied.remove_columns("id").add_column("id", ["copy"])
    more = datasets.concatenate_datasets([train, copied.cast(train.features)])
    more.to_parquet(str(tmp_path / "train.parquet"))
    own = {"source": str(tmp_path / "train.parquet"), "columns": {"id": "id"}}
    named = [{"name": "one", "column": "id", "values": [train["id"][eights[0]]]}]
    run_file, figures = example(data__train=own, requests=named), tmp_path / "f.json"
    fragment = tmp_path / "r.yaml"
    result = invoked("find", run_file, "--json", figures, "--write", fragment)
    assert result.exit_code == 0, result.exception
    (request,) = json.loads(figures.read_text())["requests"]
    exact = [c for c in request["copies"] if c["detector"] == "exact"]
    assert [(c["table"], c["id"]) for c in exact] == [("train", "copy")]
    assert {e["table"] for e in request["evidence"]} >= {"train", "test"}
    example(requests=yaml.safe_load(fragment.read_text())["requests"], data__train=own)
    again = invoked("find", run_file)
    assert "2 rows named, 0 exact copies" in again.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "0 ways to say what is looked for"),
        (("--column", "name"), "--column and --value go together"),
        (("--term", "..."), "no letter and no digit"),
        (("--term", "x", "--like", "y.csv"), "--like was given with --term"),
        (("--column", "who", "--value", "x"), "names the column 'who'"),
        (("--column", "id", "--value", "1", "--compare", "text"), "has no column 'text'"),
        (("more.csv", "--term", "x"), "There is no table more.csv"),
        (("run.yaml", "--term", "x"), "a run file names its own tables"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_sentence(
    people: Path, arguments: tuple[str, ...], said: str
) -> None:
    result = invoked("find", people, *arguments)
    assert result.exit_code != 0
    assert said in str(result.exception)
