"""What commands print."""

import io
import random
from collections import Counter

import pytest

from expunge.cli.output import Terminal, cell, show, table


def printed(width: int, columns: int) -> list[str]:
    file = io.StringIO()
    names = [f"column{i:02d}" for i in range(columns)]
    row = [f"value{i:02d}" for i in range(columns)]
    Terminal(file=file, width=width).print(table("title", names, [row]))
    return file.getvalue().splitlines()


def test_a_narrow_terminal_loses_no_column() -> None:
    lines = printed(40, 12)
    assert any("column00" in line and "column11" in line for line in lines)
    assert any("value00" in line and "value11" in line for line in lines)


def test_a_table_that_fits_keeps_to_the_terminal() -> None:
    assert max(map(len, printed(80, 3))) <= 80


@pytest.mark.parametrize("seed", range(50))
def test_every_cell_is_there_at_any_width(seed: int) -> None:
    """Tables of random words on terminals of random widths, most of them too narrow."""
    draws = random.Random(seed)

    def words() -> str:
        count = draws.randint(1, 4)
        return " ".join(draws.choice(["a", "of", "share", "forgotten"]) for _ in range(count))

    heads = [words() for _ in range(draws.randint(2, 12))]
    rows = [[words(), *(draws.choice([0.5, None, words()]) for _ in heads[1:])] for _ in range(3)]
    width, file = draws.randint(20, 150), io.StringIO()
    terminal = Terminal(file=file, width=width)
    terminal.print(table("", heads, rows))
    wanted = Counter("".join([*heads, *(cell(value) for row in rows for value in row)]))
    shown = Counter(file.getvalue())
    assert not {letter for letter in wanted - shown if not letter.isspace()}
    lines = [line.split() for line in file.getvalue().splitlines()]
    assert all(w in [part for line in lines for part in line] for h in heads for w in h.split())
    assert terminal.width == width


def test_a_width_that_is_asked_for_is_kept_where_it_can_be() -> None:
    file = io.StringIO()
    words = "a sentence of several words that can be broken"
    Terminal(file=file, width=150).print(table("t", ["", "b"], [[words, words]]), width=60)
    assert max(map(len, file.getvalue().splitlines())) <= 60
    assert file.getvalue().split().count("broken") == 2


def test_sentences_stand_below_the_tables_unbroken_and_as_they_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    sentence = f"[bold]{'word ' * 60}:warning:"
    show([("one", ["", "a"], [["row", 1.0]]), ("two", ["", "b"], [["row", 2.0]])], [sentence])
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == sentence
    assert [line.strip() for line in lines if line.strip() in ("one", "two")] == ["one", "two"]
