"""Batches are exactly what the store holds, whatever the order of the rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from releve.data.gather import Gatherer
from releve.data.survey import survey_features
from releve.lists import Lists
from releve.store.read import Store, StoredArray
from stores import make_store

MODALITIES = ("covariates", "survey", "location", "landsat", "climate", "patch")
CATEGORIES = {"country": ["France", "Italy"], "region": ["ALPINE"]}


@pytest.fixture(scope="module")
def store() -> Store:
    return make_store(40)


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    return np.random.default_rng(3).permutation(40)[:25]


@pytest.mark.parametrize("name", ["covariates", "landsat", "climate", "patch"])
def test_values_are_those_of_the_surveys_that_have_the_modality(store: Store, rows: np.ndarray, name: str) -> None:
    batch = Gatherer(store, MODALITIES, CATEGORIES).batch(rows)
    array = store.arrays[name]
    having = [i for i, row in enumerate(rows) if array.row_of[row] >= 0]
    assert 0 < len(having) < len(rows)
    assert batch.places[name].tolist() == having
    assert str(batch.values[name].dtype) == f"torch.{array.spec.dtype}"
    expected = [array.values[array.row_of[rows[i]]] for i in having]
    np.testing.assert_array_equal(batch.values[name].numpy(), np.stack(expected))


def test_memory_mapped_arrays_are_gathered_alike(store: Store, rows: np.ndarray, tmp_path) -> None:
    arrays = {}
    for name, array in store.arrays.items():
        np.save(tmp_path / f"{name}.npy", array.values)
        arrays[name] = replace(array, values=np.load(tmp_path / f"{name}.npy", mmap_mode="r"))
    ours = Gatherer(store, MODALITIES, CATEGORIES).batch(rows)
    mapped = Gatherer(replace(store, arrays=arrays), MODALITIES, CATEGORIES).batch(rows)
    for name in MODALITIES:
        torch.testing.assert_close(mapped.values[name], ours.values[name], rtol=0, atol=0, equal_nan=True)
        mapped.values[name].zero_()  # a batch is the caller's: the file is not written to
    np.testing.assert_array_equal(arrays["patch"].values, store.arrays["patch"].values)


def test_encoded_patches_are_decoded_in_the_order_of_the_batch(
    store: Store, rows: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = store.arrays["patch"]
    blobs = [values.tobytes() for values in raw.values]
    ends = np.cumsum([0, *map(len, blobs)])
    offsets = np.column_stack([ends[:-1], ends[1:]])
    monkeypatch.setattr(
        "releve.store.read.decode_patch",
        lambda encoding, blobs: np.frombuffer(blobs[0], np.uint8).reshape(raw.spec.shape),
    )
    encoded = StoredArray(raw.spec, np.frombuffer(b"".join(blobs), np.uint8), raw.row_of, offsets)
    other = replace(store, arrays=store.arrays | {"patch": encoded})
    expected = Gatherer(store, ("patch",), {}).batch(rows)
    found = Gatherer(other, ("patch",), {}).batch(rows)
    assert torch.equal(found.values["patch"], expected.values["patch"])
    assert torch.equal(found.places["patch"], expected.places["patch"])


def test_labels_are_the_sets_of_the_surveys(store: Store, rows: np.ndarray) -> None:
    pairs = Gatherer(store, ("location",), {}).presences(rows)
    found = Lists.from_pairs(pairs.rows, pairs.species, len(rows))
    assert found.lengths().max() > 2
    for i, row in enumerate(rows):
        assert found.row(i).tolist() == store.labels.row(row).tolist()
    assert len(pairs.species) == store.labels.lengths()[rows].sum()


def test_surveys_without_species_have_no_pair(store: Store) -> None:
    bare = replace(store, labels=Lists.from_rows([[], [3, 5], [], [0, 1, 2], *[[]] * 36]))
    pairs = Gatherer(bare, ("location",), {}).presences(np.array([3, 0, 1, 2]))
    assert pairs.rows.tolist() == [0, 0, 0, 2, 2]
    assert pairs.species.tolist() == [0, 1, 2, 3, 5]
    assert len(Gatherer(bare, ("location",), {}).presences(np.array([0, 2])).rows) == 0


def test_dates_and_places_go_with_their_rows_and_an_unknown_month_is_0(store: Store, rows: np.ndarray) -> None:
    batch = Gatherer(store, ("location",), {}).batch(rows)
    surveys = store.surveys[rows.tolist()]
    assert batch.year.tolist() == surveys["year"].to_list()
    assert batch.month.tolist() == [month or 0 for month in surveys["month"].to_list()]
    assert surveys["month"].null_count() > 0
    np.testing.assert_array_equal(
        batch.values["location"].numpy(), surveys.select("lon", "lat").to_numpy().astype(np.float32)
    )


def test_a_modality_that_the_store_lacks_is_left_out(store: Store) -> None:
    bare = replace(store, arrays={})
    batch = Gatherer(bare, MODALITIES, CATEGORIES).batch(np.arange(3))
    assert sorted(batch.values) == ["location", "survey"] and sorted(batch.places) == ["location", "plots", "survey"]


def test_a_batch_in_which_no_survey_has_the_modality_is_empty_there(store: Store) -> None:
    without = np.flatnonzero(store.arrays["patch"].row_of < 0)
    batch = Gatherer(store, ("patch",), {}).batch(without)
    assert batch.values["patch"].shape == (0, 4, 32, 32)
    assert batch.places["patch"].shape == (0,)


def test_survey_features_treat_zero_area_unknown_names_and_nulls_as_missing() -> None:
    table = pl.DataFrame(
        {
            "area_m2": [0.0, 1000.0, None],
            "uncertainty_m": [99.0, -1.0, None],
            "year": [None, 2018, 2019],
            "country": ["Spain", "France", None],
            "region": ["ALPINE", None, "ALPINE"],
        }
    )
    features = survey_features(table, CATEGORIES)
    nan = np.nan
    expected = [[nan, 2.0, nan, nan, 0.0], [3.0, nan, 2018.0, 0.0, nan], [nan, nan, 2019.0, nan, 0.0]]
    np.testing.assert_allclose(features, expected, rtol=1e-6)


def test_a_table_of_surveys_with_nothing_but_nulls_gives_missing_features() -> None:
    kinds = {"area_m2": pl.Float64, "uncertainty_m": pl.Float64, "year": pl.Int32, "country": pl.String}
    table = pl.DataFrame({name: pl.Series([None, None], dtype=kind) for name, kind in kinds.items()})
    features = survey_features(table.with_columns(region=pl.lit(None, pl.String)), {})
    assert features.shape == (2, 5)
    assert np.isnan(features).all()


def test_a_batch_moves_whole(store: Store) -> None:
    batch = Gatherer(store, MODALITIES, CATEGORIES).batch(np.arange(4))
    moved = batch.to(torch.device("meta"))
    assert all(x.is_meta for x in [moved.year, moved.month, *moved.values.values(), *moved.places.values()])


def test_covariates_come_in_the_order_asked_for_and_unknown_ones_are_missing(store: Store) -> None:
    rows = np.arange(len(store))
    own = Gatherer(store, ("covariates",), {}).batch(rows).values["covariates"].numpy()
    asked = Gatherer(store, ("covariates",), {}, ("soil", "height", "warmth")).batch(rows).values["covariates"].numpy()
    np.testing.assert_array_equal(asked[:, 0], own[:, 2])
    np.testing.assert_array_equal(asked[:, 2], own[:, 0])
    assert np.isnan(asked[:, 1]).all()
