"""Settings chosen from the data: blocks wider than cells, folds that have blocks, sizes that rows can bear."""

from __future__ import annotations

import numpy as np
import pytest

from releve.config import make_config
from releve.geo import block_ids
from releve.study.defaults import SIDES_KM, Facts, choose_settings

NONE = np.zeros(0)


def spread(num: int, degrees: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.uniform(8, 8 + degrees, num), rng.uniform(46, 46 + degrees, num)


def facts(num_plots: int = 0, num_records: int = 0, degrees: float = 3.0, **others: object) -> Facts:
    plots = spread(num_plots, degrees) if num_plots else (NONE, NONE)
    records = spread(num_records, degrees, 1) if num_records else (NONE, NONE)
    settings: dict[str, object] = {"num_species": 100, "modalities": ("covariates",)} | others
    return Facts(*plots, *records, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("plots", "records", "regime"), [(100, 0, "pa"), (0, 100, "po"), (100, 900, "presence"), (19, 900, "po")]
)
def test_the_regime_is_that_of_the_data_and_the_recipe_is_whole(plots: int, records: int, regime: str) -> None:
    choice = choose_settings(facts(plots, records))
    config = make_config(choice.settings, origin="chosen")
    assert config.train.regime == regime
    assert config.data.records == ("po" if records else None) and bool(config.data.splits) == bool(plots)
    assert len(choice.reasons) >= 3 and all(f"{n} " in choice.reasons[0] for n in (plots, records) if n)


@pytest.mark.parametrize("cell_km", [0.0, 0.5, 4.3, 30.0, 55.0])
def test_blocks_are_wider_than_two_cells_and_the_buffer_wider_than_one(cell_km: float) -> None:
    split = choose_settings(facts(500, degrees=20.0, cell_km=cell_km)).settings["split"]
    assert split["block_size_km"] >= 2 * cell_km and split["buffer_km"] > cell_km
    assert split["block_size_km"] == (50 if cell_km <= 25 else 100 if cell_km == 30 else 200)


def test_blocks_shrink_until_folds_can_be_dealt_from_them() -> None:
    near = facts(300, degrees=0.5)
    split = choose_settings(near).settings["split"]
    num = {side: len(np.unique(block_ids(near.plot_lon, near.plot_lat, side))) for side in SIDES_KM}
    side = split["block_size_km"]
    larger = SIDES_KM[SIDES_KM.index(side) + 1]
    assert num[side] >= 40 > num[larger] and split["num_folds"] == 5


def test_few_blocks_make_fewer_folds_never_fewer_than_two() -> None:
    lon, lat = np.array([8.0, 8.001, 9.0, 9.001, 10.0, 10.001]), np.full(6, 46.0)
    split = choose_settings(Facts(lon, lat, NONE, NONE, 3, cell_km=20.0)).settings["split"]
    assert split["num_folds"] == 2
    assert len(np.unique(block_ids(lon, lat, split["block_size_km"]))) >= 2


def test_small_data_get_narrow_layers_many_passes_and_no_epoch_selected() -> None:
    small, large = choose_settings(facts(100)).settings, choose_settings(facts(60_000)).settings
    assert small["model"]["embedding_dim"] < large["model"]["embedding_dim"]
    assert small["train"]["epochs"] > large["train"]["epochs"]
    assert small["train"]["selection_share"] == 0.0 and "selection_share" not in large["train"]
    assert small["train"]["refit"] and not large["train"]["refit"]


def test_records_are_doubted_by_what_the_rasters_resolve() -> None:
    fine = choose_settings(facts(0, 500, cell_km=0.9)).settings
    coarse = choose_settings(facts(0, 500, cell_km=55.0, has_countries=True)).settings
    assert fine["clean"] == {"max_uncertainty_m": 1000.0, "min_decimals": 2}
    assert fine["pseudoplots"] == {"size_m": 1000.0, "uncertainty": "ignore"}
    assert coarse["clean"]["min_decimals"] == 0 and coarse["clean"]["max_uncertainty_m"] == 27_500
    assert "country_mismatch" in coarse["clean"]["drop"] and coarse["pseudoplots"]["size_m"] == 55_000
    make_config(coarse, origin="chosen")


def test_random_places_are_said_and_change_what_silence_is() -> None:
    choice = choose_settings(facts(0, 57, num_random=10_000, num_species=5))
    assert "10,000 random places" in choice.reasons[-1] and "5 species" in choice.reasons[-1]
    assert choice.settings["records"]["thinning"] == 0.0 and choice.settings["train"]["batch_size"] > 128
    assert "MaxEnt" in choice.settings["evaluate"]["references"]


def test_records_alone_are_learned_by_kinds_of_their_own_and_joined_alike() -> None:
    settings = choose_settings(facts(0, 500, num_species=40)).settings
    assert settings["train"]["kinds"] == ["softmax", "hinge", "forest"]
    assert settings["decide"] == {"join": "logits"}
    pictured = choose_settings(facts(0, 500, num_species=40, modalities=("covariates", "patch"))).settings
    assert pictured["train"]["kinds"] == ["network", "softmax", "hinge", "forest"]


@pytest.mark.parametrize("others", [facts(10, 500, num_species=40), facts(0, 500, num_species=19)])
def test_records_that_plots_calibrate_or_of_few_species_are_learned_as_plots_are(others: Facts) -> None:
    settings = choose_settings(others).settings
    assert settings["train"]["regime"] == "po" and "decide" not in settings
    assert settings["train"]["kinds"] == ["network", "forest", "booster", "booster"]


def test_random_places_beside_many_species_change_neither_thinning_nor_sizes() -> None:
    choice = choose_settings(facts(0, 500, num_random=10_000, num_species=40))
    plain = choose_settings(facts(0, 500, num_species=40))
    assert choice.settings["model"] == plain.settings["model"] and "thinning" not in choice.settings["records"]
    assert choice.settings["train"]["selection_share"] == 0.0
    assert "where other species were recorded" in choice.reasons[-1]
