"""Statistics are of the training rows alone, and of true values alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from releve.data import statistics as module
from releve.data.statistics import Statistics, measure_statistics
from releve.errors import StoreError
from releve.lists import Lists
from releve.store.read import Store
from stores import make_store

MODALITIES = ("covariates", "survey", "location", "landsat", "climate", "patch")
TRAIN = np.arange(0, 60, 2)


def measure(store: Store, rows: np.ndarray = TRAIN, modalities: tuple[str, ...] = MODALITIES) -> Statistics:
    return measure_statistics(store, rows, modalities, rng=np.random.default_rng(0))


def with_values(store: Store, name: str, values: np.ndarray) -> Store:
    return replace(store, arrays=store.arrays | {name: replace(store.arrays[name], values=values)})


def test_altering_every_other_row_changes_nothing() -> None:
    store = make_store(60)
    other = np.setdiff1d(np.arange(60), TRAIN)
    arrays = {}
    for name, array in store.arrays.items():
        values = array.values.copy()
        values[array.row_of[other][array.row_of[other] >= 0]] = 77
        arrays[name] = replace(array, values=values)
    is_other = pl.Series(np.isin(np.arange(60), other))
    surveys = store.surveys.with_columns(
        lon=pl.when(is_other).then(99.0).otherwise("lon"),
        year=pl.when(is_other).then(1900).otherwise("year").cast(pl.Int32),
        area_m2=pl.when(is_other).then(1e9).otherwise("area_m2"),
        country=pl.when(is_other).then(pl.lit("Atlantis")).otherwise("country"),
    )
    labels = Lists.from_rows([store.labels.row(i) if i in TRAIN else [7] for i in range(60)])
    altered = replace(store, arrays=arrays, surveys=surveys, labels=labels)
    assert measure(altered) == measure(store)


def test_the_order_of_the_training_rows_does_not_matter() -> None:
    store = make_store(60)
    ours, theirs = measure(store), measure(store, TRAIN[::-1].copy())
    assert ours.tables == theirs.tables
    np.testing.assert_allclose(ours.arrays["climate"].std, theirs.arrays["climate"].std, rtol=1e-12)


@pytest.mark.parametrize("name", ["landsat", "climate", "patch"])
def test_mean_and_deviation_are_numpys_over_values_that_are_no_fill(name: str) -> None:
    store = make_store(200)
    found = measure(store, np.arange(200)).arrays[name]
    array = store.arrays[name]
    values = np.moveaxis(array.values.astype(float), 1, 0).reshape(array.spec.shape[0], -1)
    if array.spec.fill is not None:
        assert (values == array.spec.fill).any()
        values = np.where(values == array.spec.fill, np.nan, values)
    np.testing.assert_allclose(found.mean, np.nanmean(values, axis=1), rtol=1e-12)
    np.testing.assert_allclose(found.std, np.nanstd(values, axis=1), rtol=1e-9)


def test_a_channel_without_a_value_or_without_spread_has_mean_and_deviation_that_divide() -> None:
    store = make_store(60)
    values = store.arrays["landsat"].values.copy()
    values[:, 0], values[:, 1] = 255, 9
    found = measure(with_values(store, "landsat", values)).arrays["landsat"]
    assert found.mean == [0.0, 9.0]
    assert found.std == [1.0, 1.0]


def test_quantiles_are_numpys_over_finite_values() -> None:
    store = make_store(60)
    values = store.arrays["covariates"].values.copy()
    values[:3, 1] = np.nan, np.inf, -np.inf
    found = measure(with_values(store, "covariates", values), np.arange(60)).tables["covariates"]
    finite = values[np.isfinite(values[:, 1]), 1].astype(np.float64)
    assert found.categorical == ("cover",)
    assert sorted(found.quantiles) == ["rain", "soil", "warmth"]
    np.testing.assert_allclose(found.quantiles["rain"], np.percentile(finite, np.arange(101)), rtol=1e-9)


def test_only_categories_with_five_training_rows_are_known() -> None:
    store = make_store(60)
    cover = np.where(np.arange(60) < 5, 3.0, np.where(np.arange(60) < 9, 4.0, 7.0))
    array = store.arrays["covariates"]
    values = array.values.copy()
    values[:, 3] = np.nan
    values[array.row_of[array.row_of >= 0], 3] = cover[array.row_of >= 0]
    store = replace(
        with_values(store, "covariates", values),
        surveys=store.surveys.with_columns(country=pl.Series(["Malta"] * 4 + ["Italy"] * 5 + [None] * 51)),
    )
    rows = np.arange(60)
    counts = {code: int((values[:, 3] == code).sum()) for code in (3.0, 4.0, 7.0)}
    found = measure(store, rows)
    assert found.tables["covariates"].codes == {"cover": [code for code, n in counts.items() if n >= 5]}
    assert found.categories["country"] == ["Italy"]
    assert found.tables["survey"].codes["country"] == [0.0]


def test_a_column_without_a_value_is_no_predictor_and_a_table_without_columns_is_left_out() -> None:
    store = make_store(60)
    values = store.arrays["covariates"].values.copy()
    values[:, 1] = np.nan
    assert "rain" not in measure(with_values(store, "covariates", values)).tables["covariates"].quantiles
    values[:] = np.nan
    assert "covariates" not in measure(with_values(store, "covariates", values)).modalities


def test_a_constant_column_keeps_its_value() -> None:
    store = make_store(60)
    values = store.arrays["covariates"].values.copy()
    values[:, 2] = 5.5
    found = measure(with_values(store, "covariates", values)).tables["covariates"]
    assert set(found.quantiles["soil"]) == {5.5}


def test_species_counts_are_of_the_training_rows() -> None:
    store = make_store(60)
    found = measure(store)
    sets = [set(store.labels.row(i).tolist()) for i in TRAIN]
    assert found.num_positives == [sum(s in species for species in sets) for s in range(8)]
    assert found.num_rows == len(TRAIN)
    assert found.species_ids == store.species_ids.tolist()


def test_a_modality_that_no_training_row_has_is_left_out() -> None:
    store = make_store(60)
    having = np.flatnonzero(store.arrays["patch"].row_of >= 0)
    without = np.setdiff1d(np.arange(60), having)
    assert "patch" not in measure(store, without).modalities


def test_large_stores_are_measured_on_a_draw_that_depends_on_the_generator_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = make_store(200)
    monkeypatch.setattr(module, "MAX_TABLE_ROWS", 50)
    monkeypatch.setattr(module, "MAX_ARRAY_ROWS", 50)
    rows = np.arange(200)
    first, again = measure(store, rows), measure(store, rows)
    other = measure_statistics(store, rows, MODALITIES, rng=np.random.default_rng(1))
    assert first == again
    assert first.arrays["climate"].mean != other.arrays["climate"].mean
    assert first.num_positives == other.num_positives  # counts are of all rows


def test_rows_without_species_and_stores_without_the_modalities_are_refused() -> None:
    store = make_store(60)
    with pytest.raises(StoreError, match="30 training rows .* hold no species"):
        measure(replace(store, labels=Lists.from_rows([[]] * 60)))
    with pytest.raises(StoreError, match="none of the modalities"):
        measure(replace(store, arrays={}), modalities=("patch",))


def test_statistics_travel_through_json_unchanged() -> None:
    found = measure(make_store(60))
    assert Statistics.model_validate_json(found.model_dump_json()) == found


def test_small_numbers_keep_their_own_deviation() -> None:
    store = make_store(60)
    array = store.arrays["landsat"]
    small = np.where(array.values == 255, -1.0, array.values * 1e-9).astype(np.float32)
    spec = array.spec.model_copy(update={"dtype": "float32", "fill": -1.0})
    own = replace(store, arrays=store.arrays | {"landsat": replace(array, spec=spec, values=small)})
    found, whole = measure(own).arrays["landsat"], measure(store).arrays["landsat"]
    np.testing.assert_allclose(found.std, 1e-9 * np.array(whole.std), rtol=1e-4)
