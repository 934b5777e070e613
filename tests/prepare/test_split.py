from __future__ import annotations

import numpy as np
import pytest

from releve.errors import ReleveError
from releve.geo import block_ids, equal_area_crs, nearest_km, project
from releve.prepare.split import SplitConfig, assign_folds, measure_leakage, selection_rows, split_rows


@pytest.fixture
def places() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    centres = rng.uniform((2, 44), (14, 54), (40, 2))
    points = centres[rng.integers(0, 40, 2000)] + rng.normal(0, 0.4, (2000, 2))  # clustered, as real plots are
    return points[:, 0], points[:, 1]


def test_a_block_is_never_divided_and_folds_are_near_to_equal(places: tuple[np.ndarray, np.ndarray]) -> None:
    lon, lat = places
    config = SplitConfig(block_size_km=50, num_folds=5)
    folds = assign_folds(lon, lat, config, rng=np.random.default_rng(0))
    blocks = block_ids(project(lon, lat, equal_area_crs(lon, lat)), 50)
    assert all(len(np.unique(folds[blocks == block])) == 1 for block in np.unique(blocks))
    sizes = np.bincount(folds)
    assert len(sizes) == 5 and sizes.max() - sizes.min() <= np.bincount(blocks).max()


def test_folds_do_not_depend_on_the_order_of_rows_within_blocks(places: tuple[np.ndarray, np.ndarray]) -> None:
    lon, lat = places
    config = SplitConfig()
    order = np.random.default_rng(1).permutation(len(lon))
    folds = assign_folds(lon, lat, config, rng=np.random.default_rng(0))
    shuffled = assign_folds(lon[order], lat[order], config, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(folds[order], shuffled)


def test_rows_of_a_fold_are_train_val_or_buffer(places: tuple[np.ndarray, np.ndarray]) -> None:
    lon, lat = places
    folds = assign_folds(lon, lat, SplitConfig(), rng=np.random.default_rng(0))
    for buffer_km in (0.0, 10.0):
        train, val, buffer = split_rows(folds, lon, lat, 2, buffer_km)
        assert sorted([*train, *val, *buffer]) == list(range(len(lon)))
        assert (folds[val] == 2).all() and (folds[train] != 2).all()
        assert nearest_km(lon[train], lat[train], lon[val], lat[val]).min() >= buffer_km
        assert len(buffer) == 0 or nearest_km(lon[buffer], lat[buffer], lon[val], lat[val]).max() < buffer_km
        assert (len(buffer) > 0) == (buffer_km > 0)


def test_leakage_of_two_folds_is_worked_out_by_hand() -> None:
    # On the equator one degree is 111.195 km. Fold 1 has its rows 1 and 2 degrees from the nearest of fold 0.
    lon, lat = np.array([0.0, 1.0, -2.0]), np.zeros(3)
    first, second = measure_leakage(np.array([0, 1, 1], np.int8), lon, lat, SplitConfig(num_folds=2))
    assert (first.num_train, first.num_val, first.num_buffer) == (2, 1, 0)
    assert first.nearest_train_km == pytest.approx(111.195, abs=1e-3)
    assert (second.nearest_train_km, second.median_train_km) == pytest.approx((111.195, 166.793), abs=1e-3)


def test_too_few_blocks_say_what_to_change() -> None:
    with pytest.raises(ReleveError, match=r"3 surveys lie in 1 blocks of 50 km.*at least 5.*block_size_km lower"):
        assign_folds(np.full(3, 5.0), np.full(3, 45.0), SplitConfig(), rng=np.random.default_rng(0))


def test_every_fold_holds_a_block_however_unequal_they_are() -> None:
    lon = np.concatenate([np.full(1000, 5.0), [7.0, 9.0]])
    folds = assign_folds(lon, np.full(1002, 45.0), SplitConfig(num_folds=3), rng=np.random.default_rng(0))
    assert sorted(np.bincount(folds).tolist()) == [1, 1, 1000]


def test_a_tenth_is_taken_as_whole_blocks_away_from_what_is_fitted_on(places: tuple[np.ndarray, np.ndarray]) -> None:
    lon, lat = places
    config = SplitConfig(buffer_km=5.0)
    train, val, _ = split_rows(assign_folds(lon, lat, config, rng=np.random.default_rng(0)), lon, lat, 1, 5.0)
    fit, selected, buffer = selection_rows(train, lon, lat, config, share=0.1, rng=np.random.default_rng(0))
    assert sorted([*fit, *selected, *buffer]) == train.tolist() and not set(selected) & set(val)
    assert 0.08 < len(selected) / len(train) < 0.12
    blocks = block_ids(project(lon, lat, equal_area_crs(lon, lat)), 50)
    assert not set(blocks[selected]) & set(blocks[fit]) and not set(blocks[selected]) & set(blocks[buffer])
    assert nearest_km(lon[fit], lat[fit], lon[selected], lat[selected]).min() >= 5.0
    again = selection_rows(train, lon, lat, config, share=0.1, rng=np.random.default_rng(0))
    other = selection_rows(train, lon, lat, config, share=0.1, rng=np.random.default_rng(1))
    assert again[1].tolist() == selected.tolist() != other[1].tolist()


def test_the_smaller_of_two_blocks_is_selected_on_and_never_both() -> None:
    lon = np.array([5.0] * 40 + [9.0] * 3)
    fit, selected, _ = selection_rows(
        np.arange(43), lon, np.full(43, 45.0), SplitConfig(), share=0.1, rng=np.random.default_rng(0)
    )
    assert (len(fit), selected.tolist()) == (40, [40, 41, 42])


def test_records_of_a_block_that_is_selected_on_are_neither_fitted_nor_selected_on() -> None:
    lon = np.repeat([5.0, 7.0, 9.0, 11.0], 3)
    counted = np.tile([True, True, False], 4)
    fit, selected, buffer = selection_rows(
        np.arange(12), lon, np.full(12, 45.0), SplitConfig(), share=0.25, rng=np.random.default_rng(0), counted=counted
    )
    assert (len(fit), len(selected), len(buffer)) == (9, 2, 1)
    assert len(set(lon[selected]) | set(lon[buffer])) == 1 and not counted[buffer].any()


def test_what_cannot_be_selected_on_is_refused() -> None:
    lon, lat, rows, rng = np.array([5.0, 5.001, 6.0]), np.full(3, 45.0), np.arange(3), np.random.default_rng(0)
    for share in (0.0, 0.6):
        with pytest.raises(ReleveError, match="share of .* at most 0.5"):
            selection_rows(rows, lon, lat, SplitConfig(), share=share, rng=rng)
    with pytest.raises(ReleveError, match=r"2 training rows lie in 1 blocks of 50 km.*at least 2"):
        selection_rows(rows[:2], lon, lat, SplitConfig(), share=0.1, rng=rng)
    with pytest.raises(ReleveError, match="no training row lies 500 km from"):
        selection_rows(rows, lon, lat, SplitConfig(buffer_km=500.0), share=0.1, rng=rng)
