"""Registering a model: its base goes into the vault, its description beside it, and version 0 says
what it scores before any request."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

from expunge import __version__
from expunge.changes.weights import digest_of, stored_tensors
from expunge.errors import ConflictError, ExpungeError, IntegrityError
from expunge.ledger.canonical import canonical, sha256
from expunge.ledger.certificate import Figure, Removal, sign, statement
from expunge.ledger.chain import Anchor, Write, last, ledger_time
from expunge.ledger.locks import storing
from expunge.ledger.material import Material, Source, with_rows
from expunge.ledger.measuring import Figures, scores_of
from expunge.ledger.opening import Ledger, fresh_id, keep
from expunge.ledger.past import RECORD, StoredHistory, StoredRecord
from expunge.ledger.policy import OtherAggregation, OtherMethod, Policy
from expunge.ledger.rows import one
from expunge.ledger.vault import Stored
from expunge.recipe import Record, belongs, record_of
from expunge.run_file.made import make, registered
from expunge.signals.ask import metric_of
from expunge.storage import write_tensors

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
LONGEST = 100_000
"""Distinct values of a column up to which a request is told at once that one is unknown."""


def register(
    ledger: Ledger, name: str, source: Source, policy: Policy, material: Material | None = None
) -> str:
    """Register a model under a name; its id.

    Args:
        ledger: where.
        name: lower-case letters, digits, ``.``, ``-`` and ``_``.
        source: where its material comes from.
        policy: how its requests are handled.
        material: what the source gives, where it is in memory already.

    Raises:
        ExpungeError: the name is taken or cannot be one, a repair of the policy is unknown, or the
            material cannot be used.
        IntegrityError: the training record is that of another model.
    """
    if not NAME.fullmatch(name):
        raise ExpungeError(
            f"The model name {name!r} was given; up to 63 lower-case letters, digits, '.', '-' and "
            "'_' are expected, the first a letter or a digit."
        )
    _check_repairs(policy)
    _check_free(ledger, name)
    given = source.material() if material is None else material
    model = fresh_id("m")
    kept = with_rows(source, given, ledger.keys)
    figures, columns = _figures(given), _columns(ledger, given)
    with storing(ledger.database):
        _put_down(ledger, (model, name), given, kept, policy, figures, columns)
    return model


def _put_down(
    ledger: Ledger,
    identity: tuple[str, str],
    given: Material,
    kept: Source,
    policy: Policy,
    figures: Figures,
    columns: bytes,
) -> None:
    """Store the objects of a model, by id and name, and write its rows and those of version 0."""
    (model, name), base = identity, digest_of(given.model)
    stored_base = ledger.put_file(
        lambda path: write_tensors(path, stored_tensors(given.model), {"digest": base}), "base"
    )
    record = _record_of(given)
    stored_record = None if record is None else ledger.put_file(record.save, RECORD)
    known = (
        None
        if record is None or stored_record is None
        else StoredRecord.of(record, stored_record.address)
    )
    history = StoredHistory.of(given.aggregation, base, stored_base.address, record=known)
    with ledger.database.reading() as connection:
        at, anchor = ledger_time(connection), last(connection)
    removal = _removal(name, base, figures, at, anchor).to_json()
    envelope = sign(statement(f"{name}@0", base, removal), ledger.keys)
    put = ledger.vault.put
    objects = {
        "spec": put(kept.to_bytes(), "spec"),
        "base": stored_base,
        "policy": put(canonical(policy.model_dump(mode="json")), "policy"),
        "columns": put(columns, "columns"),
    }
    first = {
        "history": put(history.to_bytes(), "history"),
        "figures": put(canonical(figures.to_json()), "figures"),
        "certificate": put(envelope, "certificate"),
        **({} if stored_record is None else {RECORD: stored_record}),
    }
    version = f"{model}@0"
    owned: list[tuple[Stored, str, str]] = [
        *((stored, f"model:{model}", role) for role, stored in objects.items()),
        *((stored, f"version:{version}", role) for role, stored in first.items()),
    ]
    with ledger.database.writing() as connection:
        if one(connection, "models", name=name) is not None:
            raise ConflictError(_taken(name))
        at = ledger_time(connection)
        writes = [
            Write(
                "models",
                {"id": model},
                {
                    "name": name,
                    "created_at": at,
                    "family": given.family.name,
                    "spec": objects["spec"].address,
                    "base": stored_base.address,
                    "base_digest": base,
                    "policy": objects["policy"].address,
                    "columns": objects["columns"].address,
                    "aggregation": given.aggregation,
                    "version": 0,
                    "sealed_before": None,
                },
            ),
            Write(
                "versions",
                {"id": version},
                {
                    "model": model,
                    "number": 0,
                    "parent": None,
                    "run": "",
                    "cause": "registration",
                    "history": first["history"].address,
                    "weights_digest": base,
                    "deletion_state": None,
                    "figures": first["figures"].address,
                    "certificate": first["certificate"].address,
                    "certificate_digest": sha256(envelope),
                    "created_at": at,
                },
            ),
        ]
        keep(connection, "registered", owned, writes)


def _record_of(given: Material) -> Record | None:
    """The record of a model, which names its weights.

    Raises:
        IntegrityError: it names others.
    """
    if given.record is None:
        return None
    if not belongs(given.record, given.model):
        raise IntegrityError(
            "The training record is that of other weights than the model's; register the model and "
            "the record that were made together."
        )
    return record_of(given.model, given.record)


def _check_repairs(policy: Policy) -> None:
    """Refuse a policy whose repairs could never be tried."""
    for repair in policy.repairs:
        if isinstance(repair, OtherMethod):
            make(registered("methods", repair.name), repair.parameters)
        if isinstance(repair, OtherAggregation):
            registered("aggregations", repair.name)


def _check_free(ledger: Ledger, name: str) -> None:
    with ledger.database.reading() as connection:
        if one(connection, "models", name=name) is not None:
            raise ConflictError(_taken(name))


def _taken(name: str) -> str:
    return f"A model {name!r} is registered already; give another name."


def _figures(material: Material) -> Figures:
    metric = metric_of(material.family)
    found = scores_of(material.family, material.model, material, (), material.run())
    unit = 1.0 if metric.direction != "lower" else max(found.retained, 1e-12)
    return Figures(metric.name, metric.direction, unit, found.retained, found.retained)


def _removal(name: str, base: str, figures: Figures, at: str, anchor: Anchor) -> Removal:
    return Removal(
        model=name,
        version=0,
        parent=None,
        cause="registration",
        before=None,
        after=base,
        request_hashes=(),
        kinds={},
        method=None,
        parameters={},
        settings=None,
        aggregation=None,
        strengths={},
        code_version=__version__,
        seed=None,
        deletion_state=None,
        figures=(Figure(f"retained {figures.metric}", figures.retained, None, None, None),),
        not_covered=("This is the model before any request: nothing was removed from it.",),
        issued_at=at,
        anchor=anchor,
    )


def _columns(ledger: Ledger, material: Material) -> bytes:
    """The names of the table's columns, each with keyed hashes of its values, if they are few; and
    the texts of the classes."""
    table = material.train_table
    found: dict[str, list[str] | None] = {}
    for column in table.column_names:
        values = _distinct(table[column][:])
        hashed = (
            None
            if values is None
            else sorted(ledger.keys.hashed("subject", f"{column}={value}") for value in values)
        )
        found[column] = hashed
    return canonical({"columns": found, "classes": list(material.classes)})


def _distinct(values: Iterable[object]) -> set[str] | None:
    """The values of a column as text; None where they are no plain values, or very many."""
    found: set[str] = set()
    for value in values:
        if not isinstance(value, str | int | bool | float):
            return None
        found.add(str(value))
        if len(found) > LONGEST:
            return None
    return found


@dataclass(frozen=True)
class Columns:
    """What :func:`register` kept of a training table.

    Args:
        hashes: of each column, keyed hashes of its values; None where these are very many.
        classes: texts of the labels, where the table holds texts.
    """

    hashes: Mapping[str, frozenset[str] | None]
    classes: tuple[str, ...]

    @classmethod
    def of_bytes(cls, data: bytes) -> Self:
        """What :func:`register` wrote."""
        found = json.loads(data)
        hashes = {
            name: None if values is None else frozenset(values)
            for name, values in found["columns"].items()
        }
        return cls(hashes, tuple(found["classes"]))

    def value(self, column: str, given: str) -> str:
        """A value as the table holds it: a class may be named by its text."""
        named = column == "label" and given in self.classes
        return str(self.classes.index(given)) if named else given
