"""What satellites and weather stations show of a visit: patches, Landsat quarters, monthly climate.

Each shows what the others hide. Patches: canopy (dark blobs), rock (bright specks), wetness (near infrared
only). Landsat: leaf fall, mowing, clearings and recovery. Monthly climate: recent warming and drying.
"""

# N visits, C bands, H W pixels, Q quarters, Y years

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from releve.simulate.fields import quantile_field, smooth_field
from releve.simulate.surveys import monthly_anomalies
from releve.simulate.world import CLIMATE_YEARS, World

BANDS = ("red", "green", "blue", "nir", "swir1", "swir2")
LANDSAT_YEARS = np.arange(2000, 2021)
CLIMATE_VARIABLES = ("pr", "tas", "tasmax", "tasmin")
SQRT3 = 3**0.5

# surface reflectance x 10,000 in red, green, blue, near infrared
GROUND = (800, 830, 560, 3300)
CANOPY = (300, 420, 260, 3100)
ROCK = (2000, 1850, 1600, 2500)
POOL_NIR = 700
MAX_RAIN = 32_000  # 320 mm in a month, seldom met; readers keep 16-bit numbers


@dataclass(frozen=True)
class TextureBank:
    """Random textures to crop patches from; made once, so that a patch costs about a millisecond.

    Attributes
    ----------
    crowns, specks, pools
        (K, B, B) fields uniform on (0, 1) with blobs of about 9, 3 and 14 pixels.
    grain
        (K, B, B) fields of mean 0, deviation 1: what varies and means nothing.
    """

    crowns: NDArray[np.float32]
    specks: NDArray[np.float32]
    pools: NDArray[np.float32]
    grain: NDArray[np.float32]


def make_textures(rng: np.random.Generator, *, size_px: int = 512, num_fields: int = 4) -> TextureBank:
    """Return the textures that patches are cropped from."""
    shape = (size_px, size_px)

    def stack(scale: float) -> NDArray[np.float32]:
        return np.stack([quantile_field(shape, scale, rng) for _ in range(num_fields)])

    grain = [smooth_field(shape, 0.7, rng) + 0.8 * smooth_field(shape, 12.0, rng) for _ in range(num_fields)]
    return TextureBank(crowns=stack(3.0), specks=stack(1.1), pools=stack(5.0), grain=np.stack(grain))


def render_patches(
    visits: pl.DataFrame, textures: TextureBank, rng: np.random.Generator, *, size_px: int
) -> NDArray[np.float32]:
    """Return (N, 4, H, W) reflectance x 10,000 in red, green, blue, near infrared.

    ``canopy`` sets the cover of crowns, ``rock`` the cover and brightness of specks, ``wet`` darkens
    the near infrared of the ground and fills pools that only the near infrared shows. Light and hue vary.
    """
    num_visits = len(visits)
    # (N, 1, 1) shares between 0 and 1: the latents are uniform on (-sqrt 3, sqrt 3)
    canopy, rock, wet = (
        (0.5 + visits[name].to_numpy() / (2 * SQRT3)).astype(np.float32)[:, None, None]
        for name in ("canopy", "rock", "wet")
    )
    crowns = crop_fields(textures.crowns, num_visits, size_px, rng)
    under = crowns < 0.03 + 0.77 * canopy
    deep = crowns < 0.6 * (0.03 + 0.77 * canopy)  # the middle of a crown is darker than its rim
    stony = crop_fields(textures.specks, num_visits, size_px, rng) < 0.02 + 0.48 * rock
    pooled = crop_fields(textures.pools, num_visits, size_px, rng) < 0.45 * wet
    light = np.exp(rng.normal(0, 0.06, (num_visits, 1, 1))).astype(np.float32)
    patches = np.empty((num_visits, 4, size_px, size_px), np.float32)
    grain = crop_fields(textures.grain, num_visits, size_px, rng)
    for band in range(4):
        hue = np.exp(rng.normal(0, 0.07, (num_visits, 1, 1))).astype(np.float32)
        ground = GROUND[band] * hue * (1 + 0.09 * grain)
        if band == 3:
            ground = np.where(pooled, POOL_NIR, ground * (1.15 - 0.45 * wet))
        image = np.where(stony, ROCK[band] * (0.75 + 0.35 * rock) * (1 + 0.05 * grain), ground)
        crown = CANOPY[band] * (1 + 0.08 * grain)
        image = np.where(under, np.where(deep, 0.75 * crown, crown), image)
        patches[:, band] = image * light
    return np.clip(patches, 1, 10_000)


def crop_fields(
    fields: NDArray[np.float32], num_crops: int, size_px: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return (N, H, W) crops of random fields at random places, turned and mirrored by chance."""
    which = rng.integers(len(fields), size=num_crops)
    top, left = rng.integers(0, fields.shape[1] - size_px + 1, (2, num_crops))
    turn, mirror = rng.integers(4, size=num_crops), rng.random(num_crops) < 0.5
    crops = np.empty((num_crops, size_px, size_px), np.float32)
    for index in range(num_crops):
        rows, cols = slice(top[index], top[index] + size_px), slice(left[index], left[index] + size_px)
        crop = np.rot90(fields[which[index], rows, cols], turn[index])
        crops[index] = crop[::-1] if mirror[index] else crop
    return crops


def to_jpeg_values(reflectance: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Return the official 8-bit values: reflectance x 10,000 clipped, scaled to [0, 1], power 1 / 2.5, x 255.

    Examples
    --------
    >>> to_jpeg_values(np.array([0.0, 10_000.0, 625.0])).tolist()
    [0, 255, 84]
    """
    return np.round(np.clip(reflectance / 10_000, 0, 1) ** 0.4 * 255).astype(np.uint8)


def render_landsat(visits: pl.DataFrame, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return (N, 6, Q=4, Y=21) whole numbers 0 to 255; NaN after the quarter of the visit.

    ``deciduous`` sets how far the green falls in winter, ``mown`` the dip of the third quarter; a clearing
    takes the green at once and it returns with the same pace as the truth forgets it.
    """
    num_visits = len(visits)
    leaf, mown = (0.5 + visits[name].to_numpy() / (2 * SQRT3) for name in ("deciduous", "mown"))
    green = np.full((num_visits, 4, len(LANDSAT_YEARS)), 0.75)
    season = np.array([-0.55, 0.05, 0.15, -0.30])
    green += leaf[:, None, None] * season[None, :, None]
    green += mown[:, None, None] * np.array([0.0, 0.10, -0.38, 0.05])[None, :, None]
    green += rng.normal(0, 0.03, (num_visits, 1, len(LANDSAT_YEARS)))  # good and bad years

    quarter = LANDSAT_YEARS[None, None, :] + (np.arange(4)[None, :, None] / 4)
    cut = visits["cut_year"].fill_null(9999).to_numpy() + (visits["cut_quarter"].fill_null(1).to_numpy() - 1) / 4
    age = quarter - cut[:, None, None]
    bare = np.where(age >= 0, np.exp(-np.clip(age, 0, None) / 6.0), 0) * visits["severity"].to_numpy()[:, None, None]
    green = np.clip(green * (1 - 0.85 * bare), 0.02, 1.1)

    bare_soil, leafy = np.array([42, 36, 28, 48, 82, 68]), np.array([9, 14, 6, 96, 44, 20])
    values = bare_soil[None, :, None, None] + (leafy - bare_soil)[None, :, None, None] * green[:, None]
    values = values * np.exp(rng.normal(0, 0.05, (num_visits, 6, 1, 1))) + rng.normal(0, 1.5, values.shape)
    values = np.clip(np.round(values), 0, 255)
    visit = visits["year"].to_numpy() + (visits["quarter"].to_numpy() - 1) / 4
    values[np.broadcast_to((quarter > visit[:, None, None])[:, None], values.shape)] = np.nan
    return values.astype(np.float32)


def monthly_climate(world: World, visits: pl.DataFrame) -> NDArray[np.float32]:
    """Return (N, 4, Y=19, 12) whole numbers: pr (mm x 100), tas, tasmax, tasmin (K x 10) of 2000-2018."""
    row, col = visits["row"].to_numpy(), visits["col"].to_numpy()
    tas_k, log_pr = monthly_anomalies(world, row, col)
    cube = np.empty((len(visits), 4, len(CLIMATE_YEARS), 12), np.float32)
    rain = 100 * world.monthly["pr"][:, row, col].T[:, None] * np.exp(log_pr)
    cube[:, 0] = np.minimum(rain, MAX_RAIN)
    for index, name in enumerate(CLIMATE_VARIABLES[1:], start=1):
        cube[:, index] = 10 * (world.monthly[name][:, row, col].T[:, None] + tas_k)
    return np.round(cube)
