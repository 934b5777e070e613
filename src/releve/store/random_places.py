"""Random places beside records: silence, where too few species are recorded to be one another's background."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import polars as pl

from releve.errors import ReleaseError
from releve.ingest.covariates import Covariates
from releve.ingest.refused import NUM_EXAMPLES
from releve.ingest.study import Source, Study
from releve.ingest.surveys import Surveys, read_surveys
from releve.progress import say
from releve.rasters.draw import draw_places
from releve.rasters.layer import Layer
from releve.rasters.sample import sample_layers
from releve.store.read import FEW_SPECIES

USUAL_NUMBER = 10_000
"""As many as MaxEnt draws."""
SEED = 0
TABLES = "random"
"""The split of a study's own tables of random places."""
NO_DATA = "place of records where a raster has no data, as no random place has"


def num_random_places(source: Source, layers: Sequence[Layer], num_species: int, *, has_plots: bool) -> int:
    """Return how many random places go beside records of so many species: as the study says, else as they need.

    Plots beside them tell of absence, so that none are needed. Those of the study's own tables go before drawn ones; a
    release has none.

    Raises
    ------
    ReleaseError
        If the study asks for some and has no rasters to tell what is there.
    """
    if not isinstance(source, Study):
        return 0
    if has_tables(source):
        return 0 if has_plots else len(read_surveys(source, TABLES).table)
    wanted = source.config.background
    if wanted and not layers:
        raise ReleaseError(
            f"{source.path} asks for {wanted:,} random places and has no rasters",
            expected="covariates of any place",
            action="Add [[study.rasters]], or remove the line background",
        )
    if wanted is not None or not layers or has_plots:
        return wanted or 0
    return USUAL_NUMBER if num_species < FEW_SPECIES else 0


def has_tables(source: Source) -> bool:
    """Return whether a source has tables of random places of its own."""
    return isinstance(source, Study) and TABLES in source.splits


def join_tables(records: Surveys, random: Surveys) -> Surveys:
    """Return the records' places and, after them, those of a study's tables of random places."""
    ids = [f"random {each}" for each in random.table["survey_id"]]
    places = random.table.with_columns(pl.Series(name, ids) for name in ("survey_id", "series_id", "patch_id"))
    say(f"{len(ids):,} random places stand beside {len(records.table):,} places of records as background")
    dropped = records.dropped | {f"random places, {reason}": count for reason, count in random.dropped.items()}
    return replace(_beside(records, places.drop("year", "month", "day")), dropped=dropped)


def join_covariates(records: Covariates, random: Covariates) -> Covariates:
    """Return the covariates of the records' places and, below, of random ones: those that both have.

    What only one of them has would tell the two apart.
    """
    both = [name for name in records.table.columns if name in random.table.columns]
    left_out = sorted({*records.table.columns, *random.table.columns} - {*both})
    if left_out:
        say(f"{', '.join(left_out)}: not known of both records and random places, left out")
    table = pl.concat([records.table.select(both), random.table.select(both)])
    return replace(records, table=table, groups={name: of for name, of in records.groups.items() if name in both})


def _beside(records: Surveys, places: pl.DataFrame) -> Surveys:
    """Return the records' places and, below, others with the dates of records, drawn anew, and no species."""
    rng = np.random.default_rng(SEED)
    dates = records.table.select("year", "month", "day")[rng.integers(0, len(records.table), len(places)).tolist()]
    return replace(records, table=pl.concat([records.table, places.hstack(dates)], how="diagonal_relaxed"))


def with_random_places(records: Surveys, layers: Sequence[Layer], num: int) -> Surveys:
    """Return the records' places and, after them, random ones at which no species is listed.

    All of them have a value in every layer, and the random ones the dates of records, drawn anew: what is missing must
    not tell the two apart. Records' places without are left out and counted.

    Raises
    ------
    ReleaseError
        If no place of the records has a value in every layer.

    References
    ----------
    Phillips & Dudík (2008), Modeling of species distributions with Maxent: new extensions and a comprehensive
    evaluation, doi:10.1111/j.0906-7590.2008.5203.x: 10,000 random places as background.
    """
    records = _covered(records, layers)
    rng = np.random.default_rng(SEED)
    lon, lat = draw_places(layers, num, rng)
    ids = [f"random {at}" for at in range(1, num + 1)]
    drawn = pl.DataFrame({"survey_id": ids, "lon": lon, "lat": lat, "series_id": ids, "patch_id": ids})
    say(f"{num:,} random places stand beside {len(records.table):,} places of records as background")
    return _beside(records, drawn)


def _covered(records: Surveys, layers: Sequence[Layer]) -> Surveys:
    """Return the places of records at which all layers have a value."""
    lon, lat = (records.table[axis].to_numpy() for axis in ("lon", "lat"))
    sampled = sample_layers(layers, lon, lat)
    kept = np.asarray(np.isfinite(sampled.values).all(axis=1))
    if kept.all():
        return records
    worst = sampled.names[int(np.isnan(sampled.values).sum(axis=0).argmax())]
    lost = records.table.filter(~kept)
    say(
        f"{len(lost):,} of {len(kept):,} places of records lie where a raster has no data (mostly {worst}) and are "
        "left out, as no random place lies there"
    )
    if not kept.any():
        raise ReleaseError(
            f"at none of {len(kept):,} places of records do all rasters have a value (mostly {worst} has none)",
            expected="rasters that cover the records",
            action="Leave out the rasters that do not, or set background = 0 under [study]",
        )
    place = np.cumsum(kept) - 1
    labels = records.labels.filter(kept[records.labels["row"].to_numpy()])
    return replace(
        records,
        table=records.table.filter(kept),
        labels=labels.with_columns(row=pl.Series(place[labels["row"].to_numpy()], dtype=labels["row"].dtype)),
        dropped=records.dropped | {NO_DATA: len(lost)},
        examples=records.examples | {NO_DATA: tuple(lost["survey_id"].head(NUM_EXAMPLES))},
    )


def without_tables(covariates: Covariates) -> Covariates:
    """Return covariates without those of tables: at random places they are missing, which would tell them apart."""
    if not covariates.groups:
        return covariates
    say(f"{', '.join(covariates.groups)}: known of the records alone and of no random place, left out")
    empty = {name: type(getattr(covariates, name))() for name in ("groups", "units", "categorical", "masked")}
    return replace(
        covariates, table=covariates.table.select("survey_id"), **empty, masked_rows={}, facts=(), classes={}
    )
