"""Every method for classifiers at settings that take a moment on a small set."""

from expunge.learning.datamodels import HalfDataModels
from expunge.methods.bad_teacher import BadTeacher
from expunge.methods.boundary_expand import BoundaryExpand
from expunge.methods.boundary_shrink import BoundaryShrink
from expunge.methods.cf_k import CfK
from expunge.methods.concept_poisoning import ConceptPoisoning, ConceptPoisoningTargeted
from expunge.methods.confined import ConfinedNegation
from expunge.methods.dmm import DMM
from expunge.methods.eu_k import EuK
from expunge.methods.fine_tune import FineTune
from expunge.methods.fisher_forgetting import FisherForgetting
from expunge.methods.gradient_ascent import GradientAscent
from expunge.methods.gradient_difference import GradientDifference
from expunge.methods.guardrail import Guardrail
from expunge.methods.influence import Influence
from expunge.methods.l1_sparse import L1Sparse
from expunge.methods.l1_sparse_pruned import L1SparsePruned
from expunge.methods.laf import LAF
from expunge.methods.laf_repaired import LAFRepaired
from expunge.methods.lfssd import LFSSD
from expunge.methods.negation import Negation
from expunge.methods.protocol import Method
from expunge.methods.random_label import RandomLabel
from expunge.methods.random_label_mixed import RandomLabelMixed
from expunge.methods.redact import Redact
from expunge.methods.retrain import Retrain
from expunge.methods.salun import SalUn
from expunge.methods.salun_mixed import SalUnMixed
from expunge.methods.salun_soft import SalUnSoft
from expunge.methods.scrub import Scrub
from expunge.methods.ssd import SSD
from expunge.methods.unsir import Unsir

FAST: dict[str, Method] = {
    "bad-teacher": BadTeacher(1),
    "boundary-expand": BoundaryExpand(2, 1e-3),
    "boundary-shrink": BoundaryShrink(epochs=2, learning_rate=1e-3),
    "cf-k": CfK(epochs=1),
    "concept-poisoning": ConceptPoisoning(epochs=1),
    "concept-poisoning-target": ConceptPoisoningTargeted(epochs=1),
    "confined-negation": ConfinedNegation(4, 1e-3),
    "dmm": DMM(HalfDataModels(8, engine="stacked"), epochs=1),
    "eu-k": EuK(epochs=1),
    "fine-tune": FineTune(1, 1e-3),
    "fisher-forgetting": FisherForgetting(1e-6),
    "gradient-ascent": GradientAscent(4, 1e-3),
    "gradient-difference": GradientDifference(4, 1e-3),
    "guardrail": Guardrail(),
    "influence": Influence(curvature_rows=100),
    "l1-sparse": L1Sparse(epochs=1),
    "l1-sparse-pruned": L1SparsePruned(epochs=3),
    "laf": LAF(epochs=1, vae_epochs=1, vae_steps=0),
    "laf-repaired": LAFRepaired(epochs=1, vae_epochs=1, vae_steps=0, repair_epochs=1),
    "lfssd": LFSSD(3.0),
    "negation": Negation(4, 1e-3, kept=1.0),
    "random-label": RandomLabel(1),
    "random-label-mixed": RandomLabelMixed(1),
    "redact": Redact(),
    "retrain": Retrain(),
    "salun": SalUn(epochs=1),
    "salun-mixed": SalUnMixed(1),
    "salun-soft": SalUnSoft(epochs=1),
    "scrub": Scrub(1, 1, learning_rate=0.01),
    "ssd": SSD(3.0),
    "unsir": Unsir(8, 2),
}
