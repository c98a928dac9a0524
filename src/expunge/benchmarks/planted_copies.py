"""Copies that are planted among real texts and pictures: how each kind is made from an original.

The light paraphrase replaces, drops or swaps a share of the words: a word of the list below becomes
its synonym; of the others, half are dropped and half swapped with the next word.
"""

import io
import random
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from PIL import Image, ImageEnhance

PAIRS = """
about/concerning all/every also/too although/though answer/reply argue/contend ask/request
bad/poor because/since begin/start believe/think big/large bring/fetch build/construct
buy/purchase call/phone change/alter choose/select clear/plain close/shut come/arrive
correct/right cost/price difficult/hard do/perform easy/simple end/finish enough/sufficient
error/mistake example/instance extra/additional famous/celebrated fast/quick fix/repair
forbid/prohibit free/gratis get/obtain give/provide go/travel good/fine great/grand
guess/suppose happen/occur happy/glad have/possess help/assist idea/notion if/whether
important/significant just/only keep/retain kind/sort know/understand last/final
later/afterwards learn/study leave/depart like/enjoy little/small look/watch lots/plenty
make/create many/numerous maybe/perhaps mean/signify message/note money/cash more/further
much/considerably must/should need/require never/nowhere new/recent news/tidings
now/presently often/frequently old/former only/solely order/command part/portion
people/persons place/spot problem/trouble quite/rather read/peruse real/actual
reason/cause receive/accept remove/delete result/outcome run/operate say/state see/notice
send/transmit show/display sure/certain system/setup take/grab talk/speak tell/inform
thanks/cheers thing/item though/however time/moment try/attempt turn/rotate under/below
use/employ very/highly want/wish way/manner while/whilst whole/entire woman/lady
word/term work/labour world/globe write/compose wrong/false year/annum yes/indeed
face/visage person/human man/gentleman child/kid car/automobile house/home smile/grin
road/street sea/ocean picture/image drawing/sketch symbol/sign flower/bloom animal/beast
"""
SYNONYMS = MappingProxyType(
    {
        one: other
        for pair in PAIRS.split()
        for one, other in (pair.split("/"), pair.split("/")[::-1])
    }
)

TextCopy = Callable[[str, random.Random], str]
PictureCopy = Callable[[Image.Image, random.Random], Image.Image]


def _same_text(text: str, _: random.Random) -> str:
    return text


def _recased(text: str, draw: random.Random) -> str:
    return draw.choice((str.upper, str.lower, str.title))(text)


def _respaced(text: str, draw: random.Random) -> str:
    """Other white space and line breaks; no punctuation, or another."""
    bare = re.sub(r"[.,;:!?\"'()]", draw.choice((" ", " - ", " ,")), text)
    return re.sub(r"\s+", lambda _: draw.choice((" ", "  ", "\n", "\t")), f"  {bare} ")


def paraphrased(share: float) -> TextCopy:
    """A copy in which this share of the words, at least one, is replaced, dropped or swapped."""

    def copy(text: str, draw: random.Random) -> str:
        words = text.split()
        places = draw.sample(range(len(words)), min(len(words), max(1, round(share * len(words)))))
        for place in places:
            plain = words[place].lower().strip(".,;:!?")
            if plain in SYNONYMS:
                words[place] = words[place].lower().replace(plain, SYNONYMS[plain])
            elif draw.random() < 0.5:
                words[place] = ""
            else:
                other = min(place + 1, len(words) - 1)
                words[place], words[other] = words[other], words[place]
        return " ".join(word for word in words if word)

    return copy


def _first_half(text: str, _: random.Random) -> str:
    words = text.split()
    return " ".join(words[: max(1, len(words) // 2)])


EXACT = "exact"
"""The kind of a copy that is equal, of texts and of pictures."""
TEXT_COPIES: Mapping[str, TextCopy] = MappingProxyType(
    {
        EXACT: _same_text,
        "re-cased": _recased,
        "spaces, punctuation": _respaced,
        "paraphrase, 10 % of words": paraphrased(0.1),
        "paraphrase, 20 % of words": paraphrased(0.2),
        "paraphrase, 40 % of words": paraphrased(0.4),
        "first half": _first_half,
    }
)
TEXT_CLAIMED = tuple(TEXT_COPIES)[:4]
"""The kinds that are to be found; the others show where finding ends."""
QUOTED = "quoted in another text"


def quoted(text: str, other: str) -> str:
    """A reply: the other text first, the original below it behind ``>``."""
    return other + "\n\n> " + text.replace("\n", "\n> ")


def _same_picture(picture: Image.Image, _: random.Random) -> Image.Image:
    return picture.copy()


def _resized(*factors: float) -> PictureCopy:
    def copy(picture: Image.Image, draw: random.Random) -> Image.Image:
        factor = draw.choice(factors)
        method = draw.choice((Image.Resampling.BILINEAR, Image.Resampling.LANCZOS))
        width, height = (max(8, round(factor * side)) for side in picture.size)
        return picture.resize((width, height), method)

    return copy


def _recompressed(quality: int) -> PictureCopy:
    def copy(picture: Image.Image, _: random.Random) -> Image.Image:
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=quality)
        with Image.open(io.BytesIO(file.getvalue())) as stored:
            return stored.convert("RGB")

    return copy


def _brighter(picture: Image.Image, draw: random.Random) -> Image.Image:
    return ImageEnhance.Brightness(picture).enhance(draw.choice((0.9, 1.1)))


def _noisy(picture: Image.Image, draw: random.Random) -> Image.Image:
    pixels = np.asarray(picture, np.float64)
    noise = np.random.default_rng(draw.randrange(2**32)).normal(0, 10, pixels.shape)
    return Image.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8))


def _grey(picture: Image.Image, _: random.Random) -> Image.Image:
    return picture.convert("L").convert("RGB")


def _cropped(share: float) -> PictureCopy:
    """Cut this share of the width and height off, at a place that is drawn; same size again."""

    def copy(picture: Image.Image, draw: random.Random) -> Image.Image:
        width, height = picture.size
        left, top = draw.random() * share * width, draw.random() * share * height
        box = (left, top, left + (1 - share) * width, top + (1 - share) * height)
        return picture.resize(picture.size, Image.Resampling.BILINEAR, box)

    return copy


def _turned(degrees: float) -> PictureCopy:
    def copy(picture: Image.Image, draw: random.Random) -> Image.Image:
        corner = picture.getpixel((0, 0))
        angle = draw.choice((-degrees, degrees))
        return picture.rotate(angle, Image.Resampling.BILINEAR, fillcolor=corner)

    return copy


def _mirrored(picture: Image.Image, _: random.Random) -> Image.Image:
    return picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


PICTURE_COPIES: Mapping[str, PictureCopy] = MappingProxyType(
    {
        EXACT: _same_picture,
        "resized x 0.5 or 0.75": _resized(0.5, 0.75),
        "resized x 1.5 or 2": _resized(1.5, 2.0),
        "JPEG quality 90": _recompressed(90),
        "JPEG quality 60": _recompressed(60),
        "JPEG quality 30": _recompressed(30),
        "brightness 10 %": _brighter,
        "noise, 10 levels": _noisy,
        "grey": _grey,
        "cropped by 5 %": _cropped(0.05),
        "cropped by 20 %": _cropped(0.2),
        "turned by 5 degrees": _turned(5),
        "turned by 90 degrees": _turned(90),
        "mirrored": _mirrored,
    }
)
PICTURE_CLAIMED = tuple(PICTURE_COPIES)[:6]
"""The kinds that are to be found, as above."""
CLAIMED = MappingProxyType({"pictures": PICTURE_CLAIMED, "texts": TEXT_CLAIMED})
"""By content."""
