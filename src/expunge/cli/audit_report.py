"""``expunge audit report``: the page of a stored audit, rendered again."""

from pathlib import Path
from typing import Annotated

import typer

from expunge.audit.audit_page import write_page, write_pictures
from expunge.audit.audit_schema import read_audit, schema_text
from expunge.cli.output import console, writable, writable_folder
from expunge.storage import write_bytes


def report(
    audit: Annotated[Path, typer.Argument(help="The audit.json of `expunge audit --out FOLDER`.")],
    out: Annotated[Path, typer.Option(help="The HTML file to write.")] = Path("report.html"),
    examples: Annotated[
        bool,
        typer.Option("--examples", help="Name forgotten rows, with the answers before and now."),
    ] = False,
    pictures: Annotated[
        Path | None, typer.Option(help="Folder; also write every picture as an SVG file into it.")
    ] = None,
    schema: Annotated[
        Path | None, typer.Option(help="Also write the JSON schema of audits to this file.")
    ] = None,
) -> None:
    """Render the report of a stored audit: one page, without scripts or network."""
    for path, what in ((out, "The file of --out,"), (schema, "The file of --schema,")):
        if path is not None:
            writable(path, what)
    if pictures is not None:
        writable_folder(pictures, "The folder of --pictures,")
    stored = read_audit(audit)
    write_page(stored, out, examples=examples)
    console.print(f"Report: {out}", soft_wrap=True)
    if pictures is not None:
        written = write_pictures(stored, pictures)
        console.print(f"Pictures: {len(written)} in {pictures}", soft_wrap=True)
    if schema is not None:
        write_bytes(schema, schema_text().encode())
        console.print(f"Schema: {schema}", soft_wrap=True)
