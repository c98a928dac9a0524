"""Small denoisers of the architectures of ``diffusers`` and ``transformers``, trained from scratch.

The U-Net of Ho, Jain, Abbeel (2020), told nothing or a label, and a text-conditional one whose
layers attend to the states of a text encoder, wired as Stable Diffusion is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from expunge.errors import ExpungeError


@dataclass(frozen=True)
class ScoreUNet:
    """Builds the network of a seed that is told pictures and times alone: ``ScoreUNet()(0)``.

    Args:
        shape: channels, height and width of a picture.
        widths: channels of each level, from the outside; the side is halved between levels.
        groups: of the group norms.

    Raises:
        ExpungeError: widths, groups and sides do not divide.
    """

    shape: tuple[int, int, int] = (1, 8, 8)
    widths: tuple[int, ...] = (16, 32)
    groups: int = 8

    def __post_init__(self) -> None:
        _divided(self.shape, self.widths, self.groups)

    def __call__(self, seed: int) -> nn.Module:
        """The untrained network, without attention, called with pictures and timesteps."""
        made: nn.Module = _seeded(self.drawn, seed).eval()
        return made

    def drawn(self) -> Any:
        """The same, its weights drawn from torch's global random numbers."""
        from diffusers import UNet2DModel

        return UNet2DModel(**_sizes(self.shape, self.widths, self.groups), add_attention=False)


@dataclass(frozen=True)
class LabelUNet:
    """Builds the network of a seed: ``LabelUNet(classes=10)(0)``.

    Args:
        shape: channels, height and width of a picture.
        classes: number of labels; the one after the last is "none".
        widths: channels of each level, from the outside; the side is halved between levels.
        groups: of the group norms.

    Raises:
        ExpungeError: widths, groups and sides do not divide.
    """

    shape: tuple[int, int, int] = (1, 8, 8)
    classes: int = 10
    widths: tuple[int, ...] = (32, 64)
    groups: int = 8

    def __post_init__(self) -> None:
        _divided(self.shape, self.widths, self.groups)

    def __call__(self, seed: int) -> nn.Module:
        """The untrained network, called with pictures, timesteps and labels."""
        made: nn.Module = _seeded(self.drawn, seed).eval()
        return made

    def drawn(self) -> Any:
        """The same, its weights drawn from torch's global random numbers."""
        from diffusers import UNet2DModel

        return UNet2DModel(
            **_sizes(self.shape, self.widths, self.groups), num_class_embeds=self.classes + 1
        )


def score_unet(
    shape: Sequence[int] = (1, 8, 8), widths: Sequence[int] = (16, 32), groups: int = 8
) -> nn.Module:
    """The network of a :class:`ScoreUNet`, for run files, which seed a builder themselves.

    Raises:
        ExpungeError: widths, groups and sides do not divide.
    """
    made: nn.Module = ScoreUNet(_shape(shape), tuple(widths), groups).drawn().eval()
    return made


def label_unet(
    shape: Sequence[int] = (1, 8, 8),
    classes: int = 10,
    widths: Sequence[int] = (16, 32),
    groups: int = 8,
) -> nn.Module:
    """The network of a :class:`LabelUNet`, for run files, which seed a builder themselves.

    Raises:
        ExpungeError: widths, groups and sides do not divide.
    """
    made: nn.Module = LabelUNet(_shape(shape), classes, tuple(widths), groups).drawn().eval()
    return made


def small_text_to_image(
    vocabulary: int,
    shape: Sequence[int] = (3, 16, 16),
    length: int = 16,
    widths: Sequence[int] = (32, 64),
    attending: int = 2,
) -> nn.Module:
    """The network of a :class:`SmallTextToImage`, for run files, which seed a builder themselves.

    Raises:
        ExpungeError: widths, groups, heads and sides do not divide.
    """
    made = SmallTextToImage(_shape(shape), vocabulary, length, tuple(widths), attending).drawn()
    return made.eval()


class TextToImage(nn.Module):
    """A U-Net that attends to the states of a text encoder, and perhaps an autoencoder."""

    def __init__(
        self, unet: nn.Module, text_encoder: nn.Module, vae: nn.Module | None = None
    ) -> None:
        """Puts the parts together.

        Args:
            unet: called with pictures, timesteps and states (B, L, D).
            text_encoder: called with tokens (B, L).
            vae: between pictures and latents; it has to be frozen by whoever trains.
        """
        super().__init__()
        self.unet, self.text_encoder = unet, text_encoder
        if vae is not None:
            self.vae = vae

    def forward(self, noised: Tensor, timesteps: Tensor, tokens: Tensor) -> Tensor:
        """Noise (B, C, H, W) in ``noised`` at timesteps (B,), told tokens (B, L)."""
        found: Tensor = self.unet(noised, timesteps, self.states(tokens)).sample
        return found

    def states(self, tokens: Tensor) -> Tensor:
        """States (B, L, D) of tokens (B, L)."""
        found: Tensor = self.text_encoder(tokens).last_hidden_state
        return found


@dataclass(frozen=True)
class SmallTextToImage:
    """Builds a text-conditional denoiser of a seed.

    Args:
        shape: channels, height and width of a picture.
        vocabulary: number of tokens.
        length: tokens of a sentence.
        widths: channels of each level, from the outside; the outer ones have no attention.
        attending: how many levels attend to the text, from the inside.
        width: of the text states.
        layers: of the text encoder.
        heads: of all attentions.
        groups: of the group norms.

    Raises:
        ExpungeError: widths, groups, heads and sides do not divide.
    """

    shape: tuple[int, int, int] = (3, 16, 16)
    vocabulary: int = 64
    length: int = 16
    widths: tuple[int, ...] = (32, 64)
    attending: int = 2
    width: int = 64
    layers: int = 2
    heads: int = 4
    groups: int = 8

    def __post_init__(self) -> None:
        _divided(self.shape, self.widths, self.groups)
        if self.width % self.heads or any(w % self.heads for w in self.widths):
            raise ExpungeError(
                f"Widths {self.widths} and {self.width} were given with {self.heads} heads; "
                "multiples of the heads are expected."
            )

    def __call__(self, seed: int) -> nn.Module:
        """The untrained :class:`TextToImage`."""
        made: nn.Module = _seeded(self.drawn, seed).eval()
        return made

    def drawn(self) -> TextToImage:
        """The same, its weights drawn from torch's global random numbers."""
        from diffusers import UNet2DConditionModel
        from transformers import CLIPTextConfig, CLIPTextModel

        plain = len(self.widths) - self.attending
        down = ("DownBlock2D",) * plain + ("CrossAttnDownBlock2D",) * self.attending
        up = ("CrossAttnUpBlock2D",) * self.attending + ("UpBlock2D",) * plain

        unet: Any = UNet2DConditionModel(
            sample_size=self.shape[1],
            in_channels=self.shape[0],
            out_channels=self.shape[0],
            layers_per_block=1,
            block_out_channels=self.widths,
            down_block_types=down,
            up_block_types=up,
            cross_attention_dim=self.width,
            attention_head_dim=self.heads,  # diffusers means the number of heads here
            norm_num_groups=self.groups,
        )
        config = CLIPTextConfig(
            vocab_size=self.vocabulary,
            hidden_size=self.width,
            intermediate_size=4 * self.width,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            max_position_embeddings=self.length,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
        )
        return TextToImage(unet, CLIPTextModel(config))


def _shape(given: Sequence[int]) -> tuple[int, int, int]:
    """Channels, height and width, which a run file gives as a list."""
    if len(given) != 3:
        raise ExpungeError(
            f"A U-Net got the shape {list(given)}; channels, height and width are expected, such "
            "as [1, 8, 8]."
        )
    channels, height, width = given
    return channels, height, width


def _sizes(shape: tuple[int, int, int], widths: tuple[int, ...], groups: int) -> dict[str, Any]:
    """What a U-Net without text is told of its sizes."""
    return {
        "sample_size": shape[1],
        "in_channels": shape[0],
        "out_channels": shape[0],
        "layers_per_block": 1,
        "block_out_channels": widths,
        "down_block_types": ("DownBlock2D",) * len(widths),
        "up_block_types": ("UpBlock2D",) * len(widths),
        "norm_num_groups": groups,
    }


def _seeded(build: Any, seed: int) -> Any:
    with torch.random.fork_rng(devices=[]):  # both libraries draw from the global numbers
        torch.default_generator.manual_seed(seed)
        return build()


def _divided(shape: tuple[int, int, int], widths: tuple[int, ...], groups: int) -> None:
    least = 2 ** (len(widths) - 1)
    if not widths or any(w % groups for w in widths) or any(side % least for side in shape[1:]):
        raise ExpungeError(
            f"A U-Net got the widths {widths} in groups of {groups} for pictures of {shape}; "
            f"widths that are multiples of {groups} and sides that are multiples of {least} are "
            "expected."
        )
