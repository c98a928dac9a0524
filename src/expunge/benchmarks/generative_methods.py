"""Methods made for models that draw, which comparisons of classifiers leave out: they need the
noise of a denoiser."""

GENERATIVE_METHODS = (
    "amnesia-diffusion",
    "erase-diff",
    "erase-diff-noise",
    "relabel-diffusion",
    "salun-diffusion",
    "scissorhands",
    "sfd",
)
