"""Patches and series that are cut from rasters go through store, statistics and batches as those of files do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import torch

from rasters.fakes import CENTRE, LAEA, write_raster
from releve.data.gather import Gatherer
from releve.data.statistics import measure_statistics
from releve.ingest.config import PatchConfig, SeriesConfig
from releve.ingest.rows import SURVEY_SCHEMA
from releve.ingest.surveys import Surveys
from releve.models.patches import PatchEncoder
from releve.models.series import YearsEncoder
from releve.prepare.config import SplitConfig
from releve.rasters.patches import raster_patches
from releve.rasters.series import raster_series
from releve.store.build import build_store
from releve.store.contents import Contents
from releve.store.read import Store

NUM_SURVEYS = 300
FILL = -(2.0**100)


def make_surveys() -> Surveys:
    """Return surveys on 2 x 2 degrees round 10 east, 52 north, three species each, in no order on the ground."""
    rng = np.random.default_rng(0)
    columns = {"survey_id": [f"plot {i:03d}" for i in range(NUM_SURVEYS)], "year": [2001] * NUM_SURVEYS}
    columns |= {"lon": rng.uniform(9, 11, NUM_SURVEYS).tolist(), "lat": rng.uniform(51, 53, NUM_SURVEYS).tolist()}
    table = pl.DataFrame({name: columns.get(name, [None] * NUM_SURVEYS) for name in SURVEY_SCHEMA}, SURVEY_SCHEMA)
    species = np.concatenate([np.sort(rng.choice(9, 3, replace=False)) for _ in range(NUM_SURVEYS)])
    labels = pl.DataFrame({"row": np.repeat(np.arange(NUM_SURVEYS), 3), "species_id": species})
    return Surveys(table, labels.cast({"row": pl.UInt32, "species_id": pl.Int64}), {}, {}, {})


def make_rasters(folder: Path) -> None:
    """Write an image and eight rasters of rain, in small numbers; west of 9.5 there is no rain gauge."""
    x, y = CENTRE
    rng = np.random.default_rng(1)
    image = rng.integers(1, 250, (3, 600, 300)).astype("uint16")
    write_raster(folder / "image.tif", image, crs=LAEA, west=x - 60_000, north=y + 120_000, cell=400.0)
    for step in range(8):
        rain = rng.gamma(2.0, 1e-7, (20, 20)).astype("float32")
        rain[:, :5] = np.nan
        write_raster(folder / f"rain_{2000 + step // 4}_{step % 4 + 1}.tif", rain, west=9.0, north=53.0, cell=0.1)


def make_store(folder: Path, *, storage: str = "raw") -> Store:
    surveys = make_surveys()
    patch = raster_patches(PatchConfig(file="image.tif", size_m=6400.0, size_px=16), folder, "train", surveys.table)
    described = SeriesConfig(
        modality="landsat", file="{channel}_{year}_{season}.tif", channels=("rain",), first_year=2000, last_year=2001
    )
    series = raster_series(described, folder, "train", surveys.table)
    contents = Contents(
        {"train": surveys},
        kind="study",
        origin="a study",
        recipe={"data": {"patch_storage": storage}},
        fingerprint="0",
        sources={"patch": {"train": patch}, "landsat": {"train": series}},  # type: ignore[dict-item]
    )
    return build_store(contents, SplitConfig(num_folds=2, block_size_km=20, buffer_km=1), folder / "store")


def test_what_is_cut_from_rasters_is_stored_row_by_row_and_learned_from(tmp_path: Path) -> None:
    make_rasters(tmp_path)
    store = make_store(tmp_path, storage="encoded")
    table = store.surveys
    rain = store.arrays["landsat"]
    on_gauges = (table["lon"] >= 9.5).to_numpy()
    np.testing.assert_array_equal(rain.row_of >= 0, on_gauges)
    assert rain.spec.first_year == 2000 and (rain.spec.dtype, rain.spec.fill) == ("float32", FILL)
    patch = store.arrays["patch"]
    assert patch.spec.encoding == "raw" and patch.spec.first_year is None and patch.spec.dtype == "int32"
    assert 0 < (patch.row_of >= 0).sum() < NUM_SURVEYS
    source = raster_patches(
        PatchConfig(file="image.tif", size_m=6400.0, size_px=16), tmp_path, "train", make_surveys().table
    )
    position = {name: row for row, name in enumerate(make_surveys().table["survey_id"])}
    wanted = {
        int(row): value for chunk in source.chunks(7) for row, value in zip(chunk.rows, chunk.values, strict=True)
    }
    for row in range(0, NUM_SURVEYS, 9):
        own, here = int(patch.row_of[row]), position[table["survey_id"][row]]
        assert (own >= 0) == (here in wanted)
        if own >= 0:
            np.testing.assert_array_equal(patch.values[own], wanted[here])
    assert {problem["modality"] for problem in store.manifest.problems} == {"landsat"}

    rows = np.arange(NUM_SURVEYS)
    found = measure_statistics(store, rows, ("landsat", "patch"), rng=np.random.default_rng(0)).arrays
    stored = rain.values[rain.row_of[rain.row_of >= 0]]
    known = stored[stored != FILL].astype(float)
    np.testing.assert_allclose(found["landsat"].mean, [known.mean()])
    np.testing.assert_allclose(found["landsat"].std, [known.std()], rtol=1e-6)
    batch = Gatherer(store, ("landsat", "patch"), {}).batch(rows[:64])
    at = batch.places["landsat"]
    torch.manual_seed(0)
    years = YearsEncoder(found["landsat"], 8, 16, 2)
    of_rain = years(batch.values["landsat"], batch.year[at], batch.month[at])
    assert of_rain.isfinite().all() and float(of_rain.std(dim=0).detach().min()) > 1e-3
    at = batch.places["patch"]
    pictures = PatchEncoder(found["patch"])(batch.values["patch"], batch.year[at], batch.month[at])
    assert pictures.isfinite().all()
