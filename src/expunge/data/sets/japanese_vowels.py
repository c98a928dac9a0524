"""Japanese Vowels: 640 utterances of /ae/ by nine men, as series of twelve cepstrum coefficients.

Kudo, Toyama, Shimbo (1999). Multidimensional Curve Classification Using Passing-Through Regions.
From the PyPI package ``sktime``.
"""

from collections.abc import Iterator
from pathlib import Path

import datasets

from expunge.data import splits
from expunge.data.packages import Package, Registry
from expunge.data.prepared import DataSet, Sources
from expunge.errors import IntegrityError

LICENCE = "BSD-3-Clause"
SPEAKERS = tuple(f"speaker {i}" for i in range(1, 10))
COEFFICIENTS = 12

PACKAGE = Package(
    Registry.PYPI,
    "sktime",
    "1.2.0",
    "sktime-1.2.0-py3-none-any.whl",
    "dbffc6731d2d683b668dceb5e2bbc5804bebc8446b4c580803a281684d90e4ae",
    8_201_107,
    LICENCE,
)

Series = list[list[float]]


def _utterances(path: Path) -> Iterator[tuple[Series, int]]:
    """Twelve series of one length, and the number of the speaker from 0."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise IntegrityError(f"{path.name} cannot be read ({error}); fetch it again.") from None
    for number, line in enumerate(lines, 1):
        if not line.strip() or line[0] in "#@":
            continue
        *parts, speaker = line.split(":")
        try:
            series = [[float(value) for value in part.split(",")] for part in parts]
            label = SPEAKERS.index(f"speaker {int(speaker)}")
        except ValueError as error:
            raise IntegrityError(
                f"Line {number} of {path.name} is no utterance ({error}); fetch it again."
            ) from None
        if len(series) != COEFFICIENTS or len({len(one) for one in series}) != 1:
            raise IntegrityError(
                f"Line {number} of {path.name} has {len(series)} series, and {COEFFICIENTS} of "
                "one length are expected; fetch it again."
            )
        yield series, label


def table(sources: Sources) -> datasets.Dataset:
    """All utterances in the order of the files: 270 with every sixth for validation, 370 test."""
    root = sources[PACKAGE.name] / "sktime/datasets/data/JapaneseVowels"
    columns = ("id", "subject", "label", "split", "cepstra", "length")
    rows: dict[str, list[object]] = {name: [] for name in columns}
    for part in ("train", "test"):
        path = root / f"JapaneseVowels_{part.upper()}.ts"
        for i, (series, label) in enumerate(_utterances(path)):
            rows["id"].append(f"japanese-vowels:{part}/{i:03d}")
            rows["subject"].append(SPEAKERS[label])
            rows["label"].append(label)
            rows["split"].append(splits.of_source(part, i))
            rows["cepstra"].append(series)
            rows["length"].append(len(series[0]))
    text = datasets.Value("string")
    features = datasets.Features(
        {
            "id": text,
            "subject": text,
            "label": datasets.ClassLabel(names=list(SPEAKERS)),
            "split": text,
            "cepstra": datasets.List(datasets.List(datasets.Value("float64"))),
            "length": datasets.Value("int64"),
            "licence": text,
        }
    )
    licence = [LICENCE] * len(rows["id"])
    return datasets.Dataset.from_dict({**rows, "licence": licence}, features=features)


ENTRIES = (
    DataSet(
        "japanese-vowels",
        "640 utterances by nine speakers, 12 cepstrum coefficients x 7 to 29 frames",
        (PACKAGE,),
        LICENCE,
        False,
        640,
        "dda0b0b51f57ac8f6846f32268370af8f83f096ed4676b502a57d0e59687e514",
        table,
        "speaker",
        note="The licence is the package's; the recordings are of the UCI archive (Kudo, Toyama, "
        "Shimbo 1999), whose own terms were not checked: fetched, never shipped.",
    ),
)
