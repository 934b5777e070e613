"""Presence-only records: what observers report, biased by roads, towns, taste and publishers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from releve.simulate.config import SimulateConfig
from releve.simulate.species import Species
from releve.simulate.surveys import YEARS, add_yearly_latents, make_places, probability_chunks, visit_features
from releve.simulate.world import HEIGHT_DEG, SOUTH, WEST, World

PUBLISHERS = ("Naturgucker", "iNaturalist", "Pl@ntNet", "Artportalen", "Observation.org",
              "Conservatoire botanique", "Herbarium", "Floristic atlas")  # fmt: skip
RECORDS_PER_SURVEY = 1.32  # as in the official 2024 table
MAX_SITES = 60_000


@dataclass(frozen=True)
class Records:
    """Presence-only records and the surveys they belong to.

    Attributes
    ----------
    records
        ``survey`` (position in ``surveys``) and ``species_index``; one row per record.
    surveys
        One row per survey: place, date, publisher, latents.
    """

    records: pl.DataFrame
    surveys: pl.DataFrame


def sample_records(world: World, species: Species, config: SimulateConfig, rng: np.random.Generator) -> Records:
    """Return records drawn with intensity = true probability x effort x taste.

    Observers go where roads and towns are (``World.effort``), return to the places they like, report for one
    publisher, and pick showy species and their publisher's favourites.
    """
    num_surveys = max(1, round(config.num_records / RECORDS_PER_SURVEY))
    num_sites = int(np.clip(num_surveys // 4, min(num_surveys, 50), MAX_SITES))
    sites = sample_sites(world, num_sites, rng)
    popularity = rng.lognormal(0, 1.0, num_sites)
    site = np.sort(rng.choice(num_sites, num_surveys, p=popularity / popularity.sum()))
    extra = rng.multinomial(config.num_records - num_surveys, rng.dirichlet(np.full(num_surveys, 0.25))) \
        if num_surveys < 200_000 else np.bincount(
            rng.choice(num_surveys, config.num_records - num_surveys), minlength=num_surveys)  # fmt: skip
    per_survey = 1 + extra
    survey = np.repeat(np.arange(num_surveys), per_survey)
    taste = species.showiness * rng.lognormal(0, 0.8, (len(PUBLISHERS), len(species.species_id)))
    chosen = choose_species(species, visit_features(world, sites), site[survey], taste, sites["publisher_index"], rng)
    surveys = sites.select(pl.all().gather(site)).with_columns(date_columns(sites["year"].to_numpy()[site], rng))
    # another visit, some steps away: the same habitat, nearly the same coordinates
    shift = rng.normal(0, 0.001, (2, num_surveys))
    lon = np.clip(surveys["lon"].to_numpy() + shift[0], WEST, WEST + world.land.shape[1] * world.cell_size_deg)
    lat = np.clip(surveys["lat"].to_numpy() + shift[1], SOUTH, SOUTH + HEIGHT_DEG)
    uncertainty = rng.choice([1.0, 5.0, 10.0, 25.0, 50.0, 100.0, np.nan], num_surveys,
                             p=[0.1, 0.2, 0.25, 0.15, 0.1, 0.15, 0.05])  # fmt: skip
    surveys = surveys.with_columns(
        lon=pl.Series(np.round(lon, 5)),
        lat=pl.Series(np.round(lat, 5)),
        geoUncertaintyInM=pl.Series(uncertainty),
        publisher=pl.Series(np.array(PUBLISHERS)[surveys["publisher_index"].to_numpy()], dtype=pl.Categorical),
    )
    records = pl.DataFrame({"survey": survey.astype(np.int32), "species_index": chosen})
    return Records(records=records, surveys=surveys)


def sample_sites(world: World, num_sites: int, rng: np.random.Generator) -> pl.DataFrame:
    """Return the places that observers visit, in one year each, and the publisher they report to."""
    effort = world.effort.ravel().astype(np.float64)
    cells = rng.choice(effort.size, num_sites, p=effort / effort.sum())
    row, col = np.divmod(cells, world.land.shape[1])
    inside = rng.uniform(0.05, 0.95, (2, num_sites))
    lon = np.round(WEST + (col + inside[0]) * world.cell_size_deg, 5)
    lat = np.round(SOUTH + HEIGHT_DEG - (row + inside[1]) * world.cell_size_deg, 5)
    # a publisher is strong in some countries and absent in others
    presence = rng.gamma(0.6, 1.0, (len(world.countries), len(PUBLISHERS))) + 0.02
    share = np.cumsum(presence / presence.sum(axis=1, keepdims=True), axis=1)[world.country[row, col]]
    publisher = (rng.random((num_sites, 1)) > share[:, :-1]).sum(axis=1)
    sites = make_places(world, lon, lat, rng).with_columns(
        year=pl.Series(rng.choice(YEARS, num_sites, p=[0.12, 0.16, 0.2, 0.25, 0.27])),
        publisher_index=pl.Series(publisher.astype(np.int8)),
    )
    return add_yearly_latents(world, sites)


def choose_species(
    species: Species,
    features: NDArray[np.float32],
    site: NDArray[np.integer],
    taste: NDArray[np.float64],
    publisher: pl.Series,
    rng: np.random.Generator,
) -> NDArray[np.int32]:
    """Return the species of each record: one draw from probability x taste at its site.

    Parameters
    ----------
    species, features
        The species, and the (M, F) features of the sites.
    site
        (R,) site of each record, ascending.
    taste
        (P, S) weight of each species for each publisher.
    publisher
        (M,) publisher of each site.
    rng
        Source of randomness.
    """
    chosen = np.empty(len(site), np.int32)
    uniform = rng.random(len(site))
    publisher_of = publisher.to_numpy()
    for start, probs in probability_chunks(species, features):
        stop = start + len(probs)
        first, last = np.searchsorted(site, [start, stop])
        # what does not grow there is not seen: the far tail of improbable species is cut
        weight = np.where(probs > 0.02, probs, 0) * taste[publisher_of[start:stop]] + 1e-12
        cumulative = np.cumsum(weight, axis=1)
        cumulative /= cumulative[:, -1:]
        local = site[first:last] - start
        cumulative += np.arange(len(probs))[:, None]  # one rising sequence, one search for all rows
        found = np.searchsorted(cumulative.ravel(), uniform[first:last] + local) - local * probs.shape[1]
        chosen[first:last] = np.clip(found, 0, probs.shape[1] - 1)
    return chosen


def date_columns(year: NDArray[np.integer], rng: np.random.Generator) -> list[pl.Series]:
    """Return month, day, dayOfYear, date and quarter of visits in the growing season of the given years."""
    day_of_year = np.clip(rng.normal(170, 45, len(year)).round(), 15, 350).astype(np.int64)
    date = (year - 1970).astype("datetime64[Y]").astype("datetime64[D]") + (day_of_year - 1)
    month = (date.astype("datetime64[M]").astype(int) % 12) + 1
    day = (date - date.astype("datetime64[M]")).astype(int) + 1
    return [
        pl.Series("month", month), pl.Series("day", day), pl.Series("dayOfYear", day_of_year),
        pl.Series("date", date).cast(pl.Date), pl.Series("quarter", (month - 1) // 3 + 1),
    ]  # fmt: skip
