"""Pictures as they are stored in tables: PNG bytes, drawn from SVG or encoded from pixels."""

import io

import numpy as np
import numpy.typing as npt
from PIL import Image


def png(pixels: npt.NDArray[np.uint8] | Image.Image) -> dict[str, object]:
    """A value of a ``datasets.Image`` column, losslessly encoded.

    Args:
        pixels: uint8 (height, width) grey or (height, width, 3) red, green, blue; or a picture.
    """
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    written = io.BytesIO()
    picture.save(written, "PNG", compress_level=6)
    return {"bytes": written.getvalue(), "path": None}


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
