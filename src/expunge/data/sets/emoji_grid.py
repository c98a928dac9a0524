"""The emoji grid: 1,644 concepts drawn in nine styles by six vendors, 64 x 64 pixels on white.

The shipped emoji set is a part of it: the same drawings under the same concept ids. From the npm
packages ``@iconify-json/*`` (drawings) and ``emojibase-data`` (names in many languages).
"""

import json
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets

from expunge.data import splits
from expunge.data.emoji_grid import SIDE
from expunge.data.packages import Package, Registry
from expunge.data.pictures import drawn, png
from expunge.data.prepared import DataSet, Sources
from expunge.errors import IntegrityError

COMPONENTS, FLAGS = 2, 9  # emojibase groups that are left out
LANGUAGES = ("en", "de", "es", "fr", "it", "ja", "pt", "ru", "zh")
SHORTCODES = ("cldr", "emojibase", "emojibase-legacy", "github", "iamcal", "joypixels")


@dataclass(frozen=True)
class Style:
    """One drawing style: whose it is, where it may be used, under which licence.

    Args:
        package: its drawings; the licence there is what the package states, and ``licence`` is
            that of the art (FxEmojis: the package states that of the project's code).
    """

    name: str
    vendor: str
    split: str
    licence: str
    package: Package


def _drawings(name: str, version: str, licence: str, sha256: str, size: int) -> Package:
    file = f"iconify-json-{name}-{version}.tgz"
    return Package(Registry.NPM, f"@iconify-json/{name}", version, file, sha256, size, licence)


NAMES = Package(
    Registry.NPM,
    "emojibase-data",
    "17.0.0",
    "emojibase-data-17.0.0.tgz",
    "d01d0e2ca4e22cb402679532155342c71e2e871f25c32223c013b8b166ebdf5a",
    6_711_091,
    "MIT",
)
STYLES = (
    Style(
        "noto",
        "google",
        splits.TRAIN,
        "Apache-2.0",
        _drawings(
            "noto",
            "1.2.9",
            "Apache-2.0",
            "3e918d88fc945c0bb3d468dbace6f88caef67f01c9f0e7bcae0915a042e8f1ad",
            3_102_958,
        ),
    ),
    Style(
        "noto-v1",
        "google",
        splits.TRAIN,
        "Apache-2.0",
        _drawings(
            "noto-v1",
            "1.2.5",
            "Apache-2.0",
            "2bf62c26c2c2884aa99e90aec942cdaee17a5921f05690694f4978ad4b017c37",
            1_587_591,
        ),
    ),
    Style(
        "fluent-emoji",
        "microsoft",
        splits.TRAIN,
        "MIT",
        _drawings(
            "fluent-emoji",
            "1.2.7",
            "MIT",
            "8044210dbf11e016d4de85f15d01a243423bd832457e7e2491df1b751c0e272b",
            14_323_330,
        ),
    ),
    Style(
        "fluent-emoji-flat",
        "microsoft",
        splits.TRAIN,
        "MIT",
        _drawings(
            "fluent-emoji-flat",
            "1.2.6",
            "MIT",
            "7d064769dee690815f823bc5bcc511d957198caf9f5edd8dd9c1aa48a6aeb175",
            1_172_438,
        ),
    ),
    Style(
        "emojione",
        "emojione",
        splits.TRAIN,
        "CC-BY-4.0",
        _drawings(
            "emojione",
            "1.2.3",
            "CC-BY-4.0",
            "26a14f44284407e8bcde91799388dca2bfd91dbcd55a97f425524a1c5b73610e",
            687_690,
        ),
    ),
    Style(
        "fxemoji",
        "mozilla",
        splits.VALIDATION,
        "CC-BY-4.0",
        _drawings(
            "fxemoji",
            "1.2.2",
            "Apache-2.0",
            "f3e72b3c59d05e1db03b7e308d55c0d05bd7ba3f625a90da1b79313c12858eef",
            1_034_876,
        ),
    ),
    Style(
        "twemoji",
        "twitter",
        splits.TEST,
        "CC-BY-4.0",
        _drawings(
            "twemoji",
            "1.2.5",
            "CC-BY-4.0",
            "19046dff7d8707ce96212ec86468b36ac5f8e60409629dd13f809265c6d0ebb7",
            1_555_888,
        ),
    ),
    Style(
        "emojione-v1",
        "emojione",
        splits.TRAIN,
        "CC-BY-SA-4.0",
        _drawings(
            "emojione-v1",
            "1.2.3",
            "CC-BY-SA-4.0",
            "6641d59d48a42823fdc2b84e7427e9f302944eb98d2c7d94d6e67c139e7b37b3",
            3_704_153,
        ),
    ),
    Style(
        "openmoji",
        "openmoji",
        splits.VALIDATION,
        "CC-BY-SA-4.0",
        _drawings(
            "openmoji",
            "1.2.29",
            "CC-BY-SA-4.0",
            "03181e2c156cab35cf4a62f1f7886bd971d59212e75ac3f189d5a4cae3930fc5",
            1_264_633,
        ),
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


def code(text: str) -> str:
    """A code point sequence as it stands in concept ids: lower case, no variation selector."""
    return "-".join(part for part in text.lower().split("-") if part != "fe0f")


def slug(text: str) -> str:
    """The text in the form of an icon name: lower case words joined by hyphens."""
    plain = text.lower().replace("'", "").replace("\u2019", "")
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")


def read(path: Path) -> Any:
    """A parsed JSON file.

    Raises:
        IntegrityError: there is none, or it is damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise IntegrityError(
            f"{path.name} of the emoji packages cannot be read ({error}); fetch them again."
        ) from None


class Icons:
    """The drawings of one style: look-up by code point or by name, and the drawing as SVG."""

    def __init__(self, folder: Path) -> None:
        self.file = read(folder / "icons.json")
        try:
            whole = all("body" in icon for icon in self.file["icons"].values())
            by_code = read(folder / "chars.json").items()
        except (KeyError, TypeError, AttributeError):
            whole = False
        if not whole:
            raise IntegrityError(
                f"icons.json and chars.json in {folder} are not in the expected form; fetch the "
                "package again."
            )
        self.by_code = {code(key): str(name) for key, name in by_code}

    def resolve(self, name: str) -> str | None:
        """Follows aliases to the name of a drawing; None when there is none."""
        aliases = self.file.get("aliases", {})
        while name not in self.file["icons"]:
            if name not in aliases:
                return None
            name = aliases[name]["parent"]
        return name

    def svg(self, name: str) -> str:
        """The drawing of a resolved name, centred in a square."""
        icon = self.file["icons"][name]
        width = icon.get("width", self.file.get("width", 16))
        height = icon.get("height", self.file.get("height", 16))
        side = max(width, height)
        left = icon.get("left", 0) - (side - width) / 2
        top = icon.get("top", 0) - (side - height) / 2
        return (
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'width="{side}" height="{side}" viewBox="{left:g} {top:g} {side:g} {side:g}">'
            f"{icon['body']}</svg>"
        )


@dataclass(frozen=True)
class Concepts:
    """The named emoji that are neither flags nor parts.

    Args:
        entries: what emojibase says of each concept, by its id.
        shortcodes: further English names of each concept.
        groups: name of each group, by its number in writing.
        subgroups: name of each subgroup, by its number in writing.
    """

    entries: Mapping[str, Mapping[str, Any]]
    shortcodes: Mapping[str, list[str]]
    groups: Mapping[str, str]
    subgroups: Mapping[str, str]

    @classmethod
    def read(cls, folder: Path) -> "Concepts":
        """From the unpacked ``emojibase-data``."""
        try:
            entries = {
                code(entry["hexcode"]): entry
                for entry in read(folder / "en/data.json")
                if entry.get("group") not in (None, COMPONENTS, FLAGS)
            }
            names = read(folder / "meta/groups.json")
            groups, subgroups = names["groups"], names["subgroups"]
        except (KeyError, TypeError, AttributeError) as error:
            raise IntegrityError(
                f"{NAMES.name} is not in the expected form ({error!r}); fetch it again."
            ) from None
        shortcodes: dict[str, list[str]] = {concept: [] for concept in entries}
        for name in SHORTCODES:
            for key, value in read(folder / f"en/shortcodes/{name}.json").items():
                if code(key) in shortcodes:
                    shortcodes[code(key)] += [value] if isinstance(value, str) else value
        return cls(entries, shortcodes, groups, subgroups)

    def place(self, concept: str) -> tuple[str, str]:
        """Names of the group and the subgroup of a concept."""
        entry = self.entries[concept]
        return self.groups[str(entry["group"])], self.subgroups[str(entry["subgroup"])]

    def tags(self, concept: str) -> list[str]:
        """English words for a concept, without its own name."""
        entry = self.entries[concept]
        return [tag for tag in entry.get("tags", []) if tag != entry["label"]]


def names_of(concept: str, concepts: Concepts, known: list[str], style: str) -> Iterator[str]:
    """The names that a style's drawing of a concept may have, the surest first.

    Args:
        concept: its id.
        concepts: all of them.
        known: names that any style gives to its drawing with this code point.
        style: name of the style.
    """
    entry, shortcodes = concepts.entries[concept], concepts.shortcodes[concept]
    if style == NAMED_BY_UNICODE:
        if "-" not in concept:
            yield re.sub(r"[^a-z0-9]", "", unicodedata.name(chr(int(concept, 16)), "").lower())
        for text in (entry["label"], *shortcodes):
            yield re.sub(r"[^a-z0-9]", "", text.lower())
        return
    yield from known
    yield slug(entry["label"])
    for text in shortcodes:
        yield slug(text)


def match(style: str, icons: Icons, names: Mapping[str, list[str]]) -> dict[str, str]:
    """The drawing of each concept in one style; a drawing is given once, to its surest concept.

    Args:
        style: its name.
        icons: its drawings.
        names: the names that the drawing of each concept may have, the surest first.
    """
    found: dict[str, str] = {}
    used: set[str] = set()

    def take(concept: str, name: str) -> None:
        target = icons.resolve(name)
        if concept not in names or concept in found or target is None or target in used:
            return
        found[concept] = target
        used.add(target)

    if style == NAMED_BY_UNICODE:
        used |= FXEMOJI_REJECTED
        for name, concept in FXEMOJI_NAMES.items():
            take(concept, name)
    for concept, name in icons.by_code.items():
        take(concept, name)
    for position in range(max(map(len, names.values()), default=0)):
        for concept, candidates in names.items():
            if position < len(candidates):
                take(concept, candidates[position])
    return found


def drawings(concepts: Concepts, icons: Mapping[str, Icons]) -> dict[str, dict[str, str]]:
    """The name of the drawing of each concept, style by style."""
    known = {
        concept: [i.by_code[concept] for i in icons.values() if concept in i.by_code]
        for concept in concepts.entries
    }
    return {
        style: match(
            style,
            icons[style],
            {c: list(names_of(c, concepts, known[c], style)) for c in concepts.entries},
        )
        for style in icons
    }


def _captions(folder: Path) -> dict[str, dict[str, str]]:
    """Name of each emoji in each language, by language and code point."""
    return {
        language: {
            code(entry["hexcode"]): entry["label"]
            for entry in read(folder / f"{language}/data.json")
        }
        for language in LANGUAGES
    }


FEATURES = datasets.Features(
    {
        "id": datasets.Value("string"),
        "subject": datasets.Value("string"),
        "concept": datasets.Value("string"),
        "group": datasets.Value("string"),
        "subgroup": datasets.Value("string"),
        "style": datasets.Value("string"),
        "vendor": datasets.Value("string"),
        "tags": datasets.List(datasets.Value("string")),
        "captions": {language: datasets.Value("string") for language in LANGUAGES},
        "repeats": datasets.Value("string"),
        "split": datasets.Value("string"),
        "licence": datasets.Value("string"),
        "image": datasets.Image(),
    }
)


def table(sources: Sources) -> datasets.Dataset:
    """All cells, style by style, the concepts of a style in the order of their ids.

    Column ``label`` is the concept; ``repeats`` is the id of the
    first cell of the same style with the very same pixels, None for most.
    """
    folder = sources[NAMES.name] / "package"
    concepts, captions = Concepts.read(folder), _captions(folder)
    icons = {style.name: Icons(sources[style.package.name] / "package") for style in STYLES}
    drawing = drawings(concepts, icons)
    order = sorted(concepts.entries)
    rows: list[dict[str, object]] = []
    for style in STYLES:
        first: dict[bytes, str] = {}
        for label, concept in enumerate(order):
            if concept not in drawing[style.name]:
                continue
            picture = drawn(icons[style.name].svg(drawing[style.name][concept]), SIDE)
            name = f"emoji-grid:{style.name}/{concept}"
            same = first.setdefault(picture.tobytes(), name)
            group, subgroup = concepts.place(concept)
            rows.append(
                {
                    "id": name,
                    "subject": concept,
                    "concept": concepts.entries[concept]["label"],
                    "label": label,
                    "group": group,
                    "subgroup": subgroup,
                    "style": style.name,
                    "vendor": style.vendor,
                    "tags": concepts.tags(concept),
                    "captions": {k: captions[k].get(concept) for k in LANGUAGES},
                    "repeats": None if same == name else same,
                    "split": style.split,
                    "licence": style.licence,
                    "image": png(picture),
                }
            )
    features = datasets.Features({**FEATURES, "label": datasets.ClassLabel(names=order)})
    return datasets.Dataset.from_list(rows, features=features)


ENTRIES = (
    DataSet(
        "emoji-grid",
        "1,644 concepts drawn in nine styles of six vendors, 64 x 64, captions in nine languages",
        (NAMES, *(style.package for style in STYLES)),
        "Apache-2.0 AND MIT AND CC-BY-4.0 AND CC-BY-SA-4.0",
        False,
        12_180,
        "9bbd83c583cfe5b1134fe3f3d193dd624d07e2885df64551b2ed651c8be161f3",
        table,
        "concept",
        modules=("resvg_py",),
        note=(
            "EmojiOne 1 and OpenMoji are CC-BY-SA-4.0: fetched, never shipped; every row names its "
            "licence. Attribution: Noto Emoji (Google), Fluent Emoji (Microsoft), Emoji One and "
            "EmojiTwo, FxEmojis (Mozilla), Twemoji (Twitter and other contributors), OpenMoji "
            "(HfG Schwaebisch Gmuend and contributors); names by emojibase. Vendors never mix "
            "between splits: Google, Microsoft and EmojiOne train, Mozilla and OpenMoji "
            "validation, Twitter test. Some vendors draw two concepts alike, mostly families: "
            "`repeats` names the first of them. Labels differ from those of the shipped set; "
            "concept ids are the same."
        ),
    ),
)
