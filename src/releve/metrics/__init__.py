"""How good lists and scores are: sets against sets, scores against sets, probabilities against sets, and intervals.

Everything is computed over the whole set of surveys, never averaged over batches, and sparsely or by blocks: no
dense table of surveys x species is ever made from lists, and a memory map of scores may be larger than memory.
"""

from releve.metrics.cells import FREQUENCY_CLASSES, CellScores, frequency_class, score_cells
from releve.metrics.intervals import bootstrap_interval, percentile_interval, ratio_interval, resample_species_f1
from releve.metrics.lists import Lists
from releve.metrics.ranks import RankScores, boyce_index, mean_defined, rank_scores
from releve.metrics.sets import SetScores, score_sets

__all__ = [
    "FREQUENCY_CLASSES",
    "CellScores",
    "Lists",
    "RankScores",
    "SetScores",
    "bootstrap_interval",
    "boyce_index",
    "frequency_class",
    "mean_defined",
    "percentile_interval",
    "rank_scores",
    "ratio_interval",
    "resample_species_f1",
    "score_cells",
    "score_sets",
]
