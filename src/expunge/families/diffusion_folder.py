"""Text-to-image models in the folders of ``diffusers``: Stable Diffusion and small ones alike.

A folder holds ``unet``, ``text_encoder``, ``tokenizer``, ``scheduler`` and, for a model of
latents, ``vae``. Code that a folder brings is never run, and only safetensors are read.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from expunge.errors import ExpungeError, IntegrityError, first_line
from expunge.families.diffusion import Latents, NoiseSchedule, TextDiffusion
from expunge.families.prompts import FolderTokens
from expunge.models.denoisers import TextToImage

PARTS = ("unet", "text_encoder", "tokenizer", "scheduler")


@dataclass(frozen=True)
class DiffusionFolder:
    """An opened folder.

    Args:
        path: where it lies.

    Raises:
        IntegrityError: a part is missing.
    """

    path: Path

    def __post_init__(self) -> None:
        for part in PARTS:
            if not (self.path / part).is_dir():
                raise IntegrityError(
                    f"{self.path} has no folder {part!r}; a text-to-image model in the layout of "
                    f"diffusers is expected, with {', '.join(PARTS)} and perhaps vae."
                )

    def model(self) -> TextToImage:
        """The parts with their weights in float32, in evaluation mode; the autoencoder is frozen.

        Raises:
            IntegrityError: weights are missing or damaged.
        """
        from diffusers import AutoencoderKL, UNet2DConditionModel
        from transformers import CLIPTextModel

        unet = self._part(UNet2DConditionModel, "unet", use_safetensors=True)
        texts = self._part(CLIPTextModel, "text_encoder", use_safetensors=True)
        vae = None
        if (self.path / "vae").is_dir():
            vae = self._part(AutoencoderKL, "vae", use_safetensors=True).requires_grad_(False)
        return TextToImage(unet, texts, vae).eval()

    def family(self) -> TextDiffusion:
        """How the parts are called.

        Raises:
            ExpungeError: the scheduler is not supported.
            IntegrityError: a config cannot be read.
        """
        unet, scheduler = self._config("unet/config.json"), self._config(SCHEDULER)
        name = str(scheduler.get("_class_name", ""))
        if "beta_start" not in scheduler:
            raise ExpungeError(
                f"The scheduler {name!r} of {self.path} is not supported: it has no betas from "
                "`beta_start` to `beta_end`; one such as DDPM, DDIM or PNDM is expected."
            )
        schedule = NoiseSchedule(
            int(scheduler["num_train_timesteps"]),
            float(scheduler["beta_start"]),
            float(scheduler["beta_end"]),
            str(scheduler.get("beta_schedule", "linear")),
            str(scheduler.get("prediction_type", "epsilon")),
        )
        side, channels = int(unet["sample_size"]), int(unet["in_channels"])
        latents = None
        if (self.path / "vae").is_dir():
            vae = self._config("vae/config.json")
            factor = 2 ** (len(vae["block_out_channels"]) - 1)
            latents = Latents(channels, factor, float(vae["scaling_factor"]))
            side, channels = side * factor, int(vae["in_channels"])
        length = int(self._config("text_encoder/config.json")["max_position_embeddings"])
        tokens = FolderTokens(length=length, folder=self.path / "tokenizer")
        shape = (channels, side, side)
        return TextDiffusion(shape, schedule, tokens=tokens, latents=latents)

    def _part(self, kind: Any, name: str, **options: Any) -> nn.Module:
        try:
            found: nn.Module = kind.from_pretrained(
                self.path / name, local_files_only=True, **options
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise IntegrityError(
                f"The part {name!r} of {self.path} cannot be read ({first_line(error)}); a config "
                "and whole weights in safetensors are expected. Save the model again."
            ) from None
        return found.float().eval()

    def _config(self, name: str) -> dict[str, Any]:
        path = self.path / name
        try:
            found: dict[str, Any] = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise IntegrityError(
                f"{path} cannot be read ({first_line(error)}); the config of a model in the "
                "layout of diffusers is expected."
            ) from None
        return found


SCHEDULER = "scheduler/scheduler_config.json"
