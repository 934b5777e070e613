"""The grouping itself: records to pseudo-plots, with a representative place and a measure of completeness."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from releve.geo import unit_vectors
from releve.ingest.surveys import SURVEY_SCHEMA
from releve.prepare.config import PseudoplotConfig
from releve.prepare.pseudoplots.completeness import estimate_coverage, estimate_richness, trust_in_silence
from releve.prepare.pseudoplots.keys import (
    dense_codes,
    densify,
    hash_rows,
    mean_vectors,
    run_sizes,
    run_starts,
    small_codes,
    sort_order,
)
from releve.prepare.pseudoplots.radius import EARTH_RADIUS_M
from releve.prepare.pseudoplots.select import read_columns, select_records

TOO_FEW_RECORDS = "pseudo-plot with too few records"
TOO_FEW_SPECIES = "pseudo-plot with too few species"
TABLE_SCHEMA = pl.Schema(
    dict(SURVEY_SCHEMA)
    | {"plot_id": pl.Int64}
    | dict.fromkeys(("num_records", "num_species", "num_publishers", "num_dates"), pl.Int32)
    | dict.fromkeys(("spread_m", "reach_m", "coverage", "chao2", "completeness", "trust"), pl.Float64)
)


@dataclass(frozen=True)
class Pseudoplots:
    """Presence-only records as surveys."""

    table: pl.DataFrame
    """One row per pseudo-plot, sorted by ``survey_id``; ``SURVEY_SCHEMA``, then what grouping found out.

    A pseudo-plot is represented by one of its records: the one nearest to their mean place (to the millimetre; of
    several, that with the smallest survey id). ``survey_id``, place, date, ``country``, ``region``, ``series_id``
    and ``patch_id`` are the representative's: its patch, series and covariates stand for the pseudo-plot.
    ``publisher`` is the most frequent (ties alphabetical), ``uncertainty_m`` the median of the stated, ``area_m2``
    null. ``plot_id`` is the row's number and unique; ``survey_id`` says where the covariates come from and repeats
    where records of one survey are in several pseudo-plots: with the method single, or divided by a border, a time
    window or land cover.

    num_records, num_species, num_publishers
        What was grouped; records without a publisher add none.
    num_dates
        Distinct visits: days, or surveys (``PseudoplotConfig.visits``).
    spread_m
        Root mean square distance of the records from their mean place.
    reach_m
        Distance of the farthest record from the representative: how far the pseudo-plot reaches from its place.
    coverage, chao2, completeness
        Sample coverage, estimated richness, and num_species / chao2; null for a single visit.
    trust
        0…1, how far silence may be read as absence; see ``completeness.trust_in_silence``.
    """
    members: pl.DataFrame
    """plot (row of ``table``), record (row of the input); sorted. Each record is in at most one pseudo-plot."""
    labels: pl.DataFrame
    """plot (row of ``table``), species_id; unique and sorted."""
    dropped: dict[str, int]
    """Records left out, by reason; with ``members`` they are all records of the input."""


@dataclass(frozen=True)
class _Richness:
    """Species and visits of each group, and the pairs of group and species."""

    num_species: NDArray[np.int64]
    num_visits: NDArray[np.int64]
    incidences: NDArray[np.int64]
    once: NDArray[np.int64]
    twice: NDArray[np.int64]
    group: NDArray[np.int64]
    species_id: NDArray[np.int64]


def group_records(
    records: pl.DataFrame, config: PseudoplotConfig, *, seed: int = 0, strata: NDArray | pl.Series | None = None
) -> Pseudoplots:
    """Return the pseudo-plots that presence-only records form when those close together are read as one survey.

    The result depends on the set of records and the seed, not on the order of rows.

    Parameters
    ----------
    records
        ``OCCURRENCE_SCHEMA``, cleaned. Only survey_id, lon, lat and species_id are needed; others may be absent or
        null.
    config
        How records are grouped.
    seed
        Of the random choices: places within their circle of uncertainty, records beyond the publisher cap.
    strata
        (N,) class of each record, such as its land cover; with ``config.split_by`` only. Null, NaN: dropped.

    Raises
    ------
    TableError
        If the table lacks a column, or there is not one stratum per record.
    ConfigError
        If strata are given without ``split_by`` or the reverse.

    Examples
    --------
    Two records a few steps apart make one pseudo-plot, a third is some kilometres away:

    >>> records = pl.DataFrame({"survey_id": [1, 2, 3], "species_id": [7, 8, 7],
    ...                         "lon": [10.001, 10.002, 10.1], "lat": [52.001, 52.001, 52.0]})
    >>> found = group_records(records, PseudoplotConfig(method="grid", size_m=1000))
    >>> found.table.select("survey_id", "num_records", "num_species").rows()
    [(1, 2, 2), (3, 1, 1)]
    >>> found.labels.rows(), found.dropped
    ([(0, 7), (0, 8), (1, 7)], {})
    """
    table = read_columns(records)
    selected = select_records(table, config, seed, strata)
    order = sort_order(selected.group)
    rows = selected.rows[order]
    starts = run_starts(selected.group[order])
    group = np.repeat(np.arange(len(starts)), run_sizes(starts, len(rows)))
    richness = _count_species(group, rows, table, config)
    plots, tie_break = _describe_groups(group, starts, rows, table, richness)
    dropped = dict(selected.dropped)
    kept = np.ones(len(plots), bool)
    for name, least, reason in (
        ("num_records", config.min_records, TOO_FEW_RECORDS),
        ("num_species", config.min_species, TOO_FEW_SPECIES),
    ):
        enough = (plots[name] >= least).to_numpy()
        if (kept & ~enough).any():
            dropped[reason] = int(plots["num_records"].to_numpy()[kept & ~enough].sum())
        kept &= enough
    # by survey id; where that repeats, by the content of the representative
    sorted_groups = np.lexsort((tie_break, plots["survey_id"].to_numpy()))
    sorted_groups = sorted_groups[kept[sorted_groups]]
    return Pseudoplots(
        plots[sorted_groups]
        .with_columns(plot_id=pl.int_range(pl.len()))
        .select(TABLE_SCHEMA.names())
        .cast(TABLE_SCHEMA),
        _runs_in_order(group, sorted_groups, "record", rows),
        _runs_in_order(richness.group, sorted_groups, "species_id", richness.species_id),
        dropped,
    )


def _runs_in_order(
    group: NDArray[np.int64], order: NDArray[np.int64], name: str, values: NDArray[np.int64]
) -> pl.DataFrame:
    """Return the table of plot and value: the values of ``order[0]`` as plot 0, and so on. ``group`` is ascending."""
    starts = run_starts(group)
    sizes = run_sizes(starts, len(group))[order]
    ends = np.cumsum(sizes)
    rows = np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts[order] - (ends - sizes), sizes)
    return pl.DataFrame({"plot": np.repeat(np.arange(len(order)), sizes), name: values[rows]})


def _count_species(
    group: NDArray[np.int64], rows: NDArray[np.int64], table: pl.DataFrame, config: PseudoplotConfig
) -> _Richness:
    """Return the species of each group and on how many of its visits each was met."""
    num_groups = int(group.max(initial=-1)) + 1
    species, decode = small_codes(table["species_id"].gather(rows).to_numpy())
    visit = _visit_codes(table, rows, config.visits)
    num_species, num_visits = int(species.max(initial=0)) + 1, int(visit.max(initial=0)) + 1
    pair = group * num_species + species
    if int(pair.max(initial=0)) * num_visits < 2**62:
        pairs = _distinct(pair * num_visits + visit) // num_visits
    else:
        pairs = _distinct(pair)[_distinct(densify(pair) * num_visits + visit) // num_visits]
    starts = run_starts(pairs)
    times = run_sizes(starts, len(pairs))
    of_group, of_species = np.divmod(pairs[starts], num_species)
    return _Richness(
        num_species=np.bincount(of_group, minlength=num_groups),
        num_visits=np.bincount(_distinct(group * num_visits + visit) // num_visits, minlength=num_groups),
        incidences=np.bincount(of_group, times, minlength=num_groups).astype(np.int64),
        once=np.bincount(of_group[times == 1], minlength=num_groups),
        twice=np.bincount(of_group[times == 2], minlength=num_groups),
        group=of_group,
        species_id=of_species + decode if isinstance(decode, int) else decode[of_species],
    )


def _distinct(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the distinct numbers, sorted; several times faster than ``unique``."""
    values = np.sort(values)
    return values[run_starts(values)]


def _visit_codes(table: pl.DataFrame, rows: NDArray[np.int64], visits: str) -> NDArray[np.int64]:
    """Return a code of 0 and up of the day, or of the survey where a record has no full date."""
    day = pl.col("day") + 32 * (pl.col("month") + 13 * pl.col("year").cast(pl.Int64))
    days = table.select(day.alias("day")).to_series().gather(rows)
    if visits == "date" and not days.has_nulls():
        return small_codes(days.to_numpy())[0]
    survey = small_codes(table["survey_id"].gather(rows).to_numpy())[0]
    if visits == "survey" or days.null_count() == len(days):
        return survey
    code = np.asarray(survey + 1)
    dated = days.is_not_null().to_numpy()
    code[dated] = code.max() + small_codes(days.drop_nulls().to_numpy())[0]
    return code


def _describe_groups(
    group: NDArray[np.int64],
    starts: NDArray[np.int64],
    rows: NDArray[np.int64],
    table: pl.DataFrame,
    richness: _Richness,
) -> tuple[pl.DataFrame, NDArray[np.uint64]]:
    """Return the columns of ``TABLE_SCHEMA``, a row per group, and a hash of each representative."""
    sizes = run_sizes(starts, len(rows))
    vectors = unit_vectors(table["lon"].to_numpy()[rows], table["lat"].to_numpy()[rows])
    vectors -= mean_vectors(vectors, starts)[group]
    distances = np.rint(1000 * EARTH_RADIUS_M * np.sqrt(np.einsum("ij,ij->i", vectors, vectors))).astype(
        np.int64
    )  # millimetres
    representative, tie_break = _representatives(group, starts, rows, distances, table)
    publisher, num_publishers = _main_publisher(group, rows, table["publisher"], len(starts))
    visits = richness.num_visits
    coverage = estimate_coverage(visits, richness.incidences, richness.once, richness.twice)
    chao2 = estimate_richness(visits, richness.num_species, richness.once, richness.twice)
    plots = table[representative].drop("species_id").with_columns(
        publisher=publisher,
        area_m2=pl.lit(None, pl.Float64),
        uncertainty_m=_medians(group, table["uncertainty_m"].gather(rows), len(starts)),
        num_records=pl.Series(sizes),
        num_species=pl.Series(richness.num_species),
        num_publishers=pl.Series(num_publishers),
        num_dates=pl.Series(visits),
        spread_m=pl.Series(_root_mean_square(distances, starts, sizes) / 1000),
        reach_m=pl.Series(_reach_m(group, starts, rows, representative, table)),
        coverage=pl.Series(coverage).fill_nan(None),
        chao2=pl.Series(chao2).fill_nan(None),
        completeness=pl.Series(richness.num_species / chao2).fill_nan(None),
        trust=pl.Series(trust_in_silence(coverage, visits)),
    )  # fmt: skip
    return plots, tie_break


def _representatives(
    group: NDArray[np.int64],
    starts: NDArray[np.int64],
    rows: NDArray[np.int64],
    distances: NDArray[np.int64],
    table: pl.DataFrame,
) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """Return the row of ``table`` that represents each group, and a hash of its content.

    The nearest to the mean, of these the smallest survey id, of these the least hash.
    """
    near = np.flatnonzero(distances == np.minimum.reduceat(distances, starts)[group]) if len(rows) else rows
    surveys = table["survey_id"].gather(rows[near]).to_numpy()
    if len(near):
        least = np.minimum.reduceat(surveys, run_starts(group[near]))
        same = surveys == least[group[near]]
        near = near[same]
    hashes = hash_rows(table[rows[near]])
    order = np.lexsort((hashes, group[near])) if len(near) > len(starts) else np.arange(len(near))
    first = order[run_starts(group[near][order])]
    return rows[near[first]], hashes[first]


def _reach_m(
    group: NDArray[np.int64],
    starts: NDArray[np.int64],
    rows: NDArray[np.int64],
    representative: NDArray[np.int64],
    table: pl.DataFrame,
) -> NDArray[np.float64]:
    """Return the distance from each group's representative to its farthest record."""
    if not len(rows):
        return np.zeros(0)
    lon, lat = table["lon"].to_numpy(), table["lat"].to_numpy()
    apart = unit_vectors(lon[rows], lat[rows]) - unit_vectors(lon[representative], lat[representative])[group]
    chord = np.sqrt(np.maximum.reduceat(np.einsum("ij,ij->i", apart, apart), starts))
    return 2 * EARTH_RADIUS_M * np.arcsin(np.clip(chord / 2, 0, 1))


def _root_mean_square(
    values: NDArray[np.int64], starts: NDArray[np.int64], sizes: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the root mean square of runs, summed in two whole parts: exactly, so in any order."""
    if len(values) == 0:
        return np.empty(0)
    squares = np.minimum(values, 3_000_000_000) ** 2
    upper, lower = np.add.reduceat(squares >> 31, starts), np.add.reduceat(squares & (2**31 - 1), starts)
    return np.sqrt((upper * 2.0**31 + lower) / sizes)


def _medians(group: NDArray[np.int64], values: pl.Series, num_groups: int) -> pl.Series:
    """Return the median of the stated values of each group, sorted by group; null where there are none."""
    if values.null_count() == len(values):
        return pl.Series([None] * num_groups, dtype=pl.Float64)
    pairs = pl.DataFrame({"group": group, "value": values.fill_nan(None)})
    return pairs.group_by("group").median().sort("group")["value"]


def _main_publisher(
    group: NDArray[np.int64], rows: NDArray[np.int64], publisher: pl.Series, num_groups: int
) -> tuple[pl.Series, NDArray[np.int64]]:
    """Return the most frequent publisher of each group, null where none is named, and how many there are."""
    if publisher.null_count() == len(publisher):
        return pl.Series([None] * num_groups, dtype=pl.String), np.zeros(num_groups, np.int64)
    codes, names = dense_codes(publisher)[rows], publisher.drop_nulls().unique().sort()
    named = codes >= 0
    pairs = np.sort(group[named] * len(names) + codes[named])
    starts = run_starts(pairs)
    of_group, of_code = np.divmod(pairs[starts], len(names))
    order = np.lexsort((of_code, -run_sizes(starts, len(pairs)), of_group))
    first = order[run_starts(of_group[order])]
    main = np.full(num_groups, -1)
    main[of_group[first]] = of_code[first]
    return names.gather(pl.Series(main).replace(-1, None)), np.bincount(of_group, minlength=num_groups)
