"""Which covariate holds a species back at a place: the one whose change to where the species grows helps it most."""

# N surveys, T subjects, V variables, K columns

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from releve.explain.places import Places
from releve.explain.response import label_of, name_of, of_subjects
from releve.explain.subjects import Subject
from releve.explain.variables import Variable, list_variables, set_to, values_of
from releve.runs.folder import Run
from releve.store.read import Store

ROWS_AT_ONCE = 2000
"""Rows, of places with one covariate changed, that are predicted at a time."""
NOTHING = "nothing"
"""Where no change of one covariate raises the probability."""


@dataclass(frozen=True, eq=False)
class Typical:
    """Where species grow: for each subject the value of each covariate that is usual for it.

    Parameters
    ----------
    variables
        The covariates that the run looks at.
    subjects
        Species, or None for the community.
    values_VT
        The values; NaN where a species' surveys have none.
    """

    variables: tuple[Variable, ...]
    subjects: tuple[Subject, ...]
    values_VT: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Limiting:
    """What holds subjects back at places.

    Parameters
    ----------
    typical
        What was changed to what.
    factor_NT
        The limiting covariate, as a position in ``typical.variables``; -1: no change helps.
    response_NT
        Probability, or expected number of species, as it is.
    raised_NT
        The same with the limiting covariate at its usual value; where nothing limits, ``response_NT``.
    """

    typical: Typical
    factor_NT: NDArray[np.int64]
    response_NT: NDArray[np.float64]
    raised_NT: NDArray[np.float64]


def typical_values(run: Run, subjects: Sequence[Subject]) -> Typical:
    """Return the usual value of each covariate where each subject grows, on the surveys that the run learned from.

    Of a species: the median over the surveys that have it, or the commonest code of a category. Of the community: the
    same over all surveys, each counted as often as it has species.
    """
    store = run.store
    rows = np.flatnonzero(store.is_scored)
    labels = store.labels.take(rows)
    known = labels.to_csr(max(len(run.species), int(labels.indices.max(initial=-1)) + 1)).tocsc()
    variables = tuple(each for each in list_variables(run) if each.modality == "covariates")
    values = [values_of(store, each, rows) for each in variables]
    weights = [
        labels.lengths() if each is None else np.asarray(known[:, each].todense(), np.int64).ravel()
        for each in subjects
    ]
    values_VT = np.array(
        [
            [_usual(values_N, weight_N, variable.is_categorical) for weight_N in weights]
            for variable, values_N in zip(variables, values, strict=True)
        ],
        np.float64,
    ).reshape(len(variables), len(subjects))
    return Typical(variables, tuple(subjects), values_VT)


def _usual(values_N: NDArray[np.float64], weight_N: NDArray, is_categorical: bool) -> float:
    """Return the weighted median, the lower one of two, or the commonest value; NaN of nothing."""
    kept = np.isfinite(values_N) & (weight_N > 0)
    if not kept.any():
        return float("nan")
    values, place = np.unique(values_N[kept], return_inverse=True)
    weight = np.bincount(place, weight_N[kept])
    if is_categorical:
        return float(values[weight.argmax()])
    return float(values[np.searchsorted(np.cumsum(weight), weight.sum() / 2)])


def limiting_factors(
    run: Run,
    store: Store,
    rows: NDArray[np.int64],
    species: Sequence[Subject],
    *,
    typical: Typical | None = None,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> Limiting:
    """Return, for each place and species, the covariate that holds it back most.

    Each covariate in turn is set to the value that is usual where the species grows (:func:`typical_values`), all else
    left as it is; the one whose change raises the probability most is limiting (Elith et al. 2010, who take the mean
    over presences; here the median, since many covariates are skewed). It is what the model says would help, of one
    change alone, and not a cause.

    Parameters
    ----------
    run
        A trained run.
    store
        Any store that the run can predict, such as a batch of a map's cells.
    rows
        Positions in it; a few thousand at most at a time.
    species
        Columns of species, or None for the community, of which the expected number of species counts.
    typical
        Of the same species; worked out here unless it is given, which saves time from the second batch on.
    advance
        Is told how many more changes are done, and of how many.

    References
    ----------
    Elith, Kearney & Phillips (2010), The art of modelling range-shifting species,
    doi:10.1111/j.2041-210X.2010.00036.x.
    """
    typical = typical or typical_values(run, species)
    places = Places(run, store, rows)
    response_NT = of_subjects(places.probs()[0], typical.subjects).T
    raised_NT, factor_NT = response_NT.copy(), np.full(response_NT.shape, -1, np.int64)
    tries = [
        (at, float(value))
        for at, values_T in enumerate(typical.values_VT)
        for value in np.unique(values_T[np.isfinite(values_T)])
    ]
    step = max(1, ROWS_AT_ONCE // max(len(rows), 1))
    for first in range(0, len(tries), step):
        some = tries[first : first + step]
        probs_CNS = places.probs([set_to(typical.variables[at], value) for at, value in some])
        for (at, value), probs_NS in zip(some, probs_CNS, strict=True):
            changed_NT = of_subjects(probs_NS, typical.subjects).T
            better_NT = (changed_NT > raised_NT) & (typical.values_VT[at] == value)
            raised_NT[better_NT], factor_NT[better_NT] = changed_NT[better_NT], at
        advance(len(some), len(tries))
    return Limiting(typical, factor_NT, response_NT, raised_NT)


def limiting_table(run: Run, store: Store, rows: NDArray[np.int64], found: Limiting) -> pl.DataFrame:
    """Return a row a place and subject: where it is, what limits it, and what a change would do.

    ``survey_id, lon, lat, subject, factor`` (``nothing`` where no change helps), ``value`` (there), ``usual`` (where
    the subject grows), ``response, raised``; ``label`` and ``usual_label`` name codes.
    """
    variables, values = found.typical.variables, []
    values = [values_of(store, each, rows) for each in variables]
    records = []
    surveys = store.surveys[rows.tolist()].select(pl.col("survey_id").cast(pl.String), "lon", "lat").rows()
    for t, subject in enumerate(found.typical.subjects):
        for n, survey in enumerate(surveys):
            at = int(found.factor_NT[n, t])
            here, usual = (values[at][n], found.typical.values_VT[at, t]) if at >= 0 else (None, None)
            records.append(
                (
                    *survey,
                    name_of(run, subject),
                    variables[at].name if at >= 0 else NOTHING,
                    _finite(here),
                    _finite(usual),
                    None if here is None or not np.isfinite(here) else label_of(variables[at], here),
                    None if usual is None else label_of(variables[at], usual),
                    found.response_NT[n, t],
                    found.raised_NT[n, t],
                )
            )
    names = (
        "survey_id",
        "lon",
        "lat",
        "subject",
        "factor",
        "value",
        "usual",
        "label",
        "usual_label",
        "response",
        "raised",
    )
    kinds = {name: pl.String for name in ("survey_id", "subject", "factor", "label", "usual_label")}
    return pl.DataFrame(records, schema={name: kinds.get(name, pl.Float64) for name in names}, orient="row")


def _finite(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)
