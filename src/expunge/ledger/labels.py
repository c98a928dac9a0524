"""What labels are called: by the run file's texts of classes, or by the table's own column."""

from collections.abc import Mapping

from expunge.ledger.material import Material

COLUMNS = ("concept",)
"""Columns of a training table that call its labels by a name."""


def label_texts(material: Material) -> Mapping[str, str]:
    """The text of each label, by the label as text; without those that nothing calls by a name."""
    if material.classes:
        return {str(number): text for number, text in enumerate(material.classes)}
    table = material.train_table
    named = next((column for column in COLUMNS if column in table.column_names), None)
    if named is None or "label" not in table.column_names:
        return {}
    found: dict[str, str] = {}
    for label, text in zip(table["label"][:], table[named][:], strict=True):
        found.setdefault(str(label), str(text))
    return found
