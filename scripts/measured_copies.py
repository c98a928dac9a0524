"""Writes the recall that `expunge find` quotes from a run of its benchmark.

    expunge bench near-duplicates --full --json NEAR.json
    python scripts/measured_copies.py NEAR.json

writes src/expunge/data/duplicates/measured.json.
"""

import json
import sys
from pathlib import Path

from expunge.benchmarks.near_duplicates import recalls
from expunge.storage import write_bytes

TARGET = Path(__file__).parent.parent / "src/expunge/data/duplicates/measured.json"


def main(benchmark: Path) -> None:
    """Writes the figures of one result of the benchmark."""
    found = recalls(json.loads(benchmark.read_text(encoding="utf-8")))
    write_bytes(TARGET, (json.dumps(found, indent=2, sort_keys=True) + "\n").encode())


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python scripts/measured_copies.py NEAR.json")
    main(Path(sys.argv[1]))
