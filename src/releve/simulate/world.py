"""The virtual world: terrain, climate, soil, people and land cover on a longitude-latitude grid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter

from releve.simulate.config import SimulateConfig
from releve.simulate.covariates import bioclim, human_footprint, land_cover, modis_layers, osm_layers, soil
from releve.simulate.fields import Raster, fractal_field, smooth_field, standardise

WEST, SOUTH, WIDTH_DEG, HEIGHT_DEG = 22.0, 47.0, 12.0, 10.0  # where the real Earth is all land: no check for sea fires
CLIMATE_YEARS = np.arange(2000, 2019)
NUM_WEATHER = 4  # smooth patterns that a year's weather mixes

# Where each country's capital lies, in shares of the width and height; borders are warped Voronoi cells.
CAPITALS = {
    "France": (0.36, 0.52),
    "Belgium": (0.38, 0.88),
    "Germany": (0.78, 0.80),
    "Switzerland": (0.66, 0.46),
    "Italy": (0.88, 0.28),
    "Spain": (0.28, 0.20),
}
TEST_ONLY_COUNTRIES = ("Belgium", "Italy")
REGIONS = ("ATLANTIC", "CONTINENTAL", "ALPINE", "MEDITERRANEAN")


@dataclass(frozen=True)
class World:
    """Rasters of one virtual world; rows run north to south, columns west to east.

    Attributes
    ----------
    cell_size_deg
        Cell in degrees.
    land
        (H, W) true on land.
    covariates
        Official column name -> (H, W) float32 in official units, NaN where unknown; what a user sees.
    drivers
        Axis name -> (H, W) float32, mean 0 and deviation 1 over land; what species feel. No gaps.
    monthly
        ``pr`` (mm), ``tas``, ``tasmax``, ``tasmin`` (K) -> (12, H, W) means of 1981-2010.
    warming_k, drying
        (H, W) recent change by place: Kelvin, and log ratio of rain, reached by 2018.
    weather
        (K, H, W) smooth patterns of a year's weather.
    weather_tas_k, weather_pr
        (19, 12, K) weight of each pattern in each month of 2000-2018.
    country, region
        (H, W) int8 index into ``countries`` and ``REGIONS``.
    effort
        (H, W) how readily an observer goes there, over roads and towns; 0 at sea.
    """

    cell_size_deg: float
    land: NDArray[np.bool_]
    covariates: Mapping[str, Raster]
    drivers: Mapping[str, Raster]
    monthly: Mapping[str, Raster]
    warming_k: Raster
    drying: Raster
    weather: Raster
    weather_tas_k: Raster
    weather_pr: Raster
    country: NDArray[np.int8]
    region: NDArray[np.int8]
    effort: Raster
    countries: tuple[str, ...] = tuple(CAPITALS)

    def cells(self, lon: NDArray[np.float64], lat: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return the row and column of the cell that holds each point."""
        height, width = self.land.shape
        row = np.floor((SOUTH + HEIGHT_DEG - lat) / self.cell_size_deg).astype(np.intp)
        col = np.floor((lon - WEST) / self.cell_size_deg).astype(np.intp)
        return np.clip(row, 0, height - 1), np.clip(col, 0, width - 1)


def make_world(config: SimulateConfig, rng: np.random.Generator) -> World:
    """Return a world drawn from ``rng``: its rasters, countries and recent climate change."""
    cell = config.cell_size_deg
    shape = (round(HEIGHT_DEG / cell), round(WIDTH_DEG / cell))
    per_deg = 1.0 / cell  # cells in a degree
    v, u = np.meshgrid(np.linspace(1, 0, shape[0]), np.linspace(0, 1, shape[1]), indexing="ij")  # north up

    land, elevation_m = make_terrain(u, v, per_deg, rng)
    sea_deg = distance_transform_edt(np.pad(land, 1, mode="edge"))[1:-1, 1:-1].astype(np.float32) * cell
    continental = 1.0 - np.exp(-sea_deg / 2.5)
    mediterranean = np.clip(1.6 - 3.2 * v, 0, 1) * (1 - 0.5 * continental)
    monthly = make_climate(v, elevation_m, continental, mediterranean, per_deg, rng)
    towns, roads = make_people(land, elevation_m, per_deg, rng)
    climate = bioclim(monthly)
    rain_mm, celsius = climate["Bio12"] / np.float32(10), climate["Bio1"] / np.float32(10) - np.float32(273.15)
    earth = soil(elevation_m, rain_mm, per_deg, rng)
    cover = land_cover(elevation_m, celsius, mediterranean, towns, land, per_deg, rng)
    footprint = human_footprint(towns, roads, cover, per_deg, rng)

    drivers = {
        "temperature": climate["Bio1"],
        "rainfall": np.log(climate["Bio12"]),
        "continentality": climate["Bio7"],
        "acidity": earth["Soilgrid-phh2o"],
        "sand": earth["Soilgrid-sand"],
        "pressure": footprint["HumanFootprint-HFP2009"],
    }
    visible = climate | {"Elevation": np.round(elevation_m)}
    unknown = ~land | (towns > 3.0) | (smooth_field(shape, 0.08 * per_deg, rng) > 2.4)  # towns, lakes: no soil
    visible |= {name: np.where(unknown, np.nan, np.round(layer)) for name, layer in earth.items()}
    if config.layout == "glc24":
        visible |= footprint | {"LandCover": cover}
    else:
        visible |= osm_layers(towns, roads, cover, per_deg, rng) | modis_layers(cover, elevation_m, rng)
    covariates = {
        name: layer.astype(np.float32)
        if name.startswith("LandCover")
        else np.where(land, layer, np.nan).astype(np.float32)
        for name, layer in visible.items()
    }
    road_deg = distance_transform_edt(~roads).astype(np.float32) * cell
    effort = np.where(land, 0.04 + np.exp(-road_deg / 0.06) * (0.5 + np.clip(towns, 0, 6)), 0).astype(np.float32)
    return World(
        cell_size_deg=cell,
        land=land,
        covariates=covariates,
        drivers={name: standardise(layer, land) for name, layer in drivers.items()} | {"cover": cover},
        monthly=monthly,
        warming_k=0.5 + 1.1 * smooth_field(shape, 0.45 * per_deg, rng),
        drying=0.3 * smooth_field(shape, 0.45 * per_deg, rng),
        weather=np.stack([smooth_field(shape, 1.5 * per_deg, rng) for _ in range(NUM_WEATHER)]),
        weather_tas_k=make_weather(0.15, 0.5, rng),
        weather_pr=make_weather(0.03, 0.15, rng),
        country=make_countries(u, v, per_deg, rng),
        region=make_regions(elevation_m, continental, mediterranean),
        effort=effort,
    )


def make_weather(year_std: float, month_std: float, rng: np.random.Generator) -> Raster:
    """Return (19, 12, K) weights: a shared part for the year and a part for each month."""
    num_years = len(CLIMATE_YEARS)
    yearly = rng.normal(0, year_std, (num_years, 1, NUM_WEATHER))
    return (yearly + rng.normal(0, month_std, (num_years, 12, NUM_WEATHER))).astype(np.float32)


def make_terrain(
    u: NDArray[np.float64], v: NDArray[np.float64], per_deg: float, rng: np.random.Generator
) -> tuple[NDArray[np.bool_], Raster]:
    """Return land (true) and elevation in metres: seas west and south, one young range, old hills."""
    coast = np.minimum(u - 0.10, v - 0.07) + 0.05 * fractal_field(u.shape, 1.2 * per_deg, rng)
    land = coast > 0
    crest = 0.36 + 0.13 * np.sin(3.0 * u + rng.uniform(-0.6, 0.6)) + 0.02 * smooth_field(u.shape, per_deg, rng)
    range_m = 2600 * np.exp(-(((v - crest) / 0.10) ** 2)) * np.clip(1.6 * u - 0.15, 0, 1)
    rough = fractal_field(u.shape, 0.5 * per_deg, rng, octaves=5)
    hills = np.clip(fractal_field(u.shape, 1.4 * per_deg, rng), 0, None)
    elevation = 40 + range_m * (0.72 + 0.30 * rough) + 300 * hills + 110 * np.abs(rough)
    inland = np.clip(coast / 0.05, 0, 1)  # the land rises from the coast
    return land, np.where(land, np.clip(elevation, 1, 4500) * (0.1 + 0.9 * inland), 0).astype(np.float32)


def make_climate(
    v: NDArray[np.float64],
    elevation_m: Raster,
    continental: Raster,
    mediterranean: NDArray[np.float64],
    per_deg: float,
    rng: np.random.Generator,
) -> dict[str, Raster]:
    """Return monthly means of 1981-2010: ``pr`` in mm, temperatures in K, each (12, H, W)."""
    season = np.cos(2 * np.pi * (np.arange(12) - 6.3) / 12)[:, None, None]  # 1 in July
    yearly_k = 273.15 + 16.0 - 6.5 * v - 0.0056 * elevation_m + 0.35 * smooth_field(v.shape, per_deg, rng)
    tas = yearly_k + season * (6.0 + 5.0 * continental)
    half_range_k = 2.8 + 2.4 * continental + 1.0 * mediterranean + 0.3 * smooth_field(v.shape, per_deg, rng)
    spread = half_range_k * (1 + 0.25 * season)
    yearly_mm = 560 + 420 * (1 - continental) * (1 - 0.5 * mediterranean) + 0.32 * elevation_m
    yearly_mm = np.clip(yearly_mm * np.exp(0.16 * smooth_field(v.shape, 0.8 * per_deg, rng)), 250, None)
    shape_of_year = 1 + season * (0.35 * continental * (1 - mediterranean) - 0.75 * mediterranean)
    pr = yearly_mm / 12 * np.clip(shape_of_year, 0.08, None)
    layers = {"pr": pr, "tas": tas, "tasmax": tas + spread, "tasmin": tas - spread}
    return {name: layer.astype(np.float32) for name, layer in layers.items()}


def make_people(
    land: NDArray[np.bool_], elevation_m: Raster, per_deg: float, rng: np.random.Generator
) -> tuple[Raster, NDArray[np.bool_]]:
    """Return town density (0 to about 10, arbitrary) and the cells that roads cross."""
    liveable = np.where(land & (elevation_m < 1500), np.exp(-elevation_m / 500), 0).ravel()
    cells = rng.choice(land.size, size=90, replace=False, p=liveable / liveable.sum())
    row, col = np.divmod(cells, land.shape[1])
    size = np.clip(rng.pareto(1.3, len(cells)) + 0.3, 0, 8)
    towns, roads = np.zeros(land.shape, np.float32), np.zeros(land.shape, bool)
    for reach_deg in (0.05, 0.15):
        dots = np.zeros(land.shape, np.float32)
        np.add.at(dots, (row, col), size)
        reach = reach_deg * per_deg
        towns += gaussian_filter(dots, reach) * 2 * np.pi * reach**2 / (1 + reach_deg * 10)
    for town in range(len(cells)):
        distance = np.hypot(row - row[town], col - col[town])
        for other in np.argsort(distance)[1:4]:
            steps = int(distance[other]) * 2 + 2
            line = (np.linspace(row[town], row[other], steps), np.linspace(col[town], col[other], steps))
            roads[line[0].astype(int), line[1].astype(int)] = True
    return np.where(land, towns, 0).astype(np.float32), roads & land


def make_countries(
    u: NDArray[np.float64], v: NDArray[np.float64], per_deg: float, rng: np.random.Generator
) -> NDArray[np.int8]:
    """Return the country of each cell: the nearest capital, with borders bent by noise."""
    bent_u = u + 0.03 * smooth_field(u.shape, 0.6 * per_deg, rng)
    bent_v = v + 0.03 * smooth_field(u.shape, 0.6 * per_deg, rng)
    distance = [np.hypot(bent_u - at[0], bent_v - at[1]) for at in CAPITALS.values()]
    return np.argmin(np.stack(distance), axis=0).astype(np.int8)


def make_regions(elevation_m: Raster, continental: Raster, mediterranean: NDArray[np.float64]) -> NDArray[np.int8]:
    """Return the biogeographical region of each cell as an index into ``REGIONS``."""
    region = np.where(continental > 0.62, REGIONS.index("CONTINENTAL"), REGIONS.index("ATLANTIC"))
    region = np.where(mediterranean > 0.45, REGIONS.index("MEDITERRANEAN"), region)
    return np.where(elevation_m > 1100, REGIONS.index("ALPINE"), region).astype(np.int8)
