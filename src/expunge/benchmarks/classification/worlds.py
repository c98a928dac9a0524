"""Worlds: real rows, a classifier that is trained on them, and one request of each kind.

Splits are those of the sets. Classes of clothes, digits and groups of emoji are removed, a garment
within its class, the drawings of one vendor, the mails of one sender, and rows drawn by their ids.
"""

import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import datasets
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from expunge.audit.case import described, digest_of_samples, digest_of_settings
from expunge.benchmarks.shipped import digits_classifier_work
from expunge.changes.weights import digest_of
from expunge.data import catalogue, emoji_grid, own, splits, tables
from expunge.data.cache import cached
from expunge.data.inputs import inputs_of
from expunge.data.mapping import Columns
from expunge.data.samples import Samples, TensorSamples
from expunge.descent.optimisers import AdamW, Cosine
from expunge.errors import ExpungeError
from expunge.families.abilities import Family
from expunge.families.classifier import Classifier
from expunge.learning.supervised.plain import Plain
from expunge.models.cnn import SmallCnn
from expunge.models.resnet import ResNet18
from expunge.models.vit import VisionTransformer
from expunge.recipe import Recipe, Role
from expunge.requests import Named, Request, Rows
from expunge.run import Run
from expunge.storage import Bundle

Kind = Literal["class", "sub-class", "subject", "random 1 %", "random 10 %"]


@dataclass(frozen=True, eq=False)
class World:
    """What is trained and what is asked of it.

    Args:
        name: by which it is asked for.
        about: rows, model and classes in a line.
        recipe: how the model is made; its seed is replaced by those of the benchmark.
        train: training rows, with ``train_table`` beside them; the others alike.
        requests: one of each kind.
        shown: retain rows that a method sees at most, drawn by their ids. The recipe sees all.
    """

    name: str
    about: str
    recipe: Recipe
    train: Samples
    train_table: Named
    validation: Samples
    validation_table: Named
    test: Samples
    test_table: Named
    requests: Mapping[Kind, Request] = field(default_factory=dict)
    shown: int = 10_000

    @property
    def family(self) -> Family:
        """The family of its models."""
        return self.recipe.family

    def request(self, kind: Kind) -> Request:
        """The request of a kind.

        Raises:
            ExpungeError: this world has none.
        """
        if kind not in self.requests:
            raise ExpungeError(
                f"The world {self.name!r} has no request of the kind {kind!r}; it has "
                f"{', '.join(self.requests)}."
            )
        return self.requests[kind]

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 (hexadecimal) of rows and recipe."""
        untrained = self.recipe.builder(0)
        parts = [
            described(self.recipe.learner),
            described(self.family),
            digest_of(untrained),
            digest_of_settings(untrained),
            *(digest_of_samples(s) for s in (self.train, self.validation, self.test)),
        ]
        return hashlib.sha256(repr(parts).encode()).hexdigest()


@functools.cache
def world(name: str) -> World:
    """The world of a name; its rows are read once a process.

    Raises:
        ExpungeError: there is none, or its set was not fetched.
    """
    if name not in WORLDS:
        raise ExpungeError(f"There is no world {name!r}; there are {', '.join(WORLDS)}.")
    return WORLDS[name](name)


def drawn(ids: Sequence[str], share: float) -> tuple[str, ...]:
    """A share of the ids, at least one: the first in the order of their digests."""
    order = sorted(ids, key=lambda name: hashlib.sha256(f"request:{name}".encode()).digest())
    return tuple(sorted(order[: max(1, round(share * len(ids)))]))


def _random(train: Samples) -> dict[Kind, Request]:
    """The requests for rows that have nothing in common."""
    return {
        "random 1 %": Request("random 1 %", Rows("id", drawn(train.ids, 0.01))),
        "random 10 %": Request("random 10 %", Rows("id", drawn(train.ids, 0.1))),
    }


def digits(name: str) -> World:
    """Handwritten digits of 8 x 8 pixels and a fully connected network."""
    work = digits_classifier_work()
    train = work.data[Role.TRAIN]
    return World(
        name,
        "1,078 digits of 8 x 8 pixels, ten classes; fully connected 64-96-96-10",
        work.recipe,
        train,
        work.table,
        work.validation,
        work.validation_table,
        work.test,
        work.test_table,
        {"class": Request("the threes", Rows("label", ("3",)), labels=(3,)), **_random(train)},
    )


SANDAL = 5
GARMENTS = ("tops", "trousers", "dresses", "footwear", "bags")
GARMENT = (0, 1, 0, 2, 0, 3, 0, 3, 4, 3)
"""The garment (of :data:`GARMENTS`) that each class of Fashion-MNIST is."""


def clothes(name: str) -> World:
    """The full Fashion-MNIST and a small convolutional network."""
    parts = [_fashion(split) for split in splits.NAMES]
    train = parts[0][0]
    return of_parts(
        name,
        "50,000 clothes of 28 x 28 pixels, ten classes; two convolutions, one hidden layer",
        Recipe(_small_cnn, Classifier(classes=10), Plain(4, 128, AdamW(1e-3, schedule=Cosine()))),
        parts,
        {"class": _sandals("label", "class"), **_random(train)},
        shown=1_000,
    )


def garments(name: str) -> World:
    """The same pictures under five coarse classes, one of which hides the sandals."""
    parts = []
    for split in splits.NAMES:
        samples, table = _fashion(split)
        coarse = torch.tensor(GARMENT)[samples.columns["label"]]
        parts.append((samples.with_column("label", coarse), table))
    return of_parts(
        name,
        "the same in five coarse classes; sandals are a third of the footwear",
        Recipe(
            _garment_cnn,
            Classifier(classes=len(GARMENTS)),
            Plain(4, 128, AdamW(1e-3, schedule=Cosine())),
        ),
        parts,
        {"sub-class": _sandals("label", "sub-class")},
        shown=1_000,
    )


def clothes_resnet(name: str) -> World:
    """10,000 clothes and a ResNet-18 of width 16."""
    parts = [_fashion(split, count) for split, count in zip(splits.NAMES, FEW, strict=True)]
    train = parts[0][0]
    return of_parts(
        name,
        "10,000 of the clothes, ten classes; ResNet-18 of width 16",
        Recipe(_resnet, Classifier(classes=10), Plain(5, 128, AdamW(2e-3, schedule=Cosine()))),
        parts,
        {"class": _sandals("label", "class"), "random 10 %": _random(train)["random 10 %"]},
        shown=1_000,
    )


def clothes_vit(name: str) -> World:
    """10,000 clothes and a small vision transformer."""
    parts = [_fashion(split, count) for split, count in zip(splits.NAMES, FEW, strict=True)]
    train = parts[0][0]
    return of_parts(
        name,
        "10,000 of the clothes, ten classes; vision transformer, 4 blocks of width 64, patch 7",
        Recipe(_vit, Classifier(classes=10), Plain(12, 128, AdamW(1e-3, schedule=Cosine()))),
        parts,
        {"class": _sandals("label", "class"), "random 10 %": _random(train)["random 10 %"]},
        shown=2_000,
    )


def emoji(name: str) -> World:
    """Emoji in colour, by their group, and a ResNet-18 of width 8."""
    table = emoji_grid.load(None)
    names = sorted(set(table["group"][:]))
    groups = torch.tensor([names.index(group) for group in table["group"][:]])
    pixels = F.avg_pool2d(emoji_grid.tensors(table)["image"].float() / 255, 2)
    ids = [str(name) for name in table["id"][:]]
    split = splits.stratified(ids, groups.tolist())
    parts = []
    for part in splits.NAMES:
        rows = torch.tensor([i for i, its in enumerate(split) if its == part])
        its_table = table.select(rows.tolist())
        columns = {"image": pixels[rows], "label": groups[rows]}
        parts.append((own.samples(its_table, columns), its_table))
    return of_parts(
        name,
        "7,205 emoji of 32 x 32 pixels in colour, eight groups; ResNet-18 of width 8",
        Recipe(
            _colour_resnet,
            Classifier(classes=len(names)),
            Plain(10, 64, AdamW(2e-3, weight_decay=0.05, schedule=Cosine())),
        ),
        parts,
        {
            "class": Request(
                "food and drink",
                Rows("group", ("food-drink",)),
                labels=(names.index("food-drink"),),
            ),
            "sub-class": Request("mammals", Rows("subgroup", ("animal-mammal",))),
            "subject": Request("drawings by mozilla", Rows("vendor", ("mozilla",))),
        },
        shown=1_500,
    )


def mails(name: str) -> World:
    """SpamAssassin's mails and a small transformer that reads their text."""
    found = catalogue.at_hand("spam-assassin")
    parts = []
    for split in splits.NAMES:
        table = found.load(split)
        tokens = _tokens(table, found.digest)
        parts.append((own.samples(table, {**tokens, "label": tables.labels(table)}), table))
    train, table = parts[0]
    counts: dict[str, int] = {}
    for sender in table["subject"][:]:
        counts[sender] = counts.get(sender, 0) + 1
    sender = max(sorted(counts), key=counts.__getitem__)
    return of_parts(
        name,
        f"3,628 mails, wanted or not, {LENGTH} tokens; BERT of 2 blocks, width 64, from scratch",
        Recipe(
            _small_bert,
            Classifier(inputs=("input_ids", "attention_mask"), classes=2),
            Plain(6, 64, AdamW(1e-3, schedule=Cosine())),
        ),
        parts,
        {
            "subject": Request(f"mails of {sender}", Rows("subject", (sender,))),
            **_random(train),
        },
        shown=1_000,
    )


WORLDS: Mapping[str, Callable[[str], World]] = {
    "digits": digits,
    "clothes": clothes,
    "garments": garments,
    "clothes-resnet": clothes_resnet,
    "clothes-vit": clothes_vit,
    "emoji": emoji,
    "mails": mails,
}
"""All worlds by name; the first is the quick form's."""

FEW = (10_000, 2_000, 2_000)
"""Rows of each split where a world takes a part of a set: the first of each in table order."""

LENGTH = 96
"""Tokens of a mail that are read."""

Part = tuple[TensorSamples, Named]


def of_parts(
    name: str,
    about: str,
    recipe: Recipe,
    parts: Sequence[Part],
    requests: Mapping[Kind, Request],
    shown: int = 10_000,
) -> World:
    """A world of the samples and tables of training, validation and test rows."""
    (train, train_table), (validation, validation_table), (test, test_table) = parts
    return World(
        name,
        about,
        recipe,
        train,
        train_table,
        validation,
        validation_table,
        test,
        test_table,
        requests,
        shown,
    )


def _sandals(column: str, kind: str) -> Request:
    labels = (SANDAL,) if kind == "class" else ()
    return Request("sandals", Rows(column, (str(SANDAL),)), labels=labels)


def _fashion(split: str, count: int | None = None) -> Part:
    return grey("fashion-mnist", split, count)


def grey(name: str, split: str, count: int | None = None) -> Part:
    """The first ``count`` grey pictures of a split of a set, from 0 to 1; all by default.

    Raises:
        ExpungeError: the set was not fetched.
    """
    found = catalogue.at_hand(name)
    table = found.load(split)

    def read() -> Bundle:
        columns = Columns(input="image", channels=1)
        pictures = inputs_of(table, list(table["id"][:]), columns, None)
        return Bundle({"image": (pictures.fields["image"] * 255).round().to(torch.uint8)})

    stored = cached(f"{name}-{split}-{found.digest[:32]}", read).tensors["image"]
    if count is not None:
        table, stored = table.select(range(count)), stored[:count]
    columns = {"image": stored.float() / 255, "label": tables.labels(table)}
    return own.samples(table, columns), table


def _tokens(table: datasets.Dataset, digest: str) -> dict[str, Tensor]:
    """Token ids and masks (n, LENGTH) of mails, by the vocabulary of a published encoder."""
    from tokenizers import Tokenizer

    vocabulary = catalogue.at_hand("minilm")
    ids = hashlib.sha256(repr(list(table["id"][:])).encode()).hexdigest()

    def read() -> Bundle:
        tokenizer = Tokenizer.from_file(str(vocabulary.folder / "tokenizer.json"))
        tokenizer.enable_truncation(LENGTH)
        tokenizer.enable_padding(length=LENGTH)
        texts = [
            f"{line}\n{text}"
            for line, text in zip(table["subject_line"][:], table["text"][:], strict=True)
        ]
        found = tokenizer.encode_batch([text[: 40 * LENGTH] for text in texts])
        return Bundle(
            {
                "input_ids": torch.tensor([row.ids for row in found]),
                "attention_mask": torch.tensor([row.attention_mask for row in found]),
            }
        )

    key = hashlib.sha256(f"{ids}{digest}{vocabulary.digest}{LENGTH}".encode()).hexdigest()
    stored = cached(f"mail-tokens-{key[:32]}", read)
    return dict(stored.tensors)


def _small_cnn(seed: int) -> nn.Module:
    return SmallCnn(torch.Generator().manual_seed(seed))


def _garment_cnn(seed: int) -> nn.Module:
    return SmallCnn(torch.Generator().manual_seed(seed), classes=len(GARMENTS))


def _resnet(seed: int) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    return ResNet18(generator, width=16, channels=1, means=(0.286,), deviations=(0.353,))


def _colour_resnet(seed: int) -> nn.Module:
    return ResNet18(torch.Generator().manual_seed(seed), width=8, classes=8)


def _vit(seed: int) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    return VisionTransformer(generator, 28, 4, 64, 4, 7, 1, means=(0.286,), deviations=(0.353,))


def _small_bert(seed: int) -> nn.Module:
    import transformers

    config = transformers.BertConfig(
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        max_position_embeddings=LENGTH,
        num_labels=2,
    )
    with Run(seed).seeded("bert"):  # transformers draws from the global numbers
        model: Any = transformers.BertForSequenceClassification(config)
    made: nn.Module = model
    return made
