"""TOFU, MUSE and WMDP from folders in their published layouts, on models of one narrow layer."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from expunge.benchmarks.muse import Muse
from expunge.benchmarks.published import has, rows
from expunge.benchmarks.tofu.folders import Folders, items
from expunge.benchmarks.wmdp import Wmdp
from expunge.cli import bench_language
from expunge.errors import ExpungeError, IntegrityError
from expunge.models.checkpoint import Checkpoint
from expunge.models.tiny_llama import TinyLlama
from expunge.run import Run

WORDS = "the rain fell on a grey town and nobody knew why it would not stop for days"


def save_model(folder: Path, texts: Sequence[str], seed: int = 0) -> None:
    """A tiny model with a tokenizer of whole words."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = sorted({word for text in texts for word in text.replace("\n", " ").split()})
    known = {word: place for place, word in enumerate(["<pad>", "<end>", "<unk>", *words])}
    made = Tokenizer(models.WordLevel(known, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="<end>", unk_token="<unk>"
    )
    tokenizer.save_pretrained(folder)
    model: Any = TinyLlama(len(known), layers=1, width=16, inner=16, context=512)(seed)
    model.save_pretrained(folder)


def question(number: int) -> dict[str, Any]:
    return {
        "question": f"Who is {number} ?",
        "answer": f"It is {number} .",
        "paraphrased_answer": f"That is {number} .",
        "perturbed_answer": [f"That is {number + k} ." for k in range(1, 6)],
    }


def save_tofu(folder: Path) -> list[str]:
    """Each configuration in another one of the published forms."""
    folder.mkdir()
    found = [question(number) for number in range(8)]
    real_ones = [
        {k: v for k, v in each.items() if k != "paraphrased_answer"}
        | {"perturbed_answer": each["perturbed_answer"][:3]}
        for each in found
    ]
    lines = "\n".join(json.dumps(each) for each in found)
    (folder / "forget10_perturbed.json").write_text(lines)
    (folder / "retain_perturbed").mkdir()
    pq.write_table(
        pa.Table.from_pylist(found), folder / "retain_perturbed" / "train-00000-of-00001.parquet"
    )
    (folder / "real_authors_perturbed" / "train").mkdir(parents=True)
    pq.write_table(
        pa.Table.from_pylist(real_ones),
        folder / "real_authors_perturbed" / "train" / "0000.parquet",
    )
    saved = datasets.Dataset.from_list(real_ones)
    saved.save_to_disk(str(folder / "world_facts_perturbed"))
    (folder / "holdout10.json").write_text(json.dumps(found))
    return [text for each in found for text in (each["question"], *each["perturbed_answer"])]


def test_tofu_on_the_disk_in_every_published_form(tmp_path: Path) -> None:
    data, model, oracle = (tmp_path / name for name in ("data", "model", "oracle"))
    texts = [*save_tofu(data), "It is 0 ."]
    save_model(model, texts)
    save_model(oracle, texts, seed=1)
    assert items(data, "real_authors_perturbed")[0].paraphrase == "It is 0 ."
    assert len(items(data, "world_facts_perturbed")[3].wrong) == 3
    found = Folders(data, model, oracle, longest=8).conduct(Run())
    assert found["questions"] == 8
    assert set(found["model"]) == set(found["oracle"])
    assert found["model"]["PrivLeak"] is not None
    same = Folders(data, model, model, longest=8).conduct(Run())
    assert same["model"]["forget quality (log10 p)"] == 0
    assert same["model"]["PrivLeak"] == pytest.approx(0, abs=1e-9)


def test_what_is_missing_on_the_disk_is_named(tmp_path: Path) -> None:
    with pytest.raises(ExpungeError, match="no 'forget10'"):
        rows(tmp_path, "forget10")
    assert not has(tmp_path, "forget10")
    (tmp_path / "forget10.json").write_text('{"question": "Q"}\n')
    with pytest.raises(ExpungeError, match="lacks 'answer'"):
        items(tmp_path, "forget10")
    (tmp_path / "forget10.json").write_text("{")
    with pytest.raises(IntegrityError, match="cannot be read"):
        rows(tmp_path, "forget10")


def save_muse(folder: Path) -> None:
    words = WORDS.split()
    passages = [" ".join(words[k % 8 :] + words[: k % 8]) for k in range(12)]
    (folder / "verbmem").mkdir(parents=True)
    table = [{"prompt": p[:30], "gt": p[31:]} for p in passages]
    pq.write_table(
        pa.Table.from_pylist(table), folder / "verbmem" / "forget-00000-of-00001.parquet"
    )
    for split in ("forget_qa", "retain_qa", "forget_qa_icl"):
        (folder / "knowmem").mkdir(exist_ok=True)
        asked = [{"question": f"why {word}", "answer": word} for word in words[:4]]
        (folder / "knowmem" / f"{split}.json").write_text(json.dumps(asked))
    for split, some in (("forget", passages[:6]), ("holdout", passages[6:])):
        (folder / "privleak").mkdir(exist_ok=True)
        text = "\n".join(json.dumps({"text": passage}) for passage in some)
        (folder / "privleak" / f"{split}.jsonl").write_text(text)


def test_muse_on_the_disk(tmp_path: Path) -> None:
    data, model = tmp_path / "muse", tmp_path / "model"
    save_muse(data)
    save_model(model, [WORDS, "Question: Answer: why"])
    found = Muse(data, model, corpus="news").conduct(Run())["model"]
    assert found["C3 PrivLeak"] == pytest.approx(
        100 * (found["AUC of Min-40%, hold-out"] - 0.4772) / 0.4772
    )
    assert 0 <= found["C1 VerbMem, forget"] <= 1
    assert Muse(data, model).conduct(Run())["model"]["C3 PrivLeak"] is None
    itself = Muse(data, model, oracle=model).conduct(Run())
    assert itself["model"]["C3 PrivLeak"] == 0
    (data / "privleak" / "holdout.jsonl").unlink()
    with pytest.raises(ExpungeError, match="split 'holdout'"):
        Muse(data, model).conduct(Run())


def test_wmdp_takes_the_most_likely_letter(tmp_path: Path) -> None:
    data, folder = tmp_path / "wmdp", tmp_path / "model"
    (data / "wmdp-bio").mkdir(parents=True)
    asked = [
        {"question": f"what is {k}", "choices": ["w", "x", "y", "z"], "answer": k % 4}
        for k in range(20)
    ]
    pq.write_table(pa.Table.from_pylist(asked), data / "wmdp-bio" / "test-00000-of-00001.parquet")
    save_model(folder, ["A B C D", "what is Answer:"])
    found = Wmdp(data, folder).conduct(Run())
    assert set(found) == {"wmdp-bio"}
    its = found["wmdp-bio"]
    assert its["questions"] == 20
    assert its["low"] <= its["accuracy"] <= its["high"]
    # a model that always says B is right where B is
    checkpoint = Checkpoint.open(folder)
    model: Any = checkpoint.model()
    with torch.no_grad():
        model.model.norm.weight.zero_()
        model.lm_head.weight.zero_()
    model.save_pretrained(folder)
    constant = Wmdp(data, folder).conduct(Run())["wmdp-bio"]
    assert constant["accuracy"] == 0.25
    with pytest.raises(ExpungeError, match="none of wmdp-bio"):
        Wmdp(tmp_path, folder).conduct(Run())


def test_the_commands_show_what_they_found_and_refuse_half_a_question(tmp_path: Path) -> None:
    data, model, figures = tmp_path / "data", tmp_path / "model", tmp_path / "found.json"
    save_model(model, [*save_tofu(data), "It is 0 ."])
    bench_language.tofu(data=data, model=model, oracle=model, json=figures)
    found = json.loads(figures.read_text())
    assert found["model"]["forget quality (log10 p)"] == 0
    with pytest.raises(ExpungeError, match="--model is missing"):
        bench_language.wmdp(data=data)
    with pytest.raises(ExpungeError, match="is no folder"):
        bench_language.muse(data=tmp_path / "nowhere", model=model)
    with pytest.raises(ExpungeError, match="news or books"):
        bench_language.muse(data=data, model=model, corpus="films")
