"""Which records can be grouped at all, where each is taken to lie, and what group it belongs to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from releve.errors import ConfigError, TableError
from releve.geo import grid_cells, shift_places
from releve.ingest.surveys import SURVEY_SCHEMA
from releve.prepare.config import PseudoplotConfig
from releve.prepare.pseudoplots.keys import (
    dense_codes,
    densify,
    hash_rows,
    pack,
    run_sizes,
    run_starts,
    small_codes,
    uniform,
)
from releve.prepare.pseudoplots.radius import cluster_places

REQUIRED = ("survey_id", "lon", "lat", "species_id")
NO_KEY = "no survey or species id to group by"
NO_PLACE = "no valid place to group by"
NO_YEAR = "no year for a time window"
NO_STRATUM = "no land cover"
TOO_UNCERTAIN = "place too uncertain for its cell"
PUBLISHER_CAP = "publisher cap"


@dataclass(frozen=True)
class Selection:
    """The records that are left, and their groups."""

    rows: NDArray[np.int64]
    """(M,) positions in the input, ascending."""
    group: NDArray[np.int64]
    """(M,) number of the group, 0 and up, not dense."""
    dropped: dict[str, int]


def read_columns(records: pl.DataFrame) -> pl.DataFrame:
    """Return the columns of surveys and ``species_id`` of a table of records; absent ones are null.

    Raises
    ------
    TableError
        If the table lacks ids, places or species.
    """
    lacking = [name for name in REQUIRED if name not in records.columns]
    if lacking:
        raise TableError(f"the table of records lacks columns {lacking}; it has {records.columns}")
    kinds = dict(SURVEY_SCHEMA) | {"species_id": pl.Int64}
    present = set(records.columns)
    return records.select(
        (pl.col(name) if name in present else pl.lit(None)).cast(kind).alias(name) for name, kind in kinds.items()
    )


def select_records(
    table: pl.DataFrame, config: PseudoplotConfig, seed: int, strata: NDArray | pl.Series | None
) -> Selection:
    """Return the records that can be grouped, and their groups."""
    dropped: dict[str, int] = {}
    rows = np.arange(len(table))

    def keep(condition: NDArray[np.bool_], reason: str) -> None:
        nonlocal rows
        kept = condition[rows]
        if not kept.all():
            dropped[reason] = int(np.count_nonzero(~kept))
            rows = rows[kept]

    place_ok = pl.col("lon").is_between(-180, 180) & pl.col("lat").is_between(-90, 90)
    keep(_mask(table, pl.col("survey_id").is_not_null() & pl.col("species_id").is_not_null()), NO_KEY)
    keep(_mask(table, place_ok), NO_PLACE)
    if config.years is not None:
        keep(_mask(table, pl.col("year").is_not_null()), NO_YEAR)
    stratum = _read_strata(table, config, strata)
    if stratum is not None:
        keep(stratum >= 0, NO_STRATUM)
    if config.uncertainty == "drop":
        stated = pl.col("uncertainty_m").fill_nan(None).fill_null(config.default_uncertainty_m)
        keep(_mask(table, stated <= config.cell_size_m / 2), TOO_UNCERTAIN)

    used = table if len(rows) == len(table) else table[rows]
    place = _place_codes(used, config, seed)
    codes = [place]
    if config.years is not None:
        window = used["year"].to_numpy() // config.years
        codes.append((window - window.min(initial=0)).astype(np.int64))
    if stratum is not None:
        codes.append(stratum[rows])
    group = pack(*codes)
    if config.publisher_cap is not None:
        kept = _within_cap(group, used, config.publisher_cap, seed)
        if not kept.all():
            dropped[PUBLISHER_CAP] = int(np.count_nonzero(~kept))
            rows, group = rows[kept], group[kept]
    return Selection(rows, group, dropped)


def _mask(table: pl.DataFrame, condition: pl.Expr) -> NDArray[np.bool_]:
    return table.select(condition.fill_null(False).alias("is")).to_series().to_numpy()


def _read_strata(
    table: pl.DataFrame, config: PseudoplotConfig, strata: NDArray | pl.Series | None
) -> NDArray[np.int64] | None:
    """Return the code of each record's stratum, -1 for none."""
    if (strata is None) != (config.split_by is None):
        raise ConfigError(
            f"pseudoplots.split_by is {config.split_by!r}, but strata are {'' if strata is None else 'not '}missing",
            expected="both or neither",
            action="Set split_by = 'land_cover' and give the class of each record as strata",
        )
    if strata is None:
        return None
    strata = strata if isinstance(strata, pl.Series) else pl.Series(strata)
    if len(strata) != len(table):
        raise TableError(f"there are {len(strata)} strata", expected=f"one for each of the {len(table)} records")
    return dense_codes(strata.fill_nan(None) if strata.dtype.is_float() else strata)


def _place_codes(table: pl.DataFrame, config: PseudoplotConfig, seed: int) -> NDArray[np.int64]:
    """Return a code of 0 and up for each record, shared by those that are grouped."""
    match config.method:
        case "single":
            return np.arange(len(table))
        case "survey":
            return small_codes(table["survey_id"].to_numpy())[0]
        case "grid" | "patch":
            lon, lat = _assumed_places(table, config, seed)
            return densify(grid_cells(lon, lat, config.cell_size_m))
        case "radius":
            return cluster_places(*_assumed_places(table, config, seed), config.size_m)[0]
        case _:
            raise AssertionError(config.method)


def _assumed_places(
    table: pl.DataFrame, config: PseudoplotConfig, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return where each record is taken to lie: as published, or at random within its circle.

    The draw is a hash of the survey id and the seed: it does not depend on the order of rows, and the species of one
    survey, which were seen at one place, stay together.
    """
    lon, lat = table["lon"].to_numpy(), table["lat"].to_numpy()
    if config.uncertainty != "jitter":
        return lon, lat
    radius_m = table["uncertainty_m"].fill_nan(None).fill_null(config.default_uncertainty_m).to_numpy()
    survey = table.select("survey_id")
    distance_m = radius_m * np.sqrt(uniform(hash_rows(survey, seed=2 * seed)))
    return shift_places(lon, lat, distance_m, 2 * np.pi * uniform(hash_rows(survey, seed=2 * seed + 1)))


def _within_cap(group: NDArray[np.int64], table: pl.DataFrame, cap: float, seed: int) -> NDArray[np.bool_]:
    """Return which records are among the first of their group and publisher, in the order of a seeded hash."""
    publisher = dense_codes(table["publisher"])
    group = densify(group)
    limit = np.full(len(group), cap) if cap >= 1 else np.maximum(1, np.floor(cap * np.bincount(group)))[group]
    key = pack(group, publisher + 1)
    order = np.lexsort((hash_rows(table, seed=seed), key))
    starts = run_starts(key[order])
    before = np.arange(len(order)) - np.repeat(starts, run_sizes(starts, len(order)))
    kept = np.empty(len(order), bool)
    kept[order] = before < limit[order]
    return kept | (publisher < 0)
