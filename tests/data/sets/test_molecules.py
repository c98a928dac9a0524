"""Molecules: what is read from SDF and CSV files, and the two whole sets."""

from pathlib import Path

import numpy as np
import pytest

from expunge.data import catalogue
from expunge.data.sets import molecules
from expunge.errors import IntegrityError

ATOM = "    0.0000    0.0000    0.0000 {} 0  0"


def record(name: str, number: int, smiles: str = "smiles", bond: str = "  1  2  2") -> str:
    """Two atoms, one bond, and the second atom charged."""
    return "\n".join(
        [
            name, "     drawn", "", "  2  1  0  0  0  0            999 V2000",
            ATOM.format("C "), ATOM.format("Cl"), bond, "M  CHG  2   1   1   2  -1", "M  END",
            f">  <ID>  ({number}) ", str(number), "", f">  <NAME>  ({number}) ", name, "",
            ">  <SOL>  (1) ", "-2.5", "", "> <SOL_classification>", "(B) medium", "",
            f"> <{smiles}>", "CCl", "", "$$$$", "",
        ]
    )  # fmt: skip


def source(root: Path, train: str, test: str = record("salt", 5, "SMILES")) -> dict[str, Path]:
    folder = root / molecules.FOLDER
    folder.mkdir(parents=True)
    (folder / "solubility.train.sdf").write_text(train, encoding="utf-8")
    (folder / "solubility.test.sdf").write_bytes(test.replace("\n", "\r\n").encode())
    return {molecules.PACKAGE.name: root}


def test_atoms_bonds_charges_and_facts_of_both_dialects(tmp_path: Path) -> None:
    table = molecules.solubility(source(tmp_path, record("sugar", 3)))
    assert table["id"][:] == ["solubility:train/0003", "solubility:test/0005"]
    assert table["subject"][:] == ["sugar", "salt"]
    assert table["split"][1] == "test"
    for row in table:
        assert row["atoms"] == ["C", "Cl"]
        assert row["bonds"] == [[0, 1, 2]]
        assert row["charges"] == [[0, 1], [1, -1]]
        assert (row["target"], row["label"], row["smiles"]) == (-2.5, 1, "CCl")


def test_validation_is_about_a_sixth_of_the_training_file(tmp_path: Path) -> None:
    many = "".join(record(f"molecule {i}", i) for i in range(600))
    splits = molecules.solubility(source(tmp_path, many))["split"][:]
    assert 70 < splits.count("validation") < 130
    assert splits.count("test") == 1


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (record("sugar", 3)[:-5], "ends inside a molecule"),
        (record("sugar", 3, bond="  1  3  2"), "Molecule 1 .* an atom that is not there"),
        (record("sugar", 3).replace("V2000", "V3000"), "Molecule 1 .* no V2000 record"),
        (record("sugar", 3).replace("SOL>", "LOS>"), "lacks a field .*'sol'"),
        (record("sugar", 3).replace("medium", "some"), "lacks a field or has a bad one"),
    ],
)
def test_a_malformed_molecule_is_refused(tmp_path: Path, broken: str, said: str) -> None:
    with pytest.raises(IntegrityError, match=said):
        molecules.solubility(source(tmp_path, broken))


def test_hydration_energies_are_read_with_quoted_names(tmp_path: Path) -> None:
    folder = tmp_path / molecules.FOLDER
    folder.mkdir(parents=True)
    text = 'iupac,smiles,expt,calc\n"1,2-ethanediol",OCCO,-9.3,-7.4\nmethane,C,2.0,2.4\n'
    (folder / "freesolv.csv").write_text(text, encoding="utf-8")
    table = molecules.freesolv({molecules.PACKAGE.name: tmp_path})
    assert table["text"][:] == ["1,2-ethanediol", "methane"]
    assert table["target"][:] == [-9.3, 2.0]
    assert table["computed"][:] == [-7.4, 2.4]
    (folder / "freesolv.csv").write_text(text.replace("-9.3", ""), encoding="utf-8")
    with pytest.raises(IntegrityError, match="cannot be read as a table"):
        molecules.freesolv({molecules.PACKAGE.name: tmp_path})


@pytest.mark.slow
def test_all_molecules_with_their_solubility() -> None:
    prepared = catalogue.fetched("solubility")
    table = prepared.load()
    assert prepared.digest == prepared.entry.digest
    assert len(prepared.load("test")) == 257
    assert len(set(table["subject"][:])) == len(table) == 1282
    # The level is the solubility in three ranges that do not overlap.
    target, label = np.array(table["target"][:]), np.array(table["label"][:])
    edges = [(target[label == k].min(), target[label == k].max()) for k in range(3)]
    assert edges[0][1] <= edges[1][0]
    assert edges[1][1] <= edges[2][0]
    # Larger molecules dissolve less.
    sizes = [len(atoms) for atoms in table["atoms"][:]]
    assert np.corrcoef(sizes, target)[0, 1] < -0.4


@pytest.mark.slow
def test_all_molecules_with_their_hydration_energy() -> None:
    prepared = catalogue.fetched("freesolv")
    table = prepared.load()
    assert prepared.digest == prepared.entry.digest
    assert len(set(table["smiles"][:])) == len(table) == 642
    assert np.corrcoef(table["target"][:], table["computed"][:])[0, 1] == pytest.approx(
        0.933, abs=1e-3
    )
