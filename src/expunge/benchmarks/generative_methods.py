"""Methods made for models that draw, which comparisons of classifiers leave out: they need prompts,
or the noise of a denoiser."""

GENERATIVE_METHODS = (
    "amnesia-diffusion",
    "concept-ablation",
    "erase-diff",
    "erase-diff-noise",
    "esd-u",
    "esd-x",
    "msgm-bounded",
    "msgm-erase",
    "msgm-from-scratch",
    "msgm-obtuse",
    "msgm-orthogonal",
    "msgm-perpendicular",
    "relabel-diffusion",
    "safe-latent",
    "salun-diffusion",
    "scissorhands",
    "sfd",
    "uce",
)
