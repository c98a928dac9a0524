"""What the benchmark of reliability found, as tables."""

from collections.abc import Mapping, Sequence
from typing import Any

Table = tuple[str, Sequence[str], list[Sequence[object]]]


def tables(result: Mapping[str, Any]) -> list[Table]:
    """Title, columns and rows of what is printed."""
    killed, queue = result["killed"], result["queue"]
    return [
        (
            f"{killed['kills']} kills on {result['database']}, seed {result['seed']}",
            ["landed in", "kills"],
            [[step, count] for step, count in killed["by step"].items()],
        ),
        (
            f"after them: {_counts(killed['requests'])}",
            ["check", "faults"],
            [[name, len(found)] for name, found in killed["checks"].items()],
        ),
        (
            "faults on purpose",
            ["fault", "as it should be"],
            [[o["fault"], "yes" if o["holds"] else "NO"] for o in result["faults"]],
        ),
        (
            f"{queue['requests']:,} requests in the queue",
            ["submitted a second", "processor ms each", "status s", "history s"],
            [
                [
                    f"{queue['per second']:.0f}",
                    f"{queue['processor ms each']:.1f}",
                    f"{queue['status s']:.3f}",
                    f"{queue['history s']:.3f}",
                ]
            ],
        ),
    ]


def sentences(result: Mapping[str, Any]) -> list[str]:
    """What went wrong, what faults led to, and the price."""
    killed = result["killed"]
    found = [
        f"WRONG: {name}: {fault}" for name, faults in killed["checks"].items() for fault in faults
    ]
    found += [f"{o['fault']}: {o['said']}; {o['afterwards']}" for o in result["faults"]]
    return [
        *found,
        f"{killed['workers']} workers of {killed['seconds of a worker']:.2f} s, "
        f"{killed['versions']} versions, {killed['events']} events; {result['seconds']:.0f} s in "
        f"all, {result['processor seconds']:.0f} s of processors.",
    ]


def _counts(requests: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in sorted(requests.items()))
