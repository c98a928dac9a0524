"""How many removals sharded training serves before it has to be trained again.

Basu Roy Chowdhury et al. (2025) give the orders, O(mL log(m min(B, L))) for S3T and O(mL log m) for
SISA without retraining. An order is dead when its first slice is hit, so what is counted is a
coupon collector over the first slices of all orders, and the exact forms below are ours.
"""

from collections.abc import Sequence
from fractions import Fraction

from expunge.errors import ExpungeError


def requests_until_retraining(shards: int, slices: int, budget: int = 1) -> float:
    """Expected number of requests, each for a slice drawn from all with equal chances, until no
    order of any shard is left: m L H(m min(B, L)), with H(n) = 1 + 1/2 + ... + 1/n.

    Args:
        shards: m.
        slices: L of each shard.
        budget: B orders of each shard with different first slices, as far as there are such; 1 for
            SISA.

    Raises:
        ExpungeError: a number is below 1.
    """
    if min(shards, slices, budget) < 1:
        raise ExpungeError(
            f"{shards} shards of {slices} slices and {budget} orders were given; 1 is the least."
        )
    collected = shards * min(budget, slices)
    return float(shards * slices * sum(Fraction(1, n) for n in range(1, collected + 1)))


def rows_until_retraining(first: Sequence[int], rows: int) -> float:
    """Expected number of removed rows, each drawn from those that are left, until every first slice
    has lost one.

    Among n rows in random order, the first of s marked ones stands at (n + 1) / (s + 1) on average;
    the last of several first places follows by inclusion and exclusion over the slices. For large
    slices of equal size it goes to :func:`requests_until_retraining`.

    Args:
        first: the number of rows of each first slice.
        rows: n, of all rows.

    Raises:
        ExpungeError: a slice is empty, or they hold more rows than there are.
    """
    if not first or min(first) < 1 or sum(first) > rows:
        raise ExpungeError(
            f"First slices of {list(first)} rows among {rows} were given; at least one row in each "
            "and no more than there are in all are expected."
        )
    signs = {0: 1}  # the product of (1 - x^s): by number of marked rows, sets of slices with sign
    for size in first:
        wider = dict(signs)
        for marked, sign in signs.items():
            wider[marked + size] = wider.get(marked + size, 0) - sign
        signs = wider
    return float(-sum(Fraction(s * (rows + 1), m + 1) for m, s in signs.items() if m))
