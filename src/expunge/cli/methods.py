"""``expunge methods``: what can be asked to forget, what each reads, and on which families.

One broken entry point of a third party is named below the tables and hides nothing else.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from expunge import registry
from expunge.cli.output import JsonPath, console, table, write_json
from expunge.errors import ExpungeError, first_line
from expunge.methods.presets import fields_of
from expunge.methods.protocol import Method
from expunge.run_file.made import registered


def methods(
    name: Annotated[
        str | None, typer.Argument(help="Say what one method is, and what its preset does.")
    ] = None,
    json: JsonPath = None,
) -> None:
    """List methods, aggregation rules, families and learners; or one method with its preset."""
    if name is not None:
        _show_one(name, json)
        return
    broken: list[str] = []
    families = _each("families", _made, broken)
    found = _each("methods", lambda name, kind: _described(name, kind, families), broken)
    rules = _each("aggregations", _properties, broken)
    learners = _each("learners", _learner, broken)
    rows = list(found.values())
    _print("Methods", rows, ["reads", "prepares with", "families", "from"])
    for row in rows:
        console.print(f"  {row['name']}: {row['paper']}", soft_wrap=True)
    _print("Aggregations", list(rules.values()), list(next(iter(rules.values()), {}))[1:])
    console.print(f"Families: {', '.join(families) or 'none'}", soft_wrap=True)
    for learner, told in learners.items():
        console.print(f"Learner {learner}: {told['is']} Fields: {told['fields']}", soft_wrap=True)
    for sentence in broken:
        console.print(sentence, soft_wrap=True)
    write_json(
        json,
        {
            "methods": rows,
            "aggregations": list(rules.values()),
            "families": list(families),
            "learners": learners,
            "broken": broken,
        },
    )


def _show_one(name: str, json: Path | None) -> None:
    """One method: what it reads, the paper's values of its fields, and the rule of its preset."""
    kind = registered("methods", name)
    found = _described(name, kind, _each("families", _made, []))
    fields = fields_of(kind())
    values = ", ".join(f"{field} {value}" for field, value in fields.items())
    for title, value in {
        **found,
        "paper's values": values or "none",
        "preset": _rule(kind),
    }.items():
        console.print(f"{title}: {value}", soft_wrap=True)
    write_json(json, {**found, "fields": fields, "preset": _rule(kind)})


def _rule(kind: type) -> str:
    """The rule of a preset in a line."""
    if not hasattr(kind, "for_problem"):
        return "none: the fields stay as they are"
    return str(getattr(kind, "preset_rule", "found by the method itself"))


def _each(group: registry.Group, describe: Any, broken: list[str]) -> dict[str, Any]:
    """What ``describe(name, class)`` says of each entry; those that fail go to ``broken``."""
    found = {}
    for name in registry.names(group):
        try:
            found[name] = describe(name, registered(group, name))
        except ExpungeError as error:
            broken.append(str(error))
        except Exception as error:  # a third party's package may fail in any way
            broken.append(f"The entry {name!r} of the {group} cannot be used: {first_line(error)}.")
    return found


def _learner(_: str, kind: type) -> dict[str, str]:
    """What a learner is, and what a run file may say of it."""
    choices: Mapping[str, Mapping[str, type]] = getattr(kind, "choices", {})
    fields = [
        f"{each.name} ({', '.join(choices[each.name])})" if each.name in choices else each.name
        for each in dataclasses.fields(kind)
        if each.init
    ]
    return {"is": (kind.__doc__ or "").strip().splitlines()[0], "fields": ", ".join(fields)}


def _made(_: str, kind: type) -> object:
    return kind()


def _described(name: str, kind: type, families: dict[str, object]) -> dict[str, str]:
    method = kind()
    if not isinstance(method, Method):
        raise ExpungeError(f"The entry {name!r} of the methods lacks a part of a method.")
    fits = [n for n, f in families.items() if all(isinstance(f, need) for need in method.needs)]
    return {
        "name": name,
        "reads": method.unlearns_with.describe(),
        "prepares with": method.prepares_with.describe(),
        "families": ", ".join(fits),
        "from": "current model" if method.sequential else "base",
        "paper": method.paper,
    }


def _properties(name: str, kind: type) -> dict[str, object]:
    properties = kind.properties  # type: ignore[attr-defined]
    return {
        "name": name,
        "streaming": properties.streaming,
        "cost flat in T": properties.flat_cost,
        "independent of order": properties.order_independent,
    }


def _print(title: str, rows: list[dict[str, Any]], columns: list[str]) -> None:
    """A table of the columns that tell rows apart; what all rows share stands below it, once."""
    shared = [c for c in columns if len(rows) > 1 and len({row[c] for row in rows}) == 1]
    shown = [c for c in columns if c not in shared]
    console.print(
        table(
            title,
            ["name", *shown],
            [[row["name"], *(_word(row[c]) for c in shown)] for row in rows],
        )
    )
    for column in shared:
        console.print(f"All of them: {column}: {_word(rows[0][column])}", soft_wrap=True)


def _word(value: object) -> object:
    return "yes" if value is True else "no" if value is False else value
