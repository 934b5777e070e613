"""Write a virtual release in an official layout, and its truth beside it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import polars as pl
import rasterio
import torch
from numpy.typing import NDArray
from PIL import Image
from rasterio.transform import from_origin

from releve.errors import ReleveError
from releve.files import disk_error, write_json
from releve.simulate.config import SimulateConfig
from releve.simulate.covariates import FOOTPRINT
from releve.simulate.imagery import (
    BANDS,
    CLIMATE_VARIABLES,
    LANDSAT_YEARS,
    TextureBank,
    make_textures,
    monthly_climate,
    render_landsat,
    render_patches,
    to_jpeg_values,
)
from releve.simulate.layout import LAYOUTS, LayoutPaths, patch_path
from releve.simulate.records import Records, sample_records
from releve.simulate.species import Species, make_species
from releve.simulate.surveys import LATENTS, Draw, draw_presences, sample_landscape, sample_plots, visit_features
from releve.simulate.world import CLIMATE_YEARS, HEIGHT_DEG, SOUTH, WEST, World, make_world

LAEA_WKT = (
    'PROJCS["unknown",GEOGCS["unknown",DATUM["Unknown based on GRS80 ellipsoid",SPHEROID["GRS 1980",6378137,'
    '298.257222101]],PRIMEM["Greenwich",0],UNIT["degree",0.0174532925199433]],'
    'PROJECTION["Lambert_Azimuthal_Equal_Area"],PARAMETER["latitude_of_center",52],'
    'PARAMETER["longitude_of_center",10],PARAMETER["false_easting",4321000],'
    'PARAMETER["false_northing",3210000],UNIT["metre",1]]'
)
PATCH_SIZE_PX = {"glc24": 128, "glc25": 64}
FILL_VALUES = (127.0, 255.0, 31.75, 63.5, 2147483647.0, 536870911.75, -8.5e37)
PATCH_CHUNK = 48


@dataclass(frozen=True)
class SimulationSummary:
    """What was written, and the limit that no model can pass.

    Attributes
    ----------
    oracle_sf1
        Sample-averaged F1, on the test plots, of the sets drawn up from the true probabilities.
    oracle_sf1_by_stratum
        The same for test plots near train plots (``seen``), on held-back blocks, in unseen countries.
    """

    num_plots: int
    num_test_plots: int
    num_presences: int
    num_records: int
    num_record_surveys: int
    num_species: int
    mean_richness: float
    oracle_sf1: float
    oracle_sf1_by_stratum: dict[str, float]
    seconds: float


def simulate_release(config: SimulateConfig, out: Path) -> SimulationSummary:
    """Write a virtual release with known truth to ``out`` and return what it holds.

    The release is whole or absent: it is written to a folder beside ``out`` and renamed at the end.

    Parameters
    ----------
    config
        Sizes, layout, seed.
    out
        Folder to make; must not exist, or be empty.

    Raises
    ------
    ReleveError
        If ``out`` holds files already, or the disk fails.
    """
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ReleveError(f"{out} exists and is not empty", expected="a new folder", action="Remove it or name another")
    started = time.perf_counter()
    partial = out.with_name(f".{out.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        summary = write_release(config, partial, started=started)
        if out.exists():
            out.rmdir()
        partial.rename(out)
    except OSError as error:
        raise disk_error(error, out) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return summary


def write_release(config: SimulateConfig, out: Path, *, started: float) -> SimulationSummary:
    """Draw the world, its species, plots and records, and write all of it under ``out``."""
    names = ("world", "landscape", "species", "plots", "presences", "records", "ids", "tables", "imagery")
    streams = np.random.SeedSequence(config.seed).spawn(len(names))
    rng = {name: np.random.default_rng(stream) for name, stream in zip(names, streams, strict=True)}
    world = make_world(config, rng["world"])
    landscape = sample_landscape(world, 3_000, rng["landscape"])
    species = make_species(
        config.num_species, visit_features(world, landscape), rng["species"], richness=config.richness
    )
    plots = sample_plots(world, config, rng["plots"])
    records = sample_records(world, species, config, rng["records"])
    plots, records = give_ids(plots, records, rng["ids"])

    train, test = (plots.filter(pl.col("split") == split) for split in ("train", "test"))
    draws = {
        "train": draw_presences(
            species, visit_features(world, train), rng["presences"],
            keep_probabilities=not config.tables_only, with_oracle=False,
        ),
        "test": draw_presences(
            species, visit_features(world, test), rng["presences"], floor=1e-3 if config.tables_only else 1e-4
        ),
    }  # fmt: skip
    paths = LAYOUTS[config.layout]
    write_metadata(out, paths, species, train, test, draws["train"], records, rng["tables"])
    subsets = {"PA-train": train, "PA-test": test}
    if not config.tables_only:
        subsets["PO-train"] = records.surveys
        write_rasters(out, world)
    if "covariates" in config.modalities:
        for subset, visits in subsets.items():
            write_covariates(out, paths, world, subset, visits, rng["tables"])
    if not config.tables_only:
        write_imagery(out, paths, world, subsets, config, rng["imagery"])
    by_stratum = (
        test.select("stratum", f1=pl.Series(draws["test"].oracle_f1)).group_by("stratum").mean().sort("stratum").rows()
    )
    summary = SimulationSummary(
        num_plots=len(train),
        num_test_plots=len(test),
        num_presences=len(draws["train"].presences),
        num_records=len(records.records),
        num_record_surveys=len(records.surveys),
        num_species=config.num_species,
        mean_richness=round(len(draws["train"].presences) / len(train), 3),
        oracle_sf1=round(float(draws["test"].oracle_f1.mean()), 4),
        oracle_sf1_by_stratum={stratum: round(f1, 4) for stratum, f1 in by_stratum},
        seconds=round(time.perf_counter() - started, 1),
    )
    write_truth(out / "truth", species, {"train": train, "test": test}, draws, config, summary)
    return summary


def give_ids(plots: pl.DataFrame, records: Records, rng: np.random.Generator) -> tuple[pl.DataFrame, Records]:
    """Return plots and record surveys with distinct random ``surveyId``, sorted by it within each table."""
    total = len(plots) + len(records.surveys)
    ids = rng.permutation(max(4_000_000, 2 * total))[:total] + 1
    plots = plots.with_columns(surveyId=pl.Series(ids[: len(plots)])).sort(
        "split", "surveyId", descending=[True, False]
    )
    surveys = records.surveys.with_columns(surveyId=pl.Series(ids[len(plots) :]))
    return plots, Records(records=records.records, surveys=surveys)


def write_metadata(
    out: Path,
    paths: LayoutPaths,
    species: Species,
    train: pl.DataFrame,
    test: pl.DataFrame,
    draw: Draw,
    records: Records,
    rng: np.random.Generator,
) -> None:
    """Write the plots, the records and the sample submission with the official columns and flaws.

    A tenth of the plots' rows are written twice, half of those with another area.
    """
    columns = ["lon", "lat", "year", "geoUncertaintyInM", "areaInM2", "region", "country", "surveyId"]
    row, index = (draw.presences[name].to_numpy() for name in ("row", "species_index"))
    again = np.sort(np.concatenate([np.arange(len(row)), rng.choice(len(row), len(row) // 9, replace=False)]))
    rows = train.select(columns).select(pl.all().gather(row[again])).with_columns(
        speciesId=pl.Series(species.species_id[index[again]].astype(np.float64))
    )  # fmt: skip
    repeated = np.concatenate([[False], again[1:] == again[:-1]]) & (rng.random(len(again)) < 0.5)
    rows = rows.with_columns(areaInM2=pl.when(pl.Series(repeated)).then(10.0).otherwise(pl.col("areaInM2")))
    rows = rows.select(*columns[:-1], "speciesId", "surveyId")
    write_csv(rows, out / paths.pa_train)
    write_csv(test.select(columns), out / paths.pa_test)
    surveys = records.surveys.select(
        "publisher",
        "year",
        "month",
        "day",
        "lat",
        "lon",
        "geoUncertaintyInM",
        "date",
        "dayOfYear",
        "surveyId",
    )
    survey, chosen = (records.records[name].to_numpy() for name in ("survey", "species_index"))
    order = rng.permutation(len(survey))
    po = surveys.select(pl.all().gather(survey[order])).with_columns(
        taxonRank=pl.lit("SPECIES"), speciesId=pl.Series(species.species_id[chosen[order]].astype(np.float64))
    )
    po = po.select("publisher", "year", "month", "day", "lat", "lon", "geoUncertaintyInM", "taxonRank",
                   "date", "dayOfYear", "speciesId", "surveyId")  # fmt: skip
    write_csv(po, out / paths.po_train)
    common = np.sort(species.species_id[np.argsort(-species.prevalence)[:25]])
    guess = " ".join(str(number) for number in common)
    write_csv(test.select("surveyId", predictions=pl.lit(guess)), out / paths.submission)


def write_covariates(
    out: Path, paths: LayoutPaths, world: World, subset: str, visits: pl.DataFrame, rng: np.random.Generator
) -> None:
    """Write one CSV per family of covariates, with the fill values and gaps of the official tables."""
    row, col = visits["row"].to_numpy(), visits["col"].to_numpy()
    for family, path in paths.tables.items():
        names = [name for name in world.covariates if family_of(name) == family]
        values = {name: world.covariates[name][row, col].astype(np.float64) for name in names}
        if names == list(FOOTPRINT):
            values = leak_fill_values(values, rng)
        table = pl.DataFrame({"surveyId": visits["surveyId"]} | values).fill_nan(None)
        if family == "Bio":
            table = table.with_columns(pl.exclude("surveyId").cast(pl.Int32))
        write_csv(table, out / path.format(subset=subset))


def family_of(name: str) -> str:
    """Return the family of a covariate: ``Bio12`` is of ``Bio``, ``Soilgrid-clay`` of ``Soilgrid``."""
    return name.split("-")[0].rstrip("0123456789")


def leak_fill_values(
    values: Mapping[str, NDArray[np.float64]], rng: np.random.Generator
) -> dict[str, NDArray[np.float64]]:
    """Return the columns with fill values in a tenth of the rows, up to three each, as in the real tables."""
    leaked = {name: column.copy() for name, column in values.items()}
    num_rows = len(next(iter(values.values())))
    names = [name for name in values if "Roads" not in name and "HFP" not in name]
    for _ in range(3):
        rows = np.flatnonzero(rng.random(num_rows) < 0.04)
        for name, index in zip(rng.choice(names, len(rows)), rows, strict=True):
            leaked[name][index] = rng.choice(FILL_VALUES)
    return leaked


def write_imagery(
    out: Path,
    paths: LayoutPaths,
    world: World,
    subsets: Mapping[str, pl.DataFrame],
    config: SimulateConfig,
    rng: np.random.Generator,
) -> None:
    """Write Landsat, monthly climate and patches of each subset: cubes for plots, tables for records."""
    textures = make_textures(rng)
    for subset, visits in subsets.items():
        plots = subset != "PO-train"
        if "landsat" in config.modalities:
            series = render_landsat(visits, rng)
            if plots:
                write_cubes(out, paths.landsat_cube[subset], subset, visits, series)
            else:
                write_landsat_values(out, paths, subset, visits, series)
        if "climate" in config.modalities:
            cubes = monthly_climate(world, visits)
            if plots:
                write_cubes(out, paths.climate_cube, subset, visits, cubes)
            else:
                write_climate_values(out, paths, subset, visits, cubes)
        if "patch" in config.modalities and (plots or config.po_patches):
            write_patches(out, paths, subset, visits, textures, rng, size_px=PATCH_SIZE_PX[config.layout])


def write_cubes(out: Path, template: str, subset: str, visits: pl.DataFrame, cubes: NDArray[np.float32]) -> None:
    """Write one bare float32 tensor per survey."""
    tensors = torch.from_numpy(cubes)
    (out / template.format(subset=subset, id=0)).parent.mkdir(parents=True, exist_ok=True)
    for survey_id, tensor in zip(visits["surveyId"].to_list(), tensors, strict=True):
        torch.save(tensor.clone(), out / template.format(subset=subset, id=survey_id))


def write_landsat_values(
    out: Path, paths: LayoutPaths, subset: str, visits: pl.DataFrame, series: NDArray[np.float32]
) -> None:
    """Write one CSV per band with the quarters 2000_1 .. 2020_4; empty after the survey."""
    names = [f"{year}_{quarter}" for year in LANDSAT_YEARS for quarter in range(1, 5)]
    for index, band in enumerate(BANDS):
        flat = series[:, index].transpose(0, 2, 1).reshape(len(visits), -1)  # years, then quarters
        write_csv(whole_numbers(visits, names, flat), out / paths.landsat_values.format(subset=subset, band=band))


def write_climate_values(
    out: Path, paths: LayoutPaths, subset: str, visits: pl.DataFrame, cubes: NDArray[np.float32]
) -> None:
    """Write the monthly climate as one CSV: Bio-pr_01_2000, Bio-tas_01_2000, ..."""
    names = [
        f"Bio-{variable}_{month:02d}_{year}"
        for year in CLIMATE_YEARS
        for month in range(1, 13)
        for variable in CLIMATE_VARIABLES
    ]
    flat = cubes.transpose(0, 2, 3, 1).reshape(len(visits), -1)
    write_csv(whole_numbers(visits, names, flat), out / paths.climate_values.format(subset=subset))


def whole_numbers(visits: pl.DataFrame, names: Iterable[str], values: NDArray[np.float32]) -> pl.DataFrame:
    """Return surveyId and the columns as integers, null where NaN."""
    columns = {name: values[:, index] for index, name in enumerate(names)}
    table = pl.DataFrame({"surveyId": visits["surveyId"]} | columns)
    return table.with_columns(pl.exclude("surveyId").fill_nan(None).cast(pl.Int32))


def write_patches(
    out: Path,
    paths: LayoutPaths,
    subset: str,
    visits: pl.DataFrame,
    textures: TextureBank,
    rng: np.random.Generator,
    *,
    size_px: int,
) -> None:
    """Write the patches of a subset, a chunk per task on two threads, each with its own random stream."""
    starts = range(0, len(visits), PATCH_CHUNK)
    streams = rng.spawn(len(starts))
    for folder in {
        (out / patch_path(template, subset, survey_id)).parent
        for template in paths.patches.values()
        for survey_id in visits["surveyId"].to_list()
    }:
        folder.mkdir(parents=True, exist_ok=True)

    def write_chunk(start: int, stream: np.random.Generator) -> None:
        chunk = visits[start : start + PATCH_CHUNK]
        images = render_patches(chunk, textures, stream, size_px=size_px)
        for row, image in zip(chunk.select("surveyId", "lon", "lat").iter_rows(named=True), images, strict=True):
            for kind, template in paths.patches.items():
                PATCH_WRITERS[kind](image, out / patch_path(template, subset, row["surveyId"]))

    with ThreadPoolExecutor(max_workers=2) as pool:
        list(pool.map(write_chunk, starts, streams))


def write_rgb_jpeg(image: NDArray[np.float32], path: Path) -> None:
    """Write red, green, blue as an 8-bit JPEG."""
    Image.fromarray(np.moveaxis(to_jpeg_values(image[:3]), 0, -1)).save(path, format="JPEG", quality=90)


def write_nir_jpeg(image: NDArray[np.float32], path: Path) -> None:
    """Write the near infrared as a grey 8-bit JPEG."""
    Image.fromarray(to_jpeg_values(image[3])).save(path, format="JPEG", quality=90)


def write_tiff(image: NDArray[np.float32], path: Path) -> None:
    """Write four bands of int16 reflectance, LZW, pixel-interleaved, nodata -1, 10 m."""
    size = image.shape[1]
    with rasterio.open(
        path, "w", driver="GTiff", width=size, height=size, count=4, dtype="int16", nodata=-1, compress="lzw",
        interleave="pixel", blockysize=16, crs=LAEA_WKT, transform=from_origin(4_000_000, 2_700_000, 10, 10),
    ) as target:  # fmt: skip
        target.write(np.round(image).astype(np.int16))
        target.descriptions = ("red", "green", "blue", "nir")


PATCH_WRITERS = {"rgb": write_rgb_jpeg, "nir": write_nir_jpeg, "tiff": write_tiff}


def write_rasters(out: Path, world: World) -> None:
    """Write each covariate as a GeoTIFF (WGS84, float32, nodata NaN) under the name of its column."""
    folder = out / "EnvironmentalRasters" / "Rasters"
    folder.mkdir(parents=True)
    transform = from_origin(WEST, SOUTH + HEIGHT_DEG, world.cell_size_deg, world.cell_size_deg)
    height, width = world.land.shape

    def write_one(name: str) -> None:
        with rasterio.open(
            folder / f"{name}.tif", "w", driver="GTiff", width=width, height=height, count=1, dtype="float32",
            crs="EPSG:4326", transform=transform, nodata=float("nan"), compress="deflate", zlevel=1,
            tiled=True, blockxsize=256, blockysize=256,
        ) as target:  # fmt: skip
            target.write(world.covariates[name], 1)
            target.set_band_description(1, name)

    with ThreadPoolExecutor(max_workers=2) as pool:
        list(pool.map(write_one, world.covariates))


def write_truth(
    folder: Path,
    species: Species,
    plots: Mapping[str, pl.DataFrame],
    draws: Mapping[str, Draw],
    config: SimulateConfig,
    summary: SimulationSummary,
) -> None:
    """Write what only the maker of the world knows: solution, probabilities, niches, latents, oracle."""
    folder.mkdir(parents=True)
    for split, draw in draws.items():
        visits = plots[split]
        ids = visits["surveyId"]
        latents = visits.select(
            "surveyId", "lon", "lat", "year", "stratum", *LATENTS, "cut_year", "cut_quarter", "severity"
        )
        if split == "test":
            latents = latents.with_columns(oracle_f1=pl.Series(draw.oracle_f1))
        latents.write_parquet(folder / f"latents_{split}.parquet")
        if len(draw.probabilities):
            name_rows(draw.probabilities, ids, species).write_parquet(folder / f"probabilities_{split}.parquet")
    test = plots["test"]
    named = name_rows(draws["test"].presences, test["surveyId"], species)
    lists = named.group_by("surveyId", maintain_order=True).agg(
        target_species_ids=pl.col("speciesId").sort().cast(pl.String).str.join(" ")
    )
    solution = test.select("surveyId").join(lists, on="surveyId", how="left", maintain_order="left")
    write_csv(solution.with_columns(pl.col("target_species_ids").fill_null("")), folder / "test_solution.csv")
    species.table().write_parquet(folder / "species.parquet")
    write_json(folder / "truth.json", asdict(summary) | {"config": config.model_dump()})


def name_rows(sparse: pl.DataFrame, survey_ids: pl.Series, species: Species) -> pl.DataFrame:
    """Return a sparse frame with ``surveyId`` and ``speciesId`` in place of positions."""
    named = {
        "surveyId": survey_ids.gather(sparse["row"]),
        "speciesId": pl.Series(species.species_id[sparse["species_index"].to_numpy()]),
    }
    return pl.DataFrame(named | {name: sparse[name] for name in sparse.columns if name == "probability"})


def write_csv(table: pl.DataFrame, path: Path) -> None:
    """Write a CSV as the official ones are: commas, empty where missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    gaps = pl.selectors.float()
    table.with_columns(gaps.fill_nan(None)).write_csv(path)
