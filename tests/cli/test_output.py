"""What commands print."""

import io

import pytest

from expunge.cli.output import Terminal, show, table


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


def test_sentences_stand_below_the_tables_unbroken_and_as_they_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    sentence = f"[bold]{'word ' * 60}:warning:"
    show([("one", ["", "a"], [["row", 1.0]]), ("two", ["", "b"], [["row", 2.0]])], [sentence])
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == sentence
    assert [line.strip() for line in lines if line.strip() in ("one", "two")] == ["one", "two"]
