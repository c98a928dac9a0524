"""Sets of the catalogue: one file a source, each with its ENTRIES."""
