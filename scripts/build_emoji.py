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
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from expunge.data.pictures import drawn
from expunge.data.sets.emoji_grid import Concepts, Icons, drawings

SIZE = 64  # pixels
SHARD_BYTES = 4_000_000  # picture bytes a shard may hold; files stay below 4.5 MB


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
EMOJIBASE_SHA256 = {
    "en/data.json": "ed014f1049bd370c5794f815850156196ac382850f51c3e9f6a9e83553fb3f01",
    "meta/groups.json": "3ce4f0a8e5890ed9d746b12e0056b170340928c1936be35cf92bb3e6d83a71e1",
}
EMOJIBASE_VERSION = "emojibase-data 17.0.0"


def check(path: Path, sha256: str) -> None:
    """Stops where a file is not the one that the shipped set was made from."""
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != sha256:
        sys.exit(
            f"{path.name} of {path.parent} has SHA-256 {found}; {sha256} was expected. "
            "Unpack the package version named in this script."
        )


def read(source: Path) -> tuple[Concepts, dict[str, Icons]]:
    """Concepts, and the drawings of each style, after checking the files they are made from."""
    for name, sha256 in EMOJIBASE_SHA256.items():
        check(source / "emojibase/package" / name, sha256)
    for style in STYLES:
        folder = source / f"iconify-{style.name}/package"
        check(folder / "icons.json", style.icons_sha256)
        check(folder / "chars.json", style.chars_sha256)
    icons = {s.name: Icons(source / f"iconify-{s.name}/package") for s in STYLES}
    return Concepts.read(source / "emojibase/package"), icons


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
    named, icons = read(source)
    drawing = drawings(named, icons)
    entries = named.entries
    needed = [drawing[s.name] for s in STYLES if s.split != "validation"]
    candidates = sorted(c for c in entries if all(c in names for names in needed))
    test = next(s.name for s in STYLES if s.split == "test")
    kept: dict[bytes, str] = {}
    for concept in candidates:
        pixels = drawn(icons[test].svg(drawing[test][concept]), SIZE).tobytes()
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
        tags = named.tags(concept)
        group, subgroup = named.place(concept)
        table.append(
            {
                "subject": concept,
                "label": label,
                "concept": entry["label"],
                "tags": tags,
                "group": group,
                "subgroup": subgroup,
                "prompts": [*prompts(entry["label"]), *([", ".join(tags)] if tags else [])],
            }
        )
    write(table, CONCEPT_FEATURES, output / "concepts.parquet")
    for style in STYLES:
        rows = []
        for about in table:
            concept = about["subject"]
            if concept not in drawing[style.name]:
                continue
            picture = drawn(icons[style.name].svg(drawing[style.name][concept]), SIZE)
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
