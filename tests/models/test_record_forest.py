"""Down-sampled trees: their votes against scikit-learn's, and what they are grown on."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.tree import ExtraTreeClassifier

from recorded import look_at, make_places
from releve.models.record_forest import RecordForest, fit_record_forest, flat_trees


def test_votes_are_the_mean_over_the_trees_of_a_species() -> None:
    store = make_places(100, 0)
    gatherer, statistics = look_at(store, ("covariates", "location"))
    batch = gatherer.batch(np.arange(100))
    model = fit_record_forest(gatherer, np.arange(100), statistics, seed=0)
    x_NF = model.features.of(batch).numpy()
    rng = np.random.default_rng(0)
    trees = [ExtraTreeClassifier(random_state=i).fit(x_NF, rng.random(100) < 0.3) for i in range(3)]
    grown = [(tree.tree_, tree.tree_.value[:, 0, 1]) for tree in trees]
    tensors = flat_trees([grown[:2], [], grown[2:]]) | {"share_S": torch.tensor([0.5, 0.2, 0.5])}
    logits_NS = RecordForest(statistics, tensors)(batch)
    votes = np.stack([tree.predict_proba(x_NF)[:, 1] for tree in trees])
    first = (votes[0] + votes[1] + 0.5) / 3
    np.testing.assert_allclose(logits_NS[:, 0], np.log(first / (1 - first)), atol=1e-4)
    np.testing.assert_allclose(logits_NS[:, 1], np.log(0.25), atol=1e-5)  # of no tree: its share alone
    last = (votes[2] + 0.5) / 2
    np.testing.assert_allclose(logits_NS[:, 2], np.log(last / (1 - last)), atol=1e-4)


def test_a_leaf_is_its_own_child_and_trees_stand_one_after_the_other() -> None:
    x, y = np.array([[0.0], [1.0]]), np.array([False, True])
    trees = [ExtraTreeClassifier(random_state=0).fit(x, y).tree_ for _ in range(2)]
    flat = flat_trees([[(tree, tree.value[:, 0, 1])] for tree in trees])
    assert flat["child_J2"].tolist() == [[1, 2], [1, 1], [2, 2], [4, 5], [4, 4], [5, 5]]
    assert flat["root_T"].tolist() == [0, 3] and flat["species_T"].tolist() == [0, 1]
    assert flat["vote_J"].tolist() == [0.5, 0, 1, 0.5, 0, 1]


def test_species_are_told_from_the_others_places_and_random_ones() -> None:
    store = make_places(120, 200)  # three species: no target group, random places count fully
    gatherer, statistics = look_at(store, ("covariates",))
    model = fit_record_forest(gatherer, np.arange(320), statistics, seed=0)
    wet_N = torch.from_numpy(store.arrays["covariates"].gather(np.arange(320))[:, 0])
    logits_NS = model(gatherer.batch(np.arange(320)))
    assert logits_NS[wet_N > 0.5, 0].median() > logits_NS[wet_N < -0.5, 0].median() + 1
    assert logits_NS[wet_N < -0.5, 1].median() > logits_NS[wet_N > 0.5, 1].median() + 1
