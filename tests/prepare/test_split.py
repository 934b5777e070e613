from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from releve.errors import ReleveError
from releve.geo import block_ids, nearest_km
from releve.lists import Lists
from releve.prepare.balance import count_sites, deal_blocks
from releve.prepare.config import PseudoplotConfig, SplitConfig
from releve.prepare.pseudoplots.group import group_records
from releve.prepare.split import assign_folds, has_group, measure_leakage, selection_rows, split_rows


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
    blocks = block_ids(lon, lat, 50)
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
    blocks = block_ids(lon, lat, 50)
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


def make_regional_labels(lon: np.ndarray, lat: np.ndarray) -> Lists:
    """Return sets of 60 species that each grow about a place of their own, several in every survey."""
    rng = np.random.default_rng(5)
    places = rng.uniform((2, 44), (14, 54), (60, 2))
    distance = np.hypot(lon[:, None] - places[:, 0], lat[:, None] - places[:, 1])
    return Lists.from_pairs(*np.nonzero(rng.random(distance.shape) < np.exp(-((distance / 2) ** 2))), len(lon))


def imbalance(folds: np.ndarray, labels: Lists, num_folds: int) -> tuple[float, float]:
    """Return how unequally the folds share rows and sites of species: the relative deviation from an equal share."""
    sizes_K = np.bincount(folds, minlength=num_folds)
    sites_KS = count_sites(labels, folds.astype(np.int64), num_folds, num_folds)
    rows = float(np.sqrt(np.mean((sizes_K / sizes_K.mean() - 1) ** 2)))
    return rows, float(np.sqrt(np.mean((sites_KS / sites_KS.mean(axis=0) - 1) ** 2, axis=0)).mean())


def deal_by_size_alone(sizes: np.ndarray, num_folds: int) -> np.ndarray:
    """Return the fold of each block when the largest goes to the emptiest fold, whatever grows there."""
    loads, folds = np.zeros(num_folds), np.zeros(len(sizes), int)
    for block in np.argsort(-sizes, kind="stable"):
        folds[block] = loads.argmin()
        loads[folds[block]] += sizes[block]
    return folds


def test_species_are_shared_more_evenly_than_by_dealing_surveys_alone(places: tuple[np.ndarray, np.ndarray]) -> None:
    lon, lat = places
    labels, config = make_regional_labels(lon, lat), SplitConfig()
    blocks = block_ids(lon, lat, 50)
    before = imbalance(deal_by_size_alone(np.bincount(blocks), 5)[blocks], labels, 5)
    folds = assign_folds(lon, lat, config, rng=np.random.default_rng(0), labels=labels)
    after = imbalance(folds, labels, 5)
    assert after[1] < 0.7 * before[1] and after[0] < 0.03
    again = assign_folds(lon, lat, config, rng=np.random.default_rng(0), labels=labels)
    np.testing.assert_array_equal(folds, again)


def test_no_move_or_swap_of_blocks_betters_what_was_dealt() -> None:
    rng = np.random.default_rng(1)
    sizes, sites = rng.integers(1, 20, 12), rng.integers(0, 5, (12, 4)) + 1
    folds = deal_blocks(sizes, sites, 3, np.random.default_rng(0))

    def total(dealt: np.ndarray) -> float:
        share = np.column_stack([sizes, sites]) * 3 / np.append(sizes.sum(), sites.sum(axis=0))
        share[:, 0] *= np.sqrt(4)
        target = np.append(np.sqrt(4), np.ones(4))
        return sum(((share[dealt == fold].sum(axis=0) - target) ** 2).sum() for fold in range(3))

    found = total(folds)
    for a in range(12):
        for fold in range(3):
            moved = folds.copy()
            moved[a] = fold
            assert total(moved) >= found - 1e-9
        for b in range(a):
            swapped = folds.copy()
            swapped[[a, b]] = folds[[b, a]]
            assert total(swapped) >= found - 1e-9


@pytest.mark.parametrize("method", ["country", "region"])
def test_with_as_many_folds_as_countries_each_is_left_out(places: tuple[np.ndarray, np.ndarray], method: str) -> None:
    lon, lat = places
    names = np.array(["A", "B", "C"])[np.digitize(lon, [6, 10])].tolist()
    config = SplitConfig(method=method, num_folds=3)  # type: ignore[arg-type]
    folds = assign_folds(lon, lat, config, rng=np.random.default_rng(0), names=names)
    assert {len(set(folds[np.array(names) == name])) for name in "ABC"} == {1}
    assert sorted(set(folds.tolist())) == [0, 1, 2]
    with pytest.raises(ReleveError, match=r"lie in 3 (countries|regions). expected at least 4"):
        more = config.model_copy(update={"num_folds": 4})
        assign_folds(lon, lat, more, rng=np.random.default_rng(0), names=names)
    with pytest.raises(ReleveError, match=f"no row has a value of {method}"):
        assign_folds(lon, lat, config, rng=np.random.default_rng(0))


def test_a_row_without_a_country_follows_the_nearest_that_has_one_and_is_counted() -> None:
    lon, lat = np.array([0.0, 0.1, 5.0, 5.1, 4.0]), np.full(5, 45.0)
    config, names = SplitConfig(method="country", num_folds=2), ["A", None, "B", "", None]
    folds = assign_folds(lon, lat, config, rng=np.random.default_rng(0), names=names)
    assert folds[0] == folds[1] != folds[2] and folds[2] == folds[3] == folds[4]
    leakage = measure_leakage(folds, lon, lat, config, has_group=has_group(config, names, 5))
    by_fold = {row.fold: row.num_without_group for row in leakage}
    assert (by_fold[folds[0]], by_fold[folds[2]]) == (1, 2)


def test_a_country_of_records_alone_is_never_validated_on() -> None:
    lon, lat = np.array([0.0, 5.0, 9.0, 9.1]), np.full(4, 45.0)
    counted = np.array([True, True, False, False])
    config, names = SplitConfig(method="country", num_folds=2), ["A", "B", "C", "A"]
    folds = assign_folds(lon, lat, config, rng=np.random.default_rng(0), counted=counted, names=names)
    assert folds[2] == -1 and folds[3] == folds[0]


def test_leakage_counts_the_species_that_no_training_row_holds() -> None:
    lon, lat = np.array([0.0, 1.0, 2.0, 3.0]), np.zeros(4)
    labels = Lists.from_rows([[0, 1], [0, 2], [0], [3]])
    first, second = measure_leakage(np.array([0, 0, 1, 1], np.int8), lon, lat, SplitConfig(num_folds=2), labels=labels)
    assert (first.num_species, first.num_untrained_species) == (3, 2)
    assert (second.num_species, second.num_untrained_species) == (2, 1)
    assert (first.q05_train_km, first.q95_train_km) == pytest.approx((111.195, 222.39), abs=1e-2)


def test_no_record_of_a_training_row_lies_in_the_buffer_of_a_held_out_plot() -> None:
    """A pseudo-plot's place is one of its records; another may lie far nearer to a plot: once 646 m with 1 km."""
    rng = np.random.default_rng(0)
    lon, lat = rng.uniform(5, 7, 4000), rng.uniform(45, 46, 4000)
    records = pl.DataFrame({"survey_id": np.arange(4000), "species_id": [1, 2] * 2000, "lon": lon, "lat": lat})
    found = group_records(records, PseudoplotConfig(method="radius", size_m=1500, uncertainty="ignore"))
    plot_lon, plot_lat = rng.uniform(5, 7, 20), rng.uniform(45, 46, 20)
    folds = np.array([0] * 20 + [1] * len(found.table), np.int8)
    place = [np.append(ours, found.table[axis]) for axis, ours in (("lon", plot_lon), ("lat", plot_lat))]
    reach_km = np.append(np.zeros(20), found.table["reach_m"] / 1000)

    def nearest_record_km(train: np.ndarray) -> float:
        rows = found.members.filter(pl.col("plot").is_in((train - 20).tolist()))["record"].to_numpy()
        return nearest_km(lon[rows], lat[rows], plot_lon, plot_lat).min()

    train, held_out, buffer = split_rows(folds, *place, 0, 1.0, reach_km)
    assert held_out.tolist() == list(range(20)) and len(train) + len(buffer) == len(found.table)
    assert nearest_record_km(train) >= 1 > nearest_record_km(split_rows(folds, *place, 0, 1.0)[0])


def test_one_held_out_row_that_reaches_far_does_not_widen_the_buffer_of_the_others() -> None:
    lat = np.array([50.0, 50.6, 53.0, 50.3, 53.5])  # a degree is 111 km
    folds, reach_km = np.array([0, 1, 0, 1, 1], np.int8), np.array([0.0, 0.0, 80.0, 0.0, 0.0])
    train, held_out, buffer = split_rows(folds, np.full(5, 10.0), lat, 0, 1.0, reach_km)
    assert train.tolist() == [1, 3] and held_out.tolist() == [0, 2] and buffer.tolist() == [4]  # 56 km from the third
