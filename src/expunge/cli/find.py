"""``expunge find``: who and what is affected, before anything is removed."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import datasets
import typer
import yaml

from expunge.audit.finding import (
    Finding,
    Search,
    Sought,
    efficientnet_features,
    measured_recall,
)
from expunge.cli.output import JsonPath, console, table, writable, write_json
from expunge.data.duplicates.content import Searched, open_searched
from expunge.data.duplicates.pictures import NearPicture
from expunge.data.duplicates.terms import Hit, Term
from expunge.data.duplicates.text import NearText
from expunge.errors import ExpungeError
from expunge.requests import Rows
from expunge.run_file.reading import Loaded, read
from expunge.storage import write_bytes

SHOWN = 20
"""Lines of one table on the terminal; the files of --json and --write have all."""


def find(
    where: Annotated[
        list[str],
        typer.Argument(
            help="A run file, whose requests and tables are read; or tables: files, folders, sets, "
            "SOURCE:SPLIT for one split."
        ),
    ],
    term: Annotated[
        list[str] | None, typer.Option(help="A person, word or e-mail address; may be repeated.")
    ] = None,
    column: Annotated[
        str | None, typer.Option(help="Look for the rows of the first table by this column ...")
    ] = None,
    value: Annotated[
        list[str] | None, typer.Option(help="... where it holds this; may be repeated.")
    ] = None,
    like: Annotated[
        str | None, typer.Option(help="Look for every row of this table in the others.")
    ] = None,
    compare: Annotated[
        list[str] | None,
        typer.Option(help="Column to compare; pictures and free text by default. Repeatable."),
    ] = None,
    key: Annotated[
        list[str] | None,
        typer.Option(help="Identifying column: rows that agree on all of them match. Repeatable."),
    ] = None,
    id_column: Annotated[str | None, typer.Option(help="Column of ids; `id` by default.")] = None,
    embedding: Annotated[
        bool, typer.Option("--embedding", help="Compare features of EfficientNet-lite0, too.")
    ] = False,
    write: Annotated[
        Path | None, typer.Option(help="Write requests that name the found rows, too, as YAML.")
    ] = None,
    json: JsonPath = None,
) -> None:
    """List mentions of a term, or copies and near-duplicates of the rows to be forgotten."""
    if write is not None:
        writable(write, "The file of --write,")
    loaded = read(Path(where[0])) if _is_run_file(where) else None
    tables, columns = _tables(where, loaded, id_column)
    if term:
        _only(column=column, value=value, like=like, compare=compare, key=key)
        found: Any = _terms([Term(text) for text in term], tables)
        requests = _requests_of_terms(found, tables[0])
    else:
        sought = _sought(loaded, tables, column, value, like, id_column)
        embed = efficientnet_features() if embedding else None
        search = Search(tables, tuple(compare or columns), tuple(key or ()), embed)
        findings = search.look(sought)
        _show(findings)
        found = {"requests": [_figures(finding) for finding in findings]}
        requests = _requests(findings, tables[0].name, sought[0].table is tables[0])
    if write is not None:
        content = yaml.safe_dump({"requests": requests}, sort_keys=False, allow_unicode=True)
        write_bytes(write, content.encode())
        console.print(f"Requests: {write}", soft_wrap=True)
    write_json(json, found)


def _is_run_file(where: Sequence[str]) -> bool:
    files = [name for name in where if name.endswith((".yaml", ".yml"))]
    if files and len(where) > 1:
        raise ExpungeError(
            f"The run file {files[0]} was given with {len(where) - 1} more; a run file names its "
            "own tables. Give it alone, or tables alone."
        )
    return bool(files)


def _only(**others: object) -> None:
    for name, given in others.items():
        if given:
            raise ExpungeError(
                f"--{name} was given with --term; a term is looked for in every column. "
                "Ask for one of the two."
            )


def _tables(
    where: Sequence[str], loaded: Loaded | None, id_column: str | None
) -> tuple[list[Searched], tuple[str, ...]]:
    """What is searched, the training rows first, and the input columns of a run file."""
    if loaded is None:
        return [open_searched(source, id_column) for source in where], ()
    named = {
        "train": loaded.deployment.table,
        "validation": loaded.validation_table,
        "test": loaded.test_table,
    }
    tables = [
        Searched(name, given)
        for name, given in named.items()
        if isinstance(given, datasets.Dataset)
    ]
    asked = loaded.file.data.train.columns.input
    inputs = (asked,) if isinstance(asked, str) else tuple(asked)
    held = set(tables[0].table.column_names)
    return tables, inputs if held.issuperset(inputs) else ()


def _sought(
    loaded: Loaded | None,
    tables: Sequence[Searched],
    column: str | None,
    values: list[str] | None,
    like: str | None,
    id_column: str | None,
) -> list[Sought]:
    ways = [loaded is not None, column is not None or bool(values), like is not None]
    if sum(ways) != 1:
        raise ExpungeError(
            f"{sum(ways)} ways to say what is looked for were given, and one is expected: a run "
            "file, --term, --column with --value, or --like."
        )
    if loaded is not None:
        first = tables[0]
        return [
            Sought(r.name, first, tuple(r.target.rows(first.table).tolist()))
            for r in loaded.requests
        ]
    if like is not None:
        own = open_searched(like, id_column)
        return [Sought(like, own, tuple(range(len(own))))]
    if column is None or not values:
        raise ExpungeError("--column and --value go together; give both.")
    rows = Rows(column, tuple(values)).rows(tables[0].table).tolist()
    return [Sought(", ".join(values), tables[0], tuple(rows))]


def _show(findings: Sequence[Finding]) -> None:
    for finding in findings:
        exact = [c for c in finding.copies if c.exact]
        console.print(
            f"{finding.name}: {len(finding.named)} rows named, {len(exact)} exact copies and "
            f"{len(finding.copies) - len(exact)} near-duplicates not named by it",
            soft_wrap=True,
        )
        if finding.copies:
            lines = [
                [c.id, c.table, c.of, c.detector, f"{c.similarity:.3f}", c.named_by or "-"]
                for c in finding.copies[:SHOWN]
            ]
            columns = ["found row", "table", "repeats", "detector", "similarity", "named by"]
            console.print(table("", columns, lines))
            if len(finding.copies) > SHOWN:
                console.print(f"... and {len(finding.copies) - SHOWN} more (--json has all).")
        _show_evidence(finding)


def _show_evidence(finding: Finding) -> None:
    for e in finding.evidence:
        rank = (
            ""
            if e.rank is None
            else (
                f"; {100 * e.rank:.0f} % of {e.unrelated} other rows have a nearest row less alike "
                f"({100 * e.asked / (e.asked + 1):.0f} % is expected of the nearest to {e.asked})"
            )
        )
        near = (
            ""
            if e.nearest is None
            else (f"; nearest: {e.nearest}, similarity {e.similarity:.3f} ({e.measure}){rank}")
        )
        console.print(
            f"  searched {e.table}: {e.rows:,} rows by {e.column} ({', '.join(e.detectors)}){near}",
            soft_wrap=True,
        )
    if finding.nowhere:
        console.print("  Found nowhere else. " + _strength(finding), soft_wrap=True)


def _strength(finding: Finding) -> str:
    """How much a "nowhere" says: the measured recall of the detectors that were used."""
    used = {name for e in finding.evidence for name in e.detectors}
    said = []
    for content, detector in (("texts", NearText.name), ("pictures", NearPicture.name)):
        for planted_in, kinds in measured_recall()[content].items() if detector in used else ():
            least = min(kinds, key=lambda kind: kinds[kind]["recall"])
            recall, low, high = (100 * kinds[least][end] for end in ("recall", "low", "high"))
            said.append(f"{recall:.1f} % [{low:.1f}, {high:.1f}] in {planted_in} ({least})")
    if not said:
        return "The recall of these detectors was not measured."
    return (
        "Of planted copies of the kind that is hardest to find, so many were found: "
        f"{'; '.join(said)}. docs/find.md has what is not found."
    )


def _figures(finding: Finding) -> dict[str, object]:
    return {**dataclasses.asdict(finding), "found nowhere": finding.nowhere} | {
        "measured recall": measured_recall() if finding.nowhere else None
    }


def _requests(
    findings: Sequence[Finding], training: str, named_there: bool
) -> list[dict[str, object]]:
    """The requests with the found training rows, no row in two of them."""
    taken: set[str] = set()
    requests: list[dict[str, object]] = []
    for finding in findings:
        ids = list(finding.named) if named_there else []
        ids += [c.id for c in finding.copies if c.table == training and c.named_by is None]
        new = [i for i in dict.fromkeys(ids) if i not in taken]
        taken |= set(new)
        if new:
            requests.append({"name": finding.name, "column": "id", "values": new})
    return requests


def _terms(terms: Sequence[Term], tables: Sequence[Searched]) -> dict[str, Any]:
    figures: dict[str, Any] = {"terms": []}
    for term in terms:
        hits, absent = [], []
        for searched in tables:
            columns: dict[str, list[str]] = dict(searched.texts())
            columns.setdefault("id", list(searched.ids))
            found = term.hits(columns)
            hits += [(searched, hit) for hit in found]
            absent.append(_searched_for(term, searched, columns, found))
        console.print(f"{term.text}: {_count(hits)}", soft_wrap=True)
        if hits:
            lines = [[s.ids[h.row], s.name, h.column, h.excerpt] for s, h in hits[:SHOWN]]
            console.print(table("", ["row", "table", "column", "text (normalised)"], lines))
            if len(hits) > SHOWN:
                console.print(f"... and {len(hits) - SHOWN} more (--json has all).")
        for line in absent:
            console.print("  " + line.pop("said"), soft_wrap=True)
        figures["terms"].append(
            {
                "term": term.text,
                "hits": [{"table": s.name, "id": s.ids[h.row], **_hit(h)} for s, h in hits],
                "searched": absent,
            }
        )
    return figures


def _count(hits: Sequence[tuple[Searched, Hit]]) -> str:
    rows = {(searched.name, hit.row) for searched, hit in hits}
    return f"named in {len(hits)} cells of {len(rows)} rows" if rows else "named nowhere"


def _hit(hit: Hit) -> dict[str, object]:
    return {"column": hit.column, "text": hit.excerpt}


def _searched_for(
    term: Term, searched: Searched, columns: dict[str, list[str]], hits: Sequence[Hit]
) -> dict[str, Any]:
    said = f"searched {searched.name}: {len(searched):,} rows in {', '.join(columns)}"
    nearest = [] if hits else term.nearest(columns)
    for word in nearest:
        close = f", most like it {word.nearest!r} ({word.similarity:.2f})" if word.nearest else ""
        said += f"; {word.part!r} alone stands in {word.rows} rows{close}"
    return {
        "said": said,
        "table": searched.name,
        "digest": searched.digest,
        "rows": len(searched),
        "columns": list(columns),
        "nearest": [dataclasses.asdict(word) for word in nearest],
    }


def _requests_of_terms(found: dict[str, Any], training: Searched) -> list[dict[str, object]]:
    """One request for each term over the rows of the first table, no row in two of them."""
    taken: set[str] = set()
    requests: list[dict[str, object]] = []
    for one in found["terms"]:
        ids = dict.fromkeys(h["id"] for h in one["hits"] if h["table"] == training.name)
        new = [name for name in ids if name not in taken]
        taken |= set(new)
        if new:
            requests.append({"name": one["term"], "column": "id", "values": new})
    return requests
