"""Contact sheets: rows of small pictures as a PNG. People look before they read."""

from collections.abc import Mapping, Sequence
from io import BytesIO

from torch import Tensor

MARGIN = 2.2
"""Inches at the left for the names of the rows."""


def sheet(
    rows: Mapping[str, Tensor],
    framed: Mapping[str, Tensor] | None = None,
    columns: Sequence[str] = (),
) -> bytes:
    """A PNG with a named row for each set of pictures.

    Args:
        rows: as many pictures (n, C, H, W) from 0 to 1 in each; of one channel, ink is black.
        framed: by row, those (n,) that get a frame.
        columns: names above the pictures, or none.
    """
    from matplotlib.figure import Figure

    count = len(next(iter(rows.values())))
    size = 0.55 * count + MARGIN, 0.6 * len(rows) + (0.25 if columns else 0)
    figure = Figure(figsize=size, dpi=110)
    axes = figure.subplots(len(rows), count, squeeze=False)
    for line, (title, pictures) in zip(axes, rows.items(), strict=True):
        marks = [False] * count if framed is None else framed[title].tolist()
        for axis, picture, marked in zip(line, pictures.clamp(0, 1), marks, strict=True):
            if len(picture) == 1:
                axis.imshow(picture[0].numpy(), cmap="gray_r", vmin=0, vmax=1)
            else:
                axis.imshow(picture.permute(1, 2, 0).numpy())
            axis.set_xticks([])
            axis.set_yticks([])
            for side in axis.spines.values():
                side.set_color("crimson" if marked else "lightgrey")
                side.set_linewidth(2 if marked else 0.5)
        line[0].set_ylabel(title, rotation=0, ha="right", va="center", fontsize=8)
    for axis, name in zip(axes[0], columns, strict=bool(columns)):
        axis.set_title(name, fontsize=6)
    top = 0.98 - (0.25 / size[1] if columns else 0)
    figure.subplots_adjust(left=MARGIN / size[0], right=0.99, top=top, bottom=0.02)
    written = BytesIO()
    figure.savefig(written, format="png", metadata={"Software": ""})
    return written.getvalue()
