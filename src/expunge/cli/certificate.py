"""``expunge certificate``: check a certificate without the ledger, save one, measure it again."""

from pathlib import Path
from typing import Annotated

import typer

from expunge.cli.output import JsonPath, console, table, writable, write_json
from expunge.errors import ExpungeError
from expunge.ledger.certificate import Removal, verified
from expunge.storage import write_bytes

app = typer.Typer(no_args_is_help=True)

File = Annotated[Path, typer.Argument(help="A certificate (JSON).")]


def read_certificate(path: Path) -> bytes:
    """The bytes of a certificate.

    Raises:
        ExpungeError: the file cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise ExpungeError(
            f"The certificate {path} cannot be read ({error.strerror}); give the file as it was "
            "issued."
        ) from None


@app.command()
def verify(
    file: File,
    key: Annotated[Path, typer.Option(help="The public signing key (signing.pub, PEM).")],
    json: JsonPath = None,
) -> None:
    """Check signature and form, and print what is stated; needs no ledger."""
    try:
        public = key.read_bytes()
    except OSError as error:
        raise ExpungeError(
            f"The key {key} cannot be read ({error.strerror}); give signing.pub of the ledger."
        ) from None
    stated = verified(read_certificate(file), public)
    removal = Removal.from_json(stated["predicate"])
    show(removal)
    console.print("The signature holds.")
    write_json(json, removal.to_json())


def show(removal: Removal) -> None:
    """Print what a certificate states."""
    answered = ", ".join(f"{n} {kind}" for kind, n in sorted(removal.kinds.items())) or "none"
    parent = "none" if removal.parent is None else f"@{removal.parent}"
    for name, value in (
        ("model", f"{removal.model}@{removal.version}, made from {parent} ({removal.cause})"),
        ("weights", removal.after),
        ("requests", answered),
        ("method", removal.method),
        ("settings", removal.settings),
        ("aggregation", removal.aggregation),
        ("deletion state", removal.deletion_state),
        ("certified", None if removal.certified is None else removal.certified.told()),
        ("training records from before", removal.records_before),
        ("issued", f"{removal.issued_at} by expunge {removal.code_version}"),
    ):
        if value is not None:
            console.print(f"{name}: {value}", soft_wrap=True)
    rows = [
        [
            f.name,
            "-" if f.value is None else f"{f.value:.4f}",
            "-" if f.threshold is None else f"{f.threshold:g}",
            "-" if f.passed is None else ("yes" if f.passed else "no"),
            f.against or "-",
        ]
        for f in removal.figures
    ]
    console.print(table("Figures", ["figure", "value", "threshold", "passed", "against"], rows))
    console.print("Not covered:")
    for sentence in removal.not_covered:
        console.print(f"  - {sentence}", soft_wrap=True)


@app.command()
def save(
    model: Annotated[str, typer.Argument(help="Name of a registered model.")],
    file: Annotated[Path, typer.Argument(help="Where to write the certificate.")],
    version: Annotated[int | None, typer.Option(help="The current one by default.")] = None,
    ledger: Annotated[str | None, typer.Option(envvar="EXPUNGE_LEDGER", metavar="URL")] = None,
    keys: Annotated[Path | None, typer.Option(envvar="EXPUNGE_LEDGER_KEYS")] = None,
) -> None:
    """Write the certificate of a version, to be kept outside the ledger."""
    from expunge.ledger.opening import Ledger
    from expunge.ledger.serving import version_row

    writable(file, "The certificate")
    opened = Ledger.open(ledger, keys)
    _, row = version_row(opened, model, version)
    write_bytes(file, opened.read(row["certificate"]))
    console.print(f"Written to {file}", soft_wrap=True)


@app.command()
def replay(
    file: File,
    ledger: Annotated[str | None, typer.Option(envvar="EXPUNGE_LEDGER", metavar="URL")] = None,
    keys: Annotated[Path | None, typer.Option(envvar="EXPUNGE_LEDGER_KEYS")] = None,
    json: JsonPath = None,
) -> None:
    """Rebuild the version of a certificate, measure it again, and compare the figures."""
    from expunge.ledger.opening import Ledger
    from expunge.ledger.replaying import replay as measured_again

    opened = Ledger.open(ledger, keys)
    found = measured_again(opened, read_certificate(file))
    rows = [
        [f.name, "-" if f.value is None else f"{f.value:.6f}", "-" if a is None else f"{a:.6f}"]
        for f, a in found.figures
    ]
    title = f"{found.model}@{found.version}"
    console.print(table(title, ["figure", "certified", "measured now"], rows))
    write_json(
        json,
        {
            "holds": found.holds,
            "weights": found.weights,
            "figures": [[f.name, f.value, a] for f, a in found.figures],
        },
    )
    if not found.holds:
        raise ExpungeError(
            "The weights or a figure are not the certified ones; `expunge ledger verify` says "
            "whether something was altered. Other machines give other last digits."
        )
    console.print(
        f"The weights are the certified ones, and so are {found.measured} of {len(found.figures)} "
        "figures; the rows of the others are gone."
        if found.measured < len(found.figures)
        else "The weights and every figure are the certified ones."
    )
