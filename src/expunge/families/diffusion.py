"""Diffusion models in discrete time that are told what to draw, by a label or by words.

Ho, Jain, Abbeel (2020). Denoising Diffusion Probabilistic Models: a network predicts the noise e in
x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) e, by the mean of |e - eps(x_t, t, c)|^2. Ho, Salimans
(2022). Classifier-Free Diffusion Guidance: a share of the conditions c is left out while training,
so that the network also draws without any. Networks are those of ``diffusers``.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from expunge.data.samples import Batch
from expunge.errors import ExpungeError
from expunge.families.from_noise import NOISE, TIME, FromNoise, centred, pictures, predicted, wide
from expunge.families.prompts import PromptTokens

DROPPED = "dropped"
"""Field of a drawn batch: rows (B,) whose condition is left out in the loss."""


@dataclass(frozen=True)
class NoiseSchedule:
    """How much noise there is at each timestep.

    Args:
        steps: T, the number of timesteps.
        first: beta at the first timestep.
        last: beta at the last.
        betas: ``linear``, or the square of what is linear between the roots (Stable Diffusion).
        prediction: what the network predicts; only the noise, ``epsilon``, is understood.

    Raises:
        ExpungeError: the numbers are no schedule, or the network predicts something else.
    """

    steps: int = 1000
    first: float = 1e-4
    last: float = 0.02
    betas: str = "linear"
    prediction: str = "epsilon"

    def __post_init__(self) -> None:
        if self.steps < 2 or not 0 < self.first <= self.last < 1:
            raise ExpungeError(
                f"A noise schedule got {self.steps} timesteps with beta from {self.first:g} to "
                f"{self.last:g}; at least 2 timesteps and rising numbers between 0 and 1 are "
                "expected."
            )
        if self.betas not in ("linear", "scaled_linear"):
            raise ExpungeError(
                f"The noise schedule {self.betas!r} is not supported; `linear` and "
                "`scaled_linear` are. Convert the model, or train one under these."
            )
        if self.prediction != "epsilon":
            raise ExpungeError(
                f"The prediction type {self.prediction!r} is not supported; a network that "
                "predicts the noise (`epsilon`) is expected."
            )

    @cached_property
    def kept(self) -> Tensor:
        """The share abar (steps,) of the picture's variance: float32, computed in float64."""
        if self.betas == "linear":
            betas = torch.linspace(self.first, self.last, self.steps, dtype=torch.float64)
        else:
            ends = self.first**0.5, self.last**0.5
            betas = torch.linspace(*ends, self.steps, dtype=torch.float64).square()
        return (1 - betas).cumprod(0).float()

    def marginal(self, time: Tensor) -> tuple[Tensor, Tensor]:
        """The factors (B,) of the picture and of the noise at timesteps (B,) int64."""
        kept = self.kept.to(time.device)[time]
        return kept.sqrt(), (1 - kept).sqrt()


@dataclass(frozen=True)
class Diffusion(FromNoise):
    """What both families have in common.

    A batch holds ``image`` (B, C, H, W) from 0 to 1 and its condition; the diffusion works on
    pictures from -1 to 1, or on latents.

    Args:
        shape: channels, height and width of a picture.
        schedule: of the noise.
        drop: share of the conditions that are left out while training.
    """

    shape: tuple[int, int, int] = (1, 8, 8)
    schedule: NoiseSchedule = field(default_factory=NoiseSchedule)
    drop: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.drop < 1:
            raise ExpungeError(
                f"A share of {self.drop:g} of the conditions was to be left out; at least 0 and "
                "less than 1 is expected, such as 0.1."
            )

    @property
    @abstractmethod
    def told_by(self) -> str:
        """The field that holds the condition."""

    @abstractmethod
    def conditions(self, texts: Sequence[str]) -> Tensor:
        """What the network is told for each text (n, ...), int64; "" is no condition.

        Raises:
            ExpungeError: the model does not know a text.
        """

    @abstractmethod
    def speaking(self, conditions: Tensor, words: str) -> Tensor:
        """Which conditions (n, ...) speak of ``words``: bool (n,)."""

    @abstractmethod
    def exchanged(self, conditions: Tensor, words: str, by: str) -> Tensor:
        """The conditions with ``by`` in the place of ``words``, wherever they speak of them.

        Raises:
            ExpungeError: the model does not know one of them, or both are the same.
        """

    @property
    def drawn_shape(self) -> tuple[int, int, int]:
        """Shape of what the network denoises: pictures here."""
        return self.shape

    def encoded(self, model: nn.Module, images: Tensor) -> Tensor:
        """What the network denoises, from pictures (B, C, H, W) from 0 to 1."""
        return centred(images)

    def decoded(self, model: nn.Module, found: Tensor) -> Tensor:
        """Pictures (B, C, H, W) from 0 to 1, from what the network denoised."""
        return (found / 2 + 0.5).clamp(0, 1)

    def draw(self, batch: Batch, generator: torch.Generator) -> Batch:
        """The batch with timesteps (B,), noise, and which conditions are left out.

        Raises:
            ExpungeError: there are no pictures, or none of this model's size.
        """
        images = pictures(batch)
        if tuple(images.shape[1:]) != self.shape:
            raise ExpungeError(
                f"Pictures of shape {tuple(images.shape[1:])} were given to a diffusion model of "
                f"{self.shape}; channels, height and width are expected to agree. Resize them."
            )
        count = len(images)
        time = torch.randint(self.schedule.steps, (count,), generator=generator)
        noise = torch.randn(count, *self.drawn_shape, generator=generator)
        dropped = torch.rand(count, generator=generator) < self.drop
        return {**batch, TIME: time, NOISE: noise, DROPPED: dropped}

    def condition(self, batch: Batch) -> Tensor:
        """The conditions (B, ...) of a batch.

        Raises:
            ExpungeError: it has none.
        """
        found = batch.get(self.told_by)
        if found is None:
            raise ExpungeError(
                f"A {self.told_by} is expected with every picture of this diffusion model; there "
                f"are the fields {', '.join(sorted(batch))}. Map one to it."
            )
        return found

    def empty(self, like: Tensor) -> Tensor:
        """As many conditions (B, ...) as ``like``, all of them none."""
        return self.conditions([""]).to(like.device).expand_as(like)

    def noised(self, model: nn.Module, batch: Batch) -> Tensor:
        """x_t of a drawn batch."""
        return self.noised_at(self.encoded(model, pictures(batch)), batch[TIME], batch[NOISE])

    def noised_at(self, clean: Tensor, time: Tensor, noise: Tensor) -> Tensor:
        """x_t of x_0 (B, ...) at timesteps (B,) with noise (B, ...)."""
        factor, deviation = self.schedule.marginal(time)
        return wide(factor, clean) * clean + wide(deviation, clean) * noise

    def noise(self, model: nn.Module, noised: Tensor, time: Tensor, condition: Tensor) -> Tensor:
        """The noise that the network sees in ``noised`` at timesteps (B,), told ``condition``.

        Raises:
            ExpungeError: the network answers with another shape.
        """
        return predicted(model(noised, time, condition), noised)

    def clean(self, noised: Tensor, time: Tensor, noise: Tensor) -> Tensor:
        """x_0 that a predicted noise implies: (x_t - sqrt(1 - abar) e) / sqrt(abar)."""
        factor, deviation = self.schedule.marginal(time)
        return (noised - wide(deviation, noised) * noise) / wide(factor, noised)

    def outputs(self, model: nn.Module, batch: Batch) -> Tensor:
        """The predicted noise of a drawn batch, conditions left out where it says so."""
        told = self.condition(batch)
        if DROPPED in batch:
            without = batch[DROPPED].view(-1, *[1] * (told.dim() - 1))
            told = torch.where(without, self.empty(told), told)
        return self.noise(model, self.noised(model, batch), batch[TIME], told)


@dataclass(frozen=True)
class LabelDiffusion(Diffusion):
    """Family ``diffusion``: told one of a list of labels.

    The network is called with pictures, timesteps and labels; the label after the last one is none.

    Args:
        classes: names of the labels, in their order.
    """

    classes: tuple[str, ...] = ()
    name: str = "diffusion"

    @property
    def told_by(self) -> str:
        """``label``, int64 (B,)."""
        return "label"

    def conditions(self, texts: Sequence[str]) -> Tensor:
        """The labels (n,) of names; that of "" is the number of classes."""
        return torch.tensor([self._label(text) for text in texts], dtype=torch.int64)

    def speaking(self, conditions: Tensor, words: str) -> Tensor:
        """Those of the label."""
        return conditions == self._label(words)

    def exchanged(self, conditions: Tensor, words: str, by: str) -> Tensor:
        """The label ``by`` in the place of ``words``."""
        different(words, by)
        other = torch.full_like(conditions, self._label(by))
        return torch.where(self.speaking(conditions, words), other, conditions)

    def _label(self, text: str) -> int:
        if not text:
            return len(self.classes)
        if text not in self.classes:
            raise ExpungeError(
                f"The model was told to draw {text!r}, which it does not know; there are "
                f"{', '.join(self.classes) or 'no classes'}. Name one of these."
            )
        return self.classes.index(text)


@dataclass(frozen=True)
class Latents:
    """What a picture is to the network where an autoencoder stands before it.

    Args:
        channels: of a latent.
        factor: pixels of a picture to one of a latent, in each direction.
        scale: factor of the autoencoder's latents.
    """

    channels: int = 4
    factor: int = 8
    scale: float = 0.18215


@dataclass(frozen=True)
class TextDiffusion(Diffusion):
    """Family ``text-to-image``: told a sentence; of pixels, or of latents as Stable Diffusion is.

    The network is called with what it denoises, timesteps and tokens (B, L); it encodes the tokens
    itself, so that a method may change its text encoder. An autoencoder is its child ``vae``.

    Args:
        tokens: from sentences to tokens.
        latents: of a model of latents; None for one of pixels.
    """

    tokens: PromptTokens = field(default_factory=PromptTokens)
    latents: Latents | None = None
    name: str = "text-to-image"

    @property
    def told_by(self) -> str:
        """``prompt``, tokens int64 (B, L)."""
        return "prompt"

    @property
    def drawn_shape(self) -> tuple[int, int, int]:
        """Of latents where there are some."""
        if self.latents is None:
            return self.shape
        _, height, width = self.shape
        factor = self.latents.factor
        return self.latents.channels, height // factor, width // factor

    def encoded(self, model: nn.Module, images: Tensor) -> Tensor:
        """The mean of the autoencoder's latents, or the pictures themselves."""
        if self.latents is None:
            return super().encoded(model, images)
        vae: Any = model.get_submodule("vae")
        found: Tensor = vae.encode(centred(images)).latent_dist.mean
        return self.latents.scale * found

    def decoded(self, model: nn.Module, found: Tensor) -> Tensor:
        """What the autoencoder makes of latents."""
        if self.latents is None:
            return super().decoded(model, found)
        vae: Any = model.get_submodule("vae")
        return super().decoded(model, vae.decode(found / self.latents.scale).sample)

    def states(self, model: nn.Module, conditions: Tensor) -> Tensor:
        """States (n, L, D) of tokens (n, L), by the model's own text encoder."""
        encoder: Any = model.get_submodule("text_encoder")
        found: Tensor = encoder(conditions).last_hidden_state
        return found

    def conditions(self, texts: Sequence[str]) -> Tensor:
        """Tokens (n, L)."""
        return self.tokens.of(texts)

    def speaking(self, conditions: Tensor, words: str) -> Tensor:
        """Those that hold the tokens of ``words`` one after another."""
        return self.tokens.holding(conditions, words)

    def exchanged(self, conditions: Tensor, words: str, by: str) -> Tensor:
        """The tokens of ``by`` in the place of those of ``words``; "" leaves them out."""
        different(words, by)
        return self.tokens.exchanged(conditions, words, by)


def different(words: str, by: str) -> None:
    """Refuse an anchor that is the target.

    Raises:
        ExpungeError: it is.
    """
    if words == by:
        raise ExpungeError(
            f"The anchor is {by!r}, and so is what is to be forgotten; another concept is expected "
            "in its place."
        )
