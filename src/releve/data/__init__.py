"""Whole batches gathered by index, never file by file."""

from releve.data.batch import Batch
from releve.data.gather import Gatherer
from releve.data.prefetch import prefetch
from releve.data.resident import place_arrays, plan_residents
from releve.data.statistics import Statistics, TableStatistics, measure_statistics

__all__ = [
    "Batch",
    "Gatherer",
    "Statistics",
    "TableStatistics",
    "measure_statistics",
    "place_arrays",
    "plan_residents",
    "prefetch",
]
