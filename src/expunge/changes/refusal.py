"""Refusal: a guard that answers forgotten inputs neutrally and leaves the weights as they are.

Thaker, Maurya, Hu, Wu, Smith (2024). Guardrail Baselines for Unlearning in LLMs. Their filters read
the prompt and the text that comes out. For a model that classifies the counterpart is what it makes
of an input: its logits, or the image features of a dual encoder. An input is refused where this is
nearer than a threshold to what the model makes of a forgotten row, or where the model would answer
with a forgotten class.

It is a stop-gap. Whoever holds the weights runs them alone (attacks/edit_off.py), and the keys are
made from the forgotten rows: they are to be destroyed with the guard once the weights have changed.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal, Self, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from expunge.changes.guarded import Guarded
from expunge.changes.weights import digest_of, is_finite
from expunge.errors import ExpungeError, IntegrityError
from expunge.storage import read_facts, read_tensors, write_tensors

Signal = Literal["logits", "image features"]
"""What of a model is compared with the keys."""

AT_ONCE = 4096
"""Keys that are compared with a batch at a time."""

LARGEST = 1e4
"""Where logits are cut, so that a class that is masked with -inf has a place, too."""

ROUNDING = 1e-3
"""How far from 1 the length of a key may be."""

TEXT_SIDE = ("text_features", "get_text_features", "activation")
"""Methods of a dual encoder that answer nothing about a picture, and are passed on."""


@dataclass(frozen=True, eq=False)
class Rule:
    """What is refused for one request.

    Args:
        keys: (n, d) float32 unit vectors of the forgotten rows, as :func:`represented` makes them.
        threshold: cosine distance, in (0, 2], below which an input is refused.
        neutral: what is answered: logits (C,), or image features (d,).
        scale: see :func:`represented`; 0 for image features.
        classes: inputs that the model would answer with one of them are refused, too.
        directions: (C, d) image features of which the nearest is the answer of a dual encoder;
            None where the signal is logits.

    Raises:
        IntegrityError: a shape, a length or a number cannot be.
    """

    keys: Tensor
    threshold: float
    neutral: Tensor
    scale: float = 0.0
    classes: tuple[int, ...] = ()
    directions: Tensor | None = None

    def __post_init__(self) -> None:
        given = [self.keys, self.neutral, torch.tensor([self.threshold, self.scale])]
        given += [] if self.directions is None else [self.directions]
        if not all(map(is_finite, given)):
            raise IntegrityError(
                "The refusal has NaN or infinite values; finite numbers are expected. Make it "
                "again from a model whose answers are finite."
            )
        shapes = self.keys.dim() == 2 and len(self.keys) > 0 and self.neutral.dim() == 1
        if self.directions is not None:
            shapes = shapes and self.directions.shape[1:] == self.neutral.shape
        if not shapes:
            raise IntegrityError(
                f"The refusal has keys of shape {tuple(self.keys.shape)} and a neutral answer of "
                f"shape {tuple(self.neutral.shape)}; (rows, d) with at least one row, and (C,), "
                "are expected."
            )
        if bool(((self.keys.float().norm(dim=1) - 1).abs() > ROUNDING).any()):
            raise IntegrityError("The keys of the refusal are not of length 1; unit vectors are.")
        if not (0 < self.threshold <= 2 and self.scale >= 0):
            raise IntegrityError(
                f"The refusal has the threshold {self.threshold} and the scale {self.scale}; a "
                "cosine distance above 0 and at most 2, and a length of at least 0, are expected."
            )

    def distances(self, signal: Tensor, kind: Signal) -> Tensor:
        """Cosine distance (B,) of each row of a signal (B, C) or (B, d) to the nearest key.

        Raises:
            IntegrityError: the signal is of another width than the one that the keys were made of.
        """
        seen = represented(signal, kind, self.scale)
        if seen.shape[1] != self.keys.shape[1] or signal.shape[1] != len(self.neutral):
            raise IntegrityError(
                f"The model gave {kind} of width {signal.shape[1]} and the guard was made for "
                f"{len(self.neutral)}; put it around the model that it was made for."
            )
        nearest = seen.new_full((len(seen),), -1.0)
        for start in range(0, len(self.keys), AT_ONCE):
            keys = self.keys[start : start + AT_ONCE].to(seen.device)
            nearest = torch.maximum(nearest, (seen @ keys.T).amax(1))
        return 1 - nearest

    def answered(self, signal: Tensor) -> Tensor:
        """Whether a model would answer each row (B,) of a signal with one of ``classes``."""
        scores = signal.float()
        if self.directions is not None:
            scores = scores @ self.directions.to(scores.device).T
        return torch.isin(scores.argmax(1), torch.tensor(self.classes, device=signal.device))

    def refuses(self, signal: Tensor, kind: Signal) -> Tensor:
        """Whether each row (B,) of a signal is refused."""
        return (self.distances(signal, kind) < self.threshold) | self.answered(signal)

    def tensors(self) -> dict[str, Tensor]:
        """Its tensors by the name of their field."""
        found = {"keys": self.keys, "neutral": self.neutral}
        return found if self.directions is None else {**found, "directions": self.directions}


@dataclass(frozen=True, eq=False)
class Refusal:
    """A guard that refuses what any of its rules refuses, with the neutral answer of the last one.

    The last rule was made when most was forgotten, so that its answer favours nothing of it. On
    other weights than its own a guard would silently miss what it was made for (after one edit of
    the digits' classifier it refused none of a hundred rows), so it stands around no others.

    Args:
        weights: digest of the weights that it was made for.
        signal: what is compared.
        rules: one for each request.
        facts: JSON values that travel with it.

    Raises:
        IntegrityError: there is no rule, or another signal.
    """

    weights: str
    signal: Signal
    rules: tuple[Rule, ...]
    facts: Mapping[str, object] = field(default_factory=dict)

    kind: ClassVar[str] = "refusal"
    artifacts: ClassVar[Mapping[str, str]] = MappingProxyType({})

    def __post_init__(self) -> None:
        if self.signal not in get_args(Signal) or not self.rules:
            raise IntegrityError(
                f"A refusal of {len(self.rules)} rules on {self.signal!r} was given; at least one "
                f"rule on {' or '.join(map(repr, get_args(Signal)))} is expected."
            )

    def refuses(self, signal: Tensor) -> Tensor:
        """Whether each row (B,) of a signal (B, C) or (B, d) is refused."""
        return torch.stack([rule.refuses(signal, self.signal) for rule in self.rules]).any(0)

    def passed(self, signal: Tensor) -> Tensor:
        """The signal with the neutral answer in the place of refused rows; all others keep their
        bits."""
        with torch.no_grad():
            refused = self.refuses(signal.detach())
        return torch.where(refused.unsqueeze(1), self.rules[-1].neutral.to(signal), signal)

    def merged(self, others: Sequence[Self]) -> Self:
        """One guard that refuses what this and the others do, each request with its own threshold.

        Raises:
            IntegrityError: the others were made for other weights, or compare another signal.
        """
        for other in others:
            if (other.weights, other.signal) != (self.weights, self.signal):
                raise IntegrityError(
                    f"One refusal compares {self.signal} of the weights {self.weights[:12]}, and "
                    f"another {other.signal} of {other.weights[:12]}; guards of one model are "
                    "expected. Make those of the other weights again."
                )
        rules = (*self.rules, *(rule for other in others for rule in other.rules))
        return replace(self, rules=rules, facts=self.facts if not others else {})

    def around(self, model: nn.Module) -> "Refusing":
        """The guarded model; the model itself is not changed, and its weights are shared.

        Raises:
            IntegrityError: its weights are others than those that the guard was made for, or image
                features are compared and it has none.
        """
        found = digest_of(model)
        if found != self.weights:
            raise IntegrityError(
                f"The guard was made for the weights {self.weights[:12]}, and these are "
                f"{found[:12]}: it would not know the forgotten rows by them. Withdraw it, and "
                "make it again for these."
            )
        if self.signal == "logits":
            return RefusingLogits(model, self)
        if not any(hasattr(model, name) for name in ("image_features", "get_image_features")):
            raise IntegrityError(
                f"The guard compares image features, and {type(model).__name__} has none; put it "
                "around the model that it was made for."
            )
        return RefusingFeatures(model, self)

    def save(self, path: Path) -> None:
        """Write one safetensors file."""
        tensors = {f"{i}.{n}": t for i, r in enumerate(self.rules) for n, t in r.tensors().items()}
        rules = [
            {"threshold": r.threshold, "scale": r.scale, "classes": list(r.classes)}
            for r in self.rules
        ]
        header = {
            "kind": self.kind,
            "weights": self.weights,
            "signal": self.signal,
            "rules": rules,
            "facts": dict(self.facts),
        }
        write_tensors(path, tensors, header)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a stored Refusal.

        Raises:
            IntegrityError: the file is missing, damaged, or no Refusal.
        """
        header = read_facts(path)
        if header.get("kind") != cls.kind:
            raise IntegrityError(f"{path} holds no Refusal; give a file written by Refusal.save.")
        tensors = read_tensors(path)
        try:
            given: Any = header
            rules = tuple(_rule(i, facts, tensors) for i, facts in enumerate(given["rules"]))
            stored = {f"{i}.{name}" for i, rule in enumerate(rules) for name in rule.tensors()}
            if stored != set(tensors):
                raise ValueError("it has tensors of no rule")
            return cls(str(given["weights"]), given["signal"], rules, dict(given["facts"]))
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise IntegrityError(
                f"{path} is damaged: it is no whole Refusal ({type(error).__name__}: {error}); "
                "restore the file from its source."
            ) from None


def _rule(number: int, facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Rule:
    return Rule(
        tensors[f"{number}.keys"],
        float(facts["threshold"]),
        tensors[f"{number}.neutral"],
        float(facts["scale"]),
        tuple(int(c) for c in facts["classes"]),
        tensors.get(f"{number}.directions"),
    )


def represented(signal: Tensor, kind: Signal, scale: float) -> Tensor:
    """Unit vectors (B, d) float32 of a signal (B, C) or (B, d).

    Logits are centred, since a constant changes no answer, and ``scale`` stands beside them before
    they are normalised, so that their length counts, too: without it all inputs that a model of two
    classes answers alike would be one. Image features are a direction already.

    Args:
        signal: as the model gives it.
        kind: what it is.
        scale: the usual length of centred logits; 0 for image features.
    """
    found = signal.float()
    if kind == "logits":
        found = centred(found)
        found = torch.cat([found, found.new_full((len(found), 1), scale)], 1)
    return F.normalize(found, dim=1)


def centred(logits: Tensor) -> Tensor:
    """Logits (B, C) float32 of mean 0, cut at :data:`LARGEST`."""
    cut = logits.float().clamp(-LARGEST, LARGEST)
    return cut - cut.mean(1, keepdim=True)


class Refusing(Guarded):
    """A model behind a :class:`Refusal`."""

    passes: ClassVar[tuple[str, ...]] = TEXT_SIDE

    def __init__(self, guarded: nn.Module, refusal: Refusal) -> None:
        super().__init__(guarded)
        self.refusal = refusal


class RefusingLogits(Refusing):
    """A module that is called for logits (B, C), or for an output object that has them."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The answer of the guarded model, neutral where it is refused.

        Other fields of an output object (hidden states) are the guarded model's.
        """
        answer = self.guarded(*args, **kwargs)
        if isinstance(answer, Tensor):
            return self.refusal.passed(answer)
        passed = copy.copy(answer)
        passed.logits = self.refusal.passed(answer.logits)
        return passed


class RefusingFeatures(Refusing):
    """A dual encoder that is asked for image features: its own, or of ``transformers``."""

    def image_features(self, activation: Tensor) -> Tensor:
        """Image features (B, d) from activations, neutral where a picture is refused."""
        found: Tensor = self.guarded.image_features(activation)  # type: ignore[operator]
        return self.refusal.passed(found)

    def get_image_features(self, *args: Any, **kwargs: Any) -> Any:
        """The same of a ``transformers`` model, which may return an output object."""
        answer = self.guarded.get_image_features(*args, **kwargs)  # type: ignore[operator]
        if isinstance(answer, Tensor):
            return self.refusal.passed(answer)
        passed = copy.copy(answer)
        passed.pooler_output = self.refusal.passed(answer.pooler_output)
        return passed

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, C) of a model that keeps its prompts.

        Raises:
            ExpungeError: the model keeps none.
        """
        if not hasattr(self.guarded, "image_features"):
            raise ExpungeError(
                f"{type(self.guarded).__name__} behind a guard was called; ask it for "
                "`get_image_features` and compare these with the text features."
            )
        features = self.image_features(self.activation(images))
        logits: Tensor = self.logit_scale.exp() * features @ self.text_features().T
        return logits
