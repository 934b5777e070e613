from __future__ import annotations

import csv
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch

from ingest.fakes import IDS, LABELS, STYLES, climate_array, landsat_array, tiff_array, write_release, write_text
from releases import read_cube, read_labels, read_patch
from releve.data.gather import Gatherer
from releve.data.statistics import measure_statistics
from releve.errors import ReleaseError, ReleveError, RunError, StoreError
from releve.geo import EARTH_RADIUS_KM, block_ids
from releve.ingest.release import open_release
from releve.prepare.config import SplitConfig
from releve.store.build import build_store
from releve.store.config import DataConfig
from releve.store.contents import read_contents
from releve.store.read import Store, open_store
from releve.store.write import check_alike

SPLIT = SplitConfig(block_size_km=60, num_folds=3, buffer_km=5)


def sets_of(store: Store) -> dict[int, set[int]]:
    ids = store.surveys["survey_id"].to_list()
    return {int(i): {int(store.species_ids[s]) for s in store.labels.row(row)} for row, i in enumerate(ids)}


def one(store: Store, survey_id: int, name: str) -> np.ndarray:
    """Return a survey's values of a modality."""
    row = store.surveys["survey_id"].to_list().index(str(survey_id))
    assert store.arrays[name].row_of[row] >= 0
    return store.arrays[name].gather(np.array([row]))[0]


@pytest.fixture(scope="module")
def store(labelled_release: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    return build_store(
        read_contents(open_release(labelled_release), DataConfig()), SPLIT, tmp_path_factory.mktemp("a") / "store"
    )


@pytest.mark.parametrize("style", ["glc24", "glc24-seafile", "glc25", "geoplant26"])
def test_labels_are_the_sets_in_the_csv(style: str, tmp_path: Path) -> None:
    release = open_release(write_release(tmp_path / "release", style))
    store = build_store(read_contents(release, DataConfig(modalities=())), None, tmp_path / "store")
    expected = {survey_id: set(species) for survey_id, species in LABELS.items()}
    assert sets_of(store) == expected
    assert len(store) == 4 and store.manifest.num_species == 6
    counts = {s: sum(s in species for species in expected.values()) for s in set().union(*expected.values())}
    assert dict(store.species.select("species_id", "num_surveys").iter_rows()) == counts
    assert store.species["species_id"].is_sorted()
    assert store.manifest.dropped["train"] == {
        "no survey id": 2,
        "no coordinates": 1,
        "coordinates out of range": 1,
        "survey id used at another place": 1,
        "no species": 1,
        "duplicate survey-species pair": 1,
    }


def test_labels_of_many_surveys_are_those_of_an_independent_reader(store: Store, labelled_release: Path) -> None:
    expected = read_labels(labelled_release)
    assert sets_of(store) == expected
    assert max(map(len, expected.values())) > 2


@pytest.mark.parametrize("storage", ["raw", "encoded"])
def test_patches_are_the_files_pixels(storage: str, labelled_release: Path, tmp_path: Path) -> None:
    data = DataConfig(modalities=("patch",), patch_storage=storage)
    store = build_store(read_contents(open_release(labelled_release), data), None, tmp_path / "store")
    array = store.arrays["patch"]
    assert array.spec.encoding == {"raw": "raw", "encoded": "jpeg"}[storage]
    assert (array.row_of >= 0).sum() == 60
    rows = np.random.default_rng(0).permutation(60)
    gathered = array.gather(rows)
    assert gathered.dtype == np.uint8
    for row, values in zip(rows.tolist(), gathered, strict=True):
        survey_id = int(store.surveys["survey_id"][row])
        np.testing.assert_array_equal(values, read_patch(labelled_release, survey_id))


def test_an_encoded_array_decodes_nothing_for_a_survey_without_a_patch(labelled_release: Path, tmp_path: Path) -> None:
    data = DataConfig(modalities=("patch",), patch_storage="encoded")
    store = build_store(read_contents(open_release(labelled_release), data), None, tmp_path / "store")
    assert not store.arrays["patch"].gather(np.array([100, 101])).any()


def test_tiff_patches_are_stored_raw_and_encoded(tmp_path: Path) -> None:
    release = open_release(write_release(tmp_path / "release", "glc25"))
    for storage in ("raw", "encoded"):
        data = DataConfig(modalities=("patch",), patch_storage=storage)
        store = build_store(read_contents(release, data), None, tmp_path / storage)
        for survey_id in IDS:
            np.testing.assert_array_equal(one(store, survey_id, "patch"), tiff_array(survey_id))
        assert store.arrays["patch"].spec.fill == -1


@pytest.mark.parametrize("modality", ["landsat", "climate"])
def test_cubes_are_the_files_values(modality: str, store: Store, labelled_release: Path) -> None:
    fill = store.arrays[modality].spec.fill
    for survey_id in [int(i) for i in store.surveys["survey_id"][:60]]:
        expected = read_cube(labelled_release, survey_id, modality)
        expected = np.where(np.isnan(expected), fill, np.rint(expected))
        np.testing.assert_array_equal(one(store, survey_id, modality), expected)


def test_series_of_tables_are_the_rows_values(tmp_path: Path) -> None:
    release = open_release(write_release(tmp_path / "release", "glc24-seafile"))
    store = build_store(read_contents(release, DataConfig(modalities=("landsat", "climate"))), None, tmp_path / "store")
    for survey_id in IDS:
        landsat = landsat_array(survey_id)
        np.testing.assert_array_equal(one(store, survey_id, "landsat"), np.where(np.isnan(landsat), -1, landsat))
        np.testing.assert_array_equal(one(store, survey_id, "climate"), climate_array(survey_id))
    assert store.arrays["landsat"].spec.first_year == 2000


def test_covariates_are_the_cells_of_the_csv_and_fills_are_nan(store: Store, labelled_release: Path) -> None:
    spec = store.arrays["covariates"].spec
    for name in ("bioclim", "elevation"):
        path = labelled_release / STYLES["glc24"].covariates[name].format("PA-train")
        with path.open(newline="") as handle:
            for cells in csv.DictReader(handle):
                values = one(store, int(cells.pop("surveyId")), "covariates")
                for column, text in cells.items():
                    found = values[spec.channels.index(column)]
                    assert found == float(text) or (float(text) == -99999 and np.isnan(found))
    assert store.manifest.dropped["train covariates"] == {"Elevation": 27}  # every ninth of 240
    assert spec.groups["Bio1"] == "bioclim" and spec.units["Elevation"] == "m"


def test_a_modality_that_the_release_lacks_is_left_out(tmp_path: Path) -> None:
    release = open_release(write_release(tmp_path / "release", "geoplant26"))
    data = DataConfig(splits=("test_iid",))
    store = build_store(read_contents(release, data), None, tmp_path / "store")
    assert set(store.arrays) == {"covariates", "landsat", "climate"}
    assert len(store) == 2 and store.labels.lengths().sum() == 0


def test_covariates_without_a_single_value_are_left_out(tmp_path: Path) -> None:
    root = write_release(tmp_path / "release", "glc24")
    for path in (root / "EnvironmentalRasters").rglob("*PA-train*.csv"):
        header, *rows = path.read_text().splitlines()
        path.write_text(header + "\n" + "".join(row.split(",")[0] + "," * header.count(",") + "\n" for row in rows))
    store = build_store(
        read_contents(open_release(root), DataConfig(modalities=("covariates",))), None, tmp_path / "store"
    )
    assert store.arrays == {}


@pytest.mark.parametrize("without", ["train", "test"])
def test_a_split_may_lack_the_tables_that_another_has(without: str, tmp_path: Path) -> None:
    root = write_release(tmp_path / "release", "glc24")
    for path in (root / "EnvironmentalRasters").rglob(f"*PA-{without}*.csv"):
        path.unlink()
    store = build_store(
        read_contents(open_release(root), DataConfig(splits=("train", "test"))), None, tmp_path / "both"
    )
    has = (store.arrays["covariates"].row_of >= 0).tolist()
    assert has == {"train": [False] * 4 + [True] * 2, "test": [True, False, True, True] + [False] * 2}[without]
    alone = build_store(read_contents(open_release(root), DataConfig(splits=(without,))), None, tmp_path / "alone")
    assert "covariates" not in alone.arrays and "patch" in alone.arrays


def corrupt(root: Path) -> None:
    """Break the patch of survey 1 (cut short) and the cube of 642 (wrong shape)."""
    rgb = root / STYLES["glc24"].rgb["train"].format(path="1/1")
    rgb.write_bytes(rgb.read_bytes()[:200])
    torch.save(torch.zeros(2, 3), root / STYLES["glc24"].landsat_cube["train"].format(id=642))


@pytest.mark.parametrize("storage", ["raw", "encoded"])
def test_broken_files_are_listed_and_their_surveys_have_no_row(storage: str, tmp_path: Path) -> None:
    root = write_release(tmp_path / "release", "glc24")
    corrupt(root)
    store = build_store(read_contents(open_release(root), DataConfig(patch_storage=storage)), None, tmp_path / "store")
    found = {(p["modality"], p["survey_id"]) for p in store.manifest.problems}
    assert found == {("patch", "1"), ("landsat", "642")}
    assert all(p["path"] and p["what"] for p in store.manifest.problems)
    has = {name: (array.row_of >= 0).tolist() for name, array in store.arrays.items()}
    assert store.surveys["survey_id"].to_list() == ["1", "500", "642", "3018575"]
    assert has["patch"] == [False, False, True, True]
    assert has["landsat"] == [True, False, False, True]
    np.testing.assert_array_equal(one(store, 642, "patch"), read_patch(root, 642))
    np.testing.assert_array_equal(one(store, 3018575, "landsat")[0, 0, 0], landsat_array(3018575)[0, 0, 0])


def test_several_splits_lie_one_after_the_other(labelled_release: Path, tmp_path: Path) -> None:
    data = DataConfig(splits=("train", "test"))
    store = build_store(read_contents(open_release(labelled_release), data), None, tmp_path / "store")
    assert store.surveys["split"].to_list() == ["train"] * 240 + ["test"] * 20
    assert not store.labels.lengths()[240:].any() and (store.labels.lengths()[:240] > 0).all()
    for split, survey_id in (("train", 1001), ("test", 500001)):
        np.testing.assert_array_equal(one(store, survey_id, "patch"), read_patch(labelled_release, survey_id, split))
        cube = read_cube(labelled_release, survey_id, "climate", split)
        np.testing.assert_array_equal(one(store, survey_id, "climate"), cube)
    assert one(store, 500008, "covariates")[store.arrays["covariates"].spec.channels.index("Elevation")] == 10.0


def test_the_same_id_in_two_splits_is_two_surveys(tmp_path: Path) -> None:
    release = open_release(write_release(tmp_path / "release", "glc24"))
    store = build_store(read_contents(release, DataConfig(splits=("train", "test"))), None, tmp_path / "store")
    assert len(store) == 6
    assert store.labels.lengths().tolist() == [2, 1, 2, 3, 0, 0]


def test_a_store_without_folds(labelled_release: Path, tmp_path: Path) -> None:
    store = build_store(
        read_contents(open_release(labelled_release), DataConfig(modalities=())), None, tmp_path / "store"
    )
    assert store.manifest.num_folds == 0 and set(store.folds.tolist()) == {-1} and store.manifest.leakage == []


def test_no_block_lies_in_two_folds(store: Store) -> None:
    blocks = block_ids(store.lon, store.lat, SPLIT.block_size_km)
    pairs = {(int(b), int(f)) for b, f in zip(blocks, store.folds, strict=True)}
    assert len(pairs) == len(set(blocks.tolist())) and {f for _, f in pairs} == {0, 1, 2}


def test_leakage_is_the_haversine_distance(store: Store) -> None:
    lon, lat = np.radians(store.lon), np.radians(store.lat)
    a = (
        np.sin((lat[:, None] - lat) / 2) ** 2
        + np.cos(lat[:, None]) * np.cos(lat) * np.sin((lon[:, None] - lon) / 2) ** 2
    )
    distance_km = 2 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(a))
    for row in store.manifest.leakage:
        val = store.folds == row["fold"]
        buffer = ~val & (distance_km[:, val].min(axis=1) < SPLIT.buffer_km)
        train = ~val & ~buffer
        nearest = distance_km[val][:, train].min(axis=1)
        assert (row["num_train"], row["num_val"], row["num_buffer"]) == (train.sum(), val.sum(), buffer.sum())
        assert row["nearest_train_km"] == pytest.approx(nearest.min()) and nearest.min() >= SPLIT.buffer_km
        assert row["median_train_km"] == pytest.approx(np.median(nearest))


def test_the_seed_decides_the_folds(store: Store, labelled_release: Path, tmp_path: Path) -> None:
    release = open_release(labelled_release)
    same, other = (
        build_store(read_contents(release, DataConfig(modalities=())), SPLIT, tmp_path / str(seed), seed=seed)
        for seed in (0, 1)
    )
    assert (same.folds == store.folds).all() and (other.folds != store.folds).any()


def test_the_manifest_says_where_a_store_came_from(store: Store) -> None:
    manifest = store.manifest
    assert (manifest.release, manifest.origin) == ("glc24", "GeoLifeCLEF 2024")
    assert set(manifest.files) == {p.name for p in store.path.iterdir()} - {"manifest.json", "run.json"}
    assert manifest.recipe["split"]["num_folds"] == 3
    open_store(store.path, verify=True)


# ---- what is already there -------------------------------------------------------------------------------


def build(root: Path, out: Path, *, overwrite: bool = False, seed: int = 0, storage: str = "raw") -> Store:
    data = DataConfig(modalities=("covariates", "patch"), patch_storage=storage)
    return build_store(read_contents(open_release(root), data), None, out, seed=seed, overwrite=overwrite)


@pytest.fixture
def made(tmp_path: Path) -> tuple[Path, Path]:
    root, out = write_release(tmp_path / "release", "glc24"), tmp_path / "store"
    build(root, out)
    return root, out


def test_the_same_call_finds_its_store(made: tuple[Path, Path]) -> None:
    root, out = made
    before = (out / "manifest.json").stat().st_mtime_ns
    build(root, out)
    build(root, out, overwrite=True)
    assert (out / "manifest.json").stat().st_mtime_ns == before
    assert {p.name for p in out.parent.iterdir()} == {"release", "store"}


def test_another_recipe_or_seed_is_refused_by_name(made: tuple[Path, Path]) -> None:
    root, out = made
    with pytest.raises(RunError, match=r"data.patch_storage is 'raw' in the store and 'encoded' in the recipe"):
        build(root, out, storage="encoded")
    with pytest.raises(RunError, match="seed is 0"):
        build(root, out, seed=1)
    assert build(root, out, storage="encoded", overwrite=True).arrays["patch"].spec.encoding == "jpeg"
    assert {p.name for p in out.parent.iterdir()} == {"release", "store"}


def test_a_release_that_changed_is_noticed(made: tuple[Path, Path]) -> None:
    root, out = made
    path = root / STYLES["glc24"].metadata["train"][0]
    path.write_text(path.read_text().replace("12.0,500", "13.0,500"))
    with pytest.raises(RunError, match="release has changed"):
        build(root, out)
    assert sets_of(build(root, out, overwrite=True))[500] == {13}


def test_tables_that_are_not_read_do_not_make_a_store_stale(made: tuple[Path, Path]) -> None:
    root, out = made
    before = (out / "manifest.json").stat().st_mtime_ns
    po = root / STYLES["glc24"].metadata["po"][0]
    po.write_text(po.read_text().replace("10.0,1\n", "11.0,1\n"))
    build(root, out)
    assert (out / "manifest.json").stat().st_mtime_ns == before


@pytest.mark.parametrize("name", ["patch.npy", "covariates.npy", "surveys.parquet", "labels_indices.npy"])
def test_a_truncated_file_is_refused_and_mended(name: str, made: tuple[Path, Path]) -> None:
    root, out = made
    whole = (out / name).read_bytes()
    (out / name).write_bytes(whole[:-1])
    with pytest.raises(StoreError, match=rf"{name} has .* bytes.*truncated.*--overwrite"):
        open_store(out)
    with pytest.raises(StoreError, match="--overwrite"):
        build(root, out)
    build(root, out, overwrite=True)
    assert (out / name).read_bytes() == whole


def test_altered_bytes_are_found_by_verify_and_mended_by_overwrite(made: tuple[Path, Path]) -> None:
    root, out = made
    whole = (out / "patch.npy").read_bytes()
    (out / "patch.npy").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(StoreError, match="checksum"):
        open_store(out, verify=True)
    build(root, out, overwrite=True)
    assert (out / "patch.npy").read_bytes() == whole


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[:50], "cannot be read"),
        (lambda text: text.replace('"format": 2', '"format": 0'), "format 0. expected format 2"),
        (lambda text: text.replace('"num_surveys"', '"num_plots"'), "cannot be read"),
        (lambda text: "[]", "cannot be read"),
    ],
)
def test_a_damaged_or_foreign_manifest_is_refused_and_mended(change, message: str, made: tuple[Path, Path]) -> None:
    root, out = made
    file = out / "manifest.json"
    file.write_text(change(file.read_text()))
    for attempt in (lambda: open_store(out), lambda: build(root, out)):
        with pytest.raises(StoreError, match=message):
            attempt()
    assert len(build(root, out, overwrite=True)) == 4


def test_a_missing_file_is_named(made: tuple[Path, Path]) -> None:
    (made[1] / "species.parquet").unlink()
    with pytest.raises(StoreError, match=r"lacks species.parquet"):
        open_store(made[1])


def test_a_folder_of_something_else_is_never_replaced(tmp_path: Path) -> None:
    root = write_release(tmp_path / "release", "glc24")
    write_text(tmp_path / "mine" / "notes.txt", "keep")
    write_text(tmp_path / "file", "keep")
    write_text(tmp_path / "new.part" / "notes.txt", "keep")
    for name, message in (("mine", "not a store"), ("file", "not a store"), ("new", "holds other files")):
        with pytest.raises(RunError, match=message):
            build(root, tmp_path / name, overwrite=True)
    assert (tmp_path / "mine" / "notes.txt").read_text() == "keep"
    assert (tmp_path / "new.part" / "notes.txt").read_text() == "keep"
    (tmp_path / "empty").mkdir()
    assert len(build(root, tmp_path / "empty")) == 4


FOREIGN_MANIFESTS = ['{"name": "web app", "files": ["a"]}', '{"format": 1, "fingerprint": "", "files": []}', "{", "[]"]


@pytest.mark.parametrize("manifest", FOREIGN_MANIFESTS)
def test_a_folder_with_the_manifest_of_something_else_is_never_replaced(manifest: str, tmp_path: Path) -> None:
    root = write_release(tmp_path / "release", "glc24")
    write_text(tmp_path / "mine" / "manifest.json", manifest)
    write_text(tmp_path / "mine" / "index.html", "keep")
    for overwrite in (True, False):
        with pytest.raises(RunError, match="is not a store"):
            build(root, tmp_path / "mine", overwrite=overwrite)
    assert {p.name for p in (tmp_path / "mine").iterdir()} == {"manifest.json", "index.html"}


@pytest.mark.parametrize("damaged", [False, True])
def test_a_store_with_files_of_the_users_is_not_replaced(damaged: bool, made: tuple[Path, Path]) -> None:
    root, out = made
    write_text(out / "notes" / "a.txt", "keep")
    write_text(out / "thesis.tex", "keep")
    write_text(out / ".run.json.123.part", "half")  # of ours
    if damaged:
        (out / "manifest.json").write_text("{")
    with pytest.raises(RunError, match=r"holds \['notes', 'thesis.tex'\] beside a store"):
        build(root, out, overwrite=True, storage="encoded")
    assert (out / "notes" / "a.txt").read_text() == (out / "thesis.tex").read_text() == "keep"
    assert (out / "surveys.parquet").is_file()


def test_what_the_user_keeps_where_the_old_store_goes_is_not_removed(made: tuple[Path, Path]) -> None:
    root, out = made
    write_text(out.with_name(f".{out.name}.old") / "a.txt", "keep")
    with pytest.raises(RunError, match="is not a store"):
        build(root, out, storage="encoded", overwrite=True)
    assert (out.with_name(f".{out.name}.old") / "a.txt").read_text() == "keep"


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="not a store"):
        open_store(tmp_path)
    (tmp_path / "a.part").mkdir()
    with pytest.raises(StoreError, match="goes on where it stopped"):
        open_store(tmp_path / "a")


def test_an_unknown_split_names_the_known_ones(made: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match=r"no split 'val'.*train.*test.*po"):
        build_store(read_contents(open_release(made[0]), DataConfig(splits=("val",))), None, tmp_path / "x")


def test_too_few_blocks_are_met_before_anything_is_written(made: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(ReleveError, match="4 surveys lie in 4 blocks"):
        build_store(read_contents(open_release(made[0]), DataConfig()), SplitConfig(num_folds=5), tmp_path / "x")
    assert not (tmp_path / "x.part").exists()


def test_presence_only_records_are_surveys_too(tmp_path: Path) -> None:
    release = open_release(write_release(tmp_path / "release", "glc24"))
    store = build_store(read_contents(release, DataConfig(splits=("po",))), None, tmp_path / "store")
    assert sets_of(store) == {1: {10, 11}, 642: {12}, 3018575: {13}}
    assert store.surveys.schema["fold"] == pl.Int8


def test_tables_in_memory_make_the_store_that_the_release_makes(labelled_release: Path, tmp_path: Path) -> None:
    contents = read_contents(open_release(labelled_release), DataConfig(modalities=("covariates",)))
    written = build_store(contents, SPLIT, tmp_path / "store")
    read, covariates = contents.surveys["train"], contents.covariates["train"]
    names = list(covariates.groups)
    made = Store.from_tables(
        read.table, read.labels, covariates.table.select(names), categorical=covariates.categorical
    )
    assert made.species_ids.tolist() == written.species_ids.tolist()
    np.testing.assert_array_equal(made.labels.indptr, written.labels.indptr)
    np.testing.assert_array_equal(made.labels.indices, written.labels.indices)
    everything = np.arange(len(written))
    ours, theirs = made.arrays["covariates"], written.arrays["covariates"]
    assert ours.spec.channels == theirs.spec.channels
    np.testing.assert_array_equal(ours.gather(everything), theirs.gather(everything))
    assert (made.folds == -1).all() and made.is_plot.all()


def test_tables_in_memory_that_do_not_fit_are_refused() -> None:
    surveys = pl.DataFrame({"survey_id": [1, 2], "lon": [5.0, 6.0], "lat": [45.0, 46.0]})
    with pytest.raises(StoreError, match=r"lacks columns \['lat'\]"):
        Store.from_tables(surveys.drop("lat"))
    with pytest.raises(StoreError, match=r"covariates has 1 rows, expected one for each of the 2 surveys|1 rows"):
        Store.from_tables(surveys, covariates=pl.DataFrame({"rain": [1.0]}))


@pytest.mark.parametrize(("fact", "value"), [("first_year", 2001), ("channel_names", ("nir", "red")), ("fill", 0)])
def test_series_of_two_splits_that_differ_in_years_or_bands_do_not_share_an_array(fact: str, value: object) -> None:
    facts = {"shape": (2, 20, 4), "channel_names": ("red", "nir"), "dtype": "uint8", "fill": 255, "first_year": 2000}
    first = SimpleNamespace(split="train", **facts)
    check_alike("landsat", first, SimpleNamespace(split="po", **facts))
    with pytest.raises(StoreError, match=f"landsat of split po has {fact}.*as in split train"):
        check_alike("landsat", first, SimpleNamespace(split="po", **facts | {fact: value}))


def test_the_least_that_a_table_in_memory_can_say_is_gathered_and_predicted_from() -> None:
    surveys = pl.DataFrame({"survey_id": [12, 7], "lon": [5, 6], "lat": [45.0, 46.0]})
    labels = pl.DataFrame({"row": [1, 1, 0, 1], "species_id": [9, 9, 7, 4]})
    store = Store.from_tables(surveys, labels, pl.DataFrame(), records="po")
    assert store.surveys["survey_id"].to_list() == ["12", "7"] and store.is_plot.all()
    assert store.species["num_surveys"].to_list() == [1, 1, 1] and store.labels.row(1).tolist() == [0, 2]
    statistics = measure_statistics(store, np.arange(2), ("survey", "location"), rng=np.random.default_rng(0))
    batch = Gatherer(store, ("survey", "location"), statistics.categories).batch(np.array([1, 0]))
    np.testing.assert_allclose(batch.values["location"][:, :2], [[6, 46], [5, 45]])


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"surveys": {"lat": [45.0, None]}}, r"1 of 2 surveys have no id or no place .*\('2', 6.0, None\)"),
        ({"surveys": {"lon": [5.0, 181.0]}}, "no place on Earth"),
        ({"surveys": {"lon": ["5", "east"]}}, "cannot be read"),
        ({"labels": {"species_id": [1]}}, r"labels lacks columns \['row'\]"),
        ({"labels": {"row": [0, 2], "species_id": [1, 1]}}, r"1 labels, such as \(2, 1\), are of no survey"),
        ({"labels": {"row": [0], "species_id": [None]}}, "no species"),
        ({"covariates": {"rain": ["wet", "dry"]}}, "cannot be read"),
    ],
)
def test_what_a_table_in_memory_cannot_hold_is_refused(tables: dict[str, dict], message: str) -> None:
    surveys = pl.DataFrame(
        {"survey_id": ["1", "2"], "lon": [5.0, 6.0], "lat": [45.0, 46.0]} | tables.get("surveys", {})
    )
    labels = pl.DataFrame(tables["labels"]) if "labels" in tables else None
    covariates = pl.DataFrame(tables["covariates"]) if "covariates" in tables else None
    with pytest.raises(StoreError, match=message):
        Store.from_tables(surveys, labels, covariates)
