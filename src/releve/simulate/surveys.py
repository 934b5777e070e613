"""Where, when and by whom the virtual world is looked at: plots, and presence-only surveys."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from releve.simulate.config import SimulateConfig
from releve.simulate.species import Species, make_features, oracle_sets, sample_f1, true_probabilities
from releve.simulate.world import CLIMATE_YEARS, HEIGHT_DEG, REGIONS, SOUTH, TEST_ONLY_COUNTRIES, WEST, World

YEARS = np.arange(2017, 2022)
BLOCK_DEG = 0.5
RECOVERY_YEARS = 6.0
LATENTS = ("canopy", "rock", "wet", "deciduous", "mown", "opened", "warming", "drying")
# mean and deviation that bring a latent to mean 0 and deviation 1; uniform latents need none
OPENED_SCALE, WARMING_SCALE, DRYING_SCALE = (0.15, 0.22), (0.5, 0.8), (0.0, 0.2)


def make_places(
    world: World, lon: NDArray[np.float64], lat: NDArray[np.float64], rng: np.random.Generator
) -> pl.DataFrame:
    """Return one row per place: coordinates, cell, and what no raster shows and no year changes.

    ``canopy``, ``rock``, ``wet`` (the patch shows them), ``deciduous`` and ``mown`` (phenology) have mean 0
    and deviation 1; ``cut_year`` and ``cut_quarter`` date a clearing of ``severity`` 0.5 to 1 (null if none).
    """
    num_places = len(lon)
    row, col = world.cells(lon, lat)
    uniform = rng.uniform(-(3**0.5), 3**0.5, (5, num_places))
    cut = rng.random(num_places) < 0.55
    cut_year = rng.choice(np.arange(2002, 2022), num_places, p=np.linspace(1, 3, 20) / 40)
    return pl.DataFrame(
        {"lon": lon, "lat": lat, "row": row, "col": col}
        | dict(zip(LATENTS[:5], uniform, strict=True))
        | {
            "cut_year": np.where(cut, cut_year, 0),
            "cut_quarter": np.where(cut, rng.integers(1, 4, num_places), 0),
            "severity": np.where(cut, rng.uniform(0.5, 1.0, num_places), 0.0),
        }
    ).with_columns(pl.col("cut_year", "cut_quarter").replace(0, None))


def add_yearly_latents(world: World, visits: pl.DataFrame) -> pl.DataFrame:
    """Return the visits with ``opened``, ``warming`` and ``drying``, the latents that change with ``year``.

    Only what had happened before 1 January of the year counts: a clearing of the same year changes nothing.
    ``warming`` and ``drying`` compare the last five years of the climate series that lie before the visit
    with all earlier ones.
    """
    year = visits["year"].to_numpy()
    age = year - visits["cut_year"].fill_null(9999).to_numpy()
    fading = np.exp(-np.clip(age - 1, 0, None) / RECOVERY_YEARS)
    opened = np.where(age >= 1, visits["severity"].to_numpy() * fading, 0.0)
    tas_k, log_pr = yearly_anomalies(world, visits["row"].to_numpy(), visits["col"].to_numpy())
    warming, drying = recent_change(tas_k, year), -recent_change(log_pr, year)
    columns = {
        "opened": (opened - OPENED_SCALE[0]) / OPENED_SCALE[1],
        "warming": (warming - WARMING_SCALE[0]) / WARMING_SCALE[1],
        "drying": (drying - DRYING_SCALE[0]) / DRYING_SCALE[1],
    }
    return visits.with_columns(pl.Series(name, values, pl.Float64) for name, values in columns.items())


def monthly_anomalies(
    world: World, row: NDArray[np.intp], col: NDArray[np.intp]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return (N, 19, 12) departures from the mean: temperature in K, and rain as a log ratio."""
    since = np.clip((CLIMATE_YEARS - 2008) / 8, 0, 1).astype(np.float32)  # the change comes after 2008
    weather = world.weather[:, row, col].T  # N x K
    tas_k = np.einsum("nk,ymk->nym", weather, world.weather_tas_k)
    log_pr = np.einsum("nk,ymk->nym", weather, world.weather_pr)
    tas_k += (world.warming_k[row, col][:, None] * since)[..., None]
    log_pr -= (world.drying[row, col][:, None] * since)[..., None]
    return tas_k, log_pr


def yearly_anomalies(
    world: World, row: NDArray[np.intp], col: NDArray[np.intp]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return (N, 19) yearly means of ``monthly_anomalies`` without holding the months."""
    since = np.clip((CLIMATE_YEARS - 2008) / 8, 0, 1).astype(np.float32)
    weather = world.weather[:, row, col].T
    tas_k = weather @ world.weather_tas_k.mean(axis=1).T + world.warming_k[row, col][:, None] * since
    log_pr = weather @ world.weather_pr.mean(axis=1).T - world.drying[row, col][:, None] * since
    return tas_k, log_pr


def recent_change(
    yearly: NDArray[np.floating], year: NDArray[np.integer], window_years: int = 5
) -> NDArray[np.float64]:
    """Return the mean of the last years before each visit less the mean of all earlier years.

    Examples
    --------
    >>> series = np.where(np.arange(2000, 2019) >= 2014, 2.0, 0.0)[None]
    >>> recent_change(series, np.array([2020])).tolist()
    [2.0]
    """
    last = np.minimum(year - 1, CLIMATE_YEARS[-1])[:, None]
    recent = (last >= CLIMATE_YEARS) & (last - window_years < CLIMATE_YEARS)
    before = last - window_years >= CLIMATE_YEARS
    change = (yearly * recent).sum(axis=1) / recent.sum(axis=1) - (yearly * before).sum(axis=1) / before.sum(axis=1)
    return change.astype(np.float64)


def visit_features(world: World, visits: pl.DataFrame) -> NDArray[np.float32]:
    """Return the (N, F) features that decide what grows at each visit (see ``species.make_features``)."""
    row, col = visits["row"].to_numpy(), visits["col"].to_numpy()
    axes = {name: layer[row, col] for name, layer in world.drivers.items()}
    return make_features(axes | {name: visits[name].to_numpy() for name in LATENTS})


def sample_landscape(world: World, num_places: int, rng: np.random.Generator) -> pl.DataFrame:
    """Return visits spread evenly over land and years: the sample that sets how common species are."""
    lon, lat = scatter_points(world, world.land, num_places, rng, cluster_size=1)
    places = make_places(world, lon, lat, rng).with_columns(year=pl.Series(rng.choice(YEARS, num_places)))
    return add_yearly_latents(world, places)


def scatter_points(
    world: World,
    allowed: NDArray[np.bool_],
    num_points: int,
    rng: np.random.Generator,
    *,
    cluster_size: int = 12,
    spread_deg: float = 0.12,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return lon and lat of clustered points inside the allowed cells."""
    cells = np.flatnonzero(allowed)
    centres = rng.choice(cells, max(1, -(-num_points // cluster_size)))
    weight = rng.lognormal(0, 0.7, len(centres)) if cluster_size > 1 else np.ones(len(centres))
    lon, lat = np.empty(0), np.empty(0)
    while len(lon) < num_points:
        centre = rng.choice(centres, num_points, p=weight / weight.sum()) if cluster_size > 1 else centres
        row, col = np.divmod(centre, allowed.shape[1])
        jitter = rng.uniform(0, 1, (2, len(row)))
        shift = rng.normal(0, spread_deg, (2, len(row))) if cluster_size > 1 else np.zeros((2, len(row)))
        new_lon = np.round(WEST + (col + jitter[0]) * world.cell_size_deg + shift[0], 5)
        new_lat = np.round(SOUTH + HEIGHT_DEG - (row + jitter[1]) * world.cell_size_deg + shift[1], 5)
        at = world.cells(new_lon, new_lat)
        east, north = world.land.shape[1] * world.cell_size_deg, SOUTH + HEIGHT_DEG
        keep = allowed[at] & (new_lon > WEST) & (new_lon < WEST + east) & (new_lat > SOUTH) & (new_lat < north)
        lon, lat = np.concatenate([lon, new_lon[keep]]), np.concatenate([lat, new_lat[keep]])
    return lon[:num_points], lat[:num_points]


def held_back_blocks(world: World, rng: np.random.Generator, share: float = 0.15) -> NDArray[np.bool_]:
    """Return the (H, W) cells of the 0.5 degree blocks that hold no train plot."""
    height, width = world.land.shape
    # blocks are counted from 0 degrees, as any reader would, so their edges fall on multiples of 0.5
    lat = SOUTH + HEIGHT_DEG - (np.arange(height) + 0.5) * world.cell_size_deg
    lon = WEST + (np.arange(width) + 0.5) * world.cell_size_deg
    row = np.floor((lat - SOUTH) / BLOCK_DEG).astype(int)
    col = np.floor((lon - WEST) / BLOCK_DEG).astype(int)
    held = rng.random((row.max() + 1, col.max() + 1)) < share
    held[rng.integers(held.shape[0]), rng.integers(held.shape[1])] = True
    return held[row[:, None], col[None, :]]


def sample_plots(world: World, config: SimulateConfig, rng: np.random.Generator) -> pl.DataFrame:
    """Return one row per plot, train and test, with its place, year, country and latents.

    ``stratum`` says how a test plot relates to the train plots: ``country`` (none in its country),
    ``block`` (none on its 0.5 degree block) or ``seen``. A tenth of the train plots revisit another one's place
    in another year.
    """
    test_only = np.isin(world.country, [world.countries.index(name) for name in TEST_ONLY_COUNTRIES])
    held = held_back_blocks(world, rng)
    open_cells = world.land & ~test_only & ~held
    num_revisits = config.num_plots // 11
    num_country = round(config.num_test_plots * config.unseen_share / 2)
    num_block = round(config.num_test_plots * config.unseen_share) - num_country
    num_seen = config.num_test_plots - num_country - num_block
    parts = []
    for split, stratum, cells, number in (
        ("train", "seen", open_cells, config.num_plots - num_revisits + num_seen),
        ("test", "country", world.land & test_only, num_country),
        ("test", "block", world.land & ~test_only & held, num_block),
    ):
        if number == 0:
            continue
        lon, lat = scatter_points(world, cells, number, rng)
        part = make_places(world, lon, lat, rng).with_columns(
            split=pl.lit(split), stratum=pl.lit(stratum), year=pl.Series(rng.choice(YEARS, number))
        )
        if split == "train":
            # the last ones, thinly spread over the same clusters, are the easy test plots
            is_test = np.zeros(number, bool)
            is_test[rng.choice(number, num_seen, replace=False)] = True
            part = part.with_columns(split=pl.Series(np.where(is_test, "test", "train")))
            trained = part.filter(pl.col("split") == "train")
            again = trained[rng.choice(len(trained), num_revisits, replace=False)]
            shift = rng.integers(1, len(YEARS), num_revisits)
            later = YEARS[(again["year"].to_numpy() - YEARS[0] + shift) % len(YEARS)]
            part = pl.concat([part, again.with_columns(year=pl.Series(later))])
        parts.append(part)
    plots = add_yearly_latents(world, pl.concat(parts)).sort("split", descending=True, maintain_order=True)
    return describe_plots(world, plots, rng)


def describe_plots(world: World, plots: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    """Return the plots with quarter, country, region, coordinate uncertainty and area, gaps included."""
    num_plots = len(plots)
    row, col = plots["row"].to_numpy(), plots["col"].to_numpy()
    area = rng.choice([1.0, 4.0, 10.0, 79.0, 100.0, 400.0, 707.0, np.nan, -np.inf], num_plots,
                      p=[0.1, 0.15, 0.15, 0.15, 0.2, 0.1, 0.1, 0.04, 0.01])  # fmt: skip
    uncertainty = rng.choice([3.0, 10.0, 20.0, 100.0, np.nan], num_plots, p=[0.2, 0.45, 0.2, 0.1, 0.05])
    columns = {
        "quarter": rng.choice([2, 3], num_plots),
        "country": np.array(world.countries)[world.country[row, col]],
        "region": np.array(REGIONS)[world.region[row, col]],
        "geoUncertaintyInM": uncertainty,
        "areaInM2": area,
    }
    return plots.with_columns(pl.Series(name, values) for name, values in columns.items())


@dataclass(frozen=True)
class Draw:
    """What grows on N plots, drawn from the true probabilities.

    Attributes
    ----------
    presences
        ``row`` (position of the plot) and ``species_index``, sorted.
    probabilities
        ``row``, ``species_index``, ``probability`` (float32), at least the floor; empty if not kept.
    oracle_f1
        (N,) F1 of the oracle's set on the draw.
    """

    presences: pl.DataFrame
    probabilities: pl.DataFrame
    oracle_f1: NDArray[np.float64]


def draw_presences(
    species: Species,
    features: NDArray[np.float32],
    rng: np.random.Generator,
    *,
    keep_probabilities: bool = True,
    floor: float = 1e-4,
    with_oracle: bool = True,
) -> Draw:
    """Return the species that grow at each of N visits, each drawn with its true probability; never none."""
    presences, kept, scores = [], [], []
    for start, probs in probability_chunks(species, features):
        truth = draw_plots(probs, rng)
        row, index = np.nonzero(truth)
        presences.append(sparse_frame(row + start, index))
        if keep_probabilities:
            row, index = np.nonzero(probs >= floor)
            kept.append(sparse_frame(row + start, index).with_columns(probability=pl.Series(probs[row, index])))
        if with_oracle:
            scores.append(sample_f1(oracle_sets(probs), truth))
    empty = sparse_frame(np.empty(0, np.int64), np.empty(0, np.int64))
    return Draw(
        presences=pl.concat(presences),
        probabilities=pl.concat(kept) if kept else empty.with_columns(probability=pl.Series([], dtype=pl.Float32)),
        oracle_f1=np.concatenate(scores) if scores else np.empty(0),
    )


def draw_plots(probs: NDArray[np.float32], rng: np.random.Generator, max_draws: int = 20) -> NDArray[np.bool_]:
    """Return (N, S) what grows on each plot; a bare plot, which nobody reports, is drawn again.

    A plot still bare after ``max_draws`` gets its most probable species.
    """
    truth = rng.random(probs.shape, dtype=np.float32) < probs
    for _ in range(max_draws):
        bare = np.flatnonzero(~truth.any(axis=1))
        truth[bare] = rng.random((len(bare), probs.shape[1]), dtype=np.float32) < probs[bare]
    bare = np.flatnonzero(~truth.any(axis=1))
    truth[bare, probs[bare].argmax(axis=1)] = True
    return truth


def sparse_frame(row: NDArray[np.integer], index: NDArray[np.integer]) -> pl.DataFrame:
    """Return a frame of int32 positions."""
    return pl.DataFrame({"row": row.astype(np.int32), "species_index": index.astype(np.int32)})


def probability_chunks(
    species: Species, features: NDArray[np.float32], num_values: int = 8_000_000
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield the first row and the (n, S) true probabilities of chunks small enough for any memory."""
    step = max(1, num_values // len(species.species_id))
    for start in range(0, len(features), step):
        yield start, true_probabilities(species, features[start : start + step])
