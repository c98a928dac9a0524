"""Contact sheets: size, frames, names and colours."""

from io import BytesIO

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from expunge.benchmarks import digits_judge
from expunge.benchmarks.contact_sheet import sheet

DIGITS = digits_judge.rows()["test"].columns["image"]


def pixels(png: bytes) -> npt.NDArray[np.uint8]:
    """(height, width, 3)."""
    return np.asarray(Image.open(BytesIO(png)).convert("RGB"))


def crimson(seen: npt.NDArray[np.uint8]) -> int:
    return int((seen == (220, 20, 60)).all(2).sum())


def test_frames_are_drawn_around_those_that_are_marked() -> None:
    rows = {"real": DIGITS[:4], "drawn": DIGITS[4:8]}
    none = {"real": torch.zeros(4, dtype=torch.bool), "drawn": torch.zeros(4, dtype=torch.bool)}
    one = {**none, "drawn": torch.tensor([False, True, False, False])}
    two = {**none, "drawn": torch.tensor([False, True, False, True])}
    counts = [crimson(pixels(sheet(rows, framed))) for framed in (None, none, one, two)]
    assert counts[0] == counts[1] == 0
    assert counts[2] > 0 and counts[3] > 1.5 * counts[2]


def test_more_rows_and_names_of_columns_take_more_room() -> None:
    rows = {"real": DIGITS[:4]}
    low, titled = pixels(sheet(rows)), pixels(sheet(rows, columns=("a", "b", "c", "d")))
    high = pixels(sheet({**rows, "drawn": DIGITS[4:8]}))
    assert low.shape[1] == titled.shape[1] == high.shape[1]
    assert low.shape[0] < titled.shape[0] < high.shape[0] == 2 * low.shape[0]


def test_ink_is_black_and_colours_stay_what_they_are() -> None:
    ink = pixels(sheet({"": torch.ones(1, 1, 2, 2)}))
    red = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    coloured = pixels(sheet({"": red}))
    assert (ink == 0).all(2).sum() > 500
    assert (coloured == (255, 0, 0)).all(2).sum() > 500
