"""``expunge account``: who may sign in to the service, with which roles, and by which keys."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from expunge.cli.ledger import KeysFolder, Url
from expunge.cli.output import JsonPath, console, table, write_json
from expunge.errors import ExpungeError, UnknownError
from expunge.ledger import accounts
from expunge.ledger.accounts import EVERY, Account, Role
from expunge.ledger.actions import TERMINAL, Action, Outcome, put_down
from expunge.ledger.opening import Ledger
from expunge.service.passwords import LONGEST, Passwords, check_password, generated

app = typer.Typer(no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Name of an account.")]
PasswordFile = Annotated[
    Path | None,
    typer.Option(
        "--password-file", help="Holds the password in its first line; - reads standard input."
    ),
]
Generate = Annotated[
    bool, typer.Option("--generate", help="Make a random password, and print it once.")
]
MODELS = f"Name of a model, or '{EVERY}' for every one."
ROLES = [role.value for role in Role if role is not Role.ADMIN]


@app.command()
def add(
    name: Name,
    admin: Annotated[bool, typer.Option("--admin", help="May do everything.")] = False,
    grants: Annotated[
        list[str] | None,
        typer.Option(
            "--grant",
            metavar="MODEL=ROLE",
            help=f"{', '.join(ROLES)} of a model, or of '{EVERY}'; repeatable.",
        ),
    ] = None,
    password_file: PasswordFile = None,
    generate: Generate = False,
    keys_only: Annotated[
        bool, typer.Option("--keys-only", help="No password: for a program.")
    ] = False,
    ledger: Url = None,
    keys: KeysFolder = None,
) -> None:
    """Make an account; asks for its password."""
    roles = dict(_granted(text) for text in grants or ())
    opened = Ledger.open(ledger, keys)
    called = accounts.checked_name(name)
    if accounts.by_name(opened, called) is not None:
        raise ExpungeError(f"There is an account {called!r} already; give another name.")
    password = None if keys_only else _password(called, password_file, generate)
    hashed = None if password is None else Passwords().hashed(password.text)
    made = accounts.create(opened, called, hashed, admin, roles)
    _put_down(opened, "create account", made)
    console.print(f"{called}: account {made}")
    if password is not None:
        password.tell()


@app.command("list")
def list_(ledger: Url = None, keys: KeysFolder = None, json: JsonPath = None) -> None:
    """Every account with its roles."""
    found = accounts.accounts(Ledger.open(ledger, keys))
    rows = [
        [
            own.name,
            own.id,
            "disabled" if own.disabled else "open",
            "password" if own.password_hash else "keys",
            _roles(own),
        ]
        for own in found
    ]
    console.print(table("Accounts", ["name", "id", "state", "signs in by", "roles"], rows))
    write_json(
        json,
        [
            {
                "account": own.id,
                "name": own.name,
                "admin": own.admin,
                "disabled": own.disabled,
                "password": own.password_hash is not None,
                "created": own.created_at,
                "grants": dict(own.grants),
            }
            for own in found
        ],
    )


@app.command()
def grant(
    name: Name,
    model: Annotated[str, typer.Argument(help=MODELS)],
    role: Annotated[str, typer.Argument(help=f"One of {', '.join(ROLES)}.")],
    ledger: Url = None,
    keys: KeysFolder = None,
) -> None:
    """Give an account a role for a model, in the place of the one it had there."""
    opened = Ledger.open(ledger, keys)
    own = _named(opened, name)
    accounts.grant(opened, own.id, model, _role(role))
    _put_down(opened, "grant", own.id, model)
    console.print(f"{own.name}: {_roles(accounts.account(opened, own.id))}", soft_wrap=True)


@app.command()
def withdraw(
    name: Name,
    model: Annotated[str, typer.Argument(help=MODELS)],
    ledger: Url = None,
    keys: KeysFolder = None,
) -> None:
    """Take the role that an account has for a model away."""
    opened = Ledger.open(ledger, keys)
    own = _named(opened, name)
    accounts.withdraw(opened, own.id, model)
    _put_down(opened, "withdraw", own.id, model)
    console.print(f"{own.name}: {_roles(accounts.account(opened, own.id))}", soft_wrap=True)


@app.command()
def key(
    name: Name,
    label: Annotated[str, typer.Option(help="What it is for.")],
    expires: Annotated[
        str | None, typer.Option(help="ISO 8601 with a time zone; never by default.")
    ] = None,
    ledger: Url = None,
    keys: KeysFolder = None,
) -> None:
    """Make a key for an account, and print it once."""
    opened = Ledger.open(ledger, keys)
    own = _named(opened, name)
    made, whole = accounts.issue_key(opened, own.id, label, Passwords().hashed, expires)
    _put_down(opened, "make key", made)
    console.print(f"{made}: send it as 'Authorization: Bearer ...'; nobody can read it again:")
    console.print(whole, soft_wrap=True)


@app.command("keys")
def list_keys(
    name: Name, ledger: Url = None, keys: KeysFolder = None, json: JsonPath = None
) -> None:
    """The keys of an account, without their secrets."""
    opened = Ledger.open(ledger, keys)
    found = accounts.keys(opened, _named(opened, name).id)
    rows: list[Sequence[object]] = [
        [own.id, own.label, own.created_at, own.expires_at or "-", own.revoked_at or "-"]
        for own in found
    ]
    console.print(table(f"Keys of {name}", ["id", "label", "created", "expires", "revoked"], rows))
    write_json(
        json,
        [
            {n: value for n, value in vars(own).items() if n != "secret_hash"}
            | {"alive": own.alive}
            for own in found
        ],
    )


@app.command("revoke-key")
def revoke_key(
    identifier: Annotated[str, typer.Argument(metavar="ID", help="Id of a key.")],
    ledger: Url = None,
    keys: KeysFolder = None,
) -> None:
    """Let a key open nothing any more, from now on."""
    opened = Ledger.open(ledger, keys)
    accounts.revoke_key(opened, identifier)
    _put_down(opened, "revoke key", identifier)
    console.print(f"{identifier}: revoked")


@app.command()
def disable(name: Name, ledger: Url = None, keys: KeysFolder = None) -> None:
    """Let an account do nothing any more: its sessions end, its keys open nothing."""
    opened = Ledger.open(ledger, keys)
    own = _named(opened, name)
    accounts.disable(opened, own.id)
    _put_down(opened, "disable account", own.id)
    console.print(f"{own.name}: disabled")


@app.command()
def enable(name: Name, ledger: Url = None, keys: KeysFolder = None) -> None:
    """Let a disabled account act again; keys that were not revoked open it again."""
    opened = Ledger.open(ledger, keys)
    own = _named(opened, name)
    accounts.change(opened, own.id, disabled=False)
    _put_down(opened, "enable account", own.id)
    console.print(f"{own.name}: enabled")


@app.command()
def password(
    name: Name,
    password_file: PasswordFile = None,
    generate: Generate = False,
    remove: Annotated[
        bool, typer.Option("--remove", help="No password any more: keys alone open it.")
    ] = False,
    ledger: Url = None,
    keys: KeysFolder = None,
) -> None:
    """Give an account another password; its sessions end."""
    opened = Ledger.open(ledger, keys)
    own = _named(opened, name)
    given = None if remove else _password(own.name, password_file, generate)
    hashed = None if given is None else Passwords().hashed(given.text)
    accounts.set_password(opened, own.id, hashed)
    _put_down(opened, "change password", own.id)
    console.print(f"{own.name}: the password is {'removed' if given is None else 'changed'}")
    if given is not None:
        given.tell()


@dataclass(frozen=True, repr=False)
class _Password:
    """A password, and whether nobody but this process knows it."""

    text: str
    made: bool

    def tell(self) -> None:
        """Print it where nobody knows it yet."""
        if self.made:
            console.print(f"Its password, which is not shown again: {self.text}", soft_wrap=True)


def _password(name: str, file: Path | None, generate: bool) -> _Password:
    """The password that is given in a file, on the terminal, or made."""
    if generate:
        return _Password(generated(), True)
    if file is not None:
        text = _first_line(file)
    elif sys.stdin.isatty():
        text = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    else:
        raise ExpungeError(
            "No password was given, and there is no terminal to ask on; give --password-file FILE, "
            "--generate, or none with --keys-only (of `add`) or --remove (of `password`)."
        )
    check_password(text, name)
    return _Password(text, False)


def _first_line(file: Path) -> str:
    try:
        if str(file) == "-":
            line = sys.stdin.readline(LONGEST + 2)
        else:
            with file.open(encoding="utf-8") as opened:
                line = opened.readline(LONGEST + 2)
    except (OSError, UnicodeDecodeError):
        raise ExpungeError(
            f"The file {file} with the password cannot be read; give a text file in UTF-8."
        ) from None
    return line.rstrip("\r\n")


def _named(ledger: Ledger, name: str) -> Account:
    found = accounts.by_name(ledger, name)
    if found is None:
        raise UnknownError(f"There is no account {name!r}; `expunge account list` lists them.")
    return found


def _granted(text: str) -> tuple[str, Role]:
    model, separator, role = text.rpartition("=")
    if not separator or not model:
        raise ExpungeError(f"--grant {text!r} is no MODEL=ROLE; give one such as emoji=operator.")
    return model, _role(role)


def _role(text: str) -> Role:
    if text not in ROLES:
        raise ExpungeError(f"There is no role {text!r} of a model; give {', '.join(ROLES)}.")
    return Role(text)


def _roles(own: Account) -> str:
    held = [f"{model}={role}" for model, role in sorted(own.grants.items())]
    return ", ".join((["admin"] if own.admin else []) + held) or "none"


def _put_down(ledger: Ledger, what: str, target: str, model: str | None = None) -> None:
    """Write an action of whoever works on this machine down; an account is not known of them."""
    put_down(ledger, Action(None, TERMINAL, what, Outcome.DONE, model, target))
