"""Text-to-image models in the folders of ``diffusers``: Stable Diffusion and small ones alike.

A folder holds ``unet``, ``text_encoder``, ``tokenizer``, ``scheduler`` and, for a model of
latents, ``vae``. Code that a folder brings is never run, and only safetensors are read.
"""

import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from safetensors import SafetensorError
from torch import nn

from expunge.changes.weights import parameters_of
from expunge.errors import ExpungeError, IntegrityError, first_line
from expunge.families.diffusion import Latents, NoiseSchedule, TextDiffusion
from expunge.families.prompts import FolderTokens
from expunge.models.checkpoint import COPIED, quiet
from expunge.models.denoisers import TextToImage

PARTS = ("unet", "text_encoder", "tokenizer", "scheduler")

CHANGED = ("unet", "text_encoder", "vae")
"""Parts whose weights are written anew."""

INDEX = "model_index.json"
"""What the parts are, as pipelines of diffusers read it."""

TOP = (INDEX, "LICENSE", "LICENSE.md")
"""Files beside the parts that go along with a changed model."""

WEIGHTS = ".safetensors"

PLAIN: Mapping[str, bool] = MappingProxyType({"use_safetensors": True, "low_cpu_mem_usage": False})
"""How diffusers reads a part: whole, so that it says what is missing."""

LATENT_SCALE = 0.18215
"""Of autoencoders whose configs say none, as those of the first Stable Diffusion."""


@dataclass(frozen=True)
class DiffusionFolder:
    """An opened folder.

    Args:
        folder: where it lies.

    Raises:
        IntegrityError: a part is missing.
    """

    folder: Path
    kind: ClassVar[str] = "text-to-image"
    classes: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        for part in PARTS:
            if not (self.folder / part).is_dir():
                raise IntegrityError(
                    f"{self.folder} has no folder {part!r}; a text-to-image model in the layout of "
                    f"diffusers is expected, with {', '.join(PARTS)} and perhaps vae."
                )

    def model(self) -> TextToImage:
        """The parts with their weights in float32, in evaluation mode; the autoencoder is frozen.

        Raises:
            IntegrityError: weights are missing or damaged.
        """
        from diffusers import UNet2DConditionModel
        from transformers import CLIPTextModel

        unet = self._part(UNet2DConditionModel, "unet", **PLAIN)
        texts = self._part(CLIPTextModel, "text_encoder", use_safetensors=True)
        return TextToImage(unet, texts, self._autoencoder()).eval()

    def untrained(self, seed: int) -> TextToImage:
        """U-Net and text encoder with weights initialised from a seed, and the folder's own
        autoencoder, which no training of this model moves.

        Raises:
            IntegrityError: a config or the autoencoder cannot be read.
        """
        from diffusers import UNet2DConditionModel
        from transformers import CLIPTextConfig, CLIPTextModel

        told = CLIPTextConfig.from_dict(self._config("text_encoder/config.json"))
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            unet: Any = UNet2DConditionModel.from_config(self._config("unet/config.json"))
            texts = CLIPTextModel(told)
        return TextToImage(unet, texts, self._autoencoder()).eval()

    def started(self, initial: Path, seed: int) -> TextToImage:
        """The model of another folder, which this one was fine-tuned from; nothing is drawn.

        Raises:
            IntegrityError: the folder cannot be read, or is of another architecture.
        """
        return self.with_weights_of(initial)

    def with_weights_of(self, folder: Path) -> TextToImage:
        """The model of another folder of the same architecture.

        Raises:
            IntegrityError: it cannot be read, or is of another architecture.
        """
        made = DiffusionFolder(folder).model()
        if _shapes(made) != _shapes(self.untrained(0)):
            raise IntegrityError(
                f"{folder} holds a model of another architecture than {self.folder}; one of the "
                "same configs is expected."
            )
        return made

    def save(self, model: nn.Module, folder: Path) -> None:
        """Write the model as a folder of the same layout, in float32.

        Tokenizer and scheduler are copied, and further parts that ``model_index.json`` lists (a
        safety checker, an image processor) with their safetensors: no request changes these.
        Nothing else goes along: training states, pictures or the model in one file would still hold
        what was forgotten. The folder must not be there; it appears whole or not at all.
        """
        from diffusers.utils import logging

        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".partial-", dir=folder.parent) as partial:
            made = Path(partial) / folder.name
            made.mkdir()
            for name in TOP:
                if (self.folder / name).is_file():
                    shutil.copyfile(self.folder / name, made / name)
            for name in self._further():
                (made / name).mkdir()
                for path in sorted((self.folder / name).iterdir()):
                    if path.is_file() and path.suffix in (*COPIED, WEIGHTS):
                        shutil.copyfile(path, made / name / path.name)
            for name in CHANGED:
                if (self.folder / name).is_dir():
                    part: Any = model.get_submodule(name)
                    with quiet(logging):
                        part.save_pretrained(made / name)
            made.rename(folder)

    def family(self) -> TextDiffusion:
        """How the parts are called.

        Raises:
            ExpungeError: the scheduler is not supported.
            IntegrityError: a config cannot be read, or lacks what is needed.
        """
        try:
            return self._family()
        except (KeyError, TypeError, ValueError) as error:
            raise IntegrityError(
                f"The configs in {self.folder} lack something, or have it in another form "
                f"({first_line(error)}); those of a text-to-image model as diffusers saves it are "
                "expected."
            ) from None

    def _family(self) -> TextDiffusion:
        unet, scheduler = self._config("unet/config.json"), self._config(SCHEDULER)
        name = str(scheduler.get("_class_name", ""))
        if "beta_start" not in scheduler:
            raise ExpungeError(
                f"The scheduler {name!r} of {self.folder} is not supported: it has no betas from "
                "`beta_start` to `beta_end`; one such as DDPM, DDIM or PNDM is expected."
            )
        schedule = NoiseSchedule(
            int(scheduler["num_train_timesteps"]),
            float(scheduler["beta_start"]),
            float(scheduler["beta_end"]),
            str(scheduler.get("beta_schedule", "linear")),
            str(scheduler.get("prediction_type", "epsilon")),
        )
        size, channels = unet["sample_size"], int(unet["in_channels"])
        height, width = (size, size) if isinstance(size, int) else map(int, size)
        latents = None
        if (self.folder / "vae").is_dir():
            vae = self._config("vae/config.json")
            factor = 2 ** (len(vae["block_out_channels"]) - 1)
            latents = Latents(channels, factor, float(vae.get("scaling_factor", LATENT_SCALE)))
            height, width, channels = height * factor, width * factor, int(vae["in_channels"])
        length = int(self._config("text_encoder/config.json")["max_position_embeddings"])
        tokens = FolderTokens(length=length, folder=self.folder / "tokenizer")
        shape = (channels, height, width)
        return TextDiffusion(shape, schedule, tokens=tokens, latents=latents)

    def _autoencoder(self) -> nn.Module | None:
        from diffusers import AutoencoderKL

        if not (self.folder / "vae").is_dir():
            return None
        return self._part(AutoencoderKL, "vae", **PLAIN).requires_grad_(False)

    def _further(self) -> list[str]:
        """The folders that go along with a changed model as they are."""
        index = self._config(INDEX) if (self.folder / INDEX).is_file() else {}
        names = {"tokenizer", "scheduler", *index} - set(CHANGED)
        return sorted(name for name in names if (self.folder / name).is_dir())

    def _part(self, kind: Any, name: str, **options: Any) -> nn.Module:
        from diffusers.utils import logging

        try:
            with quiet(logging):
                found, said = kind.from_pretrained(
                    self.folder / name, local_files_only=True, output_loading_info=True, **options
                )
                made: nn.Module = found.float().eval()
        except READING as error:
            raise IntegrityError(
                f"The part {name!r} of {self.folder} cannot be read ({first_line(error)}); a "
                "config and whole weights in safetensors are expected. Save the model again."
            ) from None
        # else numbers that were drawn would stand in their place, without a word
        wrong = sorted(map(str, [*said["missing_keys"], *said["mismatched_keys"]]))
        if wrong:
            raise IntegrityError(
                f"The weights of the part {name!r} of {self.folder} lack {wrong[0]!r}, or have it "
                "in another shape; save the model again."
            )
        return made

    def _config(self, name: str) -> dict[str, Any]:
        path = self.folder / name
        try:
            found: dict[str, Any] = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise IntegrityError(
                f"{path} cannot be read ({first_line(error)}); the config of a model in the "
                "layout of diffusers is expected."
            ) from None
        return found


SCHEDULER = "scheduler/scheduler_config.json"

READING = (
    OSError,
    ValueError,
    RuntimeError,
    KeyError,
    ImportError,
    NotImplementedError,
    SafetensorError,
)
"""What the two libraries raise where a part cannot be read."""


def is_diffusion_folder(folder: Path) -> bool:
    """Whether a folder is laid out as ``diffusers`` does it."""
    return (folder / "model_index.json").is_file() or (folder / "unet").is_dir()


def _shapes(model: nn.Module) -> dict[str, torch.Size]:
    """Names and shapes of all weights."""
    return {name: weight.shape for name, weight in parameters_of(model).items()}
