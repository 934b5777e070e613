"""Kinds of member: what a run asks of each, and those that are fitted to the tables in one go."""

# B batch, S species

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from releve.config import Config
from releve.data.gather import Batch, Gatherer
from releve.data.statistics import Statistics
from releve.models.boosting import BoostedModel, fit_boosted_trees
from releve.models.forest import ForestModel, fit_forest
from releve.models.hinge import HingeModel, fit_hinge
from releve.models.record_forest import RecordForest, fit_record_forest
from releve.models.softmax import SoftmaxModel, fit_softmax
from releve.models.trees import TableFeatures


class MemberModel(Protocol):
    """What a run asks of a trained member, whatever its kind; its tensors are saved by name, without pickle."""

    statistics: Statistics
    """Of its training rows."""

    @property
    def modalities(self) -> tuple[str, ...]:
        """What it looks at."""

    def __call__(self, batch: Batch) -> Tensor:
        """Return (B, S) logits; those of a row are the same alone as among others."""

    def state_dict(self) -> dict[str, Any]:
        """Return its tensors."""


@dataclass(frozen=True)
class TableKind:
    """A kind of member that is fitted to the tables (covariates, survey, location) in one go."""

    fit: Callable[[Gatherer, NDArray[np.int64], Statistics, Config, int], MemberModel]
    """From what gathers the training rows, the rows, their statistics, the recipe and a seed."""
    restore: Callable[[Statistics, dict[str, Tensor]], MemberModel]
    """From the statistics and the tensors that were saved."""


TABLE_KINDS: dict[str, TableKind] = {
    "forest": TableKind(
        lambda gatherer, rows, known, config, seed: _fit_forest(gatherer, rows, known, config, seed),
        lambda known, tensors: (RecordForest if "root_T" in tensors else ForestModel)(known, tensors),
    ),
    "hinge": TableKind(
        lambda gatherer, rows, known, config, seed: fit_hinge(gatherer, rows, known, seed=seed),
        HingeModel,
    ),
    "softmax": TableKind(
        lambda gatherer, rows, known, config, seed: fit_softmax(gatherer, rows, known, seed=seed),
        SoftmaxModel,
    ),
    "booster": TableKind(
        lambda gatherer, rows, known, config, seed: fit_boosted_trees(gatherer, rows, known, seed=seed),
        BoostedModel,
    ),
}
"""By name; the kind that is not here, ``network``, is trained epoch by epoch (``releve.train.loop``)."""

MOST_SPECIES_APART = 500
"""Records of more species share their trees: those of a species each would take hours."""


def _fit_forest(
    gatherer: Gatherer, rows: NDArray[np.int64], known: Statistics, config: Config, seed: int
) -> MemberModel:
    """Return trees of each species where only records of a target group teach, else those that all species share."""
    is_target_group = config.train.regime == "po" and gatherer.store.is_target_group
    if is_target_group and len(known.species_ids) <= MOST_SPECIES_APART:
        return fit_record_forest(gatherer, rows, known, seed=seed)
    return fit_forest(gatherer, rows, known, config=config.forest, seed=seed)


MIN_ROWS = 20
"""Rows that such a kind is not fitted on fewer of."""


def why_not(gatherer: Gatherer, rows: NDArray[np.int64], statistics: Statistics) -> str:
    """Return why nothing can be learned from the tables of these rows; nothing if something can.

    Parameters
    ----------
    gatherer, rows, statistics
        What gathers the rows, where they are, and their statistics.
    """
    if len(rows) < MIN_ROWS:
        return f"there are {len(rows)} rows to learn from, fewer than {MIN_ROWS}"
    features_BF = TableFeatures(statistics).of(gatherer.batch(rows))
    if bool((features_BF == features_BF[0]).all()):
        return "every column of the tables has one and the same value on all rows"
    counts = np.array(statistics.num_positives)
    if not ((counts > 0) & (counts < statistics.num_rows)).any():
        return "every species is on all rows or on none"
    return ""
