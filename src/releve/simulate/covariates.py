"""Covariate rasters of the virtual world under their official names, units and integer scalings."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from releve.simulate.fields import Raster, fractal_field, smooth_field

BIOCLIM = tuple(f"Bio{number}" for number in range(1, 20))
SOIL = tuple(f"Soilgrid-{name}" for name in (
    "bdod", "cec", "cfvo", "clay", "nitrogen", "phh2o", "sand", "silt", "soc",
))  # fmt: skip
FOOTPRINT = tuple(
    f"HumanFootprint-{name}"
    for name in (
        "Built1994", "Built2009", "croplands1992", "croplands2005", "Lights1994", "Lights2009",
        "NavWater1994", "NavWater2009", "Pasture1993", "Pasture2009", "Popdensity1990",
        "Popdensity2010", "Railways", "Roads", "HFP1993", "HFP2009",
    )
)  # fmt: skip
OSM = tuple(
    f"HumanFootprint-{name}"
    for name in (
        "cemetery", "reservoir", "greenhouse", "farmland", "building-copernicus", "forest", "harbour",
        "building-residential", "building-commercial", "grass", "quarry", "road", "salt",
        "building-industrial", "vineyard", "military", "construction-site", "orchard", "meadow",
        "farmyard", "dump-site", "railway",
    )
)  # fmt: skip
MODIS = tuple(f"LandCover-{number}" for number in range(1, 14))

# IGBP classes, by number
EVERGREEN, DECIDUOUS, MIXED, SHRUB, SAVANNA, GRASS, WETLAND, CROP, URBAN, MOSAIC, BARREN, WATER = (
    1, 4, 5, 7, 9, 10, 11, 12, 13, 14, 16, 17,
)  # fmt: skip
COVER_GROUPS = {
    "forest": (EVERGREEN, DECIDUOUS, MIXED),
    "shrub": (SHRUB, SAVANNA),
    "grass": (GRASS, WETLAND),
    "crop": (CROP, MOSAIC),
    "urban": (URBAN,),
    "barren": (BARREN,),
}


def bioclim(monthly: Mapping[str, Raster]) -> dict[str, Raster]:
    """Return Bio1..Bio19 as CHELSA's integers: K x 10, mm x 10, Bio3 x 10, Bio4 x 1000, Bio15 in % x 10.

    Parameters
    ----------
    monthly
        ``pr`` (mm) and ``tas``, ``tasmax``, ``tasmin`` (K), each (12, H, W).

    Examples
    --------
    >>> flat = np.full((12, 1, 1), 283.15, np.float32)
    >>> out = bioclim({"pr": flat * 0 + 50, "tas": flat, "tasmax": flat + 4, "tasmin": flat - 4})
    >>> float(out["Bio1"][0, 0]), float(out["Bio12"][0, 0]), float(out["Bio7"][0, 0])
    (2831.0, 6000.0, 80.0)
    """
    tas, pr = monthly["tas"], monthly["pr"]
    wet = pr + np.roll(pr, -1, axis=0) + np.roll(pr, -2, axis=0)  # rain of the quarter that starts each month
    warm = (tas + np.roll(tas, -1, axis=0) + np.roll(tas, -2, axis=0)) / 3

    def quarter(values: NDArray[np.floating], month: NDArray[np.intp]) -> NDArray[np.floating]:
        return np.take_along_axis(values, month[None], axis=0)[0]

    daily = (monthly["tasmax"] - monthly["tasmin"]).mean(axis=0)
    hottest, coldest = monthly["tasmax"].max(axis=0), monthly["tasmin"].min(axis=0)
    wettest, driest = wet.argmax(axis=0), wet.argmin(axis=0)
    warmest, coolest = warm.argmax(axis=0), warm.argmin(axis=0)
    layers = (
        10 * tas.mean(axis=0),
        10 * daily,
        10 * daily / np.maximum(hottest - coldest, 0.1),
        1000 * tas.std(axis=0),
        10 * hottest,
        10 * coldest,
        10 * (hottest - coldest),
        10 * quarter(warm, wettest),
        10 * quarter(warm, driest),
        10 * quarter(warm, warmest),
        10 * quarter(warm, coolest),
        10 * pr.sum(axis=0),
        10 * pr.max(axis=0),
        10 * pr.min(axis=0),
        1000 * pr.std(axis=0) / pr.mean(axis=0),
        10 * quarter(wet, wettest),
        10 * quarter(wet, driest),
        10 * quarter(wet, warmest),
        10 * quarter(wet, coolest),
    )
    return {name: np.floor(layer + 1e-3).astype(np.float32) for name, layer in zip(BIOCLIM, layers, strict=True)}


def soil(elevation_m: Raster, rain_mm: Raster, per_deg: float, rng: np.random.Generator) -> dict[str, Raster]:
    """Return the nine SoilGrids layers in mapped units: bedrock and texture by noise, leaching by rain."""
    shape = elevation_m.shape
    lime = np.tanh(1.5 * fractal_field(shape, 0.5 * per_deg, rng))
    texture = fractal_field(shape, 0.5 * per_deg, rng)
    noise = smooth_field(shape, 0.2 * per_deg, rng)
    ph = np.clip(6.3 + 0.9 * lime - 0.0008 * (rain_mm - 800) + 0.1 * noise, 3.8, 8.4)
    sand = np.clip(400 + 170 * texture, 40, 900)
    clay = np.clip((1000 - sand) * (0.42 + 0.06 * smooth_field(shape, 0.3 * per_deg, rng)), 20, 700)
    soc = np.clip(300 + 0.25 * (rain_mm - 600) + 0.12 * elevation_m + 60 * noise, 50, 1500)
    layers = (
        np.clip(150 - 0.06 * soc + 3 * noise, 60, 175),
        np.clip(90 + 0.28 * clay + 0.18 * soc, 40, 600),
        np.clip(90 + 0.11 * elevation_m + 25 * noise, 5, 600),
        clay,
        np.clip(0.75 * soc + 40 * noise, 30, 1500),
        10 * ph,
        sand,
        1000 - sand - clay,
        soc,
    )
    return {name: layer.astype(np.float32) for name, layer in zip(SOIL, layers, strict=True)}


def land_cover(
    elevation_m: Raster,
    celsius: Raster,
    mediterranean: NDArray[np.float64],
    towns: Raster,
    land: NDArray[np.bool_],
    per_deg: float,
    rng: np.random.Generator,
) -> Raster:
    """Return the IGBP class of each cell (1 to 17) as float."""
    woods = fractal_field(land.shape, 0.25 * per_deg, rng) + elevation_m / 900
    tilled = fractal_field(land.shape, 0.3 * per_deg, rng) - elevation_m / 500
    leaf = smooth_field(land.shape, 0.2 * per_deg, rng)
    cover = np.full(land.shape, GRASS)
    cover = np.where(mediterranean > 0.5, np.where(leaf > 0, SHRUB, SAVANNA), cover)
    cover = np.where(tilled > -0.4, MOSAIC, cover)
    cover = np.where(tilled > 0.2, CROP, cover)
    forest = np.where(celsius + leaf < 7, EVERGREEN, np.where(leaf > 0.6, MIXED, DECIDUOUS))
    cover = np.where((woods > 0.75) & (tilled < 0.6), forest, cover)
    cover = np.where((elevation_m < 120) & (smooth_field(land.shape, 0.08 * per_deg, rng) > 2.0), WETLAND, cover)
    cover = np.where(celsius < 2.5, GRASS, cover)
    cover = np.where(celsius < -1.5, BARREN, cover)
    cover = np.where(towns > 2.2, URBAN, cover)
    return np.where(land, cover, WATER).astype(np.float32)


def human_footprint(
    towns: Raster, roads: NDArray[np.bool_], cover: Raster, per_deg: float, rng: np.random.Generator
) -> dict[str, Raster]:
    """Return the 16 pressures of the human footprint maps (0 to 10; the two sums 0 to 50)."""
    shape = towns.shape
    near_road = np.clip(gaussian_filter(roads.astype(np.float32), 0.03 * per_deg) * 10 * max(1, 0.03 * per_deg), 0, 1)
    rails = roads & (smooth_field(shape, 0.8 * per_deg, rng) > 0.2)
    rivers = np.abs(fractal_field(shape, 0.9 * per_deg, rng)) < 0.03
    crop, grass = np.isin(cover, COVER_GROUPS["crop"]), np.isin(cover, COVER_GROUPS["grass"])
    now = {
        "Built": np.where(towns > 2.2, 10, 0),
        "croplands": np.where(cover == CROP, 7, np.where(crop, 3.5, 0)),
        "Lights": np.clip(np.round(3.2 * np.log1p(1.6 * towns)), 0, 10),
        "NavWater": np.where(rivers, 4, 0),
        "Pasture": np.where(grass, np.clip(np.round(2 + 1.5 * smooth_field(shape, 0.3 * per_deg, rng)), 0, 4), 0),
        "Popdensity": np.clip(np.round(3.6 * np.log1p(2.5 * towns)), 0, 10),
    }
    then = {name: np.where(rng.random(shape) < 0.15, np.floor(layer * 0.7), layer) for name, layer in now.items()}
    transport = {"Railways": np.where(rails, 8, 0), "Roads": np.round(8 * near_road)}
    years = {"Built": "1994 2009", "croplands": "1992 2005", "Lights": "1994 2009", "NavWater": "1994 2009"}
    years |= {"Pasture": "1993 2009", "Popdensity": "1990 2010"}
    layers = {f"{name}{years[name].split()[0]}": layer for name, layer in then.items()}
    layers |= {f"{name}{years[name].split()[1]}": layer for name, layer in now.items()} | transport
    layers["HFP1993"] = np.clip(sum(then.values()) + sum(transport.values()), 0, 50)
    layers["HFP2009"] = np.clip(sum(now.values()) + sum(transport.values()), 0, 50)
    return {name: layers[name.removeprefix("HumanFootprint-")].astype(np.float32) for name in FOOTPRINT}


def osm_layers(
    towns: Raster, roads: NDArray[np.bool_], cover: Raster, per_deg: float, rng: np.random.Generator
) -> dict[str, Raster]:
    """Return the 22 land-use layers of the 2025 release as shares of a cell (0 to 1)."""
    group = {name: np.isin(cover, classes).astype(np.float32) for name, classes in COVER_GROUPS.items()}
    town = np.clip(towns / 4, 0, 1)
    drivers = {
        "farmland": group["crop"], "farmyard": 0.2 * group["crop"], "vineyard": 0.4 * group["shrub"],
        "orchard": 0.3 * group["shrub"], "greenhouse": 0.1 * group["crop"], "meadow": group["grass"],
        "grass": 0.7 * group["grass"], "forest": group["forest"], "road": roads.astype(np.float32),
        "railway": 0.5 * roads, "quarry": 0.2 * group["barren"],
    }  # fmt: skip
    layers = {}
    for name in OSM:
        driver = drivers.get(name.removeprefix("HumanFootprint-"), 0.6 * town)
        patchy = np.clip(0.6 + 0.4 * smooth_field(towns.shape, 0.1 * per_deg, rng), 0, 1)
        layers[name] = np.round(np.clip(driver * patchy, 0, 1), 3).astype(np.float32)
    return layers


def modis_layers(cover: Raster, elevation_m: Raster, rng: np.random.Generator) -> dict[str, Raster]:
    """Return the 13 layers of MCD12Q1: five legends, confidences, LCCS classes, quality, land or water."""
    coarse = np.select([np.isin(cover, classes) for classes in COVER_GROUPS.values()], [4, 7, 6, 5, 9, 10], default=0)
    confidence = [np.clip(rng.normal(mean, 12, cover.shape), 0, 100).round() for mean in (75, 65, 60)]
    lccs = np.select([np.isin(cover, classes) for classes in COVER_GROUPS.values()], [14, 21, 31, 36, 9, 1], default=3)
    water = cover == WATER
    layers = (cover, np.where(water, 0, cover), coarse, coarse, coarse, *confidence, lccs, lccs, lccs,
              np.where(water, 2, 0), np.where(water, 1, 2))  # fmt: skip
    return {name: layer.astype(np.float32) for name, layer in zip(MODIS, layers, strict=True)}
