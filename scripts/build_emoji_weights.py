"""Makes the shipped weights again: the emoji dual encoder and the oracle of the demo.

    python scripts/build_emoji_weights.py OUT

trains both from the recipe and writes them to the folder OUT, in half precision, as they ship.
"""

import sys
from pathlib import Path

from rich.console import Console

from expunge.benchmarks import demo, shipped
from expunge.run import Run


def main(out: Path) -> None:
    run = Run(console=Console())
    work = shipped.emoji_dual_encoder()
    trained = work.recipe.make(work.data, run).model
    shipped.store_emoji_base(trained, out)
    shipped.store_emoji_oracle(demo.retrained(run), shipped.emoji_base(out), out)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
