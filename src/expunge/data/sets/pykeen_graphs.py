"""Three small knowledge graphs of triples (head, relation, tail): Nations, Kinships and UMLS.

Nations: Rummel (1992), Dimensionality of Nations. Kinships: Denham (1973), The Detection of
Patterns in Alyawarra Nonverbal Behavior. UMLS: McCray (2003), An Upper-Level Ontology for the
Biomedical Domain. As used by Kok and Domingos (2007), Statistical Predicate Invention. From the
package ``pykeen``, in its own splits.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import datasets

from expunge.data.packages import Package, Registry
from expunge.data.prepared import DataSet, Sources
from expunge.errors import IntegrityError

LICENCE = "MIT"
PACKAGE = Package(
    Registry.PYPI,
    "pykeen",
    "1.11.1",
    "pykeen-1.11.1-py3-none-any.whl",
    "b6cc0ab012fc6ba4f37b58fb7081a409a5c1f04cbbb0e0e9c2256e911757d4ba",
    730_295,
    LICENCE,
)

FILES = {"train": "train", "valid": "validation", "test": "test"}
"""The files of a graph, and the split that each holds."""

FEATURES = {
    name: datasets.Value("string")
    for name in ("id", "subject", "head", "relation", "tail", "split", "licence")
}


def triples(path: Path) -> list[tuple[str, str, str]]:
    """The (head, relation, tail) of every line.

    Raises:
        IntegrityError: the file is missing, or a line has another number of fields.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise IntegrityError(f"{path.name} of a graph cannot be read ({error}).") from None
    found = []
    for number, line in enumerate(lines, 1):
        fields = line.split("\t")
        if len(fields) != 3:
            raise IntegrityError(
                f"Line {number} of {path} has {len(fields)} fields; head, relation and tail are "
                "expected. Fetch the package again."
            )
        found.append((fields[0], fields[1], fields[2]))
    return found


def table(graph: str, sources: Sources) -> datasets.Dataset:
    """All triples of a graph: train, validation, test, each in the order of its file."""
    root = sources[PACKAGE.name] / "pykeen" / "datasets" / graph
    rows: dict[str, list[str]] = {name: [] for name in FEATURES}
    for part, split in FILES.items():
        for i, (head, relation, tail) in enumerate(triples(root / f"{part}.txt")):
            rows["id"].append(f"pykeen-{graph}:{part}/{i:05d}")
            rows["subject"].append(head)
            rows["head"].append(head)
            rows["relation"].append(relation)
            rows["tail"].append(tail)
            rows["split"].append(split)
            rows["licence"].append(LICENCE)
    return datasets.Dataset.from_dict(rows, features=datasets.Features(FEATURES))


def _entry(graph: str, title: str, rows: int, digest: str) -> DataSet:
    make: Callable[[Sources], datasets.Dataset] = partial(table, graph)
    return DataSet(
        f"pykeen-{graph}",
        title,
        (PACKAGE,),
        LICENCE,
        False,
        rows,
        digest,
        make,
        "head entity",
        note=(
            "Every entity is also a tail: forgetting one as a graph node removes its triples on "
            "both sides. The licence is the package's; the triples are older than it and none was "
            "found for them: fetched, never shipped."
        ),
    )


ENTRIES = (
    _entry(
        "nations",
        "1,992 triples: 14 nations, 55 relations",
        1_992,
        "16e549ee751ce863a5535f0e70df6adf73a1df6853c900867aeb285e590fd7c4",
    ),
    _entry(
        "kinships",
        "10,686 triples: 104 persons, 25 kinship terms",
        10_686,
        "ac8495ae0ef61cce9832d6bebacde97d0a5c8ab50429eeb2e3e857d0f3afd95a",
    ),
    _entry(
        "umls",
        "6,529 triples: 135 biomedical concepts, 46 relations",
        6_529,
        "338afead4ae112b868a7352f5e5da3736eefb1312e4d2d18055e5d4620513860",
    ),
)
