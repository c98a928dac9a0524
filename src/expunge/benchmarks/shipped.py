"""The shipped models: their recipes, their rows, and what they score."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import torch
from datasets import Dataset, concatenate_datasets
from torch import nn

from expunge.data import digits, emoji_grid, own
from expunge.data.augmentation import augmented
from expunge.data.cache import cached
from expunge.data.samples import Samples, TensorSamples
from expunge.descent.optimisers import AdamW, Cosine
from expunge.families.abilities import Family
from expunge.families.classifier import Classifier
from expunge.families.dual_encoder import DualEncoder
from expunge.learning.supervised.plain import Plain
from expunge.models.digits_dual import DigitsDualEncoder
from expunge.models.dual_encoder import SIDE, EmojiDualEncoder
from expunge.models.mlp import digits_classifier
from expunge.recipe import Learner, Recipe, Role
from expunge.requests import Named
from expunge.run import Run
from expunge.signals import accuracy
from expunge.signals.ask import ask
from expunge.storage import Bundle, digest, read_tensors


@dataclass(frozen=True)
class Work:
    """A recipe, the rows it trains on, and the rows it is measured on."""

    recipe: Recipe
    data: Mapping[Role, Samples]
    table: Named
    validation: Samples
    validation_table: Named
    test: Samples
    test_table: Named

    def score(self, model: nn.Module, run: Run) -> dict[str, float]:
        """Accuracy on training, validation and test rows."""
        parts = {"train": self.data[Role.TRAIN], "validation": self.validation, "test": self.test}
        return {
            f"{name} accuracy": float(accuracy(ask(self.recipe.family, model, rows, run))[0])
            for name, rows in parts.items()
        }


def digits_classifier_work(seed: int = 0) -> Work:
    """A fully connected classifier of the scikit-learn digits."""
    return _on_digits(digits_classifier, Classifier(classes=10), Plain(30), seed)


def digits_dual_encoder(seed: int = 0) -> Work:
    """The miniature dual encoder of the digits, against ten frozen unit vectors."""

    def build(seed: int) -> nn.Module:
        return DigitsDualEncoder(torch.Generator().manual_seed(seed))

    return _on_digits(build, DualEncoder(classes=10), Plain(30, 64, AdamW(2e-3)), seed)


def _on_digits(
    builder: Callable[[int], nn.Module], family: Family, learner: Learner, seed: int
) -> Work:
    tables = [digits.load(split) for split in ("train", "validation", "test")]
    train, validation, test = (own.samples(table, digits.tensors(table)) for table in tables)
    return Work(
        Recipe(builder, family, learner, seed),
        {Role.TRAIN: train},
        tables[0],
        validation,
        tables[1],
        test,
        tables[2],
    )


COPIES = 4
"""Copies of each training picture: the picture itself and augmented ones."""

EMOJI_LEARNER = Plain(6, 128, AdamW(5e-4, weight_decay=0.05, schedule=Cosine(0.1)))
"""How the shipped dual encoder was trained; chosen on the validation vendor."""


def emoji_untrained(seed: int = 0) -> EmojiDualEncoder:
    """The dual encoder on its published ImageNet tower, projections drawn with ``seed``."""
    embeddings = read_tensors(
        Path(str(files("expunge.data") / "emoji" / "text_embeddings.safetensors"))
    )
    generator = torch.Generator().manual_seed(seed)
    return EmojiDualEncoder.from_imagenet(embeddings["text_embeddings"].float(), generator)


def emoji_dual_encoder(copies: int = COPIES) -> Work:
    """The dual encoder of the emoji set, on cached activations of its frozen lower part.

    Args:
        copies: 1 for the training pictures alone, more for augmented copies beside them.
    """
    network = emoji_untrained()
    family = DualEncoder(classes=len(network.text_embeddings))
    train, validation, test = (emoji_grid.load(s) for s in ("train", "validation", "test"))
    parts = [activations(network, train, copy) for copy in range(copies)]
    rows = {
        "activation": torch.cat([part.columns["activation"] for part in parts]),
        "label": torch.cat([part.columns["label"] for part in parts]),
    }
    ids = [f"{name}#{copy}" if copy else name for copy in range(copies) for name in parts[0].ids]
    many = TensorSamples(ids, list(parts[0].subjects) * copies, rows)
    return Work(
        Recipe(emoji_untrained, family, EMOJI_LEARNER, 0),
        {Role.TRAIN: many},
        concatenate_datasets([train] * copies),
        activations(network, validation),
        validation,
        activations(network, test),
        test,
    )


def activations(network: EmojiDualEncoder, table: Dataset, copy: int = 0) -> TensorSamples:
    """What the frozen lower part makes of the pictures of a table, half precision, cached.

    Args:
        network: its lower part is used.
        table: rows of the emoji set.
        copy: 0 for the pictures themselves, k for their k-th augmented copy.
    """
    tensors = emoji_grid.tensors(table)
    pictures = tensors["image"]
    sha = hashlib.sha256(f"{digest(network.lower.state_dict())}{SIDE}{copy}".encode())
    sha.update(pictures.numpy().data)

    def compute() -> Bundle:
        generator = torch.Generator().manual_seed(copy)
        shown = pictures if copy == 0 else augmented(pictures, generator)
        with torch.inference_mode():
            found = [network.activation(part).half() for part in torch.split(shown, 128)]
        return Bundle({"activation": torch.cat(found)})

    stored = cached(f"activations-{sha.hexdigest()[:32]}", compute)
    columns = {"activation": stored.tensors["activation"], "label": tensors["label"]}
    return own.samples(table, columns)


MODELS: Mapping[str, Callable[[], Work]] = {
    "digits-classifier": digits_classifier_work,
    "digits-dual-encoder": digits_dual_encoder,
    "emoji-dual-encoder": emoji_dual_encoder,
}
"""What `expunge train` can make."""
