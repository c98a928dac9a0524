"""One file per rule over the deltas of a history, and the streaming state that they share."""

from expunge.aggregation.cata import Cata
from expunge.aggregation.cata_max import CataMax
from expunge.aggregation.cata_sum import CataSum
from expunge.aggregation.columns import Columns
from expunge.aggregation.first_writer import FirstWriter
from expunge.aggregation.fold import fold, fold_each, fold_without, folded, shapes_of
from expunge.aggregation.max_min import MaxMin, Vectors
from expunge.aggregation.mean import Mean
from expunge.aggregation.protocol import Aggregation, Properties
from expunge.aggregation.sum import Sum
from expunge.aggregation.unanimous import Unanimous

__all__ = [
    "Aggregation",
    "Cata",
    "CataMax",
    "CataSum",
    "Columns",
    "FirstWriter",
    "MaxMin",
    "Mean",
    "Properties",
    "Sum",
    "Unanimous",
    "Vectors",
    "fold",
    "fold_each",
    "fold_without",
    "folded",
    "shapes_of",
]
