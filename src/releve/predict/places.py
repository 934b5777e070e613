"""How far each predicted place is from what a run was trained on: on the ground, and in its covariates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from releve.errors import RunError
from releve.geo import nearest_km
from releve.ingest.own import Training
from releve.ingest.places import is_inside, is_swapped, is_zero
from releve.predict.novelty import read_novelty
from releve.predict.training import training_of, training_places
from releve.progress import say
from releve.runs.folder import PLACES_SUFFIX, Run
from releve.store.read import Store

SWAPPED = "outside the region of training, inside it with lon and lat exchanged"
AT_ZERO = "at longitude 0, latitude 0"
OUTSIDE = "outside the region of training"


def places_file(predictions: Path) -> Path:
    """Return the name of the table of places that lies beside a file of predictions.

    Examples
    --------
    >>> places_file(Path("run/predictions.csv")).name
    'predictions.places.csv'
    """
    return predictions.with_suffix(PLACES_SUFFIX)


def describe_places(run: Run, store: Store) -> pl.DataFrame:
    """Return a row for each place of a store that says how new it is to a run.

    Parameters
    ----------
    run
        A trained run.
    store
        The places.

    Returns
    -------
    polars.DataFrame
        ``surveyId, lon, lat``; ``nearest_training_km``, the distance to the nearest plot (record, where the run saw no
        plots), null if the run's store is not there; ``mess``, the similarity of the covariate that is least like
        training, below 0 outside its range, and ``most_dissimilar``, which one that is, null where none is known;
        ``dissimilarity``, the index of :mod:`releve.predict.novelty`, and ``inside_area``, whether the run may be
        applied there; ``remark``, what is wrong with the place, or null.
    """
    training, places = training_of(run), training_places(run)
    lon, lat = store.lon, store.lat
    nearest = np.full(len(store), np.nan) if places is None else nearest_km(lon, lat, *places).round(3)
    columns: dict[str, object] = {"surveyId": store.surveys["survey_id"], "lon": lon, "lat": lat}
    columns["nearest_training_km"] = pl.Series(nearest).fill_nan(None)
    return pl.DataFrame(columns).hstack(_novelty(run, store)).hstack([_remarks(store, training)])


def _remarks(store: Store, training: Training) -> pl.Series:
    remarks = np.full(len(store), None, object)
    lon, lat, bounds = store.lon, store.lat, training.bounds
    if bounds is not None:
        country = store.surveys["country"] if "country" in store.surveys.columns else None
        remarks[~is_inside(lon, lat, bounds)] = OUTSIDE
        remarks[is_swapped(lon, lat, bounds, country, in_doubt=True)] = SWAPPED
    remarks[is_zero(lon, lat)] = AT_ZERO
    return pl.Series("remark", remarks.tolist(), dtype=pl.String)


def _novelty(run: Run, store: Store) -> pl.DataFrame:
    """Return mess, most_dissimilar, dissimilarity, inside_area."""
    kinds = {"mess": pl.Float64, "most_dissimilar": pl.String, "dissimilarity": pl.Float64, "inside_area": pl.Boolean}
    try:
        novelty = read_novelty(run)
    except RunError as error:
        say(f"how new the places are is left open: {error}")
        return pl.DataFrame({name: pl.Series(name, [None] * len(store), kind) for name, kind in kinds.items()})
    found = novelty.of(run, store, np.arange(len(store)))
    names = np.array([*novelty.variables, None], object)[found.most_dissimilar].tolist()
    columns = (found.mess.astype(np.float64).round(2), names, found.dissimilarity.astype(np.float64).round(3))
    table = {name: pl.Series(name, x, kinds[name]) for name, x in zip(kinds, [*columns, found.inside], strict=True)}
    return pl.DataFrame(table).with_columns(pl.col("mess").fill_nan(None))


def say_places(table: pl.DataFrame) -> None:
    """Say which places of ``describe_places`` are wrong or far from training, with the first three of each."""
    for remark in (SWAPPED, AT_ZERO, OUTSIDE):
        some = table.filter(pl.col("remark") == remark).select("surveyId", "lon", "lat")
        if len(some):
            shown = ", ".join(f"{survey} (lon {lon:g}, lat {lat:g})" for survey, lon, lat in some.head(3).rows())
            say(f"{len(some)} of {len(table)} places lie {remark}: {shown}{', ...' if len(some) > 3 else ''}")
    num_new = int((~table["inside_area"]).sum())
    if num_new:
        say(f"{num_new} of {len(table)} places are unlike any that the run was trained on: inside_area is false there")
