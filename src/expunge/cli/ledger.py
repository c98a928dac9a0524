"""``expunge ledger``: requests for the life of a model, answered, proven, revoked and sealed."""

import json as json_values
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from expunge.cli.certificate import read_certificate
from expunge.cli.output import JsonPath, console, table, write_json
from expunge.data.prompts import lines_in
from expunge.errors import ExpungeError, first_line
from expunge.ledger.asking import ENDED
from expunge.ledger.asking import cancel as withdraw
from expunge.ledger.asking import retry as try_again
from expunge.ledger.asking import revoke as ask_to_revoke
from expunge.ledger.asking import seal as ask_to_seal
from expunge.ledger.collecting import collect
from expunge.ledger.exporting import export as write_export
from expunge.ledger.keys import new_master
from expunge.ledger.lineage import KINDS, declare
from expunge.ledger.lineage import descendants as list_descendants
from expunge.ledger.looking import diff as compare
from expunge.ledger.looking import history as look_back
from expunge.ledger.looking import show as look_at
from expunge.ledger.looking import status as look
from expunge.ledger.material import Source
from expunge.ledger.opening import Ledger, model_row
from expunge.ledger.policy import read_policy
from expunge.ledger.queueing import FAILED, INTERRUPTED
from expunge.ledger.registering import register as put_down
from expunge.ledger.rekeying import rekey as change_master
from expunge.ledger.scope import Scope
from expunge.ledger.sealing import plan as plan_seal
from expunge.ledger.serving import materialise as write_version
from expunge.ledger.serving import version_row
from expunge.ledger.steps import read_history
from expunge.ledger.submitting import LARGEST, Submission, submit
from expunge.ledger.verifying import verify as check

app = typer.Typer(no_args_is_help=True)

Url = Annotated[
    str | None,
    typer.Option(
        "--ledger",
        envvar="EXPUNGE_LEDGER",
        metavar="URL",
        help="sqlite:///FILE or postgresql://...; sqlite:///ledger/ledger.db by default.",
    ),
]
KeysFolder = Annotated[
    Path | None,
    typer.Option(
        "--keys",
        envvar="EXPUNGE_LEDGER_KEYS",
        help="Folder of the keys; beside a SQLite file by default, or the environment.",
    ),
]
Model = Annotated[str, typer.Argument(help="Name of a registered model.")]
RequestId = Annotated[str, typer.Argument(help="Id of a request, as `request` printed it.")]


@app.command()
def init(
    ledger: Url = None,
    keys: KeysFolder = None,
    store: Annotated[
        str | None, typer.Option(help="Folder or s3://bucket/prefix for the encrypted objects.")
    ] = None,
) -> None:
    """Make a ledger with its keys, or bring one of an older version up to date."""
    made = Ledger.init(ledger, store, keys)
    console.print(f"Ledger: {made.database.shown}", soft_wrap=True)
    console.print(
        f"Objects: {made.vault.url}, each encrypted with a key of its own", soft_wrap=True
    )
    console.print(
        f"Master key {made.keys.fingerprint}, signing key {made.keys.key_id[:16]}. Without the "
        "master key nothing can be read; keep a copy away from this disk.",
        soft_wrap=True,
    )


@app.command()
def register(
    name: Annotated[str, typer.Argument(help="What the model is called in the ledger.")],
    run_file: Annotated[
        Path | None,
        typer.Argument(help="Run file with the model, its tables and its method; no requests."),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="MODULE:FUNCTION", help="Returns a Material of expunge.ledger."
        ),
    ] = None,
    arguments: Annotated[
        str, typer.Option(help="What the function of --from is called with, as YAML.")
    ] = "{}",
    policy: Annotated[Path | None, typer.Option(help="YAML file; docs/ledger.md lists it.")] = None,
    ledger: Url = None,
    keys: KeysFolder = None,
) -> None:
    """Put a model into the ledger as version 0."""
    if (run_file is None) == (source is None):
        raise ExpungeError("Give a run file or --from MODULE:FUNCTION, one of the two.")
    rules = read_policy(policy)
    opened = Ledger.open(ledger, keys)
    given = (
        Source.of_run_file(run_file)
        if run_file is not None
        else Source.of_function(str(source), _mapping(arguments, "--arguments"))
    )
    put_down(opened, name, given, rules)
    _, version = version_row(opened, name)
    console.print(f"{name}@0: weights {version['weights_digest']}", soft_wrap=True)
    record = read_history(opened, version["history"]).latest_record
    if record is not None:
        console.print(
            f"With the training record of the learner {record.learner or '?'}, encrypted; its file "
            "is not read any more, and is yours to remove.",
            soft_wrap=True,
        )


@app.command()
def request(
    model: Model,
    ids: Annotated[list[str] | None, typer.Option("--id", help="Id of a row; repeatable.")] = None,
    subject: Annotated[
        list[str] | None, typer.Option(help="A person or thing; repeatable.")
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option("--class", help="A class, by number or text; repeatable.")
    ] = None,
    concept: Annotated[list[str] | None, typer.Option(help="A concept; repeatable.")] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN=VALUE", help="Any column; repeatable for one column."),
    ] = None,
    ids_file: Annotated[
        Path | None, typer.Option("--ids-file", help="A text file with an id in every line.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="What people call it; kept encrypted.")] = None,
    method: Annotated[str | None, typer.Option(help="A registered method.")] = None,
    parameters: Annotated[
        str, typer.Option(help="Fields of the method, as YAML: {learning_rate: 0.0003}.")
    ] = "{}",
    aggregation: Annotated[str | None, typer.Option(help="A registered rule.")] = None,
    strength: Annotated[
        float | None, typer.Option(help="How far the change is applied, above 0.")
    ] = None,
    anchor: Annotated[str | None, typer.Option(help="Concept in the place of the target.")] = None,
    text: Annotated[
        str, typer.Option(help="Words that a model which is told sentences must not draw.")
    ] = "",
    deadline: Annotated[
        str | None, typer.Option(help="ISO 8601 with a zone; the policy's days by default.")
    ] = None,
    priority: Annotated[
        int, typer.Option(min=-LARGEST, max=LARGEST, help="Larger ones are answered first.")
    ] = 0,
    key: Annotated[
        str | None, typer.Option(help="Idempotency key: the same key is the same request.")
    ] = None,
    metadata: Annotated[
        str, typer.Option(help="Your own values, as YAML; encrypted, never in the chain.")
    ] = "{}",
    known: Annotated[
        bool, typer.Option("--known", help="Refuse values that no training row has.")
    ] = False,
    ledger: Url = None,
    keys: KeysFolder = None,
    json: JsonPath = None,
) -> None:
    """Ask for a removal; `expunge ledger run` answers it."""
    scope = _scope(
        {"id": ids, "subject": subject, "label": label, "concept": concept}, where, ids_file
    )
    named = Scope(name or f"{scope[0]} {scope[1][0]}", *scope, anchor, text)
    opened = Ledger.open(ledger, keys)
    receipt = submit(
        opened,
        model,
        Submission(
            named,
            method,
            _mapping(parameters, "--parameters"),
            aggregation,
            strength,
            deadline,
            priority,
            key,
            _mapping(metadata, "--metadata"),
            known,
        ),
    )
    said = f"was received before ({receipt.state})" if receipt.repeated else "received"
    console.print(f"{receipt.request}: request {receipt.number} for {model}, {said}")
    if receipt.state in ENDED:
        console.print(f"`expunge ledger retry {receipt.request}` has it tried again.")
    write_json(json, vars(receipt))


def _scope(
    columns: dict[str, list[str] | None], where: list[str] | None, ids_file: Path | None
) -> tuple[str, tuple[str, ...]]:
    """The one column and the values that the options name."""
    found = {column: tuple(values) for column, values in columns.items() if values}
    for given in where or ():
        column, equals, value = given.partition("=")
        if not equals or not column:
            raise ExpungeError(f"--where {given!r} was given; COLUMN=VALUE is expected.")
        found[column] = (*found.get(column, ()), value)
    if ids_file is not None:
        named = tuple(line.strip() for line in lines_in(ids_file, "ids of", "id"))
        if not named:
            raise ExpungeError(f"{ids_file} holds no id; one in every line is expected.")
        found["id"] = (*found.get("id", ()), *named)
    if len(found) != 1:
        raise ExpungeError(
            f"The request names {len(found)} columns ({', '.join(found) or 'none'}), and one is "
            "expected: --id, --subject, --class, --concept, --where or --ids-file."
        )
    [scope] = found.items()
    return scope


def _mapping(text: str, option: str) -> dict[str, Any]:
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ExpungeError(f"{option} is not readable YAML ({first_line(error)}).") from None
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise ExpungeError(f"{option} {text!r} was given; {{name: value}} is expected.")
    try:
        values: dict[str, Any] = json_values.loads(json_values.dumps(found, default=str))
    except ValueError as error:
        raise ExpungeError(f"{option} cannot be kept as JSON ({first_line(error)}).") from None
    return values


@app.command()
def run(
    forever: Annotated[
        bool, typer.Option("--forever", help="Wait for new requests until it is interrupted.")
    ] = False,
    ledger: Url = None,
    keys: KeysFolder = None,
    json: JsonPath = None,
) -> None:
    """Work on all that waits; exit status 1 where a run failed or was interrupted."""
    from expunge.ledger.worker import Worker  # it brings a database engine of its own

    opened = Ledger.open(ledger, keys)

    def told(name: str, state: str) -> None:
        console.print(f"{name}: {state}")

    # what stops services asks with SIGTERM: it ends a worker as cleanly as Ctrl-C does
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    worker = Worker(opened, told=told)
    try:
        ended = worker.forever(lambda: False) if forever else worker.until_idle()
    except KeyboardInterrupt:
        console.print("Stopped; what is under way is taken up by the next worker.")
        return
    if not ended:
        console.print("Nothing waits.")
    write_json(json, ended)
    _show_status(look(opened))
    if any(state in (FAILED, INTERRUPTED) for state in ended.values()):
        raise typer.Exit(1)


@app.command()
def status(
    model: Annotated[str | None, typer.Argument(help="One model; all by default.")] = None,
    ledger: Url = None,
    keys: KeysFolder = None,
    json: JsonPath = None,
) -> None:
    """Where requests stand, deadlines that are near or past, and runs under way."""
    found = look(Ledger.open(ledger, keys), model)
    _show_status(found)
    write_json(json, found)


def _show_status(found: dict[str, Any]) -> None:
    rows = [
        [
            name,
            f"{own['version']}",
            own["deletion state"] or "-",
            ", ".join(f"{n} {state}" for state, n in sorted(own["requests"].items())) or "none",
            "?" if own["due soon"] is None else len(own["due soon"]),
            len(own["overdue"]),
        ]
        for name, own in found["models"].items()
    ]
    columns = ["model", "version", "deletion state", "requests", "due soon", "overdue"]
    console.print(table("Models", columns, rows))
    for run_ in found["runs"]:
        share = "" if run_["share"] is None else f" ({run_['share']:.0%})"
        console.print(
            f"{run_['run']}: {run_['kind']} for {run_['model']}, {run_['state']}, at the step "
            f"{run_['step']!r}{share} since {run_['since']}",
            soft_wrap=True,
        )
        if run_["why"]:
            why = run_["why"]
            said = why.get("error", why) if isinstance(why, dict) else why
            console.print(f"  why: {said}", soft_wrap=True)
    for name, own in found["models"].items():
        if own["policy"]:
            console.print(f"{name}, policy {own['policy']}", soft_wrap=True)
        for word in ("overdue", "due soon"):
            if own[word]:
                console.print(f"{name}, {word}: {', '.join(own[word])}", soft_wrap=True)
        if own["lagging descendants"]:
            console.print(
                f"{name}, made from an older version: {', '.join(own['lagging descendants'])}",
                soft_wrap=True,
            )


@app.command()
def show(
    request_id: RequestId, ledger: Url = None, keys: KeysFolder = None, json: JsonPath = None
) -> None:
    """All that is known of one request."""
    found = look_at(Ledger.open(ledger, keys), request_id)
    for name, value in found.items():
        if name == "runs":
            _show_runs(value)
        elif value not in (None, [], {}):
            shown = value if isinstance(value, str | int | float) else json_values.dumps(value)
            console.print(f"{name}: {shown}", soft_wrap=True)
    write_json(json, found)


def _show_runs(found: list[dict[str, Any]]) -> None:
    for run_ in found:
        share = "" if run_["share"] is None else f", {run_['share']:.0%} of it done"
        console.print(
            f"{run_['kind']}: {run_['state']}, at the step {run_['step']!r} since "
            f"{run_['since']}{share}",
            soft_wrap=True,
        )


@app.command()
def history(
    model: Model, ledger: Url = None, keys: KeysFolder = None, json: JsonPath = None
) -> None:
    """Every version, and what each scores on the rows of every request."""
    found = look_back(Ledger.open(ledger, keys), model)
    rows = [
        [
            f"{model}@{version['version']}",
            version["cause"],
            version["deletion state"] or "-",
            f"{version['retained']:.3f}",
            f"{version['kept']:.0%}",
        ]
        for version in found["versions"]
    ]
    columns = ["version", "cause", "deletion state", f"retained {found['metric']}", "kept"]
    console.print(table("Versions", columns, rows))
    for version in found["versions"]:
        if version["certified"]:
            console.print(
                f"{model}@{version['version']} is certified for: {version['certified']}. Nothing "
                "else of it is.",
                soft_wrap=True,
            )
    if found["requests"]:
        numbers = [version["version"] for version in found["versions"]]
        lines = [_row(own, len(numbers)) for own in found["requests"]]
        columns = ["request", "state", "before", "to reach", *(f"@{n}" for n in numbers)]
        console.print(table(f"{found['metric'].capitalize()} on forgotten rows", columns, lines))
        if any(
            stored and value is not None
            for own in found["requests"]
            for stored, value in zip(own["stored"], own["after"], strict=True)
        ):
            console.print(
                "(x): not measured again, since its rows are gone; what was measured last."
            )
    write_json(json, found)


def _row(own: dict[str, Any], versions: int) -> list[object]:
    cells = []
    for i in range(versions):
        value, stored = own["after"][i], own["stored"][i]
        text = "-" if value is None else f"{value:.2f}"
        cells.append(f"({text})" if stored and value is not None else text)
    reference = own["reference"]
    return [
        own["request"],
        own["state"],
        "-" if own["before"] is None else f"{own['before']:.2f}",
        "-" if reference is None else f"{reference:.2f}",
        *cells,
    ]


@app.command()
def verify(
    certificate: Annotated[
        Path | None,
        typer.Option(help="A certificate kept outside: it notices a chain that was cut off."),
    ] = None,
    rebuild: Annotated[
        bool, typer.Option(help="Fold the current version of every model again.")
    ] = True,
    ledger: Url = None,
    keys: KeysFolder = None,
    json: JsonPath = None,
) -> None:
    """Check the chain, every row, object and certificate, and rebuild what is in use."""
    opened = Ledger.open(ledger, keys)
    kept = None if certificate is None else read_certificate(certificate)
    found = check(opened, kept, rebuild)
    write_json(json, {**vars(found), "holds": found.holds})
    console.print(
        f"{found.events} events, {found.objects} objects, {found.certificates} certificates; "
        f"{found.rebuilt} current versions rebuilt"
    )
    for fault in found.faults:
        console.print(fault, soft_wrap=True)
    if not found.holds:
        raise ExpungeError(
            f"{len(found.faults)} things are not as they were written; restore the ledger from a "
            "backup, and ask who could write to it."
        )
    console.print("Everything is as it was written.")


@app.command()
def revoke(
    request_id: RequestId,
    reason: Annotated[str, typer.Option(help="Why; kept encrypted.")],
    role: Annotated[str, typer.Option(help="Yours; the policy says which may.")] = "operator",
    ledger: Url = None,
    keys: KeysFolder = None,
) -> None:
    """Take back a published request; `expunge ledger run` makes the version without it."""
    queued = ask_to_revoke(Ledger.open(ledger, keys), request_id, role, reason)
    console.print(f"{queued}: queued; `expunge ledger run` publishes the version without it.")


@app.command()
def cancel(
    what: Annotated[
        str, typer.Argument(help="Id of a request, or of the run of a revocation or a seal.")
    ],
    reason: Annotated[str, typer.Option(help="Why; kept encrypted.")],
    role: Annotated[str, typer.Option(help="Yours; the policy says which may.")] = "operator",
    ledger: Url = None,
    keys: KeysFolder = None,
) -> None:
    """Withdraw a request, a revocation or a seal that waits and was not begun."""
    name = withdraw(Ledger.open(ledger, keys), what, role, reason)
    console.print(f"{what}: {name} is cancelled; nothing was done for it.")


@app.command()
def retry(request_id: RequestId, ledger: Url = None, keys: KeysFolder = None) -> None:
    """Have a request that was refused or failed tried again, as it was asked."""
    try_again(Ledger.open(ledger, keys), request_id)
    console.print(f"{request_id}: waits again; `expunge ledger run` tries it.")


@app.command()
def materialise(
    model: Model,
    out: Annotated[Path, typer.Option(help="Folder of versions.")],
    version: Annotated[int | None, typer.Option(help="The current one by default.")] = None,
    ledger: Url = None,
    keys: KeysFolder = None,
) -> None:
    """Write the weights of a version, and set the link `latest` to the current one."""
    path = write_version(Ledger.open(ledger, keys), model, out, version)
    console.print(f"Written to {path}", soft_wrap=True)


@app.command()
def diff(
    model: Model,
    one: Annotated[int, typer.Argument(help="A version.")],
    other: Annotated[int, typer.Argument(help="Another.")],
    ledger: Url = None,
    keys: KeysFolder = None,
    json: JsonPath = None,
) -> None:
    """Two versions side by side."""
    found = compare(Ledger.open(ledger, keys), model, one, other)
    rows: list[Sequence[object]] = [
        [f"retained {found['metric']}", *(f"{v:.3f}" for v in found["retained"])],
        *(
            [f"forgotten rows of {name}", *("-" if v is None else f"{v:.3f}" for v in values)]
            for name, values in found["requests"].items()
        ),
    ]
    console.print(table("", ["", f"@{one}", f"@{other}"], rows))
    weights = found["weights"]
    console.print(
        f"Weights: {weights['distance']:.4g} apart; {len(weights['changed'])} tensors differ, "
        f"{weights['same']} are equal."
    )
    write_json(json, found)


@app.command()
def seal(
    model: Model,
    before: Annotated[
        str | None, typer.Option(help="Requests published before this time (ISO 8601).")
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Say what would go, only.")] = False,
    ledger: Url = None,
    keys: KeysFolder = None,
    json: JsonPath = None,
) -> None:
    """Fold the history into a new base and destroy what could bring the forgotten back."""
    opened = Ledger.open(ledger, keys)
    with opened.database.reading() as connection:
        row = model_row(connection, model)
    found = plan_seal(opened, row, before)
    rows = [[kind, number, f"{size:,}"] for kind, number, size in found.objects]
    console.print(table("What a seal destroys", ["objects", "number", "bytes"], rows))
    console.print(f"Sealed: {', '.join(found.requests)}", soft_wrap=True)
    if found.remade:
        console.print(f"Made again from the new base: {', '.join(found.remade)}", soft_wrap=True)
    console.print("Not the ledger's, for you to remove:")
    for sentence in found.outside:
        console.print(f"  - {sentence}", soft_wrap=True)
    write_json(json, vars(found))
    if plan:
        console.print("Nothing was changed.")
        return
    queued = ask_to_seal(opened, model, before)
    console.print(f"{queued}: queued; `expunge ledger run` seals. It cannot be undone then.")


@app.command()
def rekey(
    new_key_file: Annotated[
        Path | None,
        typer.Option(
            "--new-key-file",
            help="Holds the new master key; made where there is none. Else EXPUNGE_NEW_MASTER_KEY.",
        ),
    ] = None,
    ledger: Url = None,
    keys: KeysFolder = None,
) -> None:
    """Change the master key: the old one opens nothing any more. No worker may run."""
    opened = Ledger.open(ledger, keys)
    master = new_master(new_key_file)
    count = change_master(opened, master)
    console.print(
        f"{count} keys are wrapped anew; the ledger opens with the master key "
        f"{opened.keys.with_master(master).fingerprint} alone.",
        soft_wrap=True,
    )
    console.print(
        "Put the new key where the old one was, and destroy the old one: it opens backups from "
        "before.",
        soft_wrap=True,
    )


@app.command("gc")
def garbage(ledger: Url = None, keys: KeysFolder = None, json: JsonPath = None) -> None:
    """Remove objects that nothing uses any more, and files that no row names."""
    found = collect(Ledger.open(ledger, keys))
    console.print(
        f"{found.unused} unused objects destroyed, {found.unnamed} files without a row and "
        f"{found.staged} half-written files removed"
    )
    if found.left:
        console.print(
            f"{found.left} files without a row were left, since somebody is storing objects; run "
            "this again when a registration or a worker has ended."
        )
    write_json(json, vars(found))


@app.command()
def export(
    model: Model,
    out: Annotated[Path, typer.Option(help="An empty or absent folder.")],
    ledger: Url = None,
    keys: KeysFolder = None,
) -> None:
    """Write the current version as a plain folder with a model card and its certificate."""
    for path in write_export(Ledger.open(ledger, keys), model, out):
        console.print(f"{path}", soft_wrap=True)


@app.command()
def descendants(
    model: Model,
    add: Annotated[str | None, typer.Option(help="Name of something made from a version.")] = None,
    kind: Annotated[str, typer.Option(help=f"One of {', '.join(KINDS)}.")] = "other",
    version: Annotated[int | None, typer.Option(help="The current one by default.")] = None,
    file: Annotated[Path | None, typer.Option(help="Its file, for its digest.")] = None,
    ledger: Url = None,
    keys: KeysFolder = None,
    json: JsonPath = None,
) -> None:
    """What was made from the model's versions, and which of it lags behind."""
    opened = Ledger.open(ledger, keys)
    if add is not None:
        declare(opened, model, add, kind, version, file)
    found = list_descendants(opened, model)
    rows = [
        [d.name, d.kind, f"@{d.version}", f"{d.behind} behind" if d.behind else "up to date"]
        for d in found
    ]
    console.print(table(f"Made from {model}", ["name", "kind", "version", "state"], rows))
    write_json(json, [vars(d) for d in found])
