"""Reference models that every network is shown beside: same folds, same rows, same lists."""

from releve.evaluate.references.design import ReferenceModel
from releve.evaluate.references.logistic import predict_logistic
from releve.evaluate.references.maxent import predict_maxent
from releve.evaluate.references.shares import (
    predict_frequency,
    predict_frequency_by_region,
    predict_nearest_environments,
    predict_nearest_places,
)
from releve.evaluate.references.trees import predict_boosted_trees, predict_extra_trees

REFERENCE_MODELS: dict[str, ReferenceModel] = {
    "frequency": predict_frequency,
    "frequency by region": predict_frequency_by_region,
    "nearest places": predict_nearest_places,
    "nearest environments": predict_nearest_environments,
    "logistic": predict_logistic,
    "extra trees": predict_extra_trees,
    "boosted trees": predict_boosted_trees,
}
"""Models of all species, which make lists."""

SAMPLED_REFERENCE_MODELS: dict[str, ReferenceModel] = {"MaxEnt": predict_maxent}
"""Models too slow for thousands of species: columns of species that are not in their sample are NaN."""
