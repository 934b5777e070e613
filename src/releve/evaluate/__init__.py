"""Score a run on its held-out folds, beside reference models, with intervals and by groups."""

from releve.evaluate.entry import Entry, rank_within_folds, score_model
from releve.evaluate.evaluation import EvaluateConfig, Evaluation, evaluate_held_out
from releve.evaluate.facts import BOOTSTRAP_BLOCK_KM, FoldFacts, bootstrap_blocks, measure_folds
from releve.evaluate.held_out import assessment_groups, decide_held_out, held_out_baseline, predict_baseline

__all__ = [
    "BOOTSTRAP_BLOCK_KM",
    "Entry",
    "EvaluateConfig",
    "Evaluation",
    "FoldFacts",
    "assessment_groups",
    "bootstrap_blocks",
    "decide_held_out",
    "evaluate_held_out",
    "held_out_baseline",
    "measure_folds",
    "predict_baseline",
    "rank_within_folds",
    "score_model",
]
