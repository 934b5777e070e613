from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from nceas.regions import edit, write, write_region
from releve.errors import ReleaseError, TableError
from releve.nceas.data import Region, drop_near_tests, find_regions, read_region
from releve.nceas.tables import aligned_plots, kilometres

REAL = Path(__file__).parents[3] / "shared" / "data" / "nceas"


def read(folder: Path) -> Region:
    return read_region(find_regions(folder)[0])


def arrays(region: Region) -> list[np.ndarray]:
    sites = [region.sites, region.background, *(test.sites for test in region.tests)]
    out = [array for place in sites for array in (place.xy_km, place.continuous_NC, place.codes_NK)]
    return [*out, region.found_NS, region.site_group, *(test.present_NS for test in region.tests)]


def test_a_region_is_read_with_its_groups_sites_and_plots(tmp_path: Path) -> None:
    write_region(tmp_path)
    region = read(tmp_path)
    assert (region.name, region.groups) == ("XX", ("bird", "plant"))
    assert region.species == ("xx01", "xx02", "xx03", "xx04", "xx05")
    assert region.species_group.tolist() == [0, 0, 0, 1, 1]
    assert [test.species.tolist() for test in region.tests] == [[0, 1, 2], [3, 4]]
    assert region.covariates == ("disturb", "rain", "temperature")  # few whole numbers keep their order
    assert (region.categorical, region.num_codes) == (("ontveg", "disturb"), (3, 3))
    assert "covariate flat dropped: constant over the background" in region.notes
    own = region.site_group[:, None] == region.species_group
    assert not region.found_NS[~own].any() and region.found_NS.any(1).all()


def test_records_of_several_species_at_one_place_are_one_site(tmp_path: Path) -> None:
    folder = write_region(tmp_path)
    po = pl.read_parquet(folder / "XXtrain_po.parquet")
    twice = po.filter(pl.col("spid") == "xx01").head(2)
    write(folder / "XXtrain_po.parquet", pl.concat([po, twice, twice.with_columns(spid=pl.lit("xx03"))]))
    region = read(tmp_path)
    assert len(region.sites) == po.select("group", "x", "y").n_unique()
    for x, y in twice.select("x", "y").iter_rows():
        row = np.flatnonzero((region.sites.xy_km == [x / 1000, y / 1000]).all(1) & (region.site_group == 0))
        assert len(row) == 1 and region.found_NS[row[0], [0, 2]].all()


def test_the_order_of_the_records_does_not_matter(tmp_path: Path) -> None:
    folder = write_region(tmp_path)
    before = read(tmp_path)
    po = pl.read_parquet(folder / "XXtrain_po.parquet")
    write(folder / "XXtrain_po.parquet", po.sample(fraction=1, shuffle=True, seed=1))
    for one, other in zip(arrays(before), arrays(read(tmp_path)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_csv_and_parquet_give_the_same_region(tmp_path: Path) -> None:
    write_region(tmp_path / "a")
    write_region(tmp_path / "b", suffix="csv")
    for one, other in zip(arrays(read(tmp_path / "a")), arrays(read(tmp_path / "b")), strict=True):
        np.testing.assert_array_equal(one, other)


def test_plots_in_another_order_are_put_right_and_noted(tmp_path: Path) -> None:
    folder = write_region(tmp_path)
    before = read(tmp_path)
    path = folder / "XXtest_pa_bird.parquet"
    write(path, pl.read_parquet(path).sample(fraction=1, shuffle=True, seed=3))
    after = read(tmp_path)
    np.testing.assert_array_equal(before.tests[0].present_NS, after.tests[0].present_NS)
    assert any("put in the order of" in note for note in after.notes)


def test_plots_are_aligned_by_hand() -> None:
    env = pl.DataFrame({"siteid": [7, 8, 9]})
    pa = pl.DataFrame({"siteid": ["9", "7.0", "8"], "a": [1, 0, 1]})
    aligned, moved = aligned_plots(env, pa, Path("env"), Path("pa"))
    assert moved and aligned["a"].to_list() == [0, 1, 1]
    repeated = pl.DataFrame({"siteid": [7, 7, 9], "a": [1, 0, 1]})
    same, moved = aligned_plots(repeated.select("siteid"), repeated, Path("env"), Path("pa"))
    assert not moved and same["a"].to_list() == [1, 0, 1]


@pytest.mark.parametrize("others", [[7, 8, 10], [7, 8], [7, 8, 9, 9], [7, 8, None]])
def test_other_plots_are_refused(others: list[int | None]) -> None:
    with pytest.raises(TableError, match="the same siteid in both"):
        aligned_plots(pl.DataFrame({"siteid": [9, 8, 7]}), pl.DataFrame({"siteid": others}), Path("env"), Path("pa"))


def test_degrees_and_metres_become_kilometres() -> None:
    metres = pl.DataFrame({"x": [2_500_000.0, 2_503_000.0], "y": [6_000_000.0, 6_004_000.0]})
    assert np.linalg.norm(np.diff(kilometres([metres])(metres), axis=0)) == pytest.approx(5)
    degrees = pl.DataFrame({"x": [-83.0, -83.0], "y": [42.0, 43.0]})
    assert np.linalg.norm(np.diff(kilometres([degrees])(degrees), axis=0)) == pytest.approx(111.1, abs=0.3)


def test_a_code_that_training_lacks_is_tolerated(tmp_path: Path) -> None:
    folder = write_region(tmp_path)
    edit(folder / "XXtest_env_bird.parquet", pl.lit(99).alias("ontveg"))
    assert (read(tmp_path).tests[0].sites.codes_NK[:, 0] == -1).all()


def test_missing_values_become_the_median_and_are_noted(tmp_path: Path) -> None:
    folder = write_region(tmp_path)
    edit(folder / "XXtest_env_bird.parquet", pl.lit(None, pl.Float64).alias("rain"))
    region = read(tmp_path)
    median = pl.read_parquet(folder / "XXtrain_bg.parquet")["rain"].median()
    assert (region.tests[0].sites.continuous_NC[:, 1] == median).all()
    assert "60 missing covariate values of XXtest_env_bird were set to the background's median" in region.notes


def test_missing_values_of_the_training_tables_are_noted_and_infinity_is_one(tmp_path: Path) -> None:
    folder = write_region(tmp_path)
    background = pl.read_parquet(folder / "XXtrain_bg.parquet")
    first = pl.int_range(pl.len()) < 7
    for name, value in {"train_bg": np.inf, "train_po": np.nan}.items():
        edit(folder / f"XX{name}.parquet", pl.when(first).then(value).otherwise("rain").alias("rain"))
    edit(folder / "XXtest_env_bird.parquet", pl.when(first).then(-np.inf).otherwise("rain").alias("rain"))
    edit(folder / "XXtest_env_plant.parquet", pl.when(first).then(None).otherwise("ontveg").alias("ontveg"))
    region = read(tmp_path)
    median = background["rain"][7:].median()
    assert (region.background.continuous_NC[:7, 1] == median).all()
    assert (region.tests[0].sites.continuous_NC[:7, 1] == median).all()
    assert all(np.isfinite(array).all() for array in arrays(region))
    assert [note for note in region.notes if "missing" in note] == [
        f"7 missing covariate values of {name} were set to the background's median"
        for name in ("train_po", "train_bg", "XXtest_env_bird")
    ] + ["7 codes of XXtest_env_plant are missing and left so"]


@pytest.mark.parametrize("name", ["rain", "ontveg"])
@pytest.mark.parametrize("table", ["train_po", "train_bg", "test_env_plant"])
def test_numbers_in_one_table_and_text_in_another_are_refused(tmp_path: Path, table: str, name: str) -> None:
    folder = write_region(tmp_path)
    edit(folder / f"XX{table}.parquet", pl.format("{} mm", name).alias(name))
    with pytest.raises(TableError, match=rf"covariate {name} is numbers in .* and text in (XX)?{table}\. expected"):
        read(tmp_path)


def test_a_covariate_without_any_value_in_a_csv_is_missing_rather_than_text(tmp_path: Path) -> None:
    path = write_region(tmp_path, suffix="csv") / "XXtest_env_plant.csv"
    write(path, pl.read_csv(path).with_columns(pl.lit(None).alias("rain"), pl.lit(None).alias("ontveg")))
    region = read(tmp_path)
    assert len(np.unique(region.tests[1].sites.continuous_NC[:, 1])) == 1
    assert (region.tests[1].sites.codes_NK[:, 0] == -1).all()
    assert "60 missing covariate values of XXtest_env_plant were set to the background's median" in region.notes


def test_a_covariate_that_a_table_lacks_is_dropped_and_noted(tmp_path: Path) -> None:
    path = write_region(tmp_path) / "XXtest_env_plant.parquet"
    write(path, pl.read_parquet(path).drop("rain"))
    region = read(tmp_path)
    assert region.covariates == ("disturb", "temperature")
    assert "covariate rain dropped: absent from XXtest_env_plant" in region.notes


def test_species_of_one_kind_of_table_only_are_noted_and_not_scored(tmp_path: Path) -> None:
    folder = write_region(tmp_path)
    path = folder / "XXtest_pa_bird.parquet"
    write(path, pl.read_parquet(path).rename({"xx01": "xx09"}).with_columns(pl.lit(0).alias("xx02")))
    region = read(tmp_path)
    assert region.tests[0].species.tolist() == [2]
    assert "not scored, without a column in their group's test_pa: xx01" in region.notes
    assert "not scored, without a presence-only record: xx09" in region.notes
    assert "species xx02 not scored: present on none of its plots" in region.notes


def test_a_species_is_scored_on_its_own_group_only(tmp_path: Path) -> None:
    folder = write_region(tmp_path)
    edit(folder / "XXtest_pa_plant.parquet", (pl.int_range(pl.len()) % 2).alias("xx01"))
    assert read(tmp_path).tests[1].species.tolist() == [3, 4]
    path = folder / "XXtest_pa_bird.parquet"
    write(path, pl.read_parquet(path).drop("xx01"))
    assert "not scored, without a column in their group's test_pa: xx01" in read(tmp_path).notes


@pytest.mark.parametrize("unknown", [None, ""])
def test_a_record_without_a_group_is_refused(tmp_path: Path, unknown: str | None) -> None:
    path = write_region(tmp_path) / "XXtrain_po.parquet"
    edit(path, pl.when(pl.int_range(pl.len()) == 3).then(pl.lit(unknown)).otherwise("group").alias("group"))
    with pytest.raises(TableError, match=r"1 of \d+ rows of .* no group.*expected .*remove the column group"):
        read(tmp_path)


def test_a_test_file_of_an_unknown_group_is_refused(tmp_path: Path) -> None:
    folder = write_region(tmp_path)
    for kind in ("env", "pa"):
        (folder / f"XXtest_{kind}_plant.parquet").rename(folder / f"XXtest_{kind}_plants.parquet")
    with pytest.raises(TableError, match=r"XXtest_pa_plants.*expected one of the groups \['bird', 'plant'\].*Rename"):
        read(tmp_path)


def test_a_group_without_a_test_file_is_noted_and_not_scored(tmp_path: Path) -> None:
    folder = write_region(tmp_path)
    for kind in ("env", "pa"):
        (folder / f"XXtest_{kind}_plant.parquet").unlink()
    region = read(tmp_path)
    assert [test.species.tolist() for test in region.tests] == [[0, 1, 2]]
    assert "not scored, as group plant has no test file: xx04, xx05" in region.notes


def test_all_species_are_scored_where_the_test_file_or_the_training_table_tells_no_group(tmp_path: Path) -> None:
    folder = write_region(tmp_path / "a")
    path = folder / "XXtrain_po.parquet"
    write(path, pl.read_parquet(path).drop("group"))
    region = read(tmp_path / "a")
    assert region.groups == ("all",)
    assert [test.species.tolist() for test in region.tests] == [[0, 1, 2], [3, 4]]
    edit(folder / "XXtest_pa_plant.parquet", (pl.int_range(pl.len()) % 2).alias("xx01"))
    with pytest.raises(TableError, match=r"\['xx01'\] of XX are columns of several test files.*column group"):
        read(tmp_path / "a")

    folder = write_region(tmp_path / "b")
    for kind in ("env", "pa"):
        (folder / f"XXtest_{kind}_plant.parquet").unlink()
        (folder / f"XXtest_{kind}_bird.parquet").rename(folder / f"XXtest_{kind}.parquet")
    edit(folder / "XXtest_pa.parquet", (pl.int_range(pl.len()) % 2).alias("xx04"))
    region = read(tmp_path / "b")
    assert region.groups == ("bird", "plant") and [test.species.tolist() for test in region.tests] == [[0, 1, 2, 3]]
    assert not any("no test file" in note for note in region.notes)


def test_regions_are_found_at_any_depth_and_chosen_by_name(tmp_path: Path) -> None:
    write_region(tmp_path / "deep" / "er", "BB")
    write_region(tmp_path, "AA")
    assert [files.name for files in find_regions(tmp_path)] == ["AA", "BB"]
    assert [files.name for files in find_regions(tmp_path, ["BB"])] == ["BB"]
    with pytest.raises(ReleaseError, match=r"no region \['CC'\].*some of \['AA', 'BB'\]"):
        find_regions(tmp_path, ["CC"])


def test_a_folder_without_regions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="no region below .*train_po"):
        find_regions(tmp_path)


def test_the_same_table_twice_is_refused(tmp_path: Path) -> None:
    write_region(tmp_path / "a")
    write_region(tmp_path / "b")
    with pytest.raises(ReleaseError, match="the same table"):
        find_regions(tmp_path)


@pytest.mark.parametrize("gone", ["train_po", "train_bg", "test_env_bird", "test_pa_plant"])
def test_a_missing_file_is_named(tmp_path: Path, gone: str) -> None:
    (write_region(tmp_path) / f"XX{gone}.parquet").unlink()
    with pytest.raises(ReleaseError, match=f"lacks .'XX{gone}'"):
        find_regions(tmp_path)


@pytest.mark.parametrize(
    ("table", "change", "message"),
    [
        ("train_po", pl.lit(None, pl.Float64).alias("x"), "coordinates of .* are missing"),
        ("train_po", pl.lit("east").alias("x"), "are not numbers"),
        (
            "train_po",
            pl.when(pl.int_range(pl.len()) == 0).then(pl.lit("ant")).otherwise("group").alias("group"),
            "groups",
        ),
        ("test_pa_bird", pl.lit(2).alias("xx01"), "other than 0 and 1"),
    ],
)
def test_impossible_values_are_refused(tmp_path: Path, table: str, change: pl.Expr, message: str) -> None:
    path = write_region(tmp_path) / f"XX{table}.parquet"
    edit(path, change)
    with pytest.raises(TableError, match=message):
        read(tmp_path)


def test_tables_without_needed_columns_rows_or_covariates_are_refused(tmp_path: Path) -> None:
    folder = write_region(tmp_path)
    path = folder / "XXtrain_bg.parquet"
    background = pl.read_parquet(path)
    write(path, background.drop("x"))
    with pytest.raises(TableError, match=r"lacks columns \['x'\]"):
        read(tmp_path)
    write(path, background.head(0))
    with pytest.raises(TableError, match="holds no row"):
        read(tmp_path)
    write(path, background.select("x", "y", "spid"))
    with pytest.raises(TableError, match="no covariate of XX is left"):
        read(tmp_path)
    path.write_bytes(b"not parquet")
    with pytest.raises(TableError, match="cannot be read"):
        read(tmp_path)


def test_a_region_without_a_species_to_score_is_refused(tmp_path: Path) -> None:
    folder = write_region(tmp_path)
    for group, species in {"bird": ["xx01", "xx02", "xx03"], "plant": ["xx04", "xx05"]}.items():
        edit(folder / f"XXtest_pa_{group}.parquet", *(pl.lit(0).alias(name) for name in species))
    with pytest.raises(TableError, match="no species of XX can be scored"):
        read(tmp_path)


def test_a_species_without_a_record_beyond_the_buffer_is_not_scored(tmp_path: Path) -> None:
    write_region(tmp_path, num_plots=30)
    region = read(tmp_path)
    plots = np.concatenate([test.sites.xy_km for test in region.tests])
    near = np.linalg.norm(region.sites.xy_km[:, None] - plots, axis=2).min(1) < 10
    region.found_NS[~near, 1] = False  # leaves species xx02 with records near plots only
    kept = drop_near_tests(region, 10)
    assert [test.species.tolist() for test in kept.tests] == [[0, 2], [3, 4]]
    assert kept.tests[0].present_NS.shape == (30, 2)
    assert kept.notes[-1] == "not scored, without a record beyond the buffer: xx02"


def test_the_buffer_drops_sites_near_plots_by_hand(tmp_path: Path) -> None:
    write_region(tmp_path, num_plots=30)
    region = read(tmp_path)
    plots = np.concatenate([test.sites.xy_km for test in region.tests])
    nearest = np.linalg.norm(region.sites.xy_km[:, None] - plots, axis=2).min(1)
    kept = drop_near_tests(region, 10)
    np.testing.assert_array_equal(kept.sites.xy_km, region.sites.xy_km[nearest >= 10])
    assert 0 < len(kept.sites) < len(region.sites) and len(kept.found_NS) == len(kept.sites)
    assert drop_near_tests(region, 0) is region
    assert [len(test.species) for test in drop_near_tests(region, 900).tests] == [0, 0]
    with pytest.raises(TableError, match="0 km or more"):
        drop_near_tests(region, -1)


@pytest.mark.skipif(not REAL.is_dir(), reason="the published tables are not beside the project")
def test_the_published_regions_are_read() -> None:
    regions = {files.name: read_region(files) for files in find_regions(REAL)}
    assert {name: len(region.species) for name, region in regions.items()} == {"AWT": 40, "CAN": 20, "SWI": 30}
    assert [test.present_NS.shape for test in regions["AWT"].tests] == [(340, 20), (102, 20)]
    assert regions["CAN"].categorical == ("ontveg",) and regions["SWI"].categorical == ("calc",)
    assert 1000 < np.ptp(regions["CAN"].sites.xy_km[:, 0]) < 3000  # degrees became kilometres
    assert not any(region.notes for region in regions.values())
