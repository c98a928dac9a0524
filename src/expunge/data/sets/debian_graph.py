"""The Debian package graph: packages, what they depend on, their section, tags and description.

From the package index of the machine, which changes with every point release: it is frozen when it
is first fetched, and the digest of the prepared table names the copy.
"""

import re
from collections.abc import Iterator, Mapping

import datasets

from expunge.data.packages import AptIndex
from expunge.data.prepared import DataSet, Sources, split_by_id
from expunge.errors import IntegrityError

INDEX = AptIndex()
LICENCE = "LicenseRef-Debian-package-index"
NEEDED = ("Package", "Section", "Maintainer", "Description")

Stanza = Mapping[str, str]
"""The fields of one package, by their names."""


def stanzas(text: str) -> Iterator[Stanza]:
    """The packages of an index in Debian's control format.

    Raises:
        IntegrityError: a line belongs to no field.
    """
    for block in re.split(r"\n\s*\n", text.strip()):
        fields: dict[str, str] = {}
        last = ""
        for line in block.split("\n"):
            name, colon, value = line.partition(":")
            if line[:1].isspace() and last:
                fields[last] += "\n" + line.strip()
            elif colon and name and not line[:1].isspace():
                last = name
                fields[name] = value.strip()
            else:
                raise IntegrityError(
                    f"The package index has the line {line[:60]!r}, which is no field; remove "
                    f"{INDEX.file} from the cache and fetch again."
                )
        yield fields


def by_name(text: str) -> dict[str, Stanza]:
    """The packages in the order of their names.

    Raises:
        IntegrityError: there is none, one has no section or description, or a name comes twice.
    """
    if not text.strip():
        raise IntegrityError(
            f"The package index is empty; remove {INDEX.file} from the cache and fetch again."
        )
    found: dict[str, Stanza] = {}
    for stanza in stanzas(text):
        missing = [name for name in NEEDED if name not in stanza]
        if missing or stanza["Package"] in found:
            wrong = f"lacks {', '.join(missing)}" if missing else "comes twice"
            raise IntegrityError(
                f"The package {stanza.get('Package', '?')!r} of the index {wrong}; remove "
                f"{INDEX.file} from the cache and fetch again."
            )
        found[stanza["Package"]] = stanza
    return dict(sorted(found.items()))


def named(relation: str, known: Mapping[str, Stanza], own: str) -> list[str]:
    """The packages of a relation field that exist, each once; of alternatives the first.

    Args:
        relation: such as ``libc6 (>= 2.34), exim4 | mail-transport-agent``.
        known: all packages; virtual ones are not among them.
        own: the package whose field it is, which is left out.
    """
    first = (re.split(r"[\s(|:]", part.strip(), maxsplit=1)[0] for part in relation.split(","))
    return list(dict.fromkeys(name for name in first if name in known and name != own))


def table(sources: Sources) -> datasets.Dataset:
    """One row a package, in the order of the names; splits by id, equal shares of each section."""
    index = sources[INDEX.name] / "index.txt"
    try:
        packages = by_name(index.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise IntegrityError(f"The package index cannot be read ({error}).") from None
    sections = [p["Section"].rpartition("/")[2] for p in packages.values()]
    classes = sorted(set(sections))
    labels = [classes.index(section) for section in sections]
    ids = [f"debian-packages:{name}" for name in packages]
    lists = {
        field.lower(): [named(p.get(field, ""), packages, name) for name, p in packages.items()]
        for field in ("Depends", "Recommends")
    }
    columns = {
        "id": ids,
        "subject": list(packages),
        "name": list(packages),
        "text": [p["Description"] for p in packages.values()],
        "maintainer": [p["Maintainer"].partition(" <")[0].strip('"') for p in packages.values()],
        "split": split_by_id(ids, labels),
        "licence": [LICENCE] * len(ids),
    }
    tags = [re.findall(r"[^\s,]+", p.get("Tag", "")) for p in packages.values()]
    strings = datasets.List(datasets.Value("string"))
    features = datasets.Features(
        {name: datasets.Value("string") for name in columns}
        | {"label": datasets.ClassLabel(names=classes)}
        | {"tags": strings, "depends": strings, "recommends": strings}
    )
    return datasets.Dataset.from_dict(
        {**columns, "label": labels, "tags": tags, **lists}, features=features
    )


ENTRIES = (
    DataSet(
        "debian-packages",
        "the Debian package graph: about 64,000 packages, 270,000 edges, 58 sections",
        (INDEX,),
        LICENCE,
        False,
        0,
        None,
        table,
        "package",
        note=(
            "Frozen when it is first fetched, so it differs between machines and days: a result "
            "must name the digest. The text is the one-line description. Of alternatives the "
            "first is the edge; virtual packages are no nodes. Maintainers are named without "
            "their addresses. No licence of the index as a whole is stated: fetched, never shipped."
        ),
    ),
)
