"""The comparison as a LaTeX table and as one self-contained page, without scripts or network."""

from collections.abc import Sequence

from expunge.audit.comparison import AS_IT_COMES, MATCHED, VARIANTS, Variant
from expunge.audit.comparison_tables import MEMORY, SECONDS, Compared, Row, Spread
from expunge.audit.pages import pages
from expunge.audit.paired import Paired

MISSING = "–"
HEADINGS = {AS_IT_COMES: "As it comes", MATCHED: "Matched"}

_ESCAPES = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "±": r"$\pm$",
    "–": "--",
    "−": "$-$",
    **{character: f"\\{character}" for character in "#$%&_"},
}


def escaped(text: str) -> str:
    """Text that LaTeX prints as it is."""
    return "".join(_ESCAPES.get(c, c) for c in text.replace("\n", " "))


def spread_text(found: Spread | None, digits: int = 3) -> str:
    """Mean ± standard deviation; the mean alone for one seed, a dash for nothing.

    ``digits`` decimals below 10, at most one below 1,000 and none above: errors in dollars.
    """
    if found is None:
        return MISSING
    size = abs(found.mean)
    decimals = digits if size < 10 else min(digits, 1) if size < 1000 else 0
    mean = f"{found.mean:,.{decimals}f}"
    return mean if found.sd is None else f"{mean} ± {found.sd:,.{decimals}f}"


def digits_of(column: str) -> int:
    """Decimals that a column is shown with: none for memory, two for seconds, three for scores."""
    return {MEMORY: 0, SECONDS: 2}.get(column, 3)


def interval_text(pair: Paired) -> str:
    """The interval of a difference; a dash where one seed gives none."""
    if pair.interval is None:
        return MISSING
    return f"{pair.interval[0]:+.3f} to {pair.interval[1]:+.3f}".replace("-", "−")


def latex(compared: Compared) -> str:
    """A table for ``booktabs``, both variants in it; every text is escaped."""
    columns = compared.columns()
    width = len(columns) + 2
    lines = [
        "% needs \\usepackage{booktabs}",
        "\\begin{table}",
        f"\\caption{{{escaped(compared.caption())} {escaped(compared.level())}}}",
        f"\\begin{{tabular}}{{l{'r' * (width - 1)}}}",
        "\\toprule",
        " & ".join(["", *map(escaped, columns), "factor"]) + r" \\",
    ]
    for variant in VARIANTS:
        heading = f"\\multicolumn{{{width}}}{{l}}{{\\emph{{{HEADINGS[variant]}}}}}"
        lines += ["\\midrule", heading + r" \\"]
        lines += [_latex_row(row, columns) for row in compared.rows(variant)]
    lines += ["\\bottomrule", "\\end{tabular}"]
    lines += [escaped(compared.caution()), "\\end{table}", ""]
    return "\n".join(lines)


def _latex_row(row: Row, columns: Sequence[str]) -> str:
    cells = [spread_text(row.columns[c], digits_of(c)) for c in columns]
    failed = " (failed)" if row.note else ""
    texts = [row.name + failed, *cells, spread_text(row.factor)]
    return " & ".join(map(escaped, texts)) + r" \\"


def page(compared: Compared, title: str, details: Sequence[tuple[str, str]]) -> str:
    """One HTML page; every text is escaped.

    Args:
        compared: what was found.
        title: heading.
        details: names and texts of versions, digests and commands.
    """
    environment = pages()
    environment.filters.update(spread=spread_text, interval=interval_text, digits=digits_of)
    sections: list[tuple[Variant, str]] = [(v, HEADINGS[v]) for v in VARIANTS]
    return environment.get_template("comparison.html.j2").render(
        compared=compared, title=title, details=details, sections=sections
    )
