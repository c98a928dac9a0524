"""Builds the shipped emoji set from eight unpacked npm packages.

    python scripts/build_emoji.py SOURCE OUTPUT

SOURCE holds one folder per package, as `npm pack` and `tar xzf` leave them:
`iconify-<style>/package/` for the seven drawing styles and `emojibase/package/` for the names.
Each file read is checked against the SHA-256 written below, so that a rebuild gives the same
pictures. OUTPUT receives the Parquet shards, `concepts.parquet` and `NOTICE.md`.

A concept is kept when every training style and the test style draw it: each concept then has
three independent training vendors. A drawing is used for one concept only, and a concept whose
test picture repeats another concept's pixel by pixel is dropped, because no model could tell the
two apart.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import sys
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import resvg_py
from PIL import Image

SIZE = 64  # pixels
SHARD_BYTES = 4_000_000  # picture bytes a shard may hold; files stay below 4.5 MB
COMPONENTS, FLAGS = 2, 9  # emojibase groups that are left out


@dataclass(frozen=True)
class Style:
    """One drawing style: whose it is, where it may be used, and the files it is made from."""

    name: str
    vendor: str
    split: str
    licence: str
    title: str
    version: str
    copyright: str
    home: str
    icons_sha256: str
    chars_sha256: str


EMPTY_CHARS = "ca3d163bab055381827226140568f3bef7eaac187cebd76878e0b63e9e442356"
STYLES = (
    Style(
        name="noto",
        vendor="google",
        split="train",
        licence="Apache-2.0",
        title="Noto Emoji",
        version="@iconify-json/noto 1.2.9",
        copyright="Google Inc.",
        home="https://github.com/googlefonts/noto-emoji",
        icons_sha256="9eac6ef4e7ec122b6f0e7ac281d61008afdbc720d0ce861e398b939daaa347c6",
        chars_sha256="91485653ca890bff640f2a6c2d7be62d625a90527b6b4d816b41593675bf5c8f",
    ),
    Style(
        name="noto-v1",
        vendor="google",
        split="train",
        licence="Apache-2.0",
        title="Noto Emoji (v1)",
        version="@iconify-json/noto-v1 1.2.5",
        copyright="Google Inc.",
        home="https://github.com/googlefonts/noto-emoji",
        icons_sha256="ce70d8aa90345cf389875c3571ecd245bd943401822a0c5a0f62336bf8487333",
        chars_sha256=EMPTY_CHARS,
    ),
    Style(
        name="fluent-emoji",
        vendor="microsoft",
        split="train",
        licence="MIT",
        title="Fluent Emoji",
        version="@iconify-json/fluent-emoji 1.2.7",
        copyright="Microsoft Corporation",
        home="https://github.com/microsoft/fluentui-emoji",
        icons_sha256="87f3336be6f46747d40d046a15ffa8b23809ff7a1a280b5d3521d3782fb85de7",
        chars_sha256=EMPTY_CHARS,
    ),
    Style(
        name="fluent-emoji-flat",
        vendor="microsoft",
        split="train",
        licence="MIT",
        title="Fluent Emoji Flat",
        version="@iconify-json/fluent-emoji-flat 1.2.6",
        copyright="Microsoft Corporation",
        home="https://github.com/microsoft/fluentui-emoji",
        icons_sha256="f5f4cf457c0db2ad5a2e42e033e02e0c87d10e43d0164cfffb3bb84914970a63",
        chars_sha256="7f084c5a95807edb4702a7c9f6f18e74d59026d1c34ceb8cae85df0b9a9f0a10",
    ),
    Style(
        name="emojione",
        vendor="emojione",
        split="train",
        licence="CC-BY-4.0",
        title="Emoji One (Colored)",
        version="@iconify-json/emojione 1.2.3 (set 2.3.0)",
        copyright="Emoji One / EmojiTwo",
        home="https://github.com/EmojiTwo/emojitwo",
        icons_sha256="e9a865faed523a7c3535b5319ae533d09fac1a62b4e96920eb178bb60e707e80",
        chars_sha256=EMPTY_CHARS,
    ),
    Style(
        name="fxemoji",
        vendor="mozilla",
        split="validation",
        licence="CC-BY-4.0",
        title="Firefox OS Emoji",
        version="@iconify-json/fxemoji 1.2.2 (set 0.0.2)",
        copyright="Mozilla Foundation",
        home="https://github.com/mozilla/fxemoji",
        icons_sha256="d8ef67b94a32d0abcd314d1c35db56178eaa8fa8ad71130e312f3460e307c2bf",
        chars_sha256=EMPTY_CHARS,
    ),
    Style(
        name="twemoji",
        vendor="twitter",
        split="test",
        licence="CC-BY-4.0",
        title="Twitter Emoji",
        version="@iconify-json/twemoji 1.2.5",
        copyright="Twitter, Inc. and other contributors",
        home="https://github.com/jdecked/twemoji",
        icons_sha256="5d5d820790565b764f2728675d487c9ee4c1fc83916d8567d5aca8ba7527c242",
        chars_sha256="8e6a83d5a3ac185b2446154b9c4ee07c983bd4a5b2a21aa4b9ff04af9831eefe",
    ),
)
NAMED_BY_UNICODE = "fxemoji"  # its names are the Unicode names with the spaces removed

# fxemoji drawings whose name is neither the Unicode name nor the label, matched by eye.
FXEMOJI_NAMES = {
    "2hearts": "1f495",
    "acorn": "1f330",
    "americasglobe": "1f30e",
    "anguish": "1f627",
    "anticlockwiseupwardsanddownwardsarrows": "1f504",
    "aok": "1f44c",
    "asiaaustraliaglobe": "1f30f",
    "backwithleftwardsarrow": "1f519",
    "banknotedollar": "1f4b5",
    "banknoteeuro": "1f4b6",
    "banknotepound": "1f4b7",
    "banknoteyen": "1f4b4",
    "beating-heart": "1f493",
    "bellcancellation": "1f515",
    "blackdownpointingdoublearrow": "23ec",
    "blackleftpointingdoublearrow": "23ea",
    "blackquestionmark": "2753",
    "blackrightpointingdoublearrow": "23e9",
    "blackskullcrossbones": "2620",
    "blackuppointingdoublearrow": "23eb",
    "blonde": "1f471",
    "bookmarktab": "1f4d1",
    "bouquetofflowers": "1f490",
    "bow": "1f380",
    "bowing": "1f647",
    "bride": "1f470",
    "bunny": "1f430",
    "bunny-ears": "1f46f",
    "bunnyside": "1f407",
    "cat": "1f431",
    "catside": "1f408",
    "cellphone": "1f4f1",
    "chartdownwardstrend": "1f4c9",
    "chartupwardstrend": "1f4c8",
    "chartupwardstrendyen": "1f4b9",
    "chilipepper": "1f336",
    "clockwiserightwardsleftwardscirclearrows": "1f501",
    "clockwiserightwardsleftwardscirclearrowsone": "1f502",
    "closedmailboxlowered": "1f4ea",
    "closedmailboxraised": "1f4eb",
    "confetti": "1f38a",
    "construct": "1f477",
    "couplekiss": "1f48f",
    "crossedflags": "1f38c",
    "crying": "1f622",
    "devilhorns": "1f608",
    "diamondshapewithdotinside": "1f4a0",
    "dissapointedrelief": "1f625",
    "dog": "1f436",
    "dogside": "1f415",
    "doubleexclaimationmark": "203c",
    "downpointingsmallredtrisngle": "1f53d",
    "dragonhead": "1f432",
    "dragonside": "1f409",
    "eightspokedasterix": "2733",
    "endwithleftwardsarrow": "1f51a",
    "envelopedownarrowabove": "1f4e9",
    "europeafricaglobe": "1f30d",
    "evergreen": "1f332",
    "exclaimationquestionmark": "2049",
    "fallingleaf": "1f342",
    "fishcakeswirl": "1f365",
    "fistedhand": "1f44a",
    "flexbicep": "1f4aa",
    "forkknife": "1f374",
    "frontfacingchick": "1f425",
    "frown": "1f64d",
    "frownmouth": "1f626",
    "girlgirl": "1f46d",
    "girlguy": "1f46b",
    "gma": "1f475",
    "gpa": "1f474",
    "grineyes": "1f604",
    "grinsquint": "1f606",
    "grinsweat": "1f605",
    "grintears": "1f602",
    "grinwide": "1f603",
    "guapimao": "1f472",
    "guyguy": "1f46c",
    "hampster": "1f439",
    "hands": "1f450",
    "handup": "1f64b",
    "headmassage": "1f486",
    "heartarrow": "1f498",
    "heartgreen": "1f49a",
    "heartpurple": "1f49c",
    "heartyellow": "1f49b",
    "heavyexclaimationmarksymbol": "2757",
    "heavymultiplicationsymbol": "2716",
    "heels": "1f460",
    "high5": "1f64c",
    "highspeedtrainbulletnose": "1f685",
    "index": "261d",
    "japaneseangrymask": "1f47a",
    "kissclosedeyes": "1f61a",
    "kisseyes": "1f619",
    "leaffluttering": "1f343",
    "leftmagnifyingglass": "1f50d",
    "leopardside": "1f406",
    "lips": "1f444",
    "lockandkey": "1f510",
    "loudlycrying": "1f62d",
    "manltepiececlock": "1f570",
    "mansshirt": "1f455",
    "mensrunner": "1f45f",
    "mensshoe": "1f45e",
    "meridianglobe": "1f310",
    "monkeyhear": "1f649",
    "monkeysee": "1f648",
    "monkeyspeak": "1f64a",
    "mouse": "1f42d",
    "mouseside": "1f401",
    "negativesquaredlatincaptiala": "1f170",
    "negativesquaredlatincaptialb": "1f171",
    "negativesquaredlatincaptialo": "1f17e",
    "nogesture": "1f645",
    "nooneunder18symbol": "1f51e",
    "notebookdecorativecover": "1f4d4",
    "okgesture": "1f646",
    "onarrowleftright": "1f51b",
    "openmailboxlowered": "1f4ed",
    "openmailboxraised": "1f4ec",
    "outbox": "1f4e4",
    "perservere": "1f623",
    "pig": "1f437",
    "pigside": "1f416",
    "pigsnout": "1f43d",
    "pinkwallet": "1f45b",
    "poo": "1f4a9",
    "potablewatersystem": "1f6b0",
    "pout": "1f64e",
    "pouting": "1f621",
    "present": "1f381",
    "raisedhandpartfingers": "1f596",
    "raisedhandsfingerssplayed": "1f590",
    "reversehandmiddlefinger": "1f595",
    "rightmagnifyingglass": "1f50e",
    "saggitarius": "2650",
    "sandals": "1f461",
    "screamfear": "1f631",
    "silhouetteohjapan": "1f5fe",
    "sixpointedstarwithdot": "1f52f",
    "sleuthspy": "1f575",
    "smallfrown": "1f641",
    "smallsmile": "1f642",
    "smileeyes": "1f60a",
    "smiletongue": "1f61b",
    "snowmountains": "1f3d4",
    "soonwithrightarrow": "1f51c",
    "speaker3soundwaves": "1f50a",
    "speakercancellation": "1f507",
    "speechbubble": "1f4ac",
    "spurtingwhale": "1f433",
    "squaredup": "1f199",
    "star": "1f31f",
    "stormcloud": "1f329",
    "studiomic": "1f399",
    "sunraincloud": "1f326",
    "sweatsplash": "1f4a6",
    "tennisball": "1f3be",
    "thoughtbaloon": "1f4ad",
    "tiger": "1f42f",
    "tigerside": "1f405",
    "tongueoutwink": "1f61c",
    "tongueoutwink2": "1f61d",
    "topwithupwardsarrow": "1f51d",
    "toykotower": "1f5fc",
    "triangularflagonpost": "1f6a9",
    "turban": "1f473",
    "uppointingsmallredtrisngle": "1f53c",
    "videocasette": "1f4fc",
    "waitress": "1f481",
    "waningbibbousmoon": "1f316",
    "waving": "1f44b",
    "whiteexclaimationmark": "2755",
    "whitestar": "2b50",
    "winking": "1f609",
    "wiredkeyboard": "2328",
    "womansshirt": "1f45a",
    **{f"clock{hour}oclock": f"{0x1F54F + hour:x}" for hour in range(1, 13)},
    **{f"clock{hour}thirty": f"{0x1F55B + hour:x}" for hour in range(1, 13)},
}
# Drawings that do not render, or show something else than their name says.
FXEMOJI_REJECTED = frozenset({"heartblue", "keyboard", "tramcar"})

EMOJIBASE_SHA256 = {
    "en/data.json": "ed014f1049bd370c5794f815850156196ac382850f51c3e9f6a9e83553fb3f01",
    "meta/groups.json": "3ce4f0a8e5890ed9d746b12e0056b170340928c1936be35cf92bb3e6d83a71e1",
}
EMOJIBASE_VERSION = "emojibase-data 17.0.0"
SHORTCODES = ("cldr", "emojibase", "emojibase-legacy", "github", "iamcal", "joypixels")


def read_json(path: Path, sha256: str | None = None) -> Any:
    """Returns the parsed file after checking its digest."""
    raw = path.read_bytes()
    found = hashlib.sha256(raw).hexdigest()
    if sha256 is not None and found != sha256:
        sys.exit(
            f"{path.name} of {path.parent} has SHA-256 {found}; {sha256} was expected. "
            "Unpack the package version named in this script."
        )
    return json.loads(raw)


def code(text: str) -> str:
    """Returns a code point sequence in the form used for concept ids (no variation selector)."""
    return "-".join(part for part in text.lower().split("-") if part != "fe0f")


def slug(text: str) -> str:
    """Returns the text in the form of an icon name: lower case words joined by hyphens."""
    plain = text.lower().replace("'", "").replace("\u2019", "")
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")


class Icons:
    """The drawings of one style: look-up by code point or by name, and rendering."""

    def __init__(self, style: Style, folder: Path) -> None:
        self.icon_file = read_json(folder / "icons.json", style.icons_sha256)
        by_code = read_json(folder / "chars.json", style.chars_sha256)
        self.by_code: dict[str, str] = {code(key): name for key, name in by_code.items()}

    def resolve(self, name: str) -> str | None:
        """Follows aliases to the name of a drawing; None when there is none."""
        aliases = self.icon_file.get("aliases", {})
        while name not in self.icon_file["icons"]:
            if name not in aliases:
                return None
            name = aliases[name]["parent"]
        return name

    def picture(self, name: str) -> Image.Image:
        """Renders a drawing on white, centred in a square of SIZE pixels."""
        icon = self.icon_file["icons"][name]
        width = icon.get("width", self.icon_file.get("width", 16))
        height = icon.get("height", self.icon_file.get("height", 16))
        side = max(width, height)
        left = icon.get("left", 0) - (side - width) / 2
        top = icon.get("top", 0) - (side - height) / 2
        svg = (
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'width="{side}" height="{side}" viewBox="{left:g} {top:g} {side:g} {side:g}">'
            f"{icon['body']}</svg>"
        )
        png = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=SIZE, height=SIZE))
        drawing = Image.open(io.BytesIO(png)).convert("RGBA")
        page = Image.new("RGBA", drawing.size, "white")
        page.alpha_composite(drawing)
        return page.convert("RGB")


def names_of(
    concept: str, entry: dict[str, Any], shortcodes: list[str], known: list[str], unicode: bool
) -> Iterator[str]:
    """Yields the names a drawing of a concept may have, the surest first."""
    if unicode:
        if "-" not in concept:
            yield re.sub(r"[^a-z0-9]", "", unicodedata.name(chr(int(concept, 16)), "").lower())
        for text in (entry["label"], *shortcodes):
            yield re.sub(r"[^a-z0-9]", "", text.lower())
        return
    yield from known
    yield slug(entry["label"])
    for text in shortcodes:
        yield slug(text)


def match(
    style: Style, icons: Icons, entries: dict[str, Any], names: dict[str, list[str]]
) -> dict[str, str]:
    """Returns the drawing of each concept; a drawing is given once, to its surest concept."""
    found: dict[str, str] = {}
    used: set[str] = set()

    def take(concept: str, name: str) -> None:
        target = icons.resolve(name)
        if concept in found or target is None or target in used:
            return
        found[concept] = target
        used.add(target)

    if style.name == NAMED_BY_UNICODE:
        used |= FXEMOJI_REJECTED
        for name, concept in FXEMOJI_NAMES.items():
            if concept in entries:
                take(concept, name)
    for concept, name in icons.by_code.items():
        if concept in entries:
            take(concept, name)
    for position in range(max(map(len, names.values()))):
        for concept, candidates in names.items():
            if position < len(candidates):
                take(concept, candidates[position])
    return found


def read_concepts(folder: Path) -> tuple[dict[str, Any], dict[str, list[str]], Any]:
    """Returns the named emoji that are neither flags nor parts, their short codes, the groups."""
    data = read_json(folder / "en/data.json", EMOJIBASE_SHA256["en/data.json"])
    groups = read_json(folder / "meta/groups.json", EMOJIBASE_SHA256["meta/groups.json"])
    entries = {
        code(entry["hexcode"]): entry
        for entry in data
        if entry.get("group") not in (None, COMPONENTS, FLAGS)
    }
    shortcodes: dict[str, list[str]] = {concept: [] for concept in entries}
    for name in SHORTCODES:
        for key, value in read_json(folder / f"en/shortcodes/{name}.json").items():
            if code(key) in shortcodes:
                shortcodes[code(key)] += [value] if isinstance(value, str) else value
    return entries, shortcodes, groups


def webp(picture: Image.Image) -> bytes:
    """Encodes a picture without loss."""
    stream = io.BytesIO()
    picture.save(stream, "WEBP", lossless=True, quality=100, method=6)
    return stream.getvalue()


def prompts(label: str) -> list[str]:
    """Returns the texts that stand for a concept; its tags are added as one further text."""
    return [label, f"a drawing of a {label}", f"an emoji of a {label}"]


FEATURES = datasets.Features(
    {
        "id": datasets.Value("string"),
        "subject": datasets.Value("string"),
        "concept": datasets.Value("string"),
        "label": datasets.Value("int64"),
        "group": datasets.Value("string"),
        "subgroup": datasets.Value("string"),
        "style": datasets.Value("string"),
        "vendor": datasets.Value("string"),
        "split": datasets.Value("string"),
        "licence": datasets.Value("string"),
        "image": datasets.Image(),
    }
)
CONCEPT_FEATURES = datasets.Features(
    {
        "subject": datasets.Value("string"),
        "label": datasets.Value("int64"),
        "concept": datasets.Value("string"),
        "tags": datasets.List(datasets.Value("string")),
        "group": datasets.Value("string"),
        "subgroup": datasets.Value("string"),
        "prompts": datasets.List(datasets.Value("string")),
    }
)


def write(rows: list[dict[str, Any]], features: datasets.Features, path: Path) -> None:
    """Writes rows as one Parquet file that the datasets library opens with these features."""
    table = pa.Table.from_pylist(rows, schema=features.arrow_schema)
    pq.write_table(table, path, compression="zstd", store_schema=True)
    print(f"{path.name}: {len(rows)} rows, {path.stat().st_size / 1e6:.2f} MB")


def shards(rows: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Cuts the rows of a style into runs that hold at most SHARD_BYTES of picture bytes."""
    run: list[dict[str, Any]] = []
    size = 0
    for row in rows:
        weight = len(row["image"]["bytes"])
        if run and size + weight > SHARD_BYTES:
            yield run
            run, size = [], 0
        run.append(row)
        size += weight
    yield run


def notice() -> str:
    """Returns the licence notices of the pictures and of the names."""
    lines = [
        "# Pictures and names in this folder",
        "",
        "The pictures are renderings of vector drawings made by others: scaled to 64 x 64 pixels,",
        "placed on white and stored as lossless WebP. Nothing else was changed. Each row of the",
        "tables names its style, vendor and licence. The drawings remain under these licences:",
        "",
        "| style | set | package and version | licence | by | home |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for style in STYLES:
        lines.append(
            f"| {style.name} | {style.title} | {style.version} | {style.licence} "
            f"| {style.copyright} | {style.home} |"
        )
    lines += [
        "",
        "## Attribution",
        "",
        "- **Twemoji**: graphics copyright Twitter, Inc. and other contributors, licensed under",
        "  CC-BY-4.0 (https://creativecommons.org/licenses/by/4.0/). Changes: rendered at 64",
        "  pixels on white.",
        "- **EmojiOne 2.3 (EmojiTwo)**: emoji art supplied by Emoji One and the EmojiTwo project,",
        "  licensed under CC-BY-4.0 (https://creativecommons.org/licenses/by/4.0/). Changes:",
        "  rendered at 64 pixels on white.",
        "- **Noto Emoji** (both versions): copyright Google Inc., Apache License 2.0",
        "  (https://www.apache.org/licenses/LICENSE-2.0).",
        "- **Firefox OS Emoji (FxEmojis)**: visual design copyright Mozilla Foundation, licensed",
        "  under CC-BY-4.0 (https://creativecommons.org/licenses/by/4.0/); only the code of that",
        "  project is Apache-2.0. Changes: rendered at 64 pixels on white.",
        "- **Fluent Emoji** (both styles): Copyright (c) Microsoft Corporation, MIT licence, text",
        "  below.",
        f"- **Names, tags and groups**: {EMOJIBASE_VERSION}, Copyright (c) 2017-2019 Miles",
        "  Johnson, MIT licence, text below; https://github.com/milesj/emojibase.",
        "- **Text embeddings** (`text_embeddings.safetensors`): computed from the prompts with",
        "  all-MiniLM-L6-v2 (Apache License 2.0,",
        "  https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2).",
        "",
        "The names of the vendors are used only to say who drew a picture.",
        "",
        "## MIT licence",
        "",
        *MIT,
    ]
    return "\n".join(lines) + "\n"


MIT = (
    "Permission is hereby granted, free of charge, to any person obtaining a copy of this",
    'software and associated documentation files (the "Software"), to deal in the Software',
    "without restriction, including without limitation the rights to use, copy, modify, merge,",
    "publish, distribute, sublicense, and/or sell copies of the Software, and to permit persons",
    "to whom the Software is furnished to do so, subject to the following conditions:",
    "",
    "The above copyright notice and this permission notice shall be included in all copies or",
    "substantial portions of the Software.",
    "",
    'THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED,',
    "INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR",
    "PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE",
    "FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR",
    "OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER",
    "DEALINGS IN THE SOFTWARE.",
)


def main(source: Path, output: Path) -> None:
    """Builds every file of the set."""
    entries, shortcodes, groups = read_concepts(source / "emojibase/package")
    icons = {s.name: Icons(s, source / f"iconify-{s.name}/package") for s in STYLES}
    drawn: dict[str, dict[str, str]] = {}
    for style in STYLES:
        names = {
            concept: list(
                names_of(
                    concept,
                    entry,
                    shortcodes[concept],
                    [i.by_code[concept] for i in icons.values() if concept in i.by_code],
                    style.name == NAMED_BY_UNICODE,
                )
            )
            for concept, entry in entries.items()
        }
        drawn[style.name] = match(style, icons[style.name], entries, names)
    needed = [drawn[s.name] for s in STYLES if s.split != "validation"]
    candidates = sorted(c for c in entries if all(c in names for names in needed))
    test = next(s.name for s in STYLES if s.split == "test")
    kept: dict[bytes, str] = {}
    for concept in candidates:
        pixels = icons[test].picture(drawn[test][concept]).tobytes()
        if pixels in kept:
            print(f"dropped {entries[concept]['label']}: repeats {entries[kept[pixels]]['label']}")
        kept.setdefault(pixels, concept)
    concepts = sorted(kept.values())

    output.mkdir(parents=True, exist_ok=True)
    for old in output.glob("*.parquet"):
        old.unlink()
    table = []
    for label, concept in enumerate(concepts):
        entry = entries[concept]
        tags = [tag for tag in entry.get("tags", []) if tag != entry["label"]]
        table.append(
            {
                "subject": concept,
                "label": label,
                "concept": entry["label"],
                "tags": tags,
                "group": groups["groups"][str(entry["group"])],
                "subgroup": groups["subgroups"][str(entry["subgroup"])],
                "prompts": [*prompts(entry["label"]), *([", ".join(tags)] if tags else [])],
            }
        )
    write(table, CONCEPT_FEATURES, output / "concepts.parquet")
    for style in STYLES:
        rows = []
        for about in table:
            concept = about["subject"]
            if concept not in drawn[style.name]:
                continue
            picture = icons[style.name].picture(drawn[style.name][concept])
            rows.append(
                {
                    "id": f"emoji:{style.name}/{concept}",
                    **{k: about[k] for k in ("subject", "concept", "label", "group", "subgroup")},
                    "style": style.name,
                    "vendor": style.vendor,
                    "split": style.split,
                    "licence": style.licence,
                    "image": {"bytes": webp(picture), "path": None},
                }
            )
        for number, run in enumerate(shards(rows)):
            write(run, FEATURES, output / f"{style.name}-{number}.parquet")
    (output / "NOTICE.md").write_text(notice(), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python scripts/build_emoji.py SOURCE OUTPUT")
    main(Path(sys.argv[1]), Path(sys.argv[2]))
