"""What the benchmark found: a table for each target, the judges, and requests in turn."""

from collections.abc import Mapping, Sequence
from typing import Any

from expunge.benchmarks.seed_rows import spread

Table = tuple[str, Sequence[str], list[Sequence[object]]]

COLUMNS: Mapping[str, tuple[str, int]] = {
    "unlearning": ("UA", 3),
    "in_domain": ("IRA", 3),
    "cross_domain": ("CRA", 3),
    "garbage": ("garbage", 2),
    "entropy": ("entropy", 2),
    "garbage retained": ("garbage kept", 2),
    "distance": ("FD", 1),
    "relearned": ("relearned", 2),
    "seconds": ("s", 0),
    "gigabytes": ("GB", 2),
    "stored megabytes": ("stored MB", 2),
}
"""Figures by what the tables call them, and their decimals."""

CAPTION = (
    "UA: pictures of the target that are judged to be something else; IRA, CRA: pictures judged "
    "right of what stays in the target's own and in the other domain, the target's left out. UA "
    "counts garbage as success: `garbage` is the share of the target's pictures of which the "
    "judges are less sure than of the unsurest 5 % of real ones, `entropy` the judge's own in nats "
    "(a mean). FD: Frechet distance of what stays to real pictures by 16 features of the judge of "
    "objects; only equal numbers of pictures compare. relearned: UA after a few steps on a few "
    "pictures of the target. s: of the processor; GB: the largest memory of its process; stored "
    "MB: what has to be kept. ! marks a form of which no strength kept the rest. Real rows are "
    "what the judges say of test rows."
)


def tables(result: Mapping[str, Any]) -> list[Table]:
    """Judges and bases, a table for each target, and the matrices of requests in turn."""
    found = [_judges(result)]
    for word, its in result["targets"].items():
        columns = [n for n in COLUMNS if any(n in cell for r in its["rows"].values() for cell in r)]
        rows: list[Sequence[object]] = [
            [
                row + ("" if all(cell.get("kept", True) for cell in cells) else " !"),
                *(spread(cells, n, COLUMNS[n][1]) for n in columns),
            ]
            for row, cells in its["rows"].items()
        ]
        title = f"the {its['domain']} {word}, in its place {its['anchor']}"
        found.append((title, ["", *(COLUMNS[n][0] for n in columns)], rows))
    for form, its in result.get("in turn", {}).items():
        steps: list[Sequence[object]] = [
            [f"after {word}", *(f"{value:.2f}" for value in its["unlearning"][t]), f"{kept:.2f}"]
            for t, (word, kept) in enumerate(zip(its["targets"], its["kept"], strict=True))
        ]
        columns_in_turn = ["", *(f"UA {word}" for word in its["targets"]), "kept"]
        found.append((f"{form}: requests in turn, vectors added", columns_in_turn, steps))
    return found


def _judges(result: Mapping[str, Any]) -> Table:
    judged = result["judges"]
    rows: list[Sequence[object]] = [
        [f"{name} test rows", *(f"{judged[name][d]:.3f}" for d in ("object", "style")), ""]
        for name in ("real", "recoloured")
    ]
    rows[0] = [*rows[0][:3], f"{judged['distance']:.1f}"]
    for seed, base in enumerate(result["bases"]):
        shares = [f"{base[domain]:.3f}" for domain in ("object", "style")]
        rows.append([f"base {seed}", *shares, f"{base['distance']:.1f}"])
        rows += [
            [f"base {seed}: {text}", f"{its['object']:.3f}", f"{its['style']:.3f}", ""]
            for text, its in base["held out"].items()
        ]
    title = f"{result['cells']} cells: share judged right, and Frechet distance"
    return title, ["", "object", "style", "FD"], rows
