"""Species lists and probabilities for the surveys of a split, or of a user's table."""

# B batch, S species

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from releve.decide import Lists
from releve.errors import TableError
from releve.files import atomic_path, write_parquet
from releve.ingest import open_release
from releve.progress import progress_bar
from releve.runs import Run, predict_probs
from releve.store import Store, build_store
from releve.store.table import read_table_store

MIN_PROBABILITY = 0.001
"""Smaller probabilities are left out of the sparse table."""
MAX_PER_SURVEY = 512
"""At most this many species a survey are kept in the sparse table, the most probable ones."""


@dataclass(frozen=True)
class Predictions:
    """Lists of all surveys, and the larger probabilities."""

    survey_ids: NDArray[np.int64]
    lists: Lists
    """``species_index`` of the run's columns."""
    probabilities: pl.DataFrame
    """``surveyId``, ``speciesId``, ``probability`` of the likelier species; empty if not asked for."""


def store_for_prediction(run: Run, data: Path, split: str) -> Store:
    """Return a store of the surveys to predict, built beside the run so that a second call finds it.

    Parameters
    ----------
    run
        A trained run.
    data
        A release's folder, or a ``.csv`` / ``.parquet`` table with ``surveyId, lon, lat`` and any of ``year, month,
        country, region, areaInM2, geoUncertaintyInM`` and covariates under their official names.
    split
        The release's split; not used for a table.
    """
    data = Path(data)
    if data.is_file():
        covariates = run.models[0].statistics.tables.get("covariates")
        return read_table_store(data, covariates.columns if covariates else (), bounds=_training_bounds(run))
    settings = run.config.data.model_copy(update={"splits": (split,), "records": None})
    folder = run.path / "stores" / f"{split}-{_short_hash(str(data.resolve()))}"
    return build_store(open_release(data), settings, None, folder, overwrite=True)


def predict_lists(run: Run, store: Store, *, probabilities: bool = False) -> Predictions:
    """Return the species list of every survey of a store, and if asked for its likelier species' probabilities."""
    lists: list[Lists] = []
    kept: list[pl.DataFrame] = []
    survey_ids = store.surveys["survey_id"].to_numpy()
    with progress_bar() as bar:
        task = bar.add_task("predict", total=len(store))
        for rows, probs_BS in predict_probs(run, store):
            lists.append(run.decision.lists(probs_BS))
            if probabilities:
                top = probs_BS.topk(min(MAX_PER_SURVEY, probs_BS.shape[1]), dim=1)
                row, rank = (top.values >= MIN_PROBABILITY).nonzero(as_tuple=True)
                kept.append(
                    pl.DataFrame(
                        {
                            "surveyId": survey_ids[rows][row.numpy()],
                            "speciesId": run.species_ids[top.indices[row, rank].numpy()],
                            "probability": top.values[row, rank].numpy(),
                        }
                    )
                )
            bar.advance(task, len(rows))
    schema = {"surveyId": pl.Int64, "speciesId": pl.Int64, "probability": pl.Float32}
    table = pl.concat(kept) if kept else pl.DataFrame(schema=schema)
    indptr = np.concatenate([[0], np.cumsum(np.concatenate([part.lengths() for part in lists]))])
    joined = Lists(indptr, np.concatenate([part.indices for part in lists]))
    return Predictions(survey_ids, joined, table)


def write_probabilities(path: Path, table: pl.DataFrame) -> None:
    """Write the sparse table of probabilities as parquet."""
    check_probabilities_name(path)
    with atomic_path(path) as partial:
        write_parquet(partial, table)


def check_probabilities_name(path: Path) -> None:
    """Refuse a name that is not parquet's, before the work rather than after it.

    Raises
    ------
    TableError
        If the file is not to be a .parquet.
    """
    if path.suffix != ".parquet":
        raise TableError(f"--probabilities {path}", expected="a name that ends in .parquet")


def _training_bounds(run: Run) -> dict[str, float] | None:
    """Return west, south, east, north of the rows that the first member with places was trained on, if any was."""
    for model in run.models:
        places = model.statistics.tables.get("location")
        if places is not None and {"lon", "lat"} <= set(places.quantiles):
            lon, lat = places.quantiles["lon"], places.quantiles["lat"]
            return {"west": lon[0], "south": lat[0], "east": lon[-1], "north": lat[-1]}
    return None


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
