"""The continual benchmark on a CLIP folder of the user's own: what moves, what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from PIL import Image

from expunge.benchmarks.continual_vlm import tables
from expunge.benchmarks.continual_vlm.kinds import PRESETS
from expunge.benchmarks.continual_vlm.own import VISION, of_run_file, only_moving
from expunge.changes.weights import parameters_of
from expunge.errors import ExpungeError
from expunge.run_file.reading import Loaded, read

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "red", "green", "blue", "grey")
COLOURS = {"red": (220, 30, 30), "green": (30, 220, 30), "blue": (30, 30, 220), "grey": (120,) * 3}
SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}


def pictures(folder: Path) -> None:
    """Six noisy squares of every colour in every split."""
    draws = np.random.default_rng(0)
    for split in ("train", "validation", "test"):
        for colour, rgb in COLOURS.items():
            for number in range(6):
                noisy = np.clip(np.array(rgb) + draws.normal(0, 25, (8, 8, 3)), 0, 255)
                path = folder / split / colour / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(noisy.astype(np.uint8)).save(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small CLIP model that names four colours, its pictures, and its run file."""
    transformers = pytest.importorskip("transformers")
    place = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    text = {**SMALL, "vocab_size": len(WORDS), "max_position_embeddings": 8}
    config = transformers.CLIPConfig(
        text_config={**text, "eos_token_id": 3, "bos_token_id": 2, "pad_token_id": 0},
        vision_config={**SMALL, "image_size": 8, "patch_size": 4},
        projection_dim=8,
    )
    model = transformers.CLIPModel(config)
    (place / "vocab.txt").write_text("\n".join(WORDS))
    transformers.BertTokenizer(str(place / "vocab.txt")).save_pretrained(place / "model")
    pictures(place / "pictures")
    model.save_pretrained(place / "model")
    table = {"source": "pictures", "columns": {"classes": list(COLOURS)}}
    content = {
        "model": {"checkpoint": "model", "prompts": list(COLOURS)},
        "data": {split: {**table, "split": split} for split in ("train", "validation", "test")},
        "requests": [
            {"name": colour, "column": "label", "values": [colour]} for colour in ("red", "blue")
        ],
        "method": {"name": "negation"},
    }
    (place / "run.yaml").write_text(yaml.safe_dump(content))
    deployment = read(place / "run.yaml").deployment
    batch = deployment.train.batch(torch.arange(len(deployment.train)))
    trained: Any = deployment.base
    optimiser = torch.optim.AdamW(trained.parameters(), 3e-3)
    for _ in range(25):
        logits = deployment.family.logits(trained, batch)  # type: ignore[attr-defined]
        optimiser.zero_grad()
        F.cross_entropy(logits, batch["label"]).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    trained.save_pretrained(place / "model")
    return place


def loaded(folder: Path, **parts: Any) -> Loaded:
    content = yaml.safe_load((folder / "run.yaml").read_text()) | parts
    path = folder / "changed.yaml"
    path.write_text(yaml.safe_dump(content))
    return read(path)


def test_vectors_move_the_image_tower_alone_and_requests_are_forgotten(folder: Path) -> None:
    own = of_run_file(loaded(folder))
    vectors, prepared = own.vectors(PRESETS["graddiff"])
    assert prepared == 0
    moved = {name for delta, _ in vectors for name in delta.entries}
    assert moved
    assert all(any(part in name for part in VISION) for name in moved)
    where = {"half": "own", "seed": 0, "count": 2}
    methods = {kind: PRESETS[kind] for kind in ("negation", "graddiff")}
    result = own.conduct(where, methods, ("mean", "sum"))
    assert result["chance"] == 0.25
    [reference] = result["references"]
    assert "oracle" not in reference  # no recipe was given
    assert min(reference["base"]["requests"][0]) > 0.9
    assert not result["refused"]
    ends = {(r["kind"], r["rule"]): r["matched"]["requests"][-1] for r in result["rows"]}
    assert max(ends["graddiff", "sum"]) < 0.5
    assert ends["graddiff", "mean"] == ends["graddiff", "sum"]
    [(title, columns, rows)] = tables.tables(result)
    assert title == "own groups, 2 requests, at equal retained accuracy"
    assert {len(cells) for cells in rows} == {len(columns)}
    assert len(tables.verdicts(result)) == 3


def test_a_part_that_is_frozen_or_not_there_cannot_be_asked_to_move(folder: Path) -> None:
    model = loaded(folder).deployment.base
    only_moving(model, VISION)
    free = {name for name, p in parameters_of(model).items() if p.requires_grad}
    assert free
    assert not any("text" in name for name in free)
    with pytest.raises(ExpungeError, match=r"'text_model' was asked to move, and its .* frozen"):
        only_moving(model, ("text_model",))
    with pytest.raises(ExpungeError, match="'tower' was asked to move, and no parameter's name"):
        only_moving(model, ("tower",))


def test_what_cannot_be_asked_is_refused(folder: Path) -> None:
    content = yaml.safe_load((folder / "run.yaml").read_text())
    data = {k: v for k, v in content["data"].items() if k != "validation"}
    with pytest.raises(ExpungeError, match=r"names no `data\.validation`"):
        of_run_file(loaded(folder, data=data))
    red = {"name": "red", "column": "label", "values": ["red"]}
    both = {"name": "both", "column": "label", "values": ["red", "blue"]}
    with pytest.raises(ExpungeError, match="share 6 held-out rows"):
        of_run_file(loaded(folder, requests=[red, both]))
    wrong = {"checkpoint": "model", "prompts": ["green", "red", "grey", "blue"]}
    with pytest.raises(ExpungeError, match="nothing to forget in 'red': 0% of its validation rows"):
        of_run_file(loaded(folder, model=wrong))
