"""How good lists and scores are: sets against sets, scores against sets, probabilities against sets, and intervals.

Everything is computed over the whole set of surveys, never averaged over batches, and sparsely or by blocks: no
dense table of surveys x species is ever made from lists, and a memory map of scores may be larger than memory.
"""

from releve.metrics.intervals import bootstrap_interval
from releve.metrics.lists import Lists
from releve.metrics.ranks import RankScores, rank_scores
from releve.metrics.sets import SetScores, score_sets

__all__ = ["Lists", "RankScores", "SetScores", "bootstrap_interval", "rank_scores", "score_sets"]
