"""Files on disk: what is not one is refused in a sentence."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from expunge.errors import IntegrityError
from expunge.storage import (
    HEADER,
    Bundle,
    read_facts,
    read_header,
    read_tensors,
    write_tensors,
)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    for read in (read_header, read_facts, read_tensors, Bundle.load):
        with pytest.raises(IntegrityError, match="cannot be read"):
            read(tmp_path)


@pytest.mark.parametrize("facts", ["{not json", json.dumps([1, 2]), "", "null"])
def test_facts_that_are_no_json_object_are_refused(facts: str, tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    save_file({"weight": torch.ones(2)}, path, metadata={HEADER: facts})
    with pytest.raises(IntegrityError, match="its facts are no JSON object"):
        read_facts(path)


def test_a_checked_bundle_is_read_through_once(tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    Bundle({"weight": torch.ones(2), "places": torch.tensor([3])}, {"a": 1}).save(path)
    assert Bundle.load_checked(path).facts == {"a": 1}
    whole = bytearray(path.read_bytes())
    whole[-1] ^= 1
    path.write_bytes(whole)
    with pytest.raises(IntegrityError, match="their digest differs"):
        Bundle.load_checked(path)


def test_the_same_tensors_and_facts_give_the_same_file(tmp_path: Path) -> None:
    tensors = {name: torch.arange(n + 1.0) for n, name in enumerate("cab")}
    written = set()
    for i in range(12):
        path = tmp_path / f"{i}.safetensors"
        write_tensors(path, tensors, {"of": "one"})
        written.add(path.read_bytes())
    assert len(written) == 1
    assert read_tensors(path).keys() == tensors.keys()
    assert read_facts(path) == {"of": "one"}
