"""Methods made for language models, which comparisons of classifiers leave out.

Some of them run on any family with losses. Their defaults belong to models of a billion parameters,
and what they were proposed for is measured on language models.
"""

LANGUAGE_METHODS = (
    "altpo",
    "ceu",
    "dpo",
    "gradient-difference-lora",
    "idk",
    "kl-minimisation",
    "npo",
    "npo-cr",
    "npo-gp",
    "npo-kl",
    "npo-lora",
    "npo-rs",
    "npo-rt",
    "npo-sam",
    "npo-wa",
    "o3",
    "o3-published",
    "pdu",
    "pseudo-rehearsal",
    "rmu",
    "satimp",
    "selective-amnesia",
    "simnpo",
    "stranger-level",
    "undial",
    "wga",
)
