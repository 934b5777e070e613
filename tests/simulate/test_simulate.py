"""One small world, written once per layout and read back with other tools."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import rasterio
import torch
from PIL import Image
from pydantic import ValidationError

from releve.errors import ReleveError
from releve.simulate.config import SimulateConfig
from releve.simulate.covariates import BIOCLIM, FOOTPRINT, MODIS, OSM, SOIL
from releve.simulate.layout import id_folder
from releve.simulate.world import TEST_ONLY_COUNTRIES, make_world
from releve.simulate.write import simulate_release

SMALL = SimulateConfig(num_plots=120, num_test_plots=40, num_records=600, num_species=40, richness=8, cell_size_deg=0.1)
CUBES = Path("TimeSeries-Cubes/TimeSeries-Cubes")
TABLES = Path("EnvironmentalRasters/EnvironmentalRasters")


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    out = tmp_path_factory.mktemp("sim") / "glc24"
    return out, simulate_release(SMALL, out)


@pytest.fixture(scope="module")
def release25(tmp_path_factory):
    out = tmp_path_factory.mktemp("sim") / "glc25"
    return out, simulate_release(SMALL.model_copy(update={"layout": "glc25", "po_patches": True}), out)


def read_latents(out, split):
    return pl.read_parquet(out / f"truth/latents_{split}.parquet")


def test_metadata_has_the_official_columns_and_flaws(release):
    out, summary = release
    train = pl.read_csv(out / "GLC24_PA_metadata_train.csv")
    test = pl.read_csv(out / "GLC24_PA_metadata_test.csv")
    po = pl.read_csv(out / "GLC24_P0_metadata_train.csv")
    plot_columns = "lon,lat,year,geoUncertaintyInM,areaInM2,region,country"
    assert ",".join(train.columns) == plot_columns + ",speciesId,surveyId"
    assert ",".join(test.columns) == plot_columns + ",surveyId"
    assert ",".join(po.columns) == (
        "publisher,year,month,day,lat,lon,geoUncertaintyInM,taxonRank,date,dayOfYear,speciesId,surveyId"
    )
    assert (out / "GLC24_PA_metadata_train.csv").read_text().splitlines()[1].split(",")[7].endswith(".0")
    pairs = train.select("surveyId", "speciesId")
    assert len(pairs.unique()) == summary.num_presences
    assert 0.08 < 1 - len(pairs.unique()) / len(pairs) < 0.12  # a tenth of the rows are there twice
    assert len(po) == summary.num_records == 600
    assert po["surveyId"].n_unique() == summary.num_record_surveys < 600  # some surveys hold several records
    assert not set(po["surveyId"]) & (set(train["surveyId"]) | set(test["surveyId"]))
    # the sample submission and the solution cover the test plots
    submission = pl.read_csv(out / "GLC24_SAMPLE_SUBMISSION.csv")
    assert submission.columns == ["surveyId", "predictions"]
    solution = pl.read_csv(out / "truth/test_solution.csv")
    assert solution["surveyId"].to_list() == test["surveyId"].to_list() == submission["surveyId"].to_list()


def test_dates_of_records_agree_with_their_parts(release):
    po = pl.read_csv(release[0] / "GLC24_P0_metadata_train.csv", try_parse_dates=True)
    date = pl.col("date")
    agrees = po.select(
        (date.dt.year() == pl.col("year"))
        & (date.dt.month() == pl.col("month"))
        & (date.dt.day() == pl.col("day"))
        & (date.dt.ordinal_day() == pl.col("dayOfYear"))
    )
    assert agrees.to_series().all()


def test_test_countries_and_blocks_hold_no_train_plot(release):
    out, _ = release
    train = pl.read_csv(out / "GLC24_PA_metadata_train.csv").unique("surveyId")
    assert not set(train["country"]) & set(TEST_ONLY_COUNTRIES)
    strata = read_latents(out, "test")
    assert strata["stratum"].value_counts().sort("stratum").rows() == [("block", 10), ("country", 10), ("seen", 20)]

    def blocks(table):
        return {(lon // 0.5, lat // 0.5) for lon, lat in table.select("lon", "lat").iter_rows()}

    assert not blocks(train) & blocks(strata.filter(pl.col("stratum") != "seen"))


@pytest.mark.parametrize(
    ("path", "columns"),
    [
        ("Climate/Average 1981-2010/GLC24-PA-train-bioclimatic.csv", BIOCLIM),
        ("Elevation/GLC24-PA-test-elevation.csv", ("Elevation",)),
        ("Human Footprint/GLC24-PA-train-human_footprint.csv", FOOTPRINT),
        ("LandCover/GLC24-PO-train-landcover.csv", ("LandCover",)),
        ("SoilGrids/GLC24-PA-test-soilgrids.csv", SOIL),
    ],
)
def test_covariate_tables_have_the_official_names(release, path, columns):
    table = pl.read_csv(release[0] / TABLES / path)
    assert tuple(table.columns) == ("surveyId", *columns)
    summary = release[1]
    rows = {"PA-train": 120, "PA-test": 40, "PO-train": summary.num_record_surveys}
    assert len(table) == next(number for subset, number in rows.items() if subset in path)


def test_footprint_leaks_fill_values_and_bioclim_is_whole(release):
    footprint = pl.read_csv(release[0] / TABLES / "Human Footprint/GLC24-PA-train-human_footprint.csv")
    sums = ("HumanFootprint-HFP1993", "HumanFootprint-HFP2009")
    outside = footprint.select(pl.exclude("surveyId", *sums)).to_numpy()
    wrong_rows = ((outside > 10) | (outside < 0)).any(axis=1).mean()
    assert 0.03 < wrong_rows < 0.25
    climate = pl.read_csv(release[0] / TABLES / "Climate/Average 1981-2010/GLC24-PA-train-bioclimatic.csv")
    assert set(climate.dtypes) == {pl.Int64}
    assert climate["Bio1"].is_between(2600, 3000).all()  # K x 10


def test_cubes_are_bare_float32_tensors_cut_after_the_visit(release):
    out, _ = release
    train = pl.read_csv(out / "GLC24_PA_metadata_train.csv").unique("surveyId")
    for survey_id, year in train.select("surveyId", "year").head(20).iter_rows():
        name = f"GLC24-PA-train-landsat-time-series_{survey_id}_cube.pt"
        cube = torch.load(out / CUBES / "GLC24-PA-train-landsat_time_series" / name, weights_only=True)
        assert cube.shape == (6, 4, 21) and cube.dtype == torch.float32
        missing = torch.isnan(cube)
        assert not missing[:, :, : year - 2000].any()  # whole years before the visit are there
        assert missing[:, :, year - 2000 + 1 :].all()  # and none after it
        if year <= 2020:
            assert not missing[:, :2, year - 2000].any() and missing[:, 3, year - 2000].all()
        seen = cube[~missing]
        assert seen.min() >= 0 and seen.max() <= 255
        name = f"GLC24-PA-train-bioclimatic_monthly_{survey_id}_cube.pt"
        climate = torch.load(out / CUBES / "GLC24-PA-train-bioclimatic_monthly" / name, weights_only=True)
        assert climate.shape == (4, 19, 12) and climate.dtype == torch.float32
        assert (climate[3] <= climate[1]).all() and (climate[1] <= climate[2]).all()  # tasmin, tas, tasmax
    test_names = [path.name for path in (out / CUBES / "GLC24-PA-test-landsat_time_series").iterdir()]
    assert len(test_names) == 40 and all("-landsat_time_series_" in name for name in test_names)


def test_series_of_records_are_tables(release):
    out, summary = release
    red = pl.read_csv(out / "PO-train-landsat_time_series/GLC24-PO-train-landsat_time_series-red.csv")
    assert red.shape == (summary.num_record_surveys, 85)
    assert red.columns[:3] == ["surveyId", "2000_1", "2000_2"] and red.columns[-1] == "2020_4"
    climate = pl.read_csv(out / TABLES / "Climate/Monthly/GLC24-PO-train-bioclimatic_monthly.csv")
    assert climate.shape == (summary.num_record_surveys, 913)
    assert climate.columns[1:6] == [
        "Bio-pr_01_2000", "Bio-tas_01_2000", "Bio-tasmax_01_2000", "Bio-tasmin_01_2000", "Bio-pr_02_2000",
    ]  # fmt: skip


def test_jpeg_patches_are_official(release):
    out, _ = release
    survey_id = pl.read_csv(out / "GLC24_PA_metadata_test.csv")["surveyId"][0]
    folder = id_folder(survey_id)
    rgb = Image.open(out / f"PA_Test_SatellitePatches_RGB/pa_test_patches_rgb/{folder}/{survey_id}.jpeg")
    nir = Image.open(out / f"PA_Test_SatellitePatches_NIR/pa_test_patches_nir/{folder}/{survey_id}.jpeg")
    assert (rgb.mode, rgb.size, nir.mode, nir.size) == ("RGB", (128, 128), "L", (128, 128))
    assert len(list((out / "PA_Train_SatellitePatches_RGB").rglob("*.jpeg"))) == 120
    # near the official means of 79, 83, 71 and 146
    assert 55 < np.asarray(rgb).mean() < 110 and 110 < np.asarray(nir).mean() < 175


def test_rasters_agree_with_the_tables(release):
    out, _ = release
    plots = pl.read_csv(out / "GLC24_PA_metadata_test.csv")
    table = plots.join(pl.read_csv(out / TABLES / "Elevation/GLC24-PA-test-elevation.csv"), on="surveyId")
    with rasterio.open(out / "EnvironmentalRasters/Rasters/Elevation.tif") as raster:
        assert raster.crs.to_epsg() == 4326 and raster.shape == (100, 120)
        sampled = [value[0] for value in raster.sample(plots.select("lon", "lat").rows())]
    assert np.array_equal(sampled, table["Elevation"])
    assert len(list((out / "EnvironmentalRasters/Rasters").glob("*.tif"))) == 19 + 1 + 16 + 1 + 9


def test_glc25_has_its_own_names_tiffs_and_columns(release25):
    out, summary = release25
    assert (out / "GLC25_P0_metadata_train.csv").exists()
    assert len(list((out / "SatelitePatches/PA-train").rglob("*.tiff"))) == 120
    assert len(list((out / "SatelitePatches/PO-train").rglob("*.tiff"))) == summary.num_record_surveys
    with rasterio.open(next((out / "SatelitePatches/PA-train").rglob("*.tiff"))) as patch:
        assert (patch.count, patch.shape, patch.dtypes[0], patch.nodata) == (4, (64, 64), "int16", -1)
        assert patch.descriptions == ("red", "green", "blue", "nir")
        assert 100 < patch.read().mean() < 4000
    names = {
        "HumanFootprint/GLC25-PA-train-human_footprint.csv": OSM,
        "LandCover/GLC25-PA-test-landcover.csv": MODIS,
        "SoilGrids/GLC25-PO-train-soilgrids.csv": SOIL,
    }
    for path, columns in names.items():
        assert tuple(pl.read_csv(out / "EnvironmentalValues" / path).columns) == ("surveyId", *columns)
    cubes = out / "SateliteTimeSeries-Landsat/cubes"
    assert len(list((cubes / "PA-train").glob("GLC25-PA-train-landsat-time-series_*_cube.pt"))) == 120
    assert len(list((cubes / "PA-test").glob("GLC25-PA-test-landsat_time_series_*_cube.pt"))) == 40
    assert len(list((out / "BioclimTimeSeries/cubes/PA-test").glob("*_cube.pt"))) == 40


def test_truth_holds_probabilities_latents_and_the_limit(release):
    out, summary = release
    truth = json.loads((out / "truth/truth.json").read_text())
    assert truth["oracle_sf1"] == summary.oracle_sf1 and truth["config"]["num_species"] == 40
    species = pl.read_parquet(out / "truth/species.parquet")
    assert species["speciesId"].n_unique() == 40 and species["speciesId"].max() < 11_255
    assert (species["speciesId"].diff().drop_nulls() > 1).any()  # ids have gaps, as the official ones
    for split, number in (("train", 120), ("test", 40)):
        probabilities = pl.read_parquet(out / f"truth/probabilities_{split}.parquet")
        assert probabilities["probability"].is_between(1e-4, 1).all()
        assert probabilities["surveyId"].n_unique() == number == len(read_latents(out, split))


def test_same_seed_writes_the_same_bytes_and_another_seed_does_not(release, tmp_path):
    out, _ = release
    config = SMALL.model_copy(update={"modalities": ("covariates",)})
    simulate_release(config, tmp_path / "same")
    simulate_release(config.model_copy(update={"seed": 1}), tmp_path / "other")
    tables = sorted(path.relative_to(tmp_path / "same") for path in (tmp_path / "same").rglob("*.csv"))
    assert len(tables) == 4 + 3 * 5 + 1
    for path in tables:
        assert (tmp_path / "same" / path).read_bytes() == (out / path).read_bytes(), path
        assert (tmp_path / "same" / path).read_bytes() != (tmp_path / "other" / path).read_bytes(), path


def test_tables_only_writes_metadata_covariates_and_truth(tmp_path):
    simulate_release(SMALL.model_copy(update={"tables_only": True}), tmp_path / "out")
    suffixes = {path.suffix for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert suffixes == {".csv", ".parquet", ".json"}
    assert not list((tmp_path / "out").rglob("*PO-train*"))


def test_an_existing_folder_is_refused_and_kept(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(ReleveError, match="not empty"):
        simulate_release(SMALL, tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "keep"


def test_nothing_is_left_when_writing_fails(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("releve.simulate.write.write_rasters", fail)
    with pytest.raises(ReleveError, match="No space left"):
        simulate_release(SMALL, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("bad", [{"num_plots": 0}, {"num_species": 20_000}, {"layout": "glc22"}, {"colour": 1}])
def test_impossible_settings_are_refused(bad):
    with pytest.raises(ValidationError):
        SimulateConfig(**bad)


def test_countries_regions_and_sea_are_there():
    world = make_world(SMALL, np.random.default_rng(0))
    assert 0.6 < world.land.mean() < 0.95
    assert set(np.unique(world.country[world.land])) == set(range(6))
    assert np.isnan(world.covariates["Bio1"][~world.land]).all()
    assert (world.effort[~world.land] == 0).all()
