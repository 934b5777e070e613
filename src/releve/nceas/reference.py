"""Reference models in the same harness: MaxEnt and the down-sampled forest, random and target-group background."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from releve.errors import ReleveError
from releve.nceas.data import Region
from releve.nceas.design import make_design
from releve.nceas.members import Scores, by_species, down_sampled_forest

MOST_BACKGROUND = 3000  # MaxEnt's time grows with it; Phillips & Dudik (2008) see no gain beyond some thousands
Reference = Callable[[Region, int], Scores]


def check_references() -> None:
    """Fail early where MaxEnt is not installed.

    Raises
    ------
    ReleveError
        If the optional package elapid is absent.
    """
    _maxent_class()


def _maxent_class() -> Any:
    try:
        from elapid import MaxentModel
    except ImportError as error:
        raise ReleveError(
            "the reference model MaxEnt needs the package elapid, which is not installed",
            action='Run pip install "releve[benchmark]", or leave the reference models out with --no-references',
        ) from error
    return MaxentModel


def maxent(region: Region, seed: int, *, target_group: bool) -> Scores:
    """Return MaxEnt's scores, with linear, hinge and product features of the covariates as elapid has them.

    References
    ----------
    Anderson (2023), elapid: Species distribution modeling tools for Python, https://doi.org/10.21105/joss.04930.
    Phillips & Dudik (2008), https://doi.org/10.1111/j.0906-7590.2008.5203.x.
    """
    model_class = _maxent_class()
    design = make_design(region, with_place=False)

    def fit(species: int) -> list[np.ndarray]:
        found, others = design.target_group(species)
        background = design.sites_NF[others] if target_group else design.background_NF
        order = np.random.default_rng([seed, species]).permutation(len(background))
        background = background[order[:MOST_BACKGROUND]]
        if not len(found) or not len(background):
            return [np.zeros(len(test)) for test in design.tests]
        x = np.concatenate([design.sites_NF[found], background]).astype(np.float64)
        varies = x.std(0) > 0
        model = model_class(random_state=seed, n_cpus=1)
        model.fit(x[:, varies], np.arange(len(x)) < len(found))
        return [np.ravel(model.predict(test[:, varies].astype(np.float64))) for test in design.tests]

    return by_species(fit, design)


def forest(region: Region, seed: int, *, target_group: bool) -> Scores:
    """Return the scores of the down-sampled forest on the covariates alone, trees grown to the end."""
    design = make_design(region, with_place=False, random_share=0.0 if target_group else 1.0)
    return down_sampled_forest(design, seed, trees=200, leaf=1)


REFERENCES: dict[str, Reference] = {
    "MaxEnt, random": partial(maxent, target_group=False),
    "MaxEnt, target group": partial(maxent, target_group=True),
    "forest, random": partial(forest, target_group=False),
    "forest, target group": partial(forest, target_group=True),
}
