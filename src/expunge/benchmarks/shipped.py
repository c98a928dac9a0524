"""The shipped models: their recipes, their rows, and what they score."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import ClassVar

import torch
from datasets import Dataset, concatenate_datasets
from torch import Tensor, nn

from expunge.changes.delta import Delta
from expunge.changes.weights import with_weights
from expunge.data import digits, emoji_grid, own
from expunge.data.augmentation import augmented
from expunge.data.cache import cached
from expunge.data.samples import Samples, TensorSamples
from expunge.descent.optimisers import AdamW, Cosine
from expunge.errors import ExpungeError, IntegrityError
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
from expunge.signals import bootstrap_interval
from expunge.signals.ask import ask
from expunge.storage import Bundle, digest, read_tensors, write_tensors


@dataclass(frozen=True)
class Work:
    """A recipe, the rows it trains on, and the rows it is measured on."""

    figures: ClassVar[str] = "accuracy"

    recipe: Recipe
    data: Mapping[Role, Samples]
    table: Named
    validation: Samples
    validation_table: Named
    test: Samples
    test_table: Named

    def score(self, model: nn.Module, run: Run) -> dict[str, dict[str, float]]:
        """Accuracy on validation and test rows, with its 95 % bootstrap interval over subjects."""
        found = {}
        for name, rows in {"validation": self.validation, "test": self.test}.items():
            signals = ask(self.recipe.family, model, rows, run)
            for measure, hits in (("top-1", "correct"), ("top-5", "top-5")):
                values = signals.query(hits)[0]
                spread = bootstrap_interval(values, signals.subjects)
                found[f"{name} {measure}"] = {
                    "value": float(values.double().mean()),
                    "low": spread.low,
                    "high": spread.high,
                }
        return found


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

PROBE_LEARNER = Plain(12, 256, AdamW(3e-3, weight_decay=0.05, schedule=Cosine(0.05)))
"""How the linear probe beside it is trained; chosen on the validation vendor."""


def emoji_untrained(seed: int = 0) -> EmojiDualEncoder:
    """The dual encoder on its published ImageNet tower, projections drawn with ``seed``."""
    embeddings = read_tensors(
        Path(str(files("expunge.data") / "emoji" / "text_embeddings.safetensors"))
    )
    generator = torch.Generator().manual_seed(seed)
    return EmojiDualEncoder.from_imagenet(embeddings["text_embeddings"].float(), generator)


def emoji_probe_untrained(seed: int = 0) -> EmojiDualEncoder:
    """The same network with the whole tower frozen: only the two projections can move."""
    network = emoji_untrained(seed)
    network.upper.requires_grad_(False)
    return network


def emoji_linear_probe() -> Work:
    """What the published tower can do without being trained: the bar for the dual encoder."""
    work = emoji_dual_encoder()
    recipe = Recipe(emoji_probe_untrained, work.recipe.family, PROBE_LEARNER, 0)
    return replace(work, recipe=recipe)


def emoji_dual_encoder_family(network: EmojiDualEncoder) -> DualEncoder:
    """Its family, with one neutral label for each concept."""
    return DualEncoder(classes=len(network.text_embeddings))


def emoji_dual_encoder(copies: int = COPIES) -> Work:
    """The dual encoder of the emoji set, on cached activations of its frozen lower part.

    Args:
        copies: 1 for the training pictures alone, more for augmented copies beside them.
    """
    network = emoji_untrained()
    train, validation, test = (emoji_grid.load(s) for s in ("train", "validation", "test"))
    parts = [activations(network, train, copy) for copy in range(copies)]
    rows = {
        "activation": torch.cat([part.columns["activation"] for part in parts]),
        "label": torch.cat([part.columns["label"] for part in parts]),
    }
    ids = [f"{name}#{copy}" if copy else name for copy in range(copies) for name in parts[0].ids]
    many = TensorSamples(ids, list(parts[0].subjects) * copies, rows)
    return Work(
        Recipe(emoji_untrained, emoji_dual_encoder_family(network), EMOJI_LEARNER, 0),
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
    columns = {
        "activation": lower_of(network, tensors["image"], copy),
        "label": tensors["label"],
    }
    return own.samples(table, columns)


def lower_of(network: EmojiDualEncoder, pictures: Tensor, copy: int = 0) -> Tensor:
    """What the frozen lower part makes of pictures (n, 3, s, s), half precision, cached.

    Args:
        network: its lower part is used.
        pictures: uint8.
        copy: 0 for the pictures themselves, k for their k-th augmented copy.
    """
    sha = hashlib.sha256(f"{digest(network.lower.state_dict())}{SIDE}{copy}".encode())
    sha.update(pictures.numpy().data)

    def compute() -> Bundle:
        generator = torch.Generator().manual_seed(copy)
        shown = pictures if copy == 0 else augmented(pictures, generator)
        with torch.inference_mode():
            found = [network.activation(part).half() for part in torch.split(shown, 128)]
        return Bundle({"activation": torch.cat(found)})

    return cached(f"activations-{sha.hexdigest()[:32]}", compute).tensors["activation"]


WEIGHTS = Path(str(files("expunge.models") / "weights"))
"""Folder of the shipped weights."""


def emoji_base(folder: Path = WEIGHTS) -> EmojiDualEncoder:
    """The shipped dual encoder: the published tower with the editable part in ``folder`` on it.

    Raises:
        ExpungeError: the package with the published ImageNet weights is not installed.
    """
    return _with_shards(emoji_untrained(), _shards("emoji-dual-encoder", folder))


def emoji_oracle_delta() -> Delta:
    """What leads from the shipped dual encoder to its oracle: the same recipe and seed, retrained
    without the pictures of the five groups of `expunge demo`."""
    return Delta.load(*_shards("emoji-oracle", WEIGHTS))


def store_emoji_base(model: nn.Module, folder: Path) -> None:
    """Write the editable part of a trained dual encoder in half precision, in two shards."""
    editable = {n: p.detach().half() for n, p in model.named_parameters() if p.requires_grad}
    for i, part in enumerate(_halves(editable)):
        write_tensors(folder / f"emoji-dual-encoder-{i}.safetensors", part)


def store_emoji_oracle(oracle: nn.Module, base: nn.Module, folder: Path) -> None:
    """Write the oracle as a Delta against the base in half precision, in two shards."""
    whole = Delta.between(oracle, base, method="retrain", recipe="emoji-dual-encoder")
    whole.save_shards([folder / f"emoji-oracle-{i}.safetensors" for i in range(2)], torch.half)


def _halves(tensors: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    """Two parts of about the same size, in the order of the names."""
    total, so_far = sum(t.numel() for t in tensors.values()), 0
    parts: list[dict[str, Tensor]] = [{}, {}]
    for name in sorted(tensors):
        parts[so_far * 2 >= total][name] = tensors[name]
        so_far += tensors[name].numel()
    return parts


def _shards(name: str, folder: Path) -> list[Path]:
    found = sorted(folder.glob(f"{name}-*.safetensors"))
    if not found:
        raise ExpungeError(
            f"There are no weights {name!r} in {folder}; install the package again, or make them "
            "with scripts/build_emoji_weights.py."
        )
    return found


def _with_shards(model: EmojiDualEncoder, shards: Sequence[Path]) -> EmojiDualEncoder:
    editable: dict[str, Tensor] = {}
    for shard in shards:
        editable |= {n: t.float() for n, t in read_tensors(shard).items()}
    needed = {n for n, p in model.named_parameters() if p.requires_grad}
    if set(editable) != needed:
        raise IntegrityError(
            f"{shards[0]} and its fellow shards hold {len(editable)} of {len(needed)} tensors; a "
            "shard is missing. Install the package again."
        )
    composed = with_weights(model, editable)
    assert isinstance(composed, EmojiDualEncoder)
    return composed


MODELS: Mapping[str, Callable[[], Work]] = {
    "digits-classifier": digits_classifier_work,
    "digits-dual-encoder": digits_dual_encoder,
    "emoji-dual-encoder": emoji_dual_encoder,
    "emoji-linear-probe": emoji_linear_probe,
}
"""What `expunge train` can make beside the models that draw."""
