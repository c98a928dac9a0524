"""Denoisers: seeded weights, shapes that cannot be, and folders in the layout of diffusers."""

import json
from pathlib import Path

import pytest
import torch
from tests.models.diffusion_folders import written

from expunge.data.samples import Batch
from expunge.errors import ExpungeError, IntegrityError
from expunge.families.diffusion_folder import DiffusionFolder
from expunge.families.diffusion_sampling import DDIM
from expunge.models.denoisers import LabelUNet, SmallTextToImage
from expunge.run import Run
from expunge.storage import read_tensors, write_tensors


def test_a_seed_gives_the_same_weights_and_leaves_the_global_numbers() -> None:
    state = torch.get_rng_state()
    first, again, other = (LabelUNet(widths=(8, 16))(seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    pairs = zip(first.parameters(), again.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    pairs = zip(first.parameters(), other.parameters(), strict=True)
    assert not all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("wrong", [{"widths": (12, 16)}, {"shape": (1, 9, 9)}, {"widths": ()}])
def test_shapes_that_do_not_divide(wrong: dict[str, object]) -> None:
    with pytest.raises(ExpungeError, match="multiples of"):
        LabelUNet(**wrong)  # type: ignore[arg-type]


def test_heads_have_to_divide() -> None:
    with pytest.raises(ExpungeError, match="multiples of the heads"):
        SmallTextToImage(width=30, heads=4)


def test_a_folder_of_latents_runs_by_the_same_path(tmp_path: Path) -> None:
    opened = DiffusionFolder(written(tmp_path))
    family, model = opened.family(), opened.model()
    assert family.shape == (3, 16, 16) and family.drawn_shape == (4, 8, 8)
    assert family.schedule.betas == "scaled_linear" and family.schedule.last == 0.012
    told = family.conditions(["a cat", "a dog", ""])
    assert told.shape == (3, 8)
    assert family.speaking(told, "dog").tolist() == [False, True, False]
    assert torch.equal(family.exchanged(told, "dog", "cat")[1], told[0])
    drawn = DDIM(2).drawn(family, model, told, Run(), "folder")
    assert drawn.shape == (3, 3, 16, 16)
    batch: Batch = {"image": drawn, "prompt": told}
    loss = family.losses(model, family.draw(batch, torch.Generator())).mean()
    moving = [p for p in model.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(loss, moving, allow_unused=True)
    assert any(g is not None and bool(g.any()) for g in gradients)
    assert not any(p.requires_grad for p in model.vae.parameters())


def test_folders_that_are_not_whole(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="has no folder 'unet'"):
        DiffusionFolder(tmp_path)
    folder = written(tmp_path)
    config = folder / "scheduler" / "scheduler_config.json"
    said = json.loads(config.read_text())
    config.write_text(json.dumps({**said, "prediction_type": "v_prediction"}))
    with pytest.raises(ExpungeError, match="'v_prediction' is not supported"):
        DiffusionFolder(folder).family()
    config.write_text(json.dumps({"_class_name": "FlowMatchEulerDiscreteScheduler"}))
    with pytest.raises(ExpungeError, match=r"'FlowMatchEulerDiscreteScheduler'.*not supported"):
        DiffusionFolder(folder).family()
    config.write_text("{")
    with pytest.raises(IntegrityError, match="cannot be read"):
        DiffusionFolder(folder).family()
    for part in ("unet", "text_encoder"):
        [weights] = (folder / part).glob("*.safetensors")
        whole = weights.read_bytes()
        tensors = read_tensors(weights)
        lost = sorted(name for name in tensors if name.endswith("weight"))[-1]
        kept = {name: tensor for name, tensor in tensors.items() if name != lost}
        weights.unlink()
        write_tensors(weights, kept, {"format": "pt"})
        with pytest.raises(IntegrityError, match=f"'{part}' of .* lack '.*weight', or have it in"):
            DiffusionFolder(folder).model()
        weights.write_bytes(whole[:1000])
        with pytest.raises(IntegrityError, match=f"The part '{part}' .* cannot be read"):
            DiffusionFolder(folder).model()
        weights.write_bytes(whole)


def test_configs_of_older_folders_and_odd_ones(tmp_path: Path) -> None:
    folder = written(tmp_path)
    vae, unet = folder / "vae" / "config.json", folder / "unet" / "config.json"
    said = json.loads(vae.read_text())
    vae.write_text(json.dumps({n: v for n, v in said.items() if n != "scaling_factor"}))
    latents = DiffusionFolder(folder).family().latents
    assert latents is not None and latents.scale == 0.18215
    its = json.loads(unet.read_text())
    unet.write_text(json.dumps({**its, "sample_size": [8, 12]}))
    assert DiffusionFolder(folder).family().shape == (3, 16, 24)
    unet.write_text(json.dumps({**its, "sample_size": None}))
    with pytest.raises(IntegrityError, match="lack something, or have it in another form"):
        DiffusionFolder(folder).family()
