"""Text-to-image models in the folders of ``diffusers``: Stable Diffusion and small ones alike.

A folder holds ``unet``, ``text_encoder``, ``tokenizer``, ``scheduler`` and, for a model of
latents, ``vae``. Code that a folder brings is never run, and only safetensors are read.
"""

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from expunge.changes.weights import parameters_of
from expunge.errors import ExpungeError, IntegrityError, first_line
from expunge.families.diffusion import Latents, NoiseSchedule, TextDiffusion
from expunge.families.prompts import FolderTokens
from expunge.models.checkpoint import COPIED, INDEX
from expunge.models.denoisers import TextToImage

PARTS = ("unet", "text_encoder", "tokenizer", "scheduler")

CHANGED = ("unet", "text_encoder", "vae")
"""Parts whose weights are written anew."""

WEIGHTS = ".safetensors"


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

        unet = self._part(UNet2DConditionModel, "unet", use_safetensors=True)
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
        other = DiffusionFolder(folder)
        if self._architecture() != other._architecture():
            raise IntegrityError(
                f"{folder} holds a model of another architecture than {self.folder}; one of the "
                "same configs is expected."
            )
        return other.model()

    def save(self, model: nn.Module, folder: Path) -> None:
        """Write the model as a folder of the same layout, in float32.

        Tokenizer, scheduler and texts are copied, and of further parts (a safety checker, an image
        processor) their safetensors, too: no request changes these. The folder must not be there;
        it appears whole or not at all.
        """
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".partial-", dir=folder.parent) as partial:
            made = Path(partial) / folder.name
            for path in sorted(self.folder.rglob("*")):
                where = path.relative_to(self.folder)
                weights = path.suffix == WEIGHTS or path.name.endswith(INDEX)
                # weights beside the parts are the whole model in one file, as it was
                further = len(where.parts) > 1 and where.parts[0] not in CHANGED
                if path.is_file() and (further if weights else path.suffix in COPIED):
                    (made / where).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(path, made / where)
            for name in CHANGED:
                if (self.folder / name).is_dir():
                    part: Any = model.get_submodule(name)
                    with _quiet():
                        part.save_pretrained(made / name)
            made.rename(folder)

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
        side, channels = int(unet["sample_size"]), int(unet["in_channels"])
        latents = None
        if (self.folder / "vae").is_dir():
            vae = self._config("vae/config.json")
            factor = 2 ** (len(vae["block_out_channels"]) - 1)
            latents = Latents(channels, factor, float(vae["scaling_factor"]))
            side, channels = side * factor, int(vae["in_channels"])
        length = int(self._config("text_encoder/config.json")["max_position_embeddings"])
        tokens = FolderTokens(length=length, folder=self.folder / "tokenizer")
        shape = (channels, side, side)
        return TextDiffusion(shape, schedule, tokens=tokens, latents=latents)

    def _autoencoder(self) -> nn.Module | None:
        from diffusers import AutoencoderKL

        if not (self.folder / "vae").is_dir():
            return None
        return self._part(AutoencoderKL, "vae", use_safetensors=True).requires_grad_(False)

    def _architecture(self) -> object:
        """Names and shapes of all weights."""
        return {name: p.shape for name, p in parameters_of(self.model()).items()}

    def _part(self, kind: Any, name: str, **options: Any) -> nn.Module:
        try:
            with _quiet():
                found: nn.Module = kind.from_pretrained(
                    self.folder / name, local_files_only=True, **options
                )
        except (OSError, ValueError, RuntimeError) as error:
            raise IntegrityError(
                f"The part {name!r} of {self.folder} cannot be read ({first_line(error)}); a "
                "config and whole weights in safetensors are expected. Save the model again."
            ) from None
        return found.float().eval()

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


def is_diffusion_folder(folder: Path) -> bool:
    """Whether a folder is laid out as ``diffusers`` does it."""
    return (folder / "model_index.json").is_file() or (folder / "unet").is_dir()


@contextmanager
def _quiet() -> Iterator[None]:
    """Inside, transformers and diffusers print neither warnings nor progress bars."""
    import diffusers.utils.logging as drawing
    import transformers.utils.logging as telling

    before = [(said, said.get_verbosity()) for said in (drawing, telling)]
    bars = telling.is_progress_bar_enabled()
    for said, _ in before:
        said.set_verbosity_error()
        said.disable_progress_bar()
    try:
        yield
    finally:
        for said, verbosity in before:
            said.set_verbosity(verbosity)
            if bars:
                said.enable_progress_bar()
