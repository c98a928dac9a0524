"""Run files of language models: the whole chain on a tiny Llama, and what is refused before it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner, Result

from expunge.cli.main import app
from expunge.errors import ExpungeError
from expunge.families.language import Language
from expunge.models.checkpoint import Checkpoint
from expunge.run_file.reading import read
from expunge.signals.accuracy import EXACT_ANSWERS
from expunge.signals.ask import metric_of
from language_folder import BATCH, EPOCHS, RATE, folder, run_file

RECIPE = {"epochs": EPOCHS // 4, "batch_size": BATCH, "learning_rate": RATE}
Written = Callable[..., Path]


def invoked(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def done(*arguments: object) -> str:
    result = invoked(*arguments)
    assert result.exit_code == 0, result.exception or result.output
    return result.output


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder(tmp_path_factory.mktemp("llama"))


@pytest.fixture
def written(made: Path, tmp_path: Path) -> Written:
    def one(**parts: Any) -> Path:
        path: Path = run_file(tmp_path, made, **parts)
        return path

    return one


def test_the_family_follows_and_has_the_shipped_refusals(written: Written) -> None:
    loaded = read(written())
    family = loaded.deployment.family
    assert isinstance(family, Language)
    assert len(family.refusals) >= 10
    assert metric_of(family) is EXACT_ANSWERS
    widths = {rows.batch(torch.tensor([0]))["labels"].shape[1]
              for rows in (loaded.deployment.train, loaded.test)}  # fmt: skip
    assert len(widths) == 1  # rows of both can be joined


def test_refusals_of_the_user_s_own_are_read(written: Written, tmp_path: Path) -> None:
    (tmp_path / "r.txt").write_text("I do not know\n")
    family = read(written(data__refusals="r.txt")).deployment.family
    assert isinstance(family, Language)
    [tokens] = family.refusals
    assert len(tokens) == 5  # four words and the end


def test_two_requests_are_forgotten_stored_and_measured_again(
    written: Written, tmp_path: Path
) -> None:
    path = written()
    said = done("forget", path, "--keep-at-least", 0, "--json", tmp_path / "f.json")
    assert "Held-out exact-answer accuracy" in said
    found = json.loads((tmp_path / "f.json").read_text())
    assert found["metric"]["measures"].startswith("share of prompts answered exactly")
    assert min(found["before"]["forget rows"]) >= 0.8
    first, second = (step["forget rows"] for step in found["after"])
    assert first[0] < found["before"]["forget rows"][0]
    assert second[1] < found["before"]["forget rows"][1]
    done("evaluate", path, "--json", tmp_path / "e.json")
    again = json.loads((tmp_path / "e.json").read_text())
    last = next(v for k, v in again.items() if k.endswith("model.safetensors"))
    assert list(last["forget rows"].values()) == second
    stored = Checkpoint.open(tmp_path / "out/checkpoint")
    moved: Any = stored.model()
    assert stored.kind == "language"
    assert moved.get_output_embeddings().weight is moved.get_input_embeddings().weight
    assert torch.equal(
        moved.get_input_embeddings().weight,
        load_file(tmp_path / "out/model.safetensors")["model.embed_tokens.weight"],
    )


def test_the_oracle_never_learned_the_facts_and_keeps_the_others(
    written: Written, tmp_path: Path
) -> None:
    method = {"name": "retrain"}
    path = written(recipe=RECIPE, method=method)
    done("forget", path, "--keep-at-least", 0, "--json", tmp_path / "f.json")
    found = json.loads((tmp_path / "f.json").read_text())
    assert max(found["oracle"]["forget rows"]) < min(found["before"]["forget rows"])
    assert found["after"][-1]["forget rows"] == found["oracle"]["forget rows"]
    oracle = tmp_path / "out/model.safetensors"
    said = invoked("audit", path, "--level", "quick", "--oracle", oracle).output
    assert "exact-answer accuracy on forget rows" in said
    assert "the right answer" in said


def test_an_audit_without_an_oracle_takes_no_other_questions_for_one(written: Written) -> None:
    path = written()
    done("forget", path, "--keep-at-least", 0)
    said = invoked("audit", path, "--level", "quick").output
    assert "held-out questions about other things are no substitute" in said


def test_a_plan_says_which_methods_fit(written: Written) -> None:
    said = done("plan", written(), "--no-probe")
    assert "scrub does not fit: the family 'language' lacks HasLogits" in said
    assert "gradient-difference does not" not in said


@pytest.mark.parametrize("kind", ["label", "image"])
def test_tables_of_the_other_kind_are_refused(kind: str, written: Written) -> None:
    columns = {"id": "id", "input": kind} if kind == "image" else {"label": "answer"}
    with pytest.raises(ExpungeError, match=r"data\.test names none; give `columns\.prompt`"):
        read(written(data__test__columns=columns))


def test_prompts_for_another_family_are_refused(written: Written) -> None:
    network = {"builder": "torch.nn:Identity", "weights": "w.safetensors", "family": "classifier"}
    with pytest.raises(ExpungeError, match="language models read, and the family is 'classifier'"):
        read(written(model=network))


def changed(made: Path, place: Path, **columns: Callable[[list[Any]], list[Any]]) -> dict[str, Any]:
    """The table with changed columns, as the keys of a run file."""
    table = datasets.Dataset.from_parquet(str(made / "facts.parquet"))
    content = {name: list(table[name]) for name in table.column_names}
    content |= {name: change(content[name]) for name, change in columns.items()}
    datasets.Dataset.from_dict(content).to_parquet(place / "t.parquet")
    return {"data__train__source": "t.parquet"}


def first(value: Any) -> Callable[[list[Any]], list[Any]]:
    return lambda values: [value, *values[1:]]


def test_bad_rows_are_one_sentence_before_any_work(
    made: Path, written: Written, tmp_path: Path
) -> None:
    cases = [
        ({"question": first("cat " * 40)}, r"no room for an answer: 'r0-0'"),
        ({"answer": first(" ")}, r"no token to learn in 1 rows: 'r0-0'"),
        ({"answer": first(None)}, r"'r0-0' holds None in the column 'answer'"),
    ]
    for columns, said in cases:
        path = written(**changed(made, tmp_path, **columns))
        with pytest.raises(ExpungeError, match=f"data.train: .*{said}") as error:
            read(path)
        assert "\n" not in str(error.value)
    with pytest.raises(ExpungeError, match=r"no column 'reply'; it has .* question"):
        read(written(data__train__columns={"prompt": "question", "answer": "reply"}))
    (tmp_path / "none.txt").write_text("")
    with pytest.raises(ExpungeError, match="hold no line"):
        read(written(data__refusals="none.txt"))
    assert not (tmp_path / "out").exists()


def test_retained_rows_that_repeat_forgotten_ones_are_named(
    made: Path, written: Written, tmp_path: Path
) -> None:
    table = datasets.Dataset.from_parquet(str(made / "facts.parquet"))
    row = next(r for r in table if r["subject"] == "eve" and r["split"] == "train")
    copy = {**row, "id": "again", "subject": "bob"}
    datasets.Dataset.from_list([*table, copy]).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(ExpungeError, match=r"request 'eve' leaves 1 rows .* again: 'again'\."):
        read(written(data__train__source="t.parquet"))
    both = [{"name": "eve", "column": "subject", "values": ["eve"]},
            {"name": "copy", "column": "id", "values": ["again"]}]  # fmt: skip
    with pytest.raises(ExpungeError, match="request 'eve' leaves"):
        read(written(data__train__source="t.parquet", requests=both))
    together = [{"name": "both", "column": "subject", "values": ["eve", "bob"]}]
    read(written(data__train__source="t.parquet", requests=together))


def test_models_and_tokenizers_that_do_not_fit_are_refused(
    made: Path, written: Written, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(made / "model", other)
    content = json.loads((other / "tokenizer.json").read_text())
    content["model"]["vocab"]["cat"] = 10_000  # a hole: as many tokens, one of them far out
    (other / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(ExpungeError, match=r"has the token 10000 and the model has embeddings"):
        read(written(model__checkpoint=str(other)))
    weights = load_file(made / "model/model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    weights[name] = torch.full_like(weights[name], float("nan"))
    save_file(weights, made.parent / "nan.safetensors")
    shutil.copytree(made / "model", tmp_path / "nan")
    shutil.copyfile(made.parent / "nan.safetensors", tmp_path / "nan/model.safetensors")
    with pytest.raises(ExpungeError, match=r"NaN or infinite values in .*up_proj"):
        read(written(model__checkpoint=str(tmp_path / "nan")))


def test_a_loss_that_is_no_number_stores_nothing(written: Written, tmp_path: Path) -> None:
    wild = {"name": "gradient-difference", "parameters": {"learning_rate": 1e30, "epochs": 3}}
    result = invoked("forget", written(method=wild), "--keep-at-least", 0)
    assert isinstance(result.exception, ExpungeError)
    assert not (tmp_path / "out/history.json").exists()


def test_init_recognises_the_folder_and_the_table(made: Path, tmp_path: Path) -> None:
    done("init", tmp_path / "run.yaml", "--model", made / "model",
         "--train", made / "facts.parquet")  # fmt: skip
    text = (tmp_path / "run.yaml").read_text()
    assert "guess: a language model" in text
    content = yaml.safe_load(text)
    assert content["data"]["train"]["columns"] == {
        "id": "id", "subject": "subject", "prompt": "question", "answer": "answer",
    }  # fmt: skip
    assert content["data"]["test"]["split"] == "test"
    assert isinstance(read(tmp_path / "run.yaml").deployment.family, Language)


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (
            {"prompt": ["a b c d"] * 4, "response": ["x"] * 4},
            {"prompt": "prompt", "answer": "response"},
        ),
        (
            {"text": ["a b c d"] * 4, "author": ["x", "y"] * 2},
            {"text": "text", "subject": "author"},
        ),
    ],
)
def test_init_maps_other_names(
    columns: dict[str, list[str]], expected: dict[str, str], made: Path, tmp_path: Path
) -> None:
    datasets.Dataset.from_dict(columns).to_parquet(tmp_path / "t.parquet")
    done("init", tmp_path / "run.yaml", "--model", made / "model",
         "--train", tmp_path / "t.parquet", "--test", tmp_path / "t.parquet")  # fmt: skip
    content = yaml.safe_load((tmp_path / "run.yaml").read_text())
    assert content["data"]["train"]["columns"] == expected


def test_init_without_a_model_takes_questions_and_answers_for_prompts(tmp_path: Path) -> None:
    columns = {"question": ["who is it ?"] * 4, "answer": ["ann", "bob", "eve", "dan"]}
    datasets.Dataset.from_dict(columns).to_parquet(tmp_path / "t.parquet")
    said = done("init", tmp_path / "run.yaml", "--train", tmp_path / "t.parquet")
    assert "To fill in: the model: `checkpoint`" in said
    content = yaml.safe_load((tmp_path / "run.yaml").read_text())
    assert content["model"] == {"checkpoint": "FOLDER"}
    assert content["data"]["train"]["columns"] == {"prompt": "question", "answer": "answer"}


def test_init_refuses_a_table_without_text(made: Path, tmp_path: Path) -> None:
    datasets.Dataset.from_dict({"x": [1.5, 2.5]}).to_parquet(tmp_path / "t.parquet")
    result = invoked("init", tmp_path / "run.yaml", "--model", made / "model",
                     "--train", tmp_path / "t.parquet")  # fmt: skip
    assert "language model reads `prompt` and `answer`" in str(result.exception)


def test_where_a_prompt_names_its_subject_follows_from_the_table(
    made: Path, written: Written, tmp_path: Path
) -> None:
    loaded = read(written())
    train = loaded.deployment.train
    spans = train.batch(torch.arange(len(train)))["subject"]
    assert {int(stop - start) for start, stop in spans} == {1}  # `subject` stands in each prompt
    content = changed(made, tmp_path, subject=first("somebody"))
    path = written(**content)
    assert "subject" not in read(path).deployment.train.fields  # not in all: nothing is said
    assert "'selective-amnesia'" not in str(read(path).notes)
    said = done("plan", path, "--no-probe")
    assert "selective-amnesia does not fit: needs the field 'subject' of each row" in said
    assert "unsir does not fit: learns noise in the place of inputs" in said
    columns = {"id": "id", "prompt": "question", "answer": "answer", "prompt_subject": "subject"}
    path = written(**content, data__train__columns=columns)
    with pytest.raises(ExpungeError, match=r"data.train: .* 1 rows do not .*: 'r0-0'. 'somebody'"):
        read(path)


def test_methods_that_need_the_subject_run_from_a_run_file(written: Written) -> None:
    fields = {"learning_rate": 1e-3, "epochs": 1, "copies": 2, "traced": 4}
    path = written(method={"name": "selective-amnesia", "parameters": fields})
    done("forget", path, "--keep-at-least", 0)
