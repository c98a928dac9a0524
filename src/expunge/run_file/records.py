"""Records on disk: what a learner kept, in a file that says which weights it belongs to."""

from pathlib import Path

from torch import nn

from expunge.changes.weights import digest_of, is_finite
from expunge.errors import IntegrityError
from expunge.recipe import MODEL, Record, belongs, record_of
from expunge.storage import read_facts, read_tensors

RECORD = "record.safetensors"
"""What the file of a record is called beside that of its weights."""


def read_record(path: Path, model: nn.Module) -> Record:
    """The record of a model, whole in memory. One that names no weights is taken to be of these.

    Raises:
        IntegrityError: the file is missing or damaged, holds nothing, or is the record of other
            weights.
    """
    record = Record(read_tensors(path), read_facts(path))
    if not record.facts:
        raise IntegrityError(
            f"{path} holds no training record; give the file that `expunge train` wrote beside the "
            "weights."
        )
    for name, tensor in record.tensors.items():
        if not is_finite(tensor):
            raise IntegrityError(
                f"The training record {path} has NaN or infinite values in {name!r}; train the "
                "model again."
            )
    if not belongs(record, model):
        raise IntegrityError(
            f"{path} is the training record of the weights {str(record.facts[MODEL])[:12]}, and "
            f"the model has the weights {digest_of(model)[:12]}; give weights and record that were "
            "written together."
        )
    return record_of(model, record)
