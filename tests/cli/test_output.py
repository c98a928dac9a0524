"""What commands print."""

import io

from expunge.cli.output import Terminal, table


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
