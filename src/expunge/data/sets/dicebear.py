"""Drawn people: 200 invented persons in four drawing styles, each with twelve expressions.

A person keeps skin, hair, glasses, beard and every other part; mouth, eyes and eyebrows make the
expression, and clothes change from picture to picture. Drawn with the npm packages ``@dicebear/*``,
which need Node.js once; the choice of parts is this file's own.
"""

import hashlib
import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import datasets

from expunge.data import splits
from expunge.data.packages import PATIENCE, Package, Registry, ran, scratch
from expunge.data.pictures import drawn, png
from expunge.data.prepared import DataSet, Sources
from expunge.errors import ExpungeError, IntegrityError

SIDE = 64  # pixels
PEOPLE = 50  # of each style
SPLIT = (splits.TRAIN,) * 8 + (splits.VALIDATION,) * 2 + (splits.TEST,) * 2
"""The split of each expression, the same for every person."""

EXPRESSIONS = len(SPLIT)
RARITY = 3  # of the parts that not everyone has, one person in three has each
VERSION = "9.4.3"
EXPRESSION = ("mouth", "eyes", "eyebrows")

Options = Mapping[str, str | None]
"""The value of each option of a style; None for a part that is not drawn."""


def _package(name: str, sha256: str, size: int, licence: str) -> Package:
    file = f"dicebear-{name}-{VERSION}.tgz"
    return Package(Registry.NPM, f"@dicebear/{name}", VERSION, file, sha256, size, licence)


def _numbered(stem: str, count: int) -> tuple[str, ...]:
    return tuple(f"{stem}{i:02d}" for i in range(1, count + 1))


@dataclass(frozen=True)
class Style:
    """One drawing style and the values of its options, as its schema lists them.

    Args:
        name: of the style and of its package.
        licence: of the drawings.
        package: where they are.
        fixed: parts and colours that everyone has and keeps; by the first three of them together
            any two people differ.
        sometimes: parts that a person has or lacks, and keeps.
        clothes: what changes from picture to picture without meaning anything.
        moving: the values of mouth, eyes and eyebrows.
        beard: the option that is a beard, and its values that are one.
    """

    name: str
    licence: str
    package: Package
    fixed: Mapping[str, tuple[str, ...]]
    sometimes: Mapping[str, tuple[str, ...]]
    moving: Mapping[str, tuple[str, ...]]
    beard: tuple[str, tuple[str, ...]]
    clothes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


CORE = _package(
    "core", "6ca7dae651c74ad547e548fbe7c41f49aaa377cf4617259277518389bf6b1a3d", 7_921, "MIT"
)
MICAH_COLOURS = (
    "000000", "9287ff", "6bd9e9", "fc909f", "f4d150", "e0ddff", "d2eff3", "ffeba4", "ffedef",
)  # fmt: skip
STYLES = (
    Style(
        "adventurer",
        "CC-BY-4.0",
        _package(
            "adventurer",
            "6edeac04f94ef6177c946918dce012e530200dfcc274b4f954239e33ecbe590c",
            112_369,
            "MIT AND CC-BY-4.0",
        ),
        fixed={
            "skinColor": ("f2d3b1", "ecad80", "9e5622", "763900"),
            "hair": _numbered("short", 19) + _numbered("long", 26),
            "hairColor": (
                "ac6511", "cb6820", "ab2a18", "e5d7a3", "b9a05f", "796a45", "6a4e35",
                "562306", "0e0e0e", "afafaf", "3eac2c", "85c2c6", "dba3be", "592454",
            ),
        },
        sometimes={
            "glasses": _numbered("variant", 5),
            "earrings": _numbered("variant", 6),
            "features": ("mustache", "blush", "birthmark", "freckles"),
        },
        moving={
            "mouth": _numbered("variant", 30),
            "eyes": _numbered("variant", 26),
            "eyebrows": _numbered("variant", 15),
        },
        beard=("features", ("mustache",)),
    ),
    Style(
        "lorelei",
        "CC0-1.0",
        _package(
            "lorelei",
            "78cbba0a6c4d14e1af7c62ffa9a73bd98a8cda02e28690110e199348cd6a9c06",
            52_952,
            "MIT AND CC0-1.0",
        ),
        fixed={
            "head": _numbered("variant", 4),
            "hair": _numbered("variant", 48),
            "nose": _numbered("variant", 6),
        },
        sometimes={
            "glasses": _numbered("variant", 5),
            "earrings": _numbered("variant", 3),
            "freckles": ("variant01",),
            "hairAccessories": ("flowers",),
            "beard": _numbered("variant", 2),
        },
        moving={
            "mouth": _numbered("happy", 18) + _numbered("sad", 9),
            "eyes": _numbered("variant", 24),
            "eyebrows": _numbered("variant", 13),
        },
        beard=("beard", _numbered("variant", 2)),
    ),
    Style(
        "micah",
        "CC-BY-4.0",
        _package(
            "micah",
            "b948931f01e97147ce8cdcfc4dfdad5c029bcb1ad57420dc0b22bc0aeb1d3fa7",
            14_206,
            "MIT AND CC-BY-4.0",
        ),
        fixed={
            "baseColor": ("f9c9b6", "ac6651", "77311d"),
            "hair": (
                "fonze", "mrT", "dougFunny", "mrClean", "dannyPhantom", "full", "turban", "pixie",
            ),
            "hairColor": MICAH_COLOURS,
            "nose": ("curve", "pointed", "tound"),
            "ears": ("attached", "detached"),
            "glassesColor": MICAH_COLOURS,
            "earringColor": MICAH_COLOURS,
        },
        sometimes={
            "glasses": ("round", "square"),
            "earrings": ("hoop", "stud"),
            "facialHair": ("beard", "scruff"),
        },
        moving={
            "mouth": (
                "surprised", "laughing", "nervous", "smile", "sad", "pucker", "frown", "smirk",
            ),
            "eyes": ("eyes", "round", "smiling"),
            "eyebrows": ("up", "down"),
        },
        beard=("facialHair", ("beard", "scruff")),
        clothes={"shirt": ("open", "crew", "collared"), "shirtColor": MICAH_COLOURS},
    ),
    Style(
        "toon-head",
        "CC-BY-4.0",
        _package(
            "toon-head",
            "b9cd3b5def9fb2c37a9acba2e4b9bd00268b6eaff705d596756e8d921a4580c8",
            15_139,
            "MIT AND CC-BY-4.0",
        ),
        fixed={
            "skinColor": ("f1c3a5", "c68e7a", "b98e6a", "a36b4f", "5c3829"),
            "hair": ("sideComed", "undercut", "spiky", "bun"),
            "hairColor": ("2c1b18", "a55728", "b58143", "d6b370", "724133"),
        },
        sometimes={
            "rearHair": ("longStraight", "longWavy", "shoulderHigh", "neckHigh"),
            "beard": ("moustacheTwirl", "fullBeard", "chin", "chinMoustache", "longBeard"),
        },
        moving={
            "mouth": ("laugh", "angry", "agape", "smile", "sad"),
            "eyes": ("happy", "wide", "bow", "humble", "wink"),
            "eyebrows": ("raised", "angry", "happy", "sad", "neutral"),
        },
        beard=("beard", ("moustacheTwirl", "fullBeard", "chin", "chinMoustache", "longBeard")),
        clothes={
            "clothes": ("turtleNeck", "openJacket", "dress", "shirt", "tShirt"),
            "clothesColor": (
                "545454", "b11f1f", "0b3286", "147f3c", "eab308",
                "731ac3", "ec4899", "f97316", "151613", "e8e9e6",
            ),
        },
    ),
)  # fmt: skip

DRAW = """\
import { readFileSync, writeFileSync } from "node:fs";
import { createAvatar } from "@dicebear/core";

const styles = {};
const drawings = [];
for (const { style, options } of JSON.parse(readFileSync("wanted.json", "utf8"))) {
  styles[style] ??= await import(`@dicebear/${style}`);
  drawings.push(createAvatar(styles[style], options).toString());
}
writeFileSync("drawings.json", JSON.stringify(drawings));
"""


@dataclass(frozen=True)
class Sitting:
    """One picture of one person, as it is to be drawn."""

    style: Style
    person: int
    expression: int
    options: Options

    @property
    def subject(self) -> str:
        """The person: "micah/07"."""
        return f"{self.style.name}/{self.person:02d}"

    def wanted(self) -> dict[str, object]:
        """Style and options in the form that the drawing script reads."""
        options: dict[str, object] = {}
        for name, value in self.options.items():
            options[name] = [] if value is None else [value]
            if name in self.style.sometimes:
                options[f"{name}Probability"] = 0 if value is None else 100
        return {"style": self.style.name, "options": options}


def _chosen(values: Sequence[str | None], *names: object) -> str | None:
    """One of the values, by the SHA-256 of the names: the same on every machine."""
    digest = hashlib.sha256("/".join(map(str, names)).encode()).digest()
    return values[int.from_bytes(digest[:8]) % len(values)]


def people(style: Style) -> list[Options]:
    """Fifty different identities: what each person keeps in all pictures."""
    found: list[Options] = []
    likenesses: set[tuple[str | None, ...]] = set()
    attempt = 0
    while len(found) < PEOPLE:
        identity: dict[str, str | None] = {
            name: _chosen(values, style.name, attempt, name) for name, values in style.fixed.items()
        }
        for name, values in style.sometimes.items():
            absent = (None,) * (len(values) * (RARITY - 1))
            identity[name] = _chosen((*values, *absent), style.name, attempt, name)
        attempt += 1
        likeness = tuple(identity[name] for name in list(style.fixed)[:3])
        if likeness not in likenesses:
            found.append(identity)
        likenesses.add(likeness)
    return found


def expression(style: Style, number: int) -> Options:
    """Mouth, eyes and eyebrows of one of the twelve expressions, which all differ.

    Where a part has twelve values or more, no two expressions share one; others take turns, each
    round shifted against the part before.
    """
    values: dict[str, str | None] = {}
    for shift, name in enumerate(EXPRESSION):
        known = style.moving[name]
        if len(known) >= EXPRESSIONS:
            values[name] = known[number * len(known) // EXPRESSIONS]
        else:
            values[name] = known[(number + shift * (number // len(known))) % len(known)]
    return values


def sittings() -> list[Sitting]:
    """All pictures, style by style, person by person, in the order of the expressions."""
    made = []
    for style in STYLES:
        for person, identity in enumerate(people(style)):
            for number in range(EXPRESSIONS):
                clothes = {
                    name: _chosen(values, style.name, person, number, name)
                    for name, values in style.clothes.items()
                }
                options = {**identity, **clothes, **expression(style, number)}
                made.append(Sitting(style, person, number, options))
    return made


def _drawings(wanted: list[dict[str, object]], sources: Sources) -> list[str]:
    """The SVG text of each picture, drawn by Node.

    Raises:
        ExpungeError: Node is missing or failed.
        IntegrityError: it drew something else than was asked for.
    """
    with scratch() as folder:
        for package in (CORE, *(style.package for style in STYLES)):
            shutil.copytree(
                sources[package.name] / "package", folder / "node_modules" / package.name
            )
        (folder / "draw.mjs").write_text(DRAW, encoding="utf-8")
        (folder / "wanted.json").write_text(json.dumps(wanted), encoding="utf-8")
        _node(folder)
        try:
            drawings = json.loads((folder / "drawings.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            drawings = None
    if not isinstance(drawings, list) or len(drawings) != len(wanted):
        raise IntegrityError(
            f"Node was asked for {len(wanted)} drawings of people and did not write that many; "
            "fetch the packages again."
        )
    return [str(drawing) for drawing in drawings]


def _node(folder: Path) -> None:
    try:
        done = ran(["node", "draw.mjs"], folder)
    except FileNotFoundError:
        raise ExpungeError(
            "The drawn people are made with node, which is not on this machine; install Node.js 18 "
            "or later, then fetch again."
        ) from None
    except subprocess.TimeoutExpired:
        raise ExpungeError(
            f"node did not finish the drawings of people within {PATIENCE // 60} minutes; fetch "
            "again on a less busy machine."
        ) from None
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if "Error" in line]
        raise ExpungeError(
            f"node could not draw the people ({(lines or ['it said nothing'])[0][:200]}); Node.js "
            "18 or later is expected: check `node --version`, then fetch again."
        )


def table(sources: Sources) -> datasets.Dataset:
    """All 2,400 pictures: 8 expressions of every person train, 2 validation, 2 test."""
    made = sittings()
    subjects = list(dict.fromkeys(sitting.subject for sitting in made))
    rows: list[dict[str, object]] = []
    for sitting, svg in zip(made, _drawings([s.wanted() for s in made], sources), strict=True):
        option, beards = sitting.style.beard
        rows.append(
            {
                "id": f"dicebear-people:{sitting.subject}/{sitting.expression:02d}",
                "subject": sitting.subject,
                "label": sitting.subject,
                "style": sitting.style.name,
                "expression": sitting.expression,
                **{name: sitting.options[name] for name in EXPRESSION},
                "hair": sitting.options["hair"],
                "glasses": sitting.options.get("glasses") is not None,
                "beard": sitting.options[option] in beards,
                "split": SPLIT[sitting.expression],
                "licence": sitting.style.licence,
                "image": png(drawn(svg, SIDE)),
            }
        )
    text, flag = datasets.Value("string"), datasets.Value("bool")
    features = datasets.Features(
        {
            "id": text,
            "subject": text,
            "label": datasets.ClassLabel(names=subjects),
            "style": text,
            "expression": datasets.Value("int64"),
            **dict.fromkeys((*EXPRESSION, "hair"), text),
            "glasses": flag,
            "beard": flag,
            "split": text,
            "licence": text,
            "image": datasets.Image(),
        }
    )
    return datasets.Dataset.from_list(rows, features=features)


ENTRIES = (
    DataSet(
        "dicebear-people",
        "200 invented persons in four drawing styles, twelve expressions each, 64 x 64",
        (CORE, *(style.package for style in STYLES)),
        "CC-BY-4.0 AND CC0-1.0",
        True,
        len(STYLES) * PEOPLE * EXPRESSIONS,
        "6cf7bbd7f920fdedf1dca501c668c8cff59840ac3d020a28af6cc354d12e6b96",
        table,
        "person",
        modules=("resvg_py",),
        note=(
            "Made with Node.js 18 or later, which must be installed. The people are invented. "
            "Every person is in all splits: expressions 0-7 train, 8-9 validation, 10-11 test. "
            "Attribution: Adventurer and Lorelei by Lisa Wischofsky, Avatar Illustration System "
            "by Micah Lanier, ToonHead by Johan Melin; remixed by DiceBear."
        ),
    ),
)
