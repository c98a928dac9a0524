"""``expunge methods``: what can be asked to forget, what each reads, and on which families."""

from expunge import registry
from expunge.cli.output import JsonPath, console, table, write_json
from expunge.methods.protocol import Method


def methods(json: JsonPath = None) -> None:
    """List methods, aggregation rules and families."""
    families = {name: registry.load("families", name)() for name in registry.names("families")}
    rows = []
    for name in registry.names("methods"):
        method = registry.load("methods", name)()
        assert isinstance(method, Method)
        fits = [
            f
            for f, family in families.items()
            if all(isinstance(family, need) for need in method.needs)
        ]
        rows.append(
            {
                "name": name,
                "reads": method.unlearns_with.describe(),
                "prepares with": method.prepares_with.describe(),
                "families": ", ".join(fits),
                "from": "current model" if method.sequential else "base",
                "paper": method.paper,
            }
        )
    rules = []
    for name in registry.names("aggregations"):
        properties = registry.load("aggregations", name).properties  # type: ignore[attr-defined]
        rules.append(
            {
                "name": name,
                "streaming": properties.streaming,
                "cost flat in T": properties.flat_cost,
                "independent of order": properties.order_independent,
            }
        )
    for title, found in (("Methods", rows), ("Aggregations", rules)):
        console.print(
            table(
                title,
                list(found[0]),
                [
                    ["yes" if v is True else "no" if v is False else v for v in row.values()]
                    for row in found
                ],
            )
        )
    console.print(f"Families: {', '.join(families)}")
    write_json(json, {"methods": rows, "aggregations": rules, "families": list(families)})
