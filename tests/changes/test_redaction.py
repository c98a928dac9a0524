"""Redacted: what is removed from which store, the union of several, and its file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from expunge.changes.deletion import DeletionState, state_of
from expunge.changes.kinds import Redaction, acts_on
from expunge.changes.redaction import Redacted, removed_from
from expunge.errors import IntegrityError
from expunge.storage import read_facts, read_tensors, write_tensors

MADE = Redacted({"memory": ("b",), "index": ("z", "a", "a", "zwölf")}, {"method": "m"})


def test_it_acts_on_the_input_and_deletes_nothing() -> None:
    assert isinstance(MADE, Redaction)
    assert acts_on(MADE) == "input"
    assert state_of(MADE) == DeletionState.SUPPRESSED


def test_several_remove_the_union_store_by_store() -> None:
    other = Redacted({"index": ("c", "a"), "graph": ("0-1",)})
    merged = MADE.merged([other])
    assert merged.removed == {
        "graph": ("0-1",),
        "index": ("a", "c", "z", "zwölf"),
        "memory": ("b",),
    }
    assert removed_from([MADE, other], "index") == {"a", "c", "z", "zwölf"}
    assert removed_from([MADE, other], "elsewhere") == frozenset()
    assert MADE.merged([]) == MADE


def test_a_round_trip_keeps_every_byte(tmp_path: Path) -> None:
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    MADE.save(first)
    back = Redacted.load(first)
    assert back == MADE
    back.save(second)
    assert first.read_bytes() == second.read_bytes()


def test_a_changed_id_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    MADE.save(path)
    content = path.read_bytes()
    assert content.count(b'"z"') == 1
    path.write_bytes(content.replace(b'"z"', b'"y"'))
    with pytest.raises(IntegrityError, match="not those that were written"):
        Redacted.load(path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda tensors, header: tensors.update({"ids:index": torch.zeros(3)}),
        lambda tensors, header: tensors.update(
            {"ids:index": torch.tensor([0xFF, 0], dtype=torch.uint8)}
        ),
        lambda tensors, header: tensors.update(
            {"ids:index": torch.tensor([0x31], dtype=torch.uint8)}
        ),
        lambda tensors, header: header.pop("facts"),
    ],
)
def test_a_damaged_file_is_said_in_one_sentence(
    damage: Callable[[dict[str, Tensor], dict[str, Any]], object], tmp_path: Path
) -> None:
    path = tmp_path / "a.safetensors"
    MADE.save(path)
    tensors, header = read_tensors(path), dict(read_facts(path))
    damage(tensors, header)
    write_tensors(path, tensors, header)
    with pytest.raises(IntegrityError, match="is no whole redaction"):
        Redacted.load(path)


@pytest.mark.parametrize("wrong", [{}, {"index": ()}, {"index": "abc"}, {"": ("a",)}, {"x": (1,)}])
def test_a_redaction_of_nothing_is_refused(wrong: Any) -> None:
    with pytest.raises(IntegrityError, match="The redaction"):
        Redacted(wrong)
