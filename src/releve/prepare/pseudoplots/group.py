"""The grouping itself: records to pseudo-plots, with a representative place and a measure of completeness."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from releve.errors import TableError
from releve.geo import grid_cells, unit_vectors
from releve.ingest.ids import id_codes
from releve.ingest.rows import SURVEY_SCHEMA
from releve.prepare.config import PseudoplotConfig
from releve.prepare.pseudoplots.completeness import estimate_coverage, estimate_richness, trust_in_silence
from releve.prepare.pseudoplots.radius import EARTH_RADIUS_M, WHOLE, cluster_places

REQUIRED = ("survey_id", "lon", "lat", "species_id")
NO_KEY = "no survey or species id to group by"
NO_PLACE = "no valid place to group by"
NO_YEAR = "no year for a time window"
TOO_UNCERTAIN = "place too uncertain for its cell"
TOO_FEW_SPECIES = "pseudo-plot with too few species"
CONTENT = [*SURVEY_SCHEMA, "species_id"]
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
    where records of one survey are in several pseudo-plots: with the method single, or divided by a border or a time
    window.

    num_records, num_species, num_publishers
        What was grouped; records without a publisher add none.
    num_dates
        Distinct visits: days; of records without a full date, surveys.
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


def group_records(records: pl.DataFrame, config: PseudoplotConfig) -> Pseudoplots:
    """Return the pseudo-plots that presence-only records form when those close together are read as one survey.

    The result depends on the set of records, not on the order of rows.

    Parameters
    ----------
    records
        ``OCCURRENCE_SCHEMA``, cleaned. Only survey_id, lon, lat and species_id are needed; others may be absent or
        null.
    config
        How records are grouped.

    Raises
    ------
    TableError
        If the table lacks a column.

    Examples
    --------
    Two records a few steps apart make one pseudo-plot, a third is some kilometres away:

    >>> records = pl.DataFrame({"survey_id": [1, 2, 3], "species_id": [7, 8, 7],
    ...                         "lon": [10.001, 10.002, 10.1], "lat": [52.001, 52.001, 52.0]})
    >>> found = group_records(records, PseudoplotConfig(method="grid", size_m=1000))
    >>> found.table.select("survey_id", "num_records", "num_species").rows()
    [('1', 2, 2), ('3', 1, 1)]
    >>> found.labels.rows(), found.dropped
    ([(0, 7), (0, 8), (1, 7)], {})
    """
    kept, dropped = _groupable(read_columns(records), config)
    kept = kept.with_columns(survey=id_codes(kept["survey_id"]))
    grouped = _with_distances(_with_groups(kept, config))
    species = _count_visits(grouped, "species_id")
    plots = _describe(grouped, species)
    poor = plots["num_species"] < config.min_species
    if poor.any():
        dropped[TOO_FEW_SPECIES] = int(plots.filter(poor)["num_records"].sum())
    plots = plots.filter(~poor).with_columns(plot_id=pl.int_range(pl.len(), dtype=pl.Int64))
    number = plots.select("group", plot="plot_id")
    members, labels = (
        table.select("group", name).join(number, on="group").select("plot", name).sort("plot", name)
        for table, name in ((grouped, "record"), (species, "species_id"))
    )
    return Pseudoplots(plots.select(TABLE_SCHEMA.names()).cast(TABLE_SCHEMA), members, labels, dropped)


def read_columns(records: pl.DataFrame) -> pl.DataFrame:
    """Return the columns of surveys, ``species_id`` and ``record``, the row, of a table of records.

    Absent columns are null.

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
        *((pl.col(name) if name in present else pl.lit(None)).cast(kind).alias(name) for name, kind in kinds.items()),
        record=pl.int_range(pl.len(), dtype=pl.Int64),
    )


def _groupable(table: pl.DataFrame, config: PseudoplotConfig) -> tuple[pl.DataFrame, dict[str, int]]:
    """Return the records that can be grouped, and how many cannot, by reason."""
    conditions = {
        NO_KEY: pl.col("survey_id").is_not_null() & pl.col("species_id").is_not_null(),
        NO_PLACE: pl.col("lon").is_between(-180, 180) & pl.col("lat").is_between(-90, 90),
    }
    if config.years is not None:
        conditions[NO_YEAR] = pl.col("year").is_not_null()
    if config.uncertainty == "drop":
        stated = pl.col("uncertainty_m").fill_nan(None).fill_null(config.default_uncertainty_m)
        conditions[TOO_UNCERTAIN] = stated <= config.size_m / 2
    dropped = {}
    for reason, condition in conditions.items():
        kept = table.filter(condition.fill_null(False))
        if len(kept) < len(table):
            dropped[reason] = len(table) - len(kept)
        table = kept
    return table, dropped


def _with_groups(table: pl.DataFrame, config: PseudoplotConfig) -> pl.DataFrame:
    """Add ``group``, a number from 0 on shared by the records of a place and time window, and sort by it."""
    table = table.with_columns(pl.Series("group", _places(table, config)))
    keys = ["group"]
    if config.years is not None:
        table, keys = table.with_columns(window=pl.col("year") // config.years), ["group", "window"]
    table = table.sort(keys)
    new = pl.any_horizontal(pl.col(name) != pl.col(name).shift() for name in keys).fill_null(False)
    return table.with_columns(group=new.cum_sum().cast(pl.Int64).set_sorted()).drop(keys[1:])


def _places(table: pl.DataFrame, config: PseudoplotConfig) -> NDArray[np.int64]:
    """Return a number for each record, shared by those whose place is one."""
    lon, lat = table["lon"].to_numpy(), table["lat"].to_numpy()
    match config.method:
        case "single":
            return np.arange(len(table))
        case "survey":
            return table["survey"].to_numpy()
        case "grid":
            return grid_cells(lon, lat, config.size_m)
        case "radius":
            return cluster_places(lon, lat, config.size_m)[0]
        case _:
            raise AssertionError(config.method)


def _with_distances(grouped: pl.DataFrame) -> pl.DataFrame:
    """Add the place on the unit sphere, and ``apart_mm`` from the mean place of the group.

    Means are of whole numbers (of 2^-40, 6 micrometres on the ground), so that the order of rows does not matter.
    """
    vectors = np.rint(unit_vectors(grouped["lon"].to_numpy(), grouped["lat"].to_numpy()) * WHOLE).astype(np.int64)
    grouped = grouped.with_columns(pl.Series(axis, vectors[:, i]) for i, axis in enumerate("xyz"))
    means = grouped.group_by("group", maintain_order=True).agg(
        (pl.col(axis).sum() / pl.len()).alias(f"mean_{axis}") for axis in "xyz"
    )
    grouped = grouped.hstack(means[grouped["group"]].drop("group"))
    apart_mm = 1000 * EARTH_RADIUS_M / WHOLE * _chord("mean_{}")
    return grouped.with_columns(apart_mm=apart_mm.round().cast(pl.Int64)).drop(f"mean_{axis}" for axis in "xyz")


def _chord(other: str) -> pl.Expr:
    """Return the length of the straight line from the columns x, y, z to three others."""
    apart = (pl.col(axis).cast(pl.Float64) - pl.col(other.format(axis)) for axis in "xyz")
    return pl.sum_horizontal(part**2 for part in apart).sqrt()


def _count_visits(grouped: pl.DataFrame, of: str | None = None) -> pl.DataFrame:
    """Return on how many visits each group, or each species in a group, was met: days, without a full date surveys."""
    day = pl.col("day") + 32 * (pl.col("month") + 13 * pl.col("year").cast(pl.Int64))
    met = grouped.select("group", what=of or pl.lit(0, pl.Int64), on=pl.coalesce(day, -1 - pl.col("survey")))
    (what, kinds), (on, _) = _codes(met["what"], 2**16), _codes(met["on"], 2**20)
    num_kinds, num_days = 1 + int(what.max(initial=0)), 1 + int(on.max(initial=0))
    keys = np.sort((met["group"].to_numpy() * num_kinds + what) * num_days + on)  # one number a visit
    keys = keys[np.flatnonzero(np.diff(keys, prepend=-1))] // num_days
    first = np.flatnonzero(np.diff(keys, prepend=-1))
    group, kind = np.divmod(keys[first], num_kinds)
    counted = pl.DataFrame({"group": group, "visits": np.diff(first, append=len(keys))})
    counted = counted.with_columns(pl.col("group").set_sorted())
    return counted if of is None else counted.with_columns(pl.Series(of, kinds[kind]))


def _codes(numbers: pl.Series, span: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return whole numbers as numbers from 0 on in the same order, and what each of these stands for.

    Where they span little they are taken from the least on, which costs nothing; else they are ranked.
    """
    least, most = (int(x or 0) for x in (numbers.min(), numbers.max()))  # type: ignore[arg-type]
    if most - least < span:
        return (numbers - least).to_numpy(), np.arange(least, most + 1)
    kinds, codes = np.unique(numbers.to_numpy(), return_inverse=True)
    return codes.astype(np.int64), kinds


def _describe(grouped: pl.DataFrame, species: pl.DataFrame) -> pl.DataFrame:
    """Return the columns of ``TABLE_SCHEMA`` and ``group``, a row a group, by survey id, then by content."""
    named = grouped.drop_nulls("publisher").group_by("group", "publisher").len()
    named = named.sort("len", "publisher", descending=[True, False])  # what is first in a group stays first
    times, square = pl.col("visits"), pl.col("apart_mm").clip(upper_bound=3_000_000_000) ** 2
    halves = (square // 2**31).sum() * 2.0**31 + (square % 2**31).sum()  # sums of whole numbers, in any order the same
    representative = _represent(grouped)
    own = representative.select(pl.col(axis).alias(f"own_{axis}") for axis in "xyz")
    reached = grouped.select("group", *"xyz").hstack(own[grouped["group"]])
    half_chord = (_chord("own_{}").max() / (2 * WHOLE)).clip(0, 1)
    parts = [
        grouped.group_by("group", maintain_order=True).agg(
            uncertainty_m=pl.col("uncertainty_m").fill_nan(None).median(),
            num_records=pl.len(),
            spread_m=(halves / pl.len()).sqrt() / 1000,
        ),
        reached.group_by("group", maintain_order=True).agg(reach_m=2 * EARTH_RADIUS_M * half_chord.arcsin()),
        species.group_by("group", maintain_order=True).agg(
            num_species=pl.len(), met=times.sum(), once=(times == 1).sum(), twice=(times == 2).sum()
        ),
        _count_visits(grouped).rename({"visits": "num_dates"}),
    ]
    plots = representative.drop("uncertainty_m", "publisher").with_columns(area_m2=pl.lit(None, pl.Float64))
    plots = pl.concat([plots, *(part.drop("group") for part in parts)], how="horizontal")  # all are sorted by group
    publishers = named.group_by("group").agg(pl.col("publisher").first(), num_publishers=pl.len())
    plots = plots.join(publishers, on="group", how="left", maintain_order="left")
    visits, richness, met, once, twice = plots.select("num_dates", "num_species", "met", "once", "twice").to_numpy().T
    coverage, chao2 = estimate_coverage(visits, met, once, twice), estimate_richness(visits, richness, once, twice)
    estimates = {"coverage": coverage, "chao2": chao2, "completeness": richness / chao2}
    plots = plots.with_columns(pl.Series(name, values).fill_nan(None) for name, values in estimates.items())
    plots = plots.with_columns(pl.col("num_publishers").fill_null(0), trust=trust_in_silence(coverage, visits))
    return _sorted(plots, "survey")


def _represent(grouped: pl.DataFrame) -> pl.DataFrame:
    """Return the record that stands for each group: nearest to the mean, least survey id, first by content."""
    for name in ("apart_mm", "survey"):
        grouped = grouped.filter(pl.col(name) == pl.col(name).min().over("group"))
    return _sorted(grouped, "group").unique("group", keep="first", maintain_order=True)


def _sorted(table: pl.DataFrame, key: str) -> pl.DataFrame:
    """Return the rows by a number, those of one number by all their content, which is looked at where it must be."""
    tied = table[key].is_duplicated()
    return pl.concat([table.filter(~tied), table.filter(tied).sort(CONTENT)]).sort(key, maintain_order=True)
