"""How predictions follow one variable, or two, while all else stays: partial dependence and its single lines."""

# N surveys, S species, G values of a variable, H values of another, T subjects

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from releve.explain.inputs import Inputs
from releve.explain.places import Change, Places
from releve.explain.subjects import COMMUNITY, Subject
from releve.explain.variables import Variable, set_to, values_of
from releve.models.kinds import MemberModel
from releve.runs.folder import Run

NUM_PLACES = 60
"""Training places that each value is tried at."""
NUM_VALUES = 12
NUM_PAIR_VALUES = 10
"""Of each of two variables."""
ENDS = (0.01, 0.99)
"""Quantiles of the training places between which values are tried: beyond, a model only guesses."""
NUM_RESPONDING = 3
"""Species told of each variable beside those asked for: those that respond most."""
MIN_PRESENCES = 10
"""Species on fewer training surveys are not told of unless they are asked for."""
NUM_BINS = 20


@dataclass(frozen=True, eq=False)
class Responses:
    """What :func:`measure_responses` finds: tables with a row for each ``variable`` and ``value``.

    ``curves`` has ``subject`` (a species, or the expected richness), ``response`` (mean over places), ``low`` and
    ``high`` (middle 80 % of places; null for species that were not asked for), ``label`` of a category. ``lines`` has
    the response at each place: ``survey_id, subject, response``. ``distribution`` counts training surveys in
    ``NUM_BINS`` bins (``low, high``) or by code. ``optima`` has a row a variable and species: ``at`` (the value of the
    highest mean response), ``shape`` in a word, ``lowest, highest``.
    """

    curves: pl.DataFrame
    lines: pl.DataFrame
    distribution: pl.DataFrame
    optima: pl.DataFrame


def measure_responses(
    run: Run,
    variables: Sequence[Variable],
    subjects: Sequence[Subject],
    *,
    num_places: int = NUM_PLACES,
    seed: int = 0,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> Responses:
    """Return how the probabilities of species, or the expected richness, follow each variable.

    At a sample of training places the variable is set to one value after the other, all else stays as it was found
    there, the facts of the survey too, and all members of the run predict, calibrated as ``predict_probs`` does. The
    mean over places is the partial dependence (Friedman 2001), the line of each place its individual conditional
    expectation (Goldstein et al. 2015): where lines cross, the variable works together with others. Of variables that
    go together in nature (climate), values are tried beside others that they never meet; ``distribution`` says where
    the data lie.

    Parameters
    ----------
    run
        A trained run.
    variables
        Each with one column: numbers are tried at ``NUM_VALUES`` equal steps between the 1 % and the 99 % quantile,
        codes one by one.
    subjects
        Species and, as None, the community, whose lines are kept.
    num_places
        How many training places.
    seed
        Draws them.
    advance
        Is told how many more variables are done, and of how many.

    References
    ----------
    Friedman (2001), Greedy function approximation, doi:10.1214/aos/1013203451.
    Goldstein et al. (2015), Peeking inside the black box, doi:10.1080/10618600.2014.907095.
    """
    rows = training_places(run, num_places, seed)
    known = np.flatnonzero(run.store.is_scored)
    places, ids = Places(run, run.store, rows), run.store.surveys["survey_id"].gather(rows).cast(pl.String)
    grids = {each.name: values_to_try(run, each, known) for each in variables}
    done = partial(advance, 1, len(variables))
    found = [_respond(places, each, grids[each.name], subjects, done) for each in variables]
    counts_S = np.bincount(run.store.labels.take(known).indices, minlength=len(run.species))
    enough = counts_S[: len(run.species)] >= MIN_PRESENCES
    return Responses(
        curves=_stack([_curves(run, each, subjects, enough) for each in found]),
        lines=_stack([_lines(run, each, subjects, ids) for each in found]),
        distribution=_stack([count_values(run, each.variable, known, each.values_G) for each in found]),
        optima=_stack([_optima(run, each, enough) for each in found]),
    )


@dataclass(frozen=True, eq=False)
class Responding:
    """Responses to one variable: the mean of each species, and the subjects at each place."""

    variable: Variable
    values_G: NDArray[np.float64]
    mean_GS: NDArray[np.float64]
    lines_GTN: NDArray[np.float64]


def _respond(
    places: Places, variable: Variable, values_G: NDArray, subjects: Sequence[Subject], advance: Callable[[], None]
) -> Responding:
    if not len(values_G):
        shape = (0, len(subjects), len(places.rows))
        return Responding(variable, values_G, np.zeros((0, len(places.run.species))), np.zeros(shape))
    probs_GNS = places.probs([set_to(variable, float(value)) for value in values_G])
    means = [probs_NS.double().mean(dim=0).numpy() for probs_NS in probs_GNS]
    lines = [of_subjects(probs_NS, subjects) for probs_NS in probs_GNS]
    advance()
    return Responding(variable, values_G, np.stack(means), np.stack(lines))


def of_subjects(probs_NS: Tensor, subjects: Sequence[Subject]) -> NDArray[np.float64]:
    """Return (T, N) the probability of each subject's species, or the expected number of species.

    Examples
    --------
    >>> of_subjects(torch.tensor([[0.25, 0.5]]), [1, None]).tolist()
    [[0.5], [0.75]]
    """
    probs_NS = probs_NS.double()
    columns = [probs_NS.sum(dim=1) if each is None else probs_NS[:, each] for each in subjects]
    return torch.stack(columns).numpy() if columns else np.zeros((0, len(probs_NS)))


def training_places(run: Run, number: int, seed: int) -> NDArray[np.int64]:
    """Return so many of the run's plots (records, where it has no plots), those with covariates before others."""
    rows = np.flatnonzero(run.store.is_scored)
    if "covariates" in run.store.arrays:
        having = rows[run.store.arrays["covariates"].row_of[rows] >= 0]
        rows = having if len(having) else rows
    return np.sort(np.random.default_rng(seed).choice(rows, min(number, len(rows)), replace=False))


def values_to_try(
    run: Run, variable: Variable, rows: NDArray[np.int64], number: int = NUM_VALUES
) -> NDArray[np.float64]:
    """Return (G,) ascending values of a variable: the codes that members know, few whole values, or equal steps."""
    tables = [model.statistics.tables.get(variable.modality) for model in run.models]
    if variable.is_categorical:
        codes = [table.codes.get(variable.columns[0], []) for table in tables if table is not None]
        return np.unique(np.concatenate([np.zeros(0), *codes]))
    values = values_of(run.store, variable, rows)
    values = values[np.isfinite(values)]
    if not len(values):
        return np.zeros(0)
    low, high = np.quantile(values, ENDS)
    distinct = np.unique(values[(values >= low) & (values <= high)])
    return distinct if len(distinct) <= number else np.linspace(low, high, number)


def count_values(run: Run, variable: Variable, rows: NDArray[np.int64], values_G: NDArray) -> pl.DataFrame:
    """Return ``variable, low, high, num_surveys``: how many training surveys lie in each bin, or have each code."""
    values = values_of(run.store, variable, rows)
    values = values[np.isfinite(values)]
    schema = {"variable": pl.String, "low": pl.Float64, "high": pl.Float64, "num_surveys": pl.Int64}
    if not len(values_G) or not len(values):
        return pl.DataFrame(schema=schema)
    if variable.is_categorical:
        low = high = values_G
        counts = np.array([(values == code).sum() for code in values_G])
    else:
        counts, edges = np.histogram(values, NUM_BINS, (values_G[0], values_G[-1]))
        low, high = edges[:-1], edges[1:]
    return pl.DataFrame({"variable": variable.name, "low": low, "high": high, "num_surveys": counts}, schema=schema)


def label_of(variable: Variable, value: float) -> str | None:
    """Return the name of a category's code; None of a number.

    Examples
    --------
    >>> cover = Variable("cover", "covariates", ("cover",), is_categorical=True, classes={3: "meadow"})
    >>> label_of(cover, 3.0), label_of(cover, 4.0), label_of(Variable("pH", "covariates", ("pH",)), 4.0)
    ('meadow', '4', None)
    """
    return variable.classes.get(int(value), f"{value:g}") if variable.is_categorical else None


def name_of(run: Run, subject: Subject) -> str:
    """Return what a subject is called in tables."""
    return COMMUNITY if subject is None else str(run.species[subject])


def _curves(run: Run, found: Responding, subjects: Sequence[Subject], enough: NDArray[np.bool_]) -> pl.DataFrame:
    parts = []
    asked = {each for each in subjects if each is not None}
    span_S = np.where(enough, np.ptp(found.mean_GS, axis=0), 0.0) if len(found.values_G) else np.zeros(0)
    most = [int(at) for at in np.argsort(-span_S, kind="stable")[:NUM_RESPONDING] if span_S[at] > 0 and at not in asked]
    labels = [label_of(found.variable, value) for value in found.values_G]
    for at, subject in enumerate(subjects):
        low_G, high_G = np.quantile(found.lines_GTN[:, at], [0.1, 0.9], axis=1)
        mean_G = found.lines_GTN[:, at].mean(axis=1)
        parts.append((name_of(run, subject), True, mean_G, low_G, high_G))
    parts += [(name_of(run, at), False, found.mean_GS[:, at], None, None) for at in most]
    head = {"variable": found.variable.name, "value": found.values_G, "label": pl.Series(labels, dtype=pl.String)}
    tables = [
        pl.DataFrame(head).with_columns(
            pl.lit(subject).alias("subject"),
            pl.lit(is_asked).alias("is_asked"),
            pl.Series("response", mean_G, pl.Float64),
            pl.Series("low", low_G if low_G is not None else [None] * len(labels), pl.Float64),
            pl.Series("high", high_G if high_G is not None else [None] * len(labels), pl.Float64),
        )
        for subject, is_asked, mean_G, low_G, high_G in parts
    ]
    return _stack(tables)


def _lines(run: Run, found: Responding, subjects: Sequence[Subject], ids: pl.Series) -> pl.DataFrame:
    num_values, num_places = len(found.values_G), len(ids)
    return _stack(
        [
            pl.DataFrame(
                {
                    "variable": [found.variable.name] * (num_values * num_places),
                    "value": np.repeat(found.values_G, num_places),
                    "survey_id": pl.concat([ids] * num_values) if num_values else pl.Series([], dtype=pl.String),
                    "subject": [name_of(run, subject)] * (num_values * num_places),
                    "response": found.lines_GTN[:, at].ravel(),
                }
            )
            for at, subject in enumerate(subjects)
        ]
    )


def _optima(run: Run, found: Responding, enough: NDArray[np.bool_]) -> pl.DataFrame:
    species = np.flatnonzero(enough) if len(found.values_G) else np.zeros(0, np.int64)
    mean_GS = found.mean_GS[:, species]
    best = mean_GS.argmax(axis=0) if len(species) else np.zeros(0, np.int64)
    return pl.DataFrame(
        {
            "variable": [found.variable.name] * len(species),
            "species": [str(each) for each in run.species[species]],
            "at": found.values_G[best],
            "shape": [shape_of(mean_G) for mean_G in mean_GS.T],
            "lowest": mean_GS.min(axis=0) if len(species) else [],
            "highest": mean_GS.max(axis=0) if len(species) else [],
        }
    )


def shape_of(mean_G: NDArray[np.float64]) -> str:
    """Return the shape of a response in one word: ``flat``, ``rising``, ``falling``, ``humped``, ``dipped``.

    Flat: it varies by less than a tenth of its highest value. Humped: its top lies inside, and both ends are lower by a
    fifth of what it varies by, or more; dipped likewise.

    Examples
    --------
    >>> [shape_of(np.array(curve)) for curve in ([0.1, 0.2, 0.4], [0.1, 0.4, 0.2], [0.4, 0.1, 0.3], [0.30, 0.31, 0.3])]
    ['rising', 'humped', 'dipped', 'flat']
    """
    span = float(np.ptp(mean_G))
    if span < 0.1 * float(mean_G.max()):
        return "flat"
    ends = mean_G[[0, -1]]
    if (mean_G.max() - ends >= 0.2 * span).all():
        return "humped"
    if (ends - mean_G.min() >= 0.2 * span).all():
        return "dipped"
    return "rising" if ends[1] > ends[0] else "falling"


def measure_pair(
    run: Run,
    first: Variable,
    second: Variable,
    subjects: Sequence[Subject],
    *,
    num_places: int = NUM_PLACES // 2,
    seed: int = 0,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> pl.DataFrame:
    """Return the mean response to two variables at once, each value of the one beside each of the other.

    As :func:`measure_responses`; columns ``first, first_value, second, second_value, subject, response``.
    """
    places = Places(run, run.store, training_places(run, num_places, seed))
    known = np.flatnonzero(run.store.is_scored)
    values_G, values_H = (values_to_try(run, each, known, NUM_PAIR_VALUES) for each in (first, second))
    rows = []
    for a in values_G.tolist():
        changes = [_both(set_to(first, a), set_to(second, b)) for b in values_H.tolist()]
        probs_HNS = places.probs(changes)
        advance(1, len(values_G))
        for b, probs_NS in zip(values_H.tolist(), probs_HNS, strict=True):
            response_TN = of_subjects(probs_NS, subjects)
            pairs = zip(subjects, response_TN.mean(axis=1).tolist(), strict=True)
            rows += [(first.name, a, second.name, b, name_of(run, subject), mean) for subject, mean in pairs]
    names = ("first", "first_value", "second", "second_value", "subject", "response")
    return pl.DataFrame(rows, schema=names, orient="row")


def _both(one: Change, other: Change) -> Change:
    def change(inputs: Inputs, model: MemberModel) -> Inputs:
        return other(one(inputs, model), model)

    return change


def _stack(tables: list[pl.DataFrame]) -> pl.DataFrame:
    return pl.concat(tables, how="vertical_relaxed") if tables else pl.DataFrame()
