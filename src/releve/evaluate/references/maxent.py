"""MaxEnt, the field's standard, species by species: slow, so only on a sample of species."""

# N training rows, M rows to predict, S species

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from releve.evaluate.references.design import Design

NUM_SAMPLED = 20
MIN_TOTAL = 20
"""Rows of the store that hold a species of the sample; the same sample for every fold."""
MIN_PRESENCES = 5
MOST_BACKGROUND = 2000
"""Training rows taken as background; MaxEnt's time grows with it."""


def predict_maxent(design: Design, seed: int) -> NDArray[np.float32]:
    """Return (M, S) suitabilities of 20 species drawn among those of 20 rows or more; NaN for all others.

    Presences are set against a background of training rows, with linear, quadratic and hinge features as elapid has
    them. A species of the sample with fewer than 5 training rows is NaN too.

    Raises
    ------
    ImportError
        If the optional package elapid is absent.

    References
    ----------
    Phillips, Anderson & Schapire (2006), Maximum entropy modeling of species geographic distributions,
    doi:10.1016/j.ecolmodel.2005.03.026. Anderson (2023), elapid, doi:10.21105/joss.04930.
    """
    try:
        from elapid import MaxentModel
    except ImportError as error:
        raise ImportError('MaxEnt needs the package elapid: pip install "releve[benchmark]"') from error
    store, labels = design.store, design.labels.tocsc()
    known, asked = (part.astype(np.float64) for part in design.filled(0.0))
    rng = np.random.default_rng(seed)
    totals = np.bincount(store.labels.take(store.is_scored).indices, minlength=labels.shape[1])
    sample = rng.permutation(np.flatnonzero(totals >= MIN_TOTAL))[:NUM_SAMPLED]
    background = rng.permutation(len(known))[:MOST_BACKGROUND]
    scores = np.full((len(asked), labels.shape[1]), np.nan, np.float32)
    for species in sample.tolist():
        found = labels.indices[labels.indptr[species] : labels.indptr[species + 1]]
        x = np.concatenate([known[found], known[background]])
        varies = x.std(axis=0) > 0
        if len(found) < MIN_PRESENCES or not varies.any():
            continue
        model = MaxentModel(feature_types=["linear", "quadratic", "hinge"], random_state=seed, n_cpus=1)
        model.fit(x[:, varies], np.arange(len(x)) < len(found))
        scores[:, species] = np.ravel(model.predict(asked[:, varies]))
    return scores
