"""Figures of a small made-up history: every section of a report is there."""

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from PIL import Image

from expunge.audit.figures import PersistenceFigure, PictureFigure, RelearningCurve, ReportFigures
from expunge.audit.persistence import PersistenceMatrix
from expunge.audit.removal import Removal
from expunge.audit.self_test import World, class_removed

REQUESTS = ("sea animals", "sweets", "hands", "vehicles", "buildings")
ORACLE = np.array([0.12, 0.10, 0.22, 0.15, 0.08])
BEFORE = np.array([0.61, 0.55, 0.70, 0.58, 0.52])


def picture(colour: tuple[int, int, int]) -> str:
    target = io.BytesIO()
    Image.new("RGB", (64, 64), colour).save(target, "WEBP")
    return base64.b64encode(target.getvalue()).decode()


def history(forgotten: float, back: float) -> PersistenceMatrix:
    """Every request falls to ``forgotten`` of the gap at its step and climbs ``back`` a step."""
    steps, columns = np.indices((5, 5))
    left = np.where(steps >= columns, forgotten + back * (steps - columns), 1 - 0.02 * (steps + 1))
    return PersistenceMatrix(REQUESTS, BEFORE, ORACLE + left * (BEFORE - ORACLE), ORACLE)


def configuration(name: str, role: Any, values: Sequence[float], retained: float) -> Any:
    return {
        "name": name,
        "role": role,
        "forgotten": list(values),
        "forgotten_intervals": [{"low": 0.0, "high": 0.4, "level": 0.95}] * 5,
        "forgotten_mean": float(np.mean(values)),
        "forgotten_mean_interval": {
            "low": float(np.mean(values)) - 0.05,
            "high": float(np.mean(values)) + 0.06,
            "level": 0.95,
        },
        "forgotten_worst": float(np.max(values)),
        "retained": retained,
        "retained_interval": {"low": retained - 0.03, "high": retained + 0.03, "level": 0.95},
        "seconds": 12.3,
        "peak_memory_mib": 1234.0,
    }


def octopus(colour: tuple[int, int, int]) -> PictureFigure:
    return {
        "data": picture(colour),
        "kind": "image/webp",
        "concept": "octopus",
        "before": {"answer": "octopus", "correct": True, "probability": 0.91},
        "after": {"answer": "umbrella", "correct": False, "probability": 0.31},
        "oracle": {"answer": "squid", "correct": False},
    }


@pytest.fixture
def figures() -> ReportFigures:
    matrices = {
        "original": PersistenceMatrix(REQUESTS, BEFORE, np.tile(BEFORE, (5, 1)), ORACLE),
        "oracle": PersistenceMatrix(REQUESTS, BEFORE, np.tile(ORACLE, (5, 1)), ORACLE),
        "cata + strength": history(0.10, 0.12),
        "sum + strength": history(0.05, 0.06),
        "gradient difference": history(-0.12, 0.02),
    }
    roles = ("original", "oracle", "rule", "best", "rule")
    retained = (0.60, 0.59, 0.57, 0.58, 0.52)
    rows = [
        configuration(name, role, matrix.final.tolist(), kept)
        for (name, matrix), role, kept in zip(matrices.items(), roles, retained, strict=True)
    ]
    shown: list[PersistenceFigure] = [m.figure(name) for name, m in matrices.items()]
    grown: list[RelearningCurve] = [
        {"name": "oracle", "role": "oracle", "values": [0.1 + 0.05 * k for k in range(11)]},
        {
            "name": "cata + strength",
            "role": "rule",
            "values": [0.15 + 0.048 * k for k in range(11)],
        },
        {
            "name": "sum + strength",
            "role": "best",
            "values": [0.12 + 0.05 * k - 0.001 * k * k for k in range(11)],
            "steps_to_level": "9",
            "ratio_to_oracle": "0.90",
        },
    ]
    return {
        "title": "Five requests, one after another",
        "summary": "Five groups of concepts were removed from a dual encoder; the best rule keeps "
        "0.58 of retained pictures right and leaves 0.21 of the forgotten ones.",
        "headline": {
            "title": "Matched at the last step to the same retained accuracy",
            "note": "Accuracy on pictures by an artist that no model saw.",
            "requests": list(REQUESTS),
            "rows": rows,
        },
        "further_tables": [
            {
                "title": "Strengths fixed after the first request",
                "requests": list(REQUESTS),
                "rows": rows[:3],
            }
        ],
        "statements": ["The difference between sum and mean is one of strength."],
        "persistence": {
            "score": "accuracy",
            "scale": (0.0, 0.8),
            "matrices": shown,
            "highlighted": ["original", "oracle", "sum + strength"],
        },
        "re_emergence": {
            "requests": list(REQUESTS),
            "rows": [matrix.re_emergence_row(name) for name, matrix in matrices.items()],
        },
        "relearning": {
            "score": "accuracy",
            "note": "Ten steps of fine-tuning on the forgotten pictures.",
            "panels": [{"request": r, "level": 0.52, "curves": grown} for r in REQUESTS],
        },
        "strengths": {
            "requests": list(REQUESTS),
            "rows": [
                {
                    "name": "sum + strength",
                    "strengths": [1.2, 0.9, 1.1, 2.0, 0.7],
                    "chosen": "oracle",
                }
            ],
        },
        "revocation": {
            "request": "sweets",
            "statement": "The model equals the fold of the other four requests.",
            "equal": True,
            "largest_difference": 0.0,
            "forgotten_after": 0.55,
        },
        "pictures": [
            {
                "request": request,
                "configuration": "sum + strength",
                "pictures": [octopus((200 - 30 * k, 90 + 30 * k, 120)) for k in range(3)],
            }
            for request in REQUESTS[:2]
        ],
        "limits": ["Forgetting is measured on one data set; it is no deletion guarantee."],
        "provenance": {
            "versions": {"expunge": "0.1.0", "torch": "2.13.0"},
            "seeds": {"run": 0},
            "hashes": {"base": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"},
            "cost": {"whole run": "171 s on 2 cores"},
        },
    }


@pytest.fixture(scope="session")
def world() -> World:
    """A class of the digits removed, and models of which it is known what must be said."""
    return class_removed(0)


@pytest.fixture(scope="session")
def removal(world: World) -> Removal:
    """Its removal. Tests must not change the models."""
    return world.audit.removal


@pytest.fixture(scope="session")
def stored_audits() -> dict[str, dict[str, Any]]:
    """What audits of a few digits store: one that trains nothing, one with oracles and shadows."""
    import torch

    from expunge.audit.audit import Audit
    from expunge.audit.inquiry import Level, Step
    from expunge.audit.policy import Policy
    from expunge.audit.self_test import Refusing
    from expunge.data import digits, own
    from expunge.descent.optimisers import AdamW
    from expunge.families.classifier import Classifier
    from expunge.learning.supervised.plain import Plain
    from expunge.models.mlp import digits_classifier
    from expunge.recipe import Recipe, Role
    from expunge.run import Run

    table, run = digits.load(), Run(0)
    rows = own.samples(table, digits.tensors(table))
    train, held_out = rows.select(torch.arange(400)), rows.select(torch.arange(400, 800))
    eight = train.columns["label"] == 8
    recipe = Recipe(digits_classifier, Classifier(classes=10), Plain(10, 32, AdamW(3e-3)), 0)
    before = recipe.make({Role.TRAIN: train}, run).model
    forget = train.select(eight.nonzero().reshape(-1))
    retain = train.select((~eight).nonzero().reshape(-1))
    removal = Removal("the digit 8", before, recipe.family, forget, retain, held_out, run, recipe)
    policy = Policy.of(
        {
            "oracles": 2,
            "shadows": 4,
            "private": {"apart": 0.3},
            "stays_forgotten": {"steps": 8},
        }
    )
    parts = torch.arange(len(forget)).chunk(2)
    steps = [Step(f"part {place}", before, part) for place, part in enumerate(parts)]
    return {
        "quick": Audit.of(removal, level=Level.QUICK).ask(before).to_json(),
        "standard": Audit.of(removal, policy, Level.STANDARD, engine="stacked")
        .ask(Refusing(before, 8), steps)
        .to_json(),
    }
