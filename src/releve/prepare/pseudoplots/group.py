"""The grouping itself: records to pseudo-plots, with a representative place and a measure of completeness."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from releve.geo import unit_vectors
from releve.ingest.surveys import SURVEY_SCHEMA
from releve.prepare.pseudoplots.completeness import estimate_coverage, estimate_richness, trust_in_silence
from releve.prepare.pseudoplots.config import PseudoplotConfig
from releve.prepare.pseudoplots.keys import combine, dense_codes, hash_rows, run_starts
from releve.prepare.pseudoplots.radius import EARTH_RADIUS_M
from releve.prepare.pseudoplots.select import read_columns, select_records

TOO_FEW_RECORDS = "pseudo-plot with too few records"
TOO_FEW_SPECIES = "pseudo-plot with too few species"
TABLE_SCHEMA = pl.Schema(
    dict(SURVEY_SCHEMA)
    | {"plot_id": pl.Int64}
    | dict.fromkeys(("num_records", "num_species", "num_publishers", "num_dates"), pl.Int32)
    | dict.fromkeys(("spread_m", "coverage", "chao2", "completeness", "trust"), pl.Float64)
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
        If strata are given without ``split_by`` or the reverse, or the CRS is not an equal-area one in metres.

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
    whole = read_columns(records)
    selected = select_records(whole, config, seed, strata)
    table = whole if len(selected.rows) == len(whole) else whole[selected.rows]
    hashes = hash_rows(table)
    order = np.lexsort((hashes, selected.group))  # one order of the records within a group, whatever the order given
    table, group, rows = table[order], selected.group[order], selected.rows[order]
    richness = _count_species(group, table, config)
    plots, representative = _describe_groups(group, table, richness)
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
    sorted_groups = np.lexsort((hashes[order][representative], plots["survey_id"].to_numpy()))
    sorted_groups = sorted_groups[kept[sorted_groups]]
    plot_of_group = np.full(len(plots), -1, np.int64)
    plot_of_group[sorted_groups] = np.arange(len(sorted_groups))
    return Pseudoplots(
        plots[sorted_groups]
        .with_columns(plot_id=pl.int_range(pl.len()))
        .select(TABLE_SCHEMA.names())
        .cast(TABLE_SCHEMA),  # type: ignore[arg-type]
        _pairs(plot_of_group[group], "record", rows),
        _pairs(plot_of_group[richness.group], "species_id", richness.species_id),
        dropped,
    )


def _pairs(plot: NDArray[np.int64], name: str, values: NDArray[np.int64]) -> pl.DataFrame:
    """Return the table of plot and value, sorted, without those of plot -1."""
    pairs = pl.DataFrame({"plot": plot, name: values}, schema={"plot": pl.Int64, name: pl.Int64})
    return pairs.filter(pl.col("plot") >= 0).sort("plot", name)


def _count_species(group: NDArray[np.int64], table: pl.DataFrame, config: PseudoplotConfig) -> _Richness:
    """Return the species of each group and on how many of its visits each was met."""
    num_groups = int(group.max(initial=-1)) + 1
    species_ids, species = np.unique(table["species_id"].to_numpy(), return_inverse=True)
    visit = _visit_codes(table, config.visits)
    pair = group * max(len(species_ids), 1) + species
    num_visits = np.bincount(_firsts(combine(group, visit), group), minlength=num_groups)
    if len(pair) and int(pair.max()) * (int(visit.max()) + 1) < 2**62:
        triples = np.unique(pair * (int(visit.max()) + 1) + visit) // (int(visit.max()) + 1)
    else:
        triples = np.sort(_firsts(combine(pair, visit), pair))
    starts = run_starts(triples)
    times = np.diff(np.append(starts, len(triples)))
    of_group, of_species = np.divmod(triples[starts], max(len(species_ids), 1))
    return _Richness(
        num_species=np.bincount(of_group, minlength=num_groups),
        num_visits=num_visits,
        incidences=np.bincount(of_group, times, minlength=num_groups).astype(np.int64),
        once=np.bincount(of_group[times == 1], minlength=num_groups),
        twice=np.bincount(of_group[times == 2], minlength=num_groups),
        group=of_group,
        species_id=species_ids[of_species],
    )


def _firsts(codes: NDArray[np.int64], values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return one value for each distinct dense code; rows of one code share a value."""
    found = np.empty(int(codes.max(initial=-1)) + 1, np.int64)
    found[codes] = values
    return found


def _visit_codes(table: pl.DataFrame, visits: str) -> NDArray[np.int64]:
    """Return a dense code of 0 and up of the day, or of the survey where a record has no full date."""
    survey = dense_codes(table["survey_id"])
    if visits == "survey" or len(table) == 0:
        return survey
    day = table.select((pl.col("year").cast(pl.Int64) * 13 + pl.col("month")) * 32 + pl.col("day")).to_series()
    days = dense_codes(day)
    return np.where(days >= 0, days, int(days.max()) + 1 + survey)


def _describe_groups(
    group: NDArray[np.int64], table: pl.DataFrame, richness: _Richness
) -> tuple[pl.DataFrame, NDArray[np.int64]]:
    """Return the columns of ``TABLE_SCHEMA``, a row per group, and the row of each group's representative.

    ``table`` is sorted by group, and within a group by content.
    """
    starts = run_starts(group)
    sizes = np.diff(np.append(starts, len(group)))
    vectors = unit_vectors(table["lon"].to_numpy(), table["lat"].to_numpy())
    means = np.add.reduceat(vectors, starts) / sizes[:, None] if len(group) else vectors
    squares = ((vectors - means[group]) ** 2).sum(axis=1) * EARTH_RADIUS_M**2
    millimetres = np.rint(1000 * np.sqrt(squares)).astype(np.int64)
    representative = _least(group, starts, millimetres, table["survey_id"].to_numpy())
    publisher, num_publishers = _main_publisher(group, table["publisher"], len(starts))
    visits = richness.num_visits
    coverage = estimate_coverage(visits, richness.incidences, richness.once, richness.twice)
    chao2 = estimate_richness(visits, richness.num_species, richness.once, richness.twice)
    medians = pl.DataFrame({"group": group, "m": table["uncertainty_m"].fill_nan(None)}).group_by("group").median()
    plots = table[representative].drop("species_id").with_columns(
        publisher=publisher,
        area_m2=pl.lit(None, pl.Float64),
        uncertainty_m=medians.sort("group")["m"],
        num_records=pl.Series(sizes),
        num_species=pl.Series(richness.num_species),
        num_publishers=pl.Series(num_publishers),
        num_dates=pl.Series(visits),
        spread_m=pl.Series(np.sqrt(np.add.reduceat(squares, starts) / sizes) if len(group) else squares),
        coverage=pl.Series(coverage).fill_nan(None),
        chao2=pl.Series(chao2).fill_nan(None),
        completeness=pl.Series(richness.num_species / chao2).fill_nan(None),
        trust=pl.Series(trust_in_silence(coverage, visits)),
    )  # fmt: skip
    return plots, representative


def _least(group: NDArray[np.int64], starts: NDArray[np.int64], *values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the row of each group with the least first value, of equal ones the least second, and so on."""
    rows = np.arange(len(group))
    for value in values:
        best = np.minimum.reduceat(value[rows], starts) if len(rows) else value
        rows = rows[value[rows] == best[group[rows]]]
        starts = run_starts(group[rows])
    return rows[starts]


def _main_publisher(
    group: NDArray[np.int64], publisher: pl.Series, num_groups: int
) -> tuple[pl.Series, NDArray[np.int64]]:
    """Return the most frequent publisher of each group, null where none is named, and how many there are."""
    codes = dense_codes(publisher)
    named = codes >= 0
    names = publisher.drop_nulls().unique().sort()
    pairs, counts = np.unique(group[named] * max(len(names), 1) + codes[named], return_counts=True)
    of_group, of_code = np.divmod(pairs, max(len(names), 1))
    order = np.lexsort((of_code, -counts, of_group))
    first = order[run_starts(of_group[order])]
    main = np.full(num_groups, -1)
    main[of_group[first]] = of_code[first]
    chosen = pl.Series(main).replace(-1, None)
    found = names.gather(chosen) if len(names) else pl.Series([None] * num_groups, dtype=pl.String)
    return found, np.bincount(of_group, minlength=num_groups)
