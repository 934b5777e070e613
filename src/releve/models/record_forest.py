"""Down-sampled trees for records: a few trees a species, each of as many background places as presences."""

# B batch, N training rows, F features, T trees, J nodes of all trees, S species

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from releve.data.gather import Batch, Gatherer
from releve.data.statistics import Statistics
from releve.models.background import background_of
from releve.models.fitted import FittedModel
from releve.models.places import PlaceColumns
from releve.models.trees import Grown, TableFeatures

TREES_A_SPECIES = 100
MIN_ROWS = 5
"""Fewest rows of a leaf."""
BLOCK_TREES = 64


class RecordFeatures:
    """The columns of the tables, as trees see them, and the coordinates turned by 45 degrees."""

    def __init__(self, statistics: Statistics) -> None:
        """Look up quantiles, codes and the extent of the training rows."""
        self.tables, self.place = TableFeatures(statistics), PlaceColumns(statistics)

    def of(self, batch: Batch) -> Tensor:
        """Return (B, F) float32 features, on the CPU."""
        return torch.cat([self.tables.of(batch), self.place.of(batch)[:, 2:]], dim=1)


class RecordForest(FittedModel[RecordFeatures]):
    """Logits by the mean vote of a species' trees, shifted to its share of the places."""

    child_J2: Tensor
    feature_J: Tensor
    threshold_J: Tensor
    vote_J: Tensor
    root_T: Tensor
    species_T: Tensor
    share_S: Tensor

    def __init__(self, statistics: Statistics, tensors: dict[str, Tensor]) -> None:
        """Make a model of what was fitted, or of what was saved."""
        super().__init__(statistics, RecordFeatures(statistics), tensors)

    @torch.inference_mode()
    def forward(self, batch: Batch) -> Tensor:
        """Return (B, S) float32 logits."""
        features_BF, num_species = self.features.of(batch), len(self.share_S)
        votes_SB, num_S = torch.zeros(num_species, len(batch)), torch.zeros(num_species)
        for first in range(0, len(self.root_T), BLOCK_TREES):
            trees = slice(first, first + BLOCK_TREES)
            votes_SB.index_add_(0, self.species_T[trees].long(), self._votes(features_BF, self.root_T[trees]))
        num_S.index_add_(0, self.species_T.long(), torch.ones(len(self.species_T)))
        vote_BS = ((votes_SB + 0.5) / (num_S[:, None] + 1)).T
        return torch.logit(vote_BS) + torch.logit(self.share_S, eps=1e-6)

    def _votes(self, features_BF: Tensor, root_T: Tensor) -> Tensor:
        """Return (T, B) the share of presences in the leaf of each tree that each row ends in."""
        num_rows, num_features = features_BF.shape
        flat, row_B = features_BF.reshape(-1), torch.arange(num_rows) * num_features
        node_TB = root_T.long()[:, None].repeat(1, num_rows)
        child = self.child_J2.reshape(-1)
        while True:
            goes_right_TB = flat[row_B + self.feature_J[node_TB]] > self.threshold_J[node_TB]
            next_TB = child[2 * node_TB + goes_right_TB].long()  # a leaf is its own child
            if torch.equal(next_TB, node_TB):
                return self.vote_J[node_TB]
            node_TB = next_TB


def fit_record_forest(
    gatherer: Gatherer, rows: NDArray[np.int64], statistics: Statistics, *, seed: int
) -> RecordForest:
    """Return trees grown on the places of records, species by species.

    A tree sees as many places drawn from the background as presences, both with replacement: without that, trees grown
    on a few presences among thousands of places hardly tell any apart.

    Parameters
    ----------
    gatherer, rows
        What gathers the training rows, and where they are.
    statistics
        Those of the training rows.
    seed
        Draws places, columns and thresholds.

    References
    ----------
    Valavi, Elith, Lahoz-Monfort & Guillera-Arroita (2021), Modelling species presence-only data with random forests,
    doi:10.1111/ecog.05615. Geurts, Ernst & Wehenkel (2006), Extremely randomized trees, doi:10.1007/s10994-006-6226-1.
    """
    from sklearn.tree import ExtraTreeClassifier  # two seconds that only forests are worth

    store, num_species = gatherer.store, len(statistics.species_ids)
    labels = store.labels.take(rows)
    features_NF = RecordFeatures(statistics).of(gatherer.batch(rows)).numpy()
    known = background_of(store.is_random[rows], is_target_group=store.is_target_group)
    found = labels.to_csr(num_species).tocsc()

    def grow(species: int) -> list[tuple[Grown, NDArray[np.float64]]]:
        rng, grown = np.random.default_rng([seed, species]), []
        present = found.indices[found.indptr[species] : found.indptr[species + 1]]
        others = np.setdiff1d(known.sites, present)
        share = known.random_share if len(others) else 1.0
        num = len(present)
        for _ in range(TREES_A_SPECIES if num and len(others) + len(known.random) else 0):
            num_random = rng.binomial(num, share) if len(known.random) else 0
            drawn = [rng.choice(present, num), rng.choice(others, num - num_random) if num > num_random else others[:0]]
            drawn.append(rng.choice(known.random, num_random) if num_random else known.random[:0])
            tree = ExtraTreeClassifier(
                max_features="sqrt", min_samples_leaf=MIN_ROWS, random_state=int(rng.integers(2**31))
            ).fit(features_NF[np.concatenate(drawn)], np.arange(2 * num) < num)
            grown.append((tree.tree_, np.asarray(tree.tree_.value[:, 0, 1])))
        return grown

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:  # scikit-learn lets go of Python's lock
        by_species = list(pool.map(grow, range(num_species)))
    share_S = torch.from_numpy((np.diff(found.indptr) / len(known.sites)).astype(np.float32))
    return RecordForest(statistics, flat_trees(by_species) | {"share_S": share_S}).eval()


def flat_trees(by_species: list[list[tuple[Grown, NDArray[np.float64]]]]) -> dict[str, Tensor]:
    """Return the trees of all species in one table of nodes; a leaf is its own child, and asks for nothing."""
    children, features, thresholds, votes, roots = [], [], [], [], []
    first = 0
    for tree, vote in (each for trees in by_species for each in trees):
        own = first + np.arange(tree.node_count)
        sides = [np.where(side < 0, own, first + side) for side in (tree.children_left, tree.children_right)]
        children.append(np.stack(sides, axis=1).astype(np.int32))
        features.append(np.maximum(tree.feature, 0).astype(np.int32))
        thresholds.append(tree.threshold.astype(np.float32))
        votes.append(vote.astype(np.float32))
        roots.append(first)
        first += tree.node_count
    number = np.repeat(np.arange(len(by_species)), [len(trees) for trees in by_species])
    return {
        "child_J2": torch.from_numpy(np.concatenate([np.zeros((0, 2), np.int32), *children])),
        "feature_J": torch.from_numpy(np.concatenate([np.zeros(0, np.int32), *features])),
        "threshold_J": torch.from_numpy(np.concatenate([np.zeros(0, np.float32), *thresholds])),
        "vote_J": torch.from_numpy(np.concatenate([np.zeros(0, np.float32), *votes])),
        "root_T": torch.tensor(roots, dtype=torch.int32),
        "species_T": torch.from_numpy(number.astype(np.int32)),
    }
