"""The tables of an evaluation, as a report reads them: what was measured once is never measured again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from releve.errors import RunError

NEEDED: dict[str, tuple[str, ...]] = {
    "scores": ("model", "sample_f1"),
    "surveys": ("survey_id", "lon", "lat", "fold", "f1", "num_observed", "num_predicted"),
}
"""Tables, and their columns, that a report cannot do without."""
OPTIONAL: dict[str, tuple[str, ...]] = {
    "species": ("species_id", "num_true", "f1"),
    "frequency_classes": ("group",),
    "countries": ("group",),
    "regions": ("group",),
    "distances": ("group",),
    "novelties": ("group",),
    "reliability": ("mean_prob", "observed_share", "num_cells"),
    "calibration": ("prevalence_class",),
    "folds": ("fold", "num_train", "num_val"),
    "examples": ("survey_id", "species_id", "probability", "is_observed", "is_predicted"),
    "coverage": ("group", "target", "coverage"),
}
"""Tables, and the columns they need, whose section is left out where they are missing."""
TEXT = (
    "survey_id",
    "model",
    "group",
    "grouping",
    "prevalence_class",
    "frequency_class",
    "country",
    "region",
    "rule",
    "species",
)
"""Columns of words; all others are numbers, or null throughout."""
SCORES = (
    *("sample_f1", "sample_f1_low", "sample_f1_high", "gain", "gain_low", "gain_high", "macro_f1", "macro_f1_low"),
    *("macro_f1_high", "micro_f1", "precision", "recall", "jaccard", "richness_bias", "richness_mae", "auc_macro"),
    *("ap_macro", "num_species_scored", "brier", "calibration_slope", "calibration_intercept", "ece", "boyce"),
)
"""Columns of the table of models; older evaluations lack some, which are then null."""


def read_tables(folder: Path, model: str) -> dict[str, pl.DataFrame]:
    """Return the tables of an evaluation by name, as written by ``releve evaluate``; NaN is null.

    A table that an older evaluation did not write, or wrote with other columns, is left out. The table of scores has
    all of ``SCORES``, ``is_model``, and its best model first.

    Parameters
    ----------
    folder
        The run's ``evaluation``, with NAME.parquet or NAME.csv for each table.
    model
        Name of the run in tables that do not say which row it is.

    Raises
    ------
    RunError
        If the scores or surveys are missing, cannot be read, or lack a column.
    """
    tables = {}
    for name, columns in (NEEDED | OPTIONAL).items():
        table = _read_table(folder, name)
        lacking = [column for column in columns if table is None or column not in table.columns]
        if table is not None and not lacking:
            tables[name] = table
        elif name in NEEDED:
            found = f"{folder} has no table of {name}" if table is None else f"{folder / name} lacks columns {lacking}"
            raise RunError(found, action=f"Run releve evaluate {folder.parent} first")
    return tables | {"scores": _complete_scores(tables["scores"], folder, model)}


def _complete_scores(scores: pl.DataFrame, folder: Path, model: str) -> pl.DataFrame:
    """Return the scores with every column that a report asks for, the best model first."""
    if "is_model" not in scores.columns:
        scores = scores.with_columns(is_model=pl.col("model") == model)
    if scores["is_model"].sum() != 1:
        raise RunError(
            f"{folder / 'scores'} has {scores['is_model'].sum()} rows of the run among {scores['model'].to_list()}",
            expected="one",
            action=f"Run releve evaluate {folder.parent} again",
        )
    lacking = [name for name in SCORES if name not in scores.columns]
    scores = scores.with_columns(pl.lit(None, pl.Float64).alias(name) for name in lacking)
    by = "auc_macro" if "auc_gain" in scores.columns else "sample_f1"  # records are compared by how places are ranked
    return scores.sort(by, descending=True, nulls_last=True)


def _read_table(folder: Path, name: str) -> pl.DataFrame | None:
    parquet, text = folder / f"{name}.parquet", folder / f"{name}.csv"
    try:
        if parquet.is_file():
            table = pl.read_parquet(parquet, glob=False)
        elif text.is_file():
            kinds = {"survey_id": pl.String}
            table = pl.read_csv(text, infer_schema_length=None, schema_overrides=kinds, glob=False)
        else:
            return None
    except pl.exceptions.PolarsError as error:
        raise RunError(
            f"the table {name} in {folder} cannot be read: {str(error).splitlines()[0]}",
            action=f"Run releve evaluate {folder.parent} again",
        ) from error
    return _plain(table)


def _plain(table: pl.DataFrame) -> pl.DataFrame:
    """Return a table with null for NaN and infinity, flags as booleans and columns without a value as numbers.

    Species without names are called by their ids.
    """
    kinds: dict[str, Any] = {}
    for name, kind in table.schema.items():
        if name.startswith("is_"):
            kinds[name] = pl.col(name).cast(pl.Boolean)
        elif name in TEXT:
            kinds[name] = pl.col(name).cast(pl.String)
        elif kind.is_float():
            kinds[name] = pl.when(pl.col(name).is_finite()).then(pl.col(name))
        elif table[name].null_count() == len(table):
            kinds[name] = pl.col(name).cast(pl.Float64, strict=False)
    if "species_id" in table.columns and "species" not in table.columns:
        kinds["species"] = pl.col("species_id").cast(pl.String)
    return table.with_columns(**kinds)
