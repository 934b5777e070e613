"""Facts of a survey itself, which say how it was observed: plot area, place uncertainty, year, country, region."""

# N rows, K columns

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

SURVEY_NUMERIC = ("log10_area_m2", "log10_uncertainty_m", "year")
SURVEY_CATEGORICAL = ("country", "region")


def survey_features(surveys: pl.DataFrame, categories: dict[str, list[str]]) -> NDArray[np.float32]:
    """Return (N, K) facts of the surveys themselves: ``SURVEY_NUMERIC`` then ``SURVEY_CATEGORICAL``.

    Area and uncertainty are in log10 of metres (squared); a category is the position of its name in ``categories``;
    NaN stands for missing and for a name not seen in training.

    Examples
    --------
    >>> table = pl.DataFrame({"area_m2": [100.0, None], "uncertainty_m": [9.0, 0.0], "year": [2019, 2020],
    ...                       "country": ["Italy", "Malta"], "region": ["ALPINE", None]})
    >>> survey_features(table, {"country": ["France", "Italy"], "region": ["ALPINE"]}).tolist()
    [[2.0, 1.0, 2019.0, 1.0, 0.0], [nan, 0.0, 2020.0, nan, nan]]
    """
    columns = [
        pl.when(pl.col("area_m2") > 0).then(pl.col("area_m2").log10()),
        pl.when(pl.col("uncertainty_m") >= 0).then((pl.col("uncertainty_m") + 1).log10()),
        pl.col("year").cast(pl.Float64),
    ]
    for name in SURVEY_CATEGORICAL:
        known = categories.get(name, [])
        codes = {value: float(code) for code, value in enumerate(known)}
        columns.append(pl.col(name).cast(pl.Utf8).replace_strict(codes, default=None, return_dtype=pl.Float64))
    names = SURVEY_NUMERIC + SURVEY_CATEGORICAL
    features = surveys.select(*(column.alias(name) for column, name in zip(columns, names, strict=True)))
    return features.fill_null(float("nan")).to_numpy().astype(np.float32)
