"""Worlds of numbers: real rows, a regressor that is trained on them, and what is to be forgotten.

Houses, diamonds, flights, a series of electricity demand with its quantiles (the paper forecasts
electricity too), and sentences with their rated sentiment. Targets are standardised by the training
rows; ``scale`` brings errors back to the user's unit.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Literal

import datasets
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from expunge.audit.case import described, digest_of_samples, digest_of_settings
from expunge.changes.weights import digest_of
from expunge.data import catalogue
from expunge.data.cache import cached
from expunge.data.samples import TensorSamples
from expunge.data.scaling import Scaling
from expunge.data.sets.rdatasets import UNKNOWN
from expunge.descent.optimisers import AdamW
from expunge.errors import ExpungeError
from expunge.families.number_losses import AbsoluteLoss, NumberLoss, QuantileLoss, SquaredLoss
from expunge.families.regressor import Regressor
from expunge.learning.supervised.plain import Plain
from expunge.models.mlp import Mlp
from expunge.recipe import Recipe
from expunge.storage import Bundle, digest

Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = ("train", "validation", "test")

Numbers = npt.NDArray[np.float64]

HIDDEN = (64, 64)
"""Units of the hidden layers of every network."""

LEARNING_RATE, BATCH = 2e-3, 64
"""Of every training."""

SHOWN: Mapping[Part, int] = {"train": 3_000, "validation": 750, "test": 1_500}
"""Rows of large sets that are taken, the first by the digests of their ids."""


@dataclass(frozen=True, eq=False)
class World:
    """What is trained and what is asked of it.

    Args:
        name: by which it is asked for.
        about: rows and model in a line.
        unit: of the target, in a word.
        scale: one standard deviation of the target, in the unit.
        recipe: how the model is made; its seed is replaced by those of the benchmark.
        rows: of each part, standardised.
        requests: which rows (n,) of each part a request means, by its name.
    """

    name: str
    about: str
    unit: str
    scale: float
    recipe: Recipe
    rows: Mapping[Part, TensorSamples]
    requests: Mapping[str, Mapping[Part, Tensor]]

    def part(self, request: str, part: Part, *, meant: bool) -> TensorSamples:
        """The rows of a part that a request means, or the others."""
        mask = self.requests[request][part]
        return self.rows[part].select((mask if meant else ~mask).nonzero().flatten())

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hexadecimal) of rows, requests and recipe."""
        untrained = self.recipe.builder(0)
        masks = {
            f"{name}/{part}": m for name, of in self.requests.items() for part, m in of.items()
        }
        parts = [
            described(self.recipe.learner),
            described(self.recipe.family),
            digest_of(untrained),
            digest_of_settings(untrained),
            digest(masks),
            *(digest_of_samples(self.rows[part]) for part in PARTS),
        ]
        return hashlib.sha256(repr(parts).encode()).hexdigest()


@dataclass(frozen=True)
class Table:
    """Plain columns of a part, before they are scaled: inputs (n, D), targets (n, T)."""

    ids: Sequence[str]
    subjects: Sequence[str]
    inputs: Numbers
    targets: Numbers


Meant = Callable[[Table], npt.NDArray[np.bool_]]
"""Which rows (n,) of a table a request means."""


def world_of(
    name: str,
    about: str,
    unit: str,
    tables: Mapping[Part, Table],
    requests: Mapping[str, Meant],
    loss: SquaredLoss | AbsoluteLoss | QuantileLoss | NumberLoss,
    epochs: int,
) -> World:
    """A world of plain tables: columns standardised by the training rows, a fully connected network
    and the rows that each request means."""
    train = tables["train"]
    inputs, targets = (Scaling.of(torch.from_numpy(c)) for c in (train.inputs, train.targets))
    rows = {
        part: TensorSamples(
            table.ids,
            table.subjects,
            {
                "image": inputs.applied(torch.from_numpy(table.inputs)),
                "target": targets.applied(torch.from_numpy(table.targets)),
            },
        )
        for part, table in tables.items()
    }
    widths = (train.inputs.shape[1], *HIDDEN, train.targets.shape[1] * loss.answers)

    def network(seed: int) -> nn.Module:
        return Mlp(torch.Generator().manual_seed(seed), widths)

    learner = Plain(epochs, BATCH, AdamW(LEARNING_RATE))
    masks = {
        request: {part: torch.from_numpy(meant(table)) for part, table in tables.items()}
        for request, meant in requests.items()
    }
    shape = "-".join(map(str, widths))
    return World(
        name,
        f"{len(train.ids):,} {about}; fully connected {shape}, {loss.name} loss, {epochs} epochs",
        unit,
        float(targets.deviations.mean()),
        Recipe(network, Regressor(loss=loss), learner),
        rows,
        masks,
    )


def ames(name: str) -> World:
    """Houses; cheap ones, or a neighbourhood, are forgotten."""
    numbers = (
        "Lot_Area", "Year_Built", "Year_Remod_Add", "Mas_Vnr_Area", "Total_Bsmt_SF", "First_Flr_SF",
        "Second_Flr_SF", "Gr_Liv_Area", "Full_Bath", "Bedroom_AbvGr", "Fireplaces", "Garage_Cars",
        "Garage_Area", "Longitude", "Latitude",
    )  # fmt: skip
    tables = {part: _plain("ames", part, numbers, ("Sale_Price",)) for part in PARTS}
    requests: dict[str, Meant] = {
        "price below 120,000": lambda table: table.targets[:, 0] < 120_000,
        "North Ames": lambda table: np.array([s == "North_Ames" for s in table.subjects]),
    }
    return world_of(name, "houses in Ames", "dollars", tables, requests, SquaredLoss(), 40)


def diamonds(name: str) -> World:
    """Diamonds; those of a range in the middle of the prices are forgotten."""
    grades = {
        "cut": ("Fair", "Good", "Very Good", "Premium", "Ideal"),
        "color": ("J", "I", "H", "G", "F", "E", "D"),
        "clarity": ("I1", "SI2", "SI1", "VS2", "VS1", "VVS2", "VVS1", "IF"),
    }
    numbers = ("carat", "depth", "table", "x", "y", "z")
    tables = {
        part: _plain("diamonds", part, numbers, ("price",), grades, _shown(part)) for part in PARTS
    }
    requests: dict[str, Meant] = {
        "price 3,000 to 5,000": lambda table: (
            (table.targets[:, 0] >= 3_000) & (table.targets[:, 0] < 5_000)
        ),
    }
    return world_of(name, "diamonds", "dollars", tables, requests, AbsoluteLoss(), 30)


AIRCRAFT = 8
"""The aircraft with the most flights whose rows are taken."""


def flights(name: str) -> World:
    """Flights of a few aircraft; one aircraft is forgotten."""
    columns = "month", "day", "hour", "minute", "dep_delay", "distance"
    tails = Counter(catalogue.at_hand("flights").load("train")["subject"][:])
    busiest = [tail for tail, _ in tails.most_common() if tail != UNKNOWN][:AIRCRAFT]

    def arrived(table: datasets.Dataset) -> list[int]:
        pairs = zip(table["subject"][:], table["arr_delay"][:], strict=True)
        return [i for i, (tail, late) in enumerate(pairs) if tail in busiest and late is not None]

    grades = {"origin": ("EWR", "JFK", "LGA")}
    tables = {
        part: _plain("flights", part, columns, ("arr_delay",), grades, arrived) for part in PARTS
    }
    requests: dict[str, Meant] = {
        "one aircraft": lambda table: np.array([s == busiest[0] for s in table.subjects]),
    }
    about = f"flights of {AIRCRAFT} aircraft"
    return world_of(name, about, "minutes", tables, requests, AbsoluteLoss(), 40)


PAST, AHEAD = 48, (12, 24, 36, 48)
"""Half hours that a forecast sees, and how many half hours ahead it says the demand."""


def electricity(name: str) -> World:
    """Demand a quarter to a whole day ahead, three quantiles each; high demand is forgotten."""
    tables = {part: _windows(part) for part in PARTS}
    requests: dict[str, Meant] = {
        "demand above 5.4 gigawatts": lambda table: table.targets.mean(1) > 5.4,
    }
    about = "windows of a day of half-hourly demand, four horizons"
    return world_of(name, about, "gigawatts", tables, requests, QuantileLoss(), 30)


def _windows(part: Part) -> Table:
    """A window every hour and a half: the demand of the past day, temperature and time now, and the
    demand ahead.

    A window belongs to the part that all of its targets lie in, and its subject is the day of the
    first of them.
    """
    series = catalogue.at_hand("electricity-demand").load()
    demand, heat = (np.array(series[c][:], dtype=np.float64) for c in ("Demand", "Temperature"))
    work = np.array(series["WorkDay"][:], dtype=np.float64)
    split, subjects, ids = (list(series[c][:]) for c in ("split", "subject", "id"))
    starts = [
        now
        for now in range(PAST, len(demand) - AHEAD[-1], 3)
        if all(split[now + ahead] == part for ahead in AHEAD)
    ]
    inputs = [
        [
            *demand[now - PAST + 1 : now + 1],
            heat[now],
            work[now + AHEAD[-1]],
            np.sin(2 * np.pi * (now % 48) / 48),
            np.cos(2 * np.pi * (now % 48) / 48),
        ]
        for now in starts
    ]
    return Table(
        [ids[now] for now in starts],
        [subjects[now + AHEAD[0]] for now in starts],
        np.array(inputs),
        np.array([[demand[now + ahead] for ahead in AHEAD] for now in starts]),
    )


LENGTH = 48
"""Tokens of a sentence at most."""


def sentiment(name: str) -> World:
    """Sentences of film reviews as vectors of a frozen encoder; very negative ones are forgotten,
    as the paper forgets low similarities."""
    tables = {part: _sentences(part) for part in PARTS}
    requests: dict[str, Meant] = {
        "valence below -2": lambda table: table.targets[:, 0] < -2,
    }
    about = "sentences of film reviews as MiniLM vectors"
    return world_of(name, about, "points of 8", tables, requests, SquaredLoss(), 20)


def _sentences(part: Part) -> Table:
    found = catalogue.at_hand("vader-sentences")
    table = found.load(part)
    table = table.select([i for i, its in enumerate(table["part"][:]) if its == "film"])
    table = table.select(_shown(part)(table))
    ids, texts = list(table["id"][:]), list(table["text"][:])
    return Table(
        ids,
        list(table["subject"][:]),
        _vectors(ids, texts, found.digest).double().numpy(),
        np.array(table["valence"][:], dtype=np.float64)[:, None],
    )


def _vectors(ids: Sequence[str], texts: Sequence[str], digest: str) -> Tensor:
    """Sentence vectors (n, 384) of MiniLM, the mean of its tokens' states; cached."""
    encoder = catalogue.at_hand("minilm")

    def compute() -> Bundle:
        from transformers import AutoModel, AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(str(encoder.folder), local_files_only=True)
        model = AutoModel.from_pretrained(str(encoder.folder), local_files_only=True).eval()
        order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
        vectors = torch.empty(len(texts), model.config.hidden_size)
        with torch.inference_mode():
            for start in range(0, len(order), 32):
                rows = order[start : start + 32]
                batch = tokenizer(
                    [texts[row] for row in rows],
                    padding=True,
                    truncation=True,
                    max_length=LENGTH,
                    return_tensors="pt",
                )
                states = model(**batch).last_hidden_state
                counted = batch["attention_mask"].unsqueeze(2).to(states)
                vectors[rows] = (states * counted).sum(1) / counted.sum(1)
        return Bundle({"vectors": vectors})

    key = hashlib.sha256(f"{list(ids)}{digest}{encoder.digest}{LENGTH}".encode()).hexdigest()
    return cached(f"sentence-vectors-{key[:32]}", compute).tensors["vectors"]


def _plain(
    source: str,
    part: Part,
    numbers: Sequence[str],
    targets: Sequence[str],
    grades: Mapping[str, Sequence[str]] | None = None,
    kept: Callable[[datasets.Dataset], Sequence[int]] | None = None,
) -> Table:
    """Columns of a fetched set: numbers as they are, grades by their place in the list."""
    table = catalogue.at_hand(source).load(part)
    table = table if kept is None else table.select(kept(table))
    grades = grades or {}

    def column(name: str) -> list[float]:
        places = {grade: float(place) for place, grade in enumerate(grades.get(name, ()))}
        return [places[value] if places else float(value) for value in table[name][:]]

    return Table(
        list(table["id"][:]),
        list(table["subject"][:]),
        np.stack([column(name) for name in (*numbers, *grades)], axis=1),
        np.stack([column(name) for name in targets], axis=1),
    )


def _shown(part: Part) -> Callable[[datasets.Dataset], list[int]]:
    """Positions, ascending, of the rows of a large set that are taken."""

    def first(table: datasets.Dataset) -> list[int]:
        marks = [hashlib.sha256(f"shown:{name}".encode()).digest() for name in table["id"][:]]
        return sorted(sorted(range(len(marks)), key=marks.__getitem__)[: SHOWN[part]])

    return first


WORLDS: Mapping[str, Callable[[str], World]] = {
    "ames": ames,
    "diamonds": diamonds,
    "flights": flights,
    "electricity": electricity,
    "sentiment": sentiment,
}
"""The worlds by name."""

NEEDS: Mapping[str, tuple[str, ...]] = {
    "ames": ("ames",),
    "diamonds": ("diamonds",),
    "flights": ("flights",),
    "electricity": ("electricity-demand",),
    "sentiment": ("vader-sentences", "minilm"),
}
"""What has to be fetched for each."""


@cache
def world(name: str) -> World:
    """The world of a name; its rows are read once a process.

    Raises:
        ExpungeError: there is none, or its set was not fetched.
    """
    if name not in WORLDS:
        raise ExpungeError(f"There is no world {name!r}; there are {', '.join(WORLDS)}.")
    return WORLDS[name](name)
