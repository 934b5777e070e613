"""Rasters beside a study's tables, and random places beside its records."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import rasterio
from tests.study.studies import CELL, NAMES, NORTH, WEST, make_study, write_layer

from releve.errors import ReleaseError
from releve.ingest.study import Study, open_source
from releve.predict.rasters import Rasters, sampler_for
from releve.store.build import build_store
from releve.store.config import DataConfig
from releve.store.contents import Contents, read_contents
from releve.store.random_places import NO_DATA
from releve.train.rows import weigh_silence


def read(path: Path, **data: object) -> Contents:
    settings: dict[str, object] = {"modalities": ("covariates",)} | data
    return read_contents(open_source(path), DataConfig.model_validate(settings))


def test_values_are_those_that_rasterio_samples_and_missing_where_it_has_none(tmp_path: Path) -> None:
    contents = read(make_study(tmp_path, num_plots=80))
    table = contents.covariates["train"].table
    places = contents.surveys["train"].table.select("lon", "lat").rows()
    for name in ("warmth", "wetness", "soil"):
        with rasterio.open(tmp_path / f"{name}.tif") as file:
            theirs = np.array([value[0] for value in file.sample(places)], np.float32)
        np.testing.assert_array_equal(table[name].to_numpy(), theirs)
    assert table["pH"].is_between(4, 8).all()
    assert contents.covariates["train"].categorical == ("soil",)
    assert contents.covariates["train"].groups["warmth"] == "rasters"


def test_plots_outside_the_rasters_are_counted_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = make_study(tmp_path, num_plots=40)
    plots = pl.read_csv(tmp_path / "plots.csv", glob=False)
    moved = pl.when(pl.col("plot") == "P-001").then(20.0).otherwise("lon").alias("lon")
    plots.with_columns(moved).write_csv(tmp_path / "plots.csv")
    contents = read(path)
    assert len(contents.surveys["train"].table) == 40
    assert contents.covariates["train"].not_covered == {"warmth": 1, "wetness": 1, "soil": 1}
    assert "1 of 40 places lie outside all rasters" in capsys.readouterr().err.replace("\n", " ")
    store = build_store(contents, None, tmp_path / "store")
    assert store.manifest.dropped["train covariates"]["warmth: no data in the raster"] == 1


def test_a_column_of_the_table_comes_before_the_raster_of_its_name_and_units_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path = make_study(tmp_path, num_plots=40)
    with rasterio.open(tmp_path / "warmth.tif") as file:
        plots = pl.read_csv(tmp_path / "plots.csv", glob=False)
        warmth = [value[0] for value in file.sample(plots.select("lon", "lat").rows())]
    plots.with_columns(Warmth=pl.Series(warmth) * 10).write_csv(tmp_path / "plots.csv")
    path.write_text(path.read_text().replace('["pH"]', '["pH", "Warmth"]'))
    table = read(path).covariates["train"].table
    assert set(table.columns) == {"survey_id", "pH", "Warmth", "wetness", "soil"}
    assert table["Warmth"].max() > 90
    said = capsys.readouterr().err.replace("\n", " ")
    assert "Warmth is in the tables and, as warmth, in the rasters" in said and "times 10" in said


def test_records_of_few_species_get_random_places_without_what_only_their_tables_know(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path = make_study(tmp_path, num_plots=0, num_records=100)
    records = pl.read_csv(tmp_path / "records.csv", glob=False)
    records.with_columns(height=pl.Series(np.arange(float(len(records))))).write_csv(tmp_path / "records.csv")
    text = path.read_text().replace('file = "records.csv"', 'file = "records.csv"\ncovariates = ["height"]')
    path.write_text(text.replace("[study]", "[study]\nbackground = 500", 1))
    contents = read(path, splits=(), records="po")
    surveys = contents.surveys["po"]
    is_random = surveys.table["survey_id"].str.starts_with("random ").to_numpy()
    assert is_random.sum() == 500 and not is_random[:-500].any()
    assert surveys.labels["row"].max() < len(surveys.table) - 500
    table = contents.covariates["po"].table
    assert "height" not in table.columns and not table["wetness"][-500:].is_nan().any()
    assert "known of the records alone" in capsys.readouterr().err.replace("\n", " ")
    store = build_store(contents, None, tmp_path / "store")
    rows = np.arange(len(store))
    trust = weigh_silence(store, rows[:0], rows[~is_random], "richness")
    assert (trust[is_random] == 1).all() and (trust[~is_random] < 1).any()


def test_what_is_missing_does_not_tell_random_places_from_records(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Three records lie in the rows of wetness.tif without data, one outside all rasters."""
    path = make_study(tmp_path, num_plots=0, num_records=100)
    records = pl.read_csv(tmp_path / "records.csv", glob=False)
    away = {"lon": [5.51, 5.91, 6.31, 30.01], "lat": [47.99, 47.99, 47.97, 47.53]}
    more = pl.DataFrame(away | {"species": [NAMES[0], NAMES[0], NAMES[1], NAMES[2]], "year": [2016] * 4})
    pl.concat([more, records]).write_csv(tmp_path / "records.csv")
    path.write_text(path.read_text().replace("[study]", "[study]\nbackground = 200", 1))
    contents = read(path, splits=(), records="po")
    found = contents.surveys["po"]
    assert not any(contents.covariates["po"].table[name].is_nan().any() for name in ("warmth", "wetness", "soil"))
    assert found.dropped[NO_DATA] == 4 and "4 of" in capsys.readouterr().err
    assert set(found.table["year"][-200:]) <= set(records["year"]) and found.table["year"].null_count() == 0
    named = dict(contents.species.rows()) if contents.species is not None else {}
    at = found.table.select("lon", "lat").rows()
    kept = {(*at[row], named[species]) for row, species in found.labels.rows()}
    assert kept <= set(records.select("lon", "lat", "species").rows()) and len(found.table) == 200 + len(
        {k[:2] for k in kept}
    )
    more.write_csv(tmp_path / "records.csv")
    with pytest.raises(ReleaseError, match="at none of 4 places of records do all rasters have a value"):
        read(path, splits=(), records="po")


def test_random_places_without_rasters_are_refused(tmp_path: Path) -> None:
    path = make_study(tmp_path, num_plots=0, num_records=50)
    text = path.read_text().partition("[[study.rasters]]")[0]
    path.write_text(text.replace("[study]", "[study]\nbackground = 500", 1))
    with pytest.raises(ReleaseError, match="500 random places and has no rasters"):
        read(path, splits=(), records="po")


def test_another_raster_under_the_same_name_is_another_store(tmp_path: Path) -> None:
    path = make_study(tmp_path, num_plots=30)
    first = read(path).fingerprint
    assert first == read(path).fingerprint
    (tmp_path / "warmth.tif").unlink()
    make_study(tmp_path / "other", num_plots=30, side=120)
    (tmp_path / "other" / "warmth.tif").rename(tmp_path / "warmth.tif")
    assert read(path).fingerprint != first


def test_names_of_species_are_those_of_the_study(tmp_path: Path) -> None:
    contents = read(make_study(tmp_path, num_plots=60))
    assert isinstance(open_source(tmp_path), Study) and contents.species is not None
    assert contents.species["name"].to_list() == sorted(NAMES)


def with_imagery(folder: Path) -> Path:
    """A study with pictures of 4 bands, and a raster of rain for each month of two years."""
    path = make_study(folder, num_plots=40)
    rng = np.random.default_rng(0)
    place = {"crs": "EPSG:4326", "transform": rasterio.transform.from_origin(WEST, NORTH, CELL, CELL)}
    size = {"driver": "GTiff", "height": 100, "width": 100, "dtype": "uint8"}
    with rasterio.open(folder / "picture.tif", "w", count=4, **size, **place) as file:
        file.write(rng.integers(1, 255, (4, 100, 100)).astype(np.uint8))
    for year in (2014, 2015):
        for month in range(1, 13):
            write_layer(
                folder / f"rain_{year}_{month:02d}.tif", np.full((100, 100), 100 * (year - 2013) + month, "int16")
            )
    lines = ["[study.patches]", 'file = "picture.tif"', "size_m = 20000", "size_px = 16"]
    lines += ["[[study.series]]", 'modality = "climate"', 'file = "{channel}_{year}_{season}.tif"']
    lines += ['channels = ["rain"]', "first_year = 2014", "last_year = 2015"]
    path.write_text(path.read_text() + "\n".join(lines) + "\n")
    return path


def test_patches_and_series_of_rasters_are_stored_and_are_those_that_new_places_get(tmp_path: Path) -> None:
    path = with_imagery(tmp_path)
    contents = read(path, modalities=("covariates", "climate", "patch"), patch_storage="encoded")
    store = build_store(contents, None, tmp_path / "store")
    rows = np.arange(len(store))
    assert store.arrays["patch"].spec.shape == (4, 16, 16)
    assert store.arrays["patch"].spec.channels == ("red", "green", "blue", "nir")
    rain = store.arrays["climate"]
    assert rain.spec.shape == (1, 2, 12) and rain.spec.first_year == 2014
    expected = np.array([[100 + month for month in range(1, 13)], [200 + month for month in range(1, 13)]])
    np.testing.assert_array_equal(rain.gather(rows), np.broadcast_to(expected, (40, 1, 2, 12)))
    study = open_source(path)
    assert isinstance(study, Study)
    arrays = Rasters(study.config, study.root).arrays(
        store.surveys.select("survey_id", "lon", "lat"), ("patch", "climate")
    )
    for name in ("patch", "climate"):
        np.testing.assert_array_equal(arrays[name].gather(rows), store.arrays[name].gather(rows))
    before = contents.fingerprint
    write_layer(tmp_path / "rain_2014_01.tif", np.zeros((120, 120), "int16"))
    assert read(path, modalities=("covariates", "climate", "patch")).fingerprint != before


def test_layers_that_teach_nothing_are_said(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = make_study(tmp_path, num_plots=40)
    with rasterio.open(tmp_path / "warmth.tif") as file:
        warmth = file.read(1)
    write_layer(tmp_path / "kelvin.tif", (warmth + 273.15).astype(np.float32))
    write_layer(tmp_path / "flat.tif", np.full((100, 100), 7, np.float32))
    write_layer(tmp_path / "void.tif", np.full((100, 100), -9999, np.float32), nodata=-9999)
    text = path.read_text().replace('["warmth.tif", ', '["kelvin.tif", "flat.tif", "void.tif", "warmth.tif", ')
    path.write_text(text)
    contents = read(path)
    said = capsys.readouterr().err.replace("\n", " ")
    assert "no place has a value in void" in said
    assert "all places have the same value in flat" in said
    assert "kelvin and warmth tell the same" in said
    assert contents.covariates["train"].not_covered["void"] == 40


def test_records_whose_table_lacks_a_column_get_the_rasters_value_if_the_unit_is_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Plots have warmth as measured, but for one of them; the records have coordinates alone."""
    path = make_study(tmp_path, num_plots=40, num_records=60)
    plots = pl.read_csv(tmp_path / "plots.csv", glob=False)
    with rasterio.open(tmp_path / "warmth.tif") as file:
        warmth = pl.Series([float(value[0]) for value in file.sample(plots.select("lon", "lat").rows())])
    told = pl.when(pl.col("plot") != "P-003").then(warmth + 0.01)
    path.write_text(path.read_text().replace('["pH"]', '["pH", "warmth"]'))
    for factor, is_filled in ((1, True), (10, False)):
        plots.with_columns(warmth=told * factor).write_csv(tmp_path / "plots.csv")
        contents = read(path, records="po")
        table, of_records = contents.covariates["train"].table, contents.covariates["po"].table
        first = plots.with_columns(warmth=warmth).unique("plot", maintain_order=True)
        expected = first.with_columns(
            warmth=pl.when(pl.col("plot") != "P-003").then((pl.col("warmth") + 0.01) * factor).otherwise("warmth")
        )["warmth"].to_numpy()
        is_told = (table["survey_id"] != "P-003").to_numpy()
        np.testing.assert_allclose(table["warmth"].to_numpy()[is_told], expected[is_told], rtol=1e-6)
        assert np.isnan(table["warmth"].to_numpy()[~is_told]).all() != is_filled
        said = capsys.readouterr().err.replace("\n", " ")
        assert ("the raster's where they have none" in said) == is_filled
        if not is_filled:
            assert "warmth" not in of_records.columns
            continue
        assert table["warmth"].to_numpy()[~is_told] == pytest.approx(expected[~is_told])
        with rasterio.open(tmp_path / "warmth.tif") as file:
            places = contents.surveys["po"].table.select("lon", "lat").rows()
            theirs = np.array([value[0] for value in file.sample(places)], np.float32)
        np.testing.assert_array_equal(of_records["warmth"].to_numpy(), theirs)


def test_shares_of_classes_are_numbers_not_classes(tmp_path: Path) -> None:
    path = make_study(tmp_path, num_plots=40)
    path.write_text(path.read_text().replace("categorical = true", 'method = "share"\nradius_m = 9000'))
    covariates = read(path).covariates["train"]
    shares = covariates.table.select("soil=0", "soil=1", "soil=2").to_numpy()
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-6)
    assert ((shares > 0) & (shares < 1)).any() and covariates.categorical == ()


def name_classes(raster: Path, names: dict[int, str]) -> None:
    """Write an attribute table beside a raster."""
    rows = "".join(f'<Row index="{i}"><F>{c}</F><F>{n}</F></Row>' for i, (c, n) in enumerate(names.items()))
    fields = "<FieldDefn index='0'><Name>Value</Name><Type>0</Type><Usage>5</Usage></FieldDefn>"
    fields += "<FieldDefn index='1'><Name>Class</Name><Type>2</Type><Usage>2</Usage></FieldDefn>"
    table = f"<GDALRasterAttributeTable>{fields}{rows}</GDALRasterAttributeTable>"
    Path(f"{raster}.aux.xml").write_text(f'<PAMDataset><PAMRasterBand band="1">{table}</PAMRasterBand></PAMDataset>')


def test_classes_of_tables_and_rasters_are_the_same_by_their_names_never_by_their_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """soil.tif has 0 loam, 1 sand and 2 clay; in words, by their order, clay is 0, loam 1 and sand 2."""
    path = make_study(tmp_path, num_plots=40, num_records=60)
    plots = pl.read_csv(tmp_path / "plots.csv", glob=False)
    with rasterio.open(tmp_path / "soil.tif") as file:
        words = [["loam", "sand", "clay"][value[0]] for value in file.sample(plots.select("lon", "lat").rows())]
    plots.with_columns(soil=pl.Series(words)).write_csv(tmp_path / "plots.csv")
    path.write_text(path.read_text().replace('["pH"]', '["pH", "soil"]'))
    contents = read(path, records="po")
    assert contents.covariates["train"].classes["soil"] == {0: "clay", 1: "loam", 2: "sand"}
    assert (
        "soil" not in contents.covariates["po"].table.columns or contents.covariates["po"].table["soil"].is_nan().all()
    )
    assert "does not name its classes" in capsys.readouterr().err.replace("\n", " ")
    name_classes(tmp_path / "soil.tif", {0: "Loam", 1: "sand", 2: "clay"})
    contents = read(path, records="po")
    with rasterio.open(tmp_path / "soil.tif") as file:
        places = contents.surveys["po"].table.select("lon", "lat").rows()
        codes = [[1, 2, 0][value[0]] for value in file.sample(places)]
    assert contents.covariates["po"].table["soil"].to_list() == codes
    assert contents.covariates["po"].categorical == ("soil",)
    known = {"soil": {0: "clay", 1: "loam", 4: "rock"}}
    layers = Rasters(open_source(path).config, tmp_path).layers
    sample = sampler_for(layers, ["soil"], known)
    assert sample is not None
    found = sample(contents.surveys["po"].table, ["soil"])["soil"]
    np.testing.assert_array_equal(found, np.where(np.array(codes) == 2, np.nan, codes))
    assert "no class that the run knows by its name" in capsys.readouterr().err.replace("\n", " ")


def test_a_split_without_columns_of_covariates_is_not_said_to_go_without_the_rasters(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """The plots have a column pH, the records have none."""
    contents = read(make_study(tmp_path, num_plots=30, num_records=60), splits=("train",), records="po")
    assert contents.covariates["po"].table["warmth"].is_not_nan().all()
    said = capsys.readouterr().err.replace("\n", " ")
    assert "split 'po' has no covariates in tables" in said and "go without" not in said
