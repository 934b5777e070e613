"""What a run knows of the rows that it was trained on, by which other places are judged."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from releve.errors import StoreError
from releve.ingest.own import Training
from releve.runs.folder import Run


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
        for name, each in table.codes.items():
            codes[name] = sorted({*codes.get(name, ()), *each})
        classes |= table.classes
        for name, values in table.quantiles.items():
            known = quantiles.setdefault(name, list(values))
            known[0], known[-1] = min(known[0], values[0]), max(known[-1], values[-1])
    places = training_places(run)
    bounds = None
    if places is not None:
        lon, lat = places
        bounds = {"west": lon.min(), "south": lat.min(), "east": lon.max(), "north": lat.max()}
        bounds = {name: float(value) for name, value in bounds.items()}
    categorical = {name: tuple(names) for name, names in categories.items()}
    return Training(bounds, categorical, quantiles, codes, classes)


def training_places(run: Run) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Return lon, lat of the plots, or records where there are no plots; None if the store is no longer there."""
    try:
        store = run.store
    except StoreError:
        return None
    return (store.lon[store.is_scored], store.lat[store.is_scored]) if len(store) else None
