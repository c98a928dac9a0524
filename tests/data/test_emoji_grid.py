"""The shipped emoji set: what it holds, that it never changes unnoticed, and its licences."""

import collections
import hashlib
import importlib.resources

import numpy as np
import pytest
import safetensors.torch
import torch

from expunge.data import emoji_grid, splits
from expunge.errors import ExpungeError

FOLDER = importlib.resources.files("expunge.data") / "emoji"
IDS_SHA256 = "366ea45a6707d7579e2079b6327d7254a57e7e030e67c20213a65a2bbd819862"
SHARD_LIMIT = 5_000_000  # bytes


def test_the_ids_are_unique_and_never_change() -> None:
    ids = emoji_grid.load()["id"][:]
    assert len(set(ids)) == len(ids)
    assert hashlib.sha256("\n".join(ids).encode()).hexdigest() == IDS_SHA256


def test_every_concept_is_drawn_by_all_training_styles_and_the_test_style() -> None:
    table = emoji_grid.load()
    counts = collections.Counter(table["style"][:])
    concepts = len(emoji_grid.concepts())
    assert concepts == 1064
    expected = dict.fromkeys(emoji_grid.STYLES, concepts) | {"fxemoji": 821}
    assert counts == expected


def test_no_vendor_and_no_row_is_in_two_splits() -> None:
    vendors, ids = {}, {}
    for name in splits.NAMES:
        table = emoji_grid.load(name)
        vendors[name], ids[name] = set(table["vendor"][:]), set(table["id"][:])
    assert vendors == {
        "train": {"google", "microsoft", "emojione"},
        "validation": {"mozilla"},
        "test": {"twitter"},
    }
    assert sum(map(len, ids.values())) == len(set.union(*ids.values())) == len(emoji_grid.load())


def test_the_labels_are_the_positions_of_the_concepts() -> None:
    concepts, table = emoji_grid.concepts(), emoji_grid.load()
    subjects = concepts["subject"][:]
    assert subjects == sorted(subjects)
    assert concepts["label"][:] == list(range(len(concepts)))
    assert [subjects[label] for label in table["label"][:]] == table["subject"][:]
    assert len(set(concepts["concept"][:])) == len(concepts)


def test_every_picture_decodes_to_64_pixels_and_shows_something() -> None:
    table = emoji_grid.load()
    pictures = emoji_grid.pixels(table)
    assert pictures.shape == (len(table), 3, 64, 64)
    assert pictures.dtype == torch.uint8
    assert int(pictures.flatten(1).float().std(dim=1).min()) > 0


def test_pictures_follow_the_rows_that_were_selected() -> None:
    table = emoji_grid.load("test")
    chosen = table.select([7, 3, 11])
    values = emoji_grid.tensors(chosen)
    assert values["label"].tolist() == [7, 3, 11]
    assert torch.equal(values["image"], emoji_grid.pixels(table)[[7, 3, 11]])
    decoded = torch.from_numpy(np.array(chosen[1]["image"].convert("RGB"))).permute(2, 0, 1)
    assert torch.equal(decoded, values["image"][1])


def test_no_two_concepts_share_their_test_picture() -> None:
    pictures = emoji_grid.pixels(emoji_grid.load("test")).flatten(1).numpy()
    assert len({row.tobytes() for row in pictures}) == len(pictures)


def test_shards_are_small_and_licences_are_stated() -> None:
    notice = (FOLDER / "NOTICE.md").read_text(encoding="utf-8")
    for path in FOLDER.iterdir():
        assert len(path.read_bytes()) < SHARD_LIMIT
    licences = dict(
        zip(emoji_grid.load()["style"][:], emoji_grid.load()["licence"][:], strict=True)
    )
    assert set(licences) == set(emoji_grid.STYLES)
    for style, licence in licences.items():
        row = next(line for line in notice.splitlines() if line.startswith(f"| {style} |"))
        assert licence in row
    assert "emojibase" in notice


def test_groups_have_training_and_validation_pictures_and_do_not_overlap() -> None:
    known = set(emoji_grid.concepts()["subject"][:])
    named = [subject for group in emoji_grid.GROUPS.values() for subject in group]
    assert set(named) <= known
    assert len(set(named)) == len(named)
    drawn = set(emoji_grid.load("validation")["subject"][:])
    for group in emoji_grid.GROUPS.values():
        assert len(drawn & set(group)) >= 0.75 * len(group)


def test_members_come_from_names_groups_and_subgroups() -> None:
    assert emoji_grid.members("sea animals") == emoji_grid.GROUPS["sea animals"]
    assert set(emoji_grid.members("sea animals")) <= set(emoji_grid.members("animal-marine"))
    assert set(emoji_grid.members("food-sweet")) < set(emoji_grid.members("food-drink"))
    with pytest.raises(ExpungeError, match=r"sea beasts.*sea animals"):
        emoji_grid.members("sea beasts")


def test_an_unknown_split_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ExpungeError, match=r"'dev'.*train, validation, test"):
        emoji_grid.load("dev")


def test_text_embeddings_are_unit_vectors_one_a_concept_and_all_different() -> None:
    stored = safetensors.torch.load((FOLDER / emoji_grid.TEXTS).read_bytes())
    texts = emoji_grid.text_embeddings()
    assert list(stored) == ["text_embeddings"]
    assert texts.shape == (len(emoji_grid.concepts()), 384)
    assert torch.allclose(texts.float().norm(dim=1), torch.ones(len(texts)), atol=1e-3)
    assert len({row.tobytes() for row in texts.numpy()}) == len(texts)
