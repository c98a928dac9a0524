"""MUFAC and MUCAC in folders of the user's, laid out as they are published; no face is shipped.

Choi, Na (2023). Towards Machine Unlearning Benchmarks: Forgetting the Personal Identities in Facial
Recognition Systems. Their licences allow research on one's own copy and no passing on. What is kept
of the pictures, scaled down, lies in the benchmark's own folder and nowhere else.

MUFAC: a table and a folder of pictures for each of three sets (F0001-F0299, F0801-F0850,
F0851-F0900). The paper's test set is what the files call ``val``, its unseen set what they call
``test``. A family is the person here: no file says more about who somebody is.

MUCAC: ``CelebA-HQ-identity.txt``, ``CelebA-HQ-attribute.txt`` and ``CelebAMask-HQ/CelebA-HQ-img``.
"""

import csv
import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from expunge.benchmarks.identity.people import FEWEST, Cut, People
from expunge.benchmarks.identity.pixels import PixelSamples
from expunge.data.samples import all_but
from expunge.errors import ExpungeError, IntegrityError
from expunge.storage import Bundle

MUFAC_SETS: Mapping[str, tuple[str, str]] = {
    "train": ("custom_train_dataset.csv", "train_images"),
    "test": ("custom_val_dataset.csv", "val_images"),
    "unseen": ("custom_test_dataset.csv", "test_images"),
}
"""Table and folder of every set of the paper."""

COLUMNS = ("image_path", "age_class")
AGES = "abcdefgh"
"""0-6, 7-12, 13-19, 20-30, 31-45, 46-55, 56-66 and 67-80 years."""

FAMILY = re.compile(r"(F\d+)_")

IDENTITIES, ATTRIBUTES = "CelebA-HQ-identity.txt", "CelebA-HQ-attribute.txt"
FACES = "CelebAMask-HQ/CelebA-HQ-img"
TASKS: Mapping[str, str] = {"gender": "Male", "smiling": "Smiling", "young": "Young"}
"""The attributes of the paper, as the file calls them."""

TRAIN_FROM, RETAIN_FROM, UNSEEN_FROM = 190, 1_250, 4_855
"""Numbers of persons: below the first test, then forget, then retain, then unseen."""

HELD_OUT, FEWEST_HELD = 0.05, 2
"""Share of the persons who stay on whom strengths are chosen instead, and how many at least."""


@dataclass(frozen=True)
class Faces:
    """A published set on the user's disk.

    Args:
        folder: where it lies.
        side: pixels that pictures are scaled to; 128 as published.
        cut: which rows of MUFAC are to be forgotten; of MUCAC it says whether the parts are those
            of the paper.
        kept: folder for the pictures as numbers, so that each is read once.
    """

    folder: Path
    side: int
    cut: Cut
    kept: Path

    def mufac(self) -> People:
        """Eight age classes.

        Raises:
            ExpungeError: a table, a column or a picture is missing, a class or a name is unknown.
        """
        train, test, unseen = (self._mufac_set(name) for name in MUFAC_SETS)
        return self._people(train, self.cut.forgotten(train.subjects), test, unseen)

    def mucac(self, task: str) -> People:
        """Whether an attribute of :data:`TASKS` is there.

        Raises:
            ExpungeError: a file, the attribute or a picture is missing, or a line is no row.
        """
        persons = self._lines(IDENTITIES, 0)
        attribute = self._attribute(TASKS[task])
        rows: dict[str, list[str]] = {"train": [], "test": [], "unseen": []}
        number: dict[str, int] = {}
        for line in persons:
            if len(line) != 2 or not line[1].isdigit():
                raise ExpungeError(
                    f"{self.folder / IDENTITIES} has the line {' '.join(line)!r}; the name of a "
                    "picture and the number of its person are expected."
                )
            name, number[line[0]] = line[0], int(line[1])
            if name not in attribute:
                raise ExpungeError(
                    f"{self.folder / IDENTITIES} names {name!r}, which {ATTRIBUTES} does not; both "
                    "files of the published set are expected."
                )
            person = number[name]
            part = "test" if person < TRAIN_FROM else "train"
            rows["unseen" if person >= UNSEEN_FROM else part].append(name)
        train, test, unseen = (
            self._read(
                f"mucac {task}",
                FACES,
                names,
                [f"person {number[name]}" for name in names],
                [attribute[name] for name in names],
            )
            for names in rows.values()
        )
        counts = Counter(train.subjects)
        asked = [
            place
            for place, name in enumerate(rows["train"])
            if number[name] < RETAIN_FROM
            and (self.cut.as_published or counts[train.subjects[place]] >= FEWEST)
        ]
        return self._people(train, torch.tensor(asked, dtype=torch.int64), test, unseen)

    def _people(
        self, train: PixelSamples, forgotten: Tensor, test: PixelSamples, unseen: PixelSamples
    ) -> People:
        """As published; or with some of those who stay held out."""
        if self.cut.as_published:
            return People(train, forgotten, test, unseen, as_published=True)
        staying = train.select(all_but(len(train), forgotten))
        names = sorted(
            set(staying.subjects) - set(train.select(forgotten).subjects),
            key=lambda name: hashlib.sha256(f"held out:{name}".encode()).digest(),
        )
        held = set(names[: max(FEWEST_HELD, round(HELD_OUT * len(names)))])
        keeps = [place for place, name in enumerate(train.subjects) if name not in held]
        out = [place for place, name in enumerate(train.subjects) if name in held]
        asked = set(forgotten.tolist())
        return People(
            train.select(torch.tensor(keeps, dtype=torch.int64)),
            torch.tensor([at for at, place in enumerate(keeps) if place in asked]),
            test,
            unseen,
            train.select(torch.tensor(out, dtype=torch.int64)),
        )

    def _mufac_set(self, name: str) -> PixelSamples:
        file, pictures = MUFAC_SETS[name]
        path = self._there(file)
        with path.open(newline="", encoding="utf-8-sig") as opened:
            reader = csv.DictReader(opened)
            found = list(reader)
            has = reader.fieldnames or ()
        for column in COLUMNS:
            if column not in has:
                raise ExpungeError(
                    f"{path} lacks the column {column!r} and has {', '.join(has) or 'none'}; "
                    f"{' and '.join(COLUMNS)} are expected, as MUFAC is published."
                )
        names = [row["image_path"] for row in found]
        families = [FAMILY.match(Path(name).name) for name in names]
        for row, family in zip(found, families, strict=True):
            if family is None or row["age_class"] not in tuple(AGES):
                raise ExpungeError(
                    f"{path} has the row {row['image_path']!r} with the age class "
                    f"{row['age_class']!r}; a name such as F0001_AGE_D_18_a1.jpg, which begins "
                    f"with the family, and a class from {AGES[0]} to {AGES[-1]} are expected."
                )
        return self._read(
            "mufac",
            pictures,
            names,
            [family[1] for family in families if family],
            [AGES.index(row["age_class"]) for row in found],
        )

    def _attribute(self, name: str) -> dict[str, int]:
        """1 or 0 by picture."""
        lines = self._lines(ATTRIBUTES, 1)
        head = lines[0] if lines else []
        if name not in head:
            raise ExpungeError(
                f"{self.folder / ATTRIBUTES} lacks the attribute {name!r} in its second line, "
                f"which has {len(head)} names; the published file with its 40 is expected."
            )
        at = head.index(name) + 1
        for line in lines[1:]:
            if len(line) != len(head) + 1 or line[at] not in ("1", "-1"):
                raise ExpungeError(
                    f"{self.folder / ATTRIBUTES} has a line that begins with {line[0]!r} and holds "
                    f"{len(line)} words; a picture and {len(head)} times 1 or -1 are expected."
                )
        return {line[0]: int(line[at] == "1") for line in lines[1:]}

    def _lines(self, file: str, skipped: int) -> list[list[str]]:
        text = self._there(file).read_text(encoding="utf-8").splitlines()
        return [line.split() for line in text[skipped:] if line.strip()]

    def _there(self, name: str) -> Path:
        path = self.folder / name
        if not path.exists():
            has = ", ".join(sorted(p.name for p in self.folder.glob("*"))[:8]) or "nothing"
            raise ExpungeError(
                f"{path} is not there; the folder holds {has}. The published files are expected "
                "under their own names: see docs/identity.md."
            )
        return path

    def _read(
        self,
        what: str,
        pictures: str,
        names: Sequence[str],
        persons: Sequence[str],
        labels: Sequence[int],
    ) -> PixelSamples:
        """Pictures of a folder, read once."""
        folder = self._there(pictures)
        for name in names:
            if not (folder / name).is_file():
                raise ExpungeError(
                    f"{folder} lacks the picture {name!r} that the table names; unpack the set "
                    "again."
                )
        stats = [(folder / name).stat() for name in names]
        looked = [(name, s.st_size, s.st_mtime_ns) for name, s in zip(names, stats, strict=True)]
        key = hashlib.sha256(repr((pictures, looked, self.side)).encode()).hexdigest()
        file = self.kept / f"{key}.safetensors"
        try:
            pixels = Bundle.load_checked(file).tensors["pixels"]
        except IntegrityError:
            read = [_pixels(folder / name, self.side) for name in names]
            pixels = torch.stack(read) if read else torch.empty(0, 3, 1, 1, dtype=torch.uint8)
            Bundle({"pixels": pixels}).save(file)
        ids = [f"{what}:{pictures}/{name}" for name in names]
        return PixelSamples(ids, list(persons), pixels, torch.tensor(labels, dtype=torch.int64))


def _pixels(path: Path, side: int) -> Tensor:
    """A picture as uint8 (3, side, side)."""
    try:
        with Image.open(path) as opened:
            opened.draft("RGB", (side, side))  # of a JPEG no more is decoded than is needed
            small = opened.convert("RGB").resize((side, side), Image.Resampling.BILINEAR)
    except (OSError, ValueError) as error:
        raise ExpungeError(
            f"The picture {path} cannot be read ({error}); unpack the set again."
        ) from None
    return torch.from_numpy(np.asarray(small).copy()).permute(2, 0, 1).contiguous()
