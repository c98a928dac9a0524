"""``expunge serve``: the ledger over HTTP for programs, and its pages for people."""

from pathlib import Path
from typing import Annotated

import typer

from expunge.cli.ledger import KeysFolder, Url
from expunge.cli.output import console
from expunge.ledger.opening import Ledger
from expunge.service.access import FIRST, first_admin
from expunge.service.passwords import Passwords
from expunge.service.serving import serve as answer
from expunge.service.settings import settings_of


def serve(
    host: Annotated[
        str | None, typer.Option(help="Address to listen on; 127.0.0.1 by default.")
    ] = None,
    port: Annotated[int | None, typer.Option(help="8000 by default; 0 takes a free one.")] = None,
    worker: Annotated[
        bool | None, typer.Option("--worker/--no-worker", help="Start a worker, too (default).")
    ] = None,
    tls_cert: Annotated[
        Path | None, typer.Option(help="Certificate of the server (PEM), with --tls-key.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its private key (PEM).")] = None,
    behind_proxy: Annotated[
        bool | None, typer.Option("--behind-proxy", help="A reverse proxy ends TLS before it.")
    ] = None,
    trusted_host: Annotated[
        list[str] | None, typer.Option(help="A name that it may be asked by; repeatable.")
    ] = None,
    run_files: Annotated[
        Path | None, typer.Option(help="Folder of run files that models are registered from.")
    ] = None,
    ledger: Url = None,
    keys: KeysFolder = None,
) -> None:
    """Answer over HTTP until it is stopped; EXPUNGE_SERVICE_* sets the rest."""
    settings = settings_of(
        host=host,
        port=port,
        worker=worker,
        tls_cert=tls_cert,
        tls_key=tls_key,
        behind_proxy=behind_proxy,
        trusted_hosts=tuple(trusted_host) if trusted_host else None,
        run_files=run_files,
    )
    opened = Ledger.open(ledger, keys)
    password = first_admin(opened, Passwords(settings.argon2))
    if password is not None:
        console.print(f"There was no account: sign in as {FIRST!r} with {password}", soft_wrap=True)
        console.print("It is not shown again; change it at your account.", soft_wrap=True)

    def started(address: str) -> None:
        console.print(f"Listening on {address}", soft_wrap=True)

    if not answer(opened, settings, started, ledger, keys):
        raise typer.Exit(1)
