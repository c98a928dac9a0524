"""Pictures as they are stored in tables: PNG bytes, drawn from SVG or encoded from pixels."""

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from expunge.errors import IntegrityError


def png(pixels: npt.NDArray[np.uint8] | Image.Image) -> dict[str, object]:
    """A value of a ``datasets.Image`` column, losslessly encoded.

    Args:
        pixels: uint8 (height, width) grey or (height, width, 3) red, green, blue; or a picture.
    """
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    written = io.BytesIO()
    picture.save(written, "PNG", compress_level=6)
    return {"bytes": written.getvalue(), "path": None}


def stored(path: Path, side: int) -> Image.Image:
    """The picture of a file on white, scaled down to fit ``side`` x ``side`` pixels, never up.

    Raises:
        IntegrityError: there is no such file, or it is no picture.
    """
    try:
        with Image.open(path) as opened:
            picture = on_white(opened)
    except (OSError, ValueError) as error:  # Pillow's own error of an unknown format is an OSError
        raise IntegrityError(
            f"The picture {path.name} cannot be read ({error}); fetch its package again."
        ) from None
    picture.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=None)
    return picture


def drawn(svg: str, side: int) -> Image.Image:
    """The picture that an SVG text describes, fitted into ``side`` x ``side`` pixels on white.

    Its proportions stay, so the shorter side may have fewer pixels. Lettering is not drawn.
    """
    import resvg_py

    raw = resvg_py.svg_to_bytes(
        svg_string=svg,
        width=side,
        height=side,
        dpi=96,  # without it a drawing measured in points has no size
        skip_system_fonts=True,  # a machine's own fonts would change the pixels
    )
    return on_white(Image.open(io.BytesIO(bytes(raw))))


def on_white(picture: Image.Image) -> Image.Image:
    """The picture in red, green and blue, with white where it was transparent."""
    layers = picture.convert("RGBA")
    ground = Image.new("RGBA", layers.size, "white")
    ground.alpha_composite(layers)
    return ground.convert("RGB")
