"""How far each predicted place is from what a run was trained on: on the ground, and in its covariates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from releve.errors import StoreError
from releve.geo import nearest_km
from releve.ingest.own import Training
from releve.ingest.places import is_inside, is_swapped, is_zero
from releve.progress import say
from releve.runs.folder import PLACES_SUFFIX, Run
from releve.store.read import Store

BLOCK_ROWS = 50_000
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


def training_of(run: Run) -> Training:
    """Return what a run knows of its training rows: the widest ranges of its members, and all their names."""
    quantiles: dict[str, list[float]] = {}
    categories: dict[str, dict[str, None]] = {}
    codes: dict[str, list[float]] = {}
    classes: dict[str, dict[int, str]] = {}
    for model in run.models:
        for name, names in model.statistics.categories.items():
            categories.setdefault(name, {}).update(dict.fromkeys(names))
        table = model.statistics.tables.get("covariates")
        if table is None:
            continue
        codes |= table.codes
        classes |= table.classes
        for name, values in table.quantiles.items():
            known = quantiles.setdefault(name, list(values))
            known[0], known[-1] = min(known[0], values[0]), max(known[-1], values[-1])
    places = _training_places(run)
    bounds = None
    if places is not None:
        lon, lat = places
        bounds = {"west": lon.min(), "south": lat.min(), "east": lon.max(), "north": lat.max()}
        bounds = {name: float(value) for name, value in bounds.items()}
    categorical = {name: tuple(names) for name, names in categories.items()}
    return Training(bounds, categorical, quantiles, codes, classes)


def _training_places(run: Run) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Return lon, lat of the plots, or records where there are no plots; None if the store is no longer there."""
    try:
        store = run.store
    except StoreError:
        return None
    return (store.lon[store.is_scored], store.lat[store.is_scored]) if len(store) else None


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
        plots), null if the run's store is not there; ``share_outside``, the share of the covariates with a value that
        lie outside the range of training, null if none has one; ``most_outside``, the one that is farthest out, and
        ``most_outside_by``, how far in widths of that range; ``remark``, what is wrong with the place, or null.
    """
    training, places = training_of(run), _training_places(run)
    lon, lat = store.lon, store.lat
    nearest = np.full(len(store), np.nan) if places is None else nearest_km(lon, lat, *places).round(3)
    columns: dict[str, object] = {"surveyId": store.surveys["survey_id"], "lon": lon, "lat": lat}
    columns["nearest_training_km"] = pl.Series(nearest).fill_nan(None)
    return pl.DataFrame(columns).hstack(_novelty(store, training)).hstack([_remarks(store, training)])


def _remarks(store: Store, training: Training) -> pl.Series:
    remarks = np.full(len(store), None, object)
    lon, lat, bounds = store.lon, store.lat, training.bounds
    if bounds is not None:
        country = store.surveys["country"] if "country" in store.surveys.columns else None
        remarks[~is_inside(lon, lat, bounds)] = OUTSIDE
        remarks[is_swapped(lon, lat, bounds, country, in_doubt=True)] = SWAPPED
    remarks[is_zero(lon, lat)] = AT_ZERO
    return pl.Series("remark", remarks.tolist(), dtype=pl.String)


def _novelty(store: Store, training: Training) -> pl.DataFrame:
    """Return share_outside, most_outside, most_outside_by."""
    array = store.arrays.get("covariates")
    names = [name for name in training.quantiles if array is not None and name in array.spec.channels]
    if array is None or not names:
        nothing = [None] * len(store)
        kinds = {"share_outside": pl.Float64, "most_outside": pl.String, "most_outside_by": pl.Float64}
        return pl.DataFrame({name: pl.Series(name, nothing, kind) for name, kind in kinds.items()})
    at = [array.spec.channels.index(name) for name in names]
    low, high = (np.array([training.quantiles[name][end] for name in names], np.float32) for end in (0, -1))
    width = np.maximum(high - low, np.finfo(np.float32).tiny)
    parts = []
    for start in range(0, len(store), BLOCK_ROWS):
        rows = np.arange(start, min(start + BLOCK_ROWS, len(store)))
        values = np.where((array.row_of[rows] >= 0)[:, None], array.gather(rows)[:, at], np.nan)
        with np.errstate(over="ignore", invalid="ignore"):
            beyond = np.nan_to_num(np.maximum(low - values, values - high), nan=0.0) / width
        num_known, most = np.isfinite(values).sum(axis=1), beyond.argmax(axis=1)
        by = beyond[np.arange(len(rows)), most].astype(np.float64)
        share = np.divide((beyond > 0).sum(axis=1), num_known, out=np.full(len(rows), np.nan), where=num_known > 0)
        found = pl.DataFrame(
            {"share_outside": share.round(4), "name": np.array(names, object)[most], "by": by.round(3)}
        )
        is_out = pl.Series(by > 0)
        parts.append(
            found.select(
                pl.col("share_outside").fill_nan(None),
                pl.when(is_out).then(pl.col("name").cast(pl.String)).alias("most_outside"),
                pl.when(is_out).then("by").alias("most_outside_by"),
            )
        )
    return pl.concat(parts)


def say_places(table: pl.DataFrame) -> None:
    """Say which places of ``describe_places`` are wrong or far from training, with the first three of each."""
    for remark in (SWAPPED, AT_ZERO, OUTSIDE):
        some = table.filter(pl.col("remark") == remark).select("surveyId", "lon", "lat")
        if len(some):
            shown = ", ".join(f"{survey} (lon {lon:g}, lat {lat:g})" for survey, lon, lat in some.head(3).rows())
            say(f"{len(some)} of {len(table)} places lie {remark}: {shown}{', ...' if len(some) > 3 else ''}")
    num_new = int((table["share_outside"].fill_null(0) > 0.5).sum())
    if num_new:
        say(f"{num_new} of {len(table)} places have most of their covariates outside the range of training")
