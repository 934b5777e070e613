from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import sklearn.metrics
import torch

from nceas.regions import edit, write_region
from releve.config import load_config, make_config
from releve.errors import ReleveError, TableError
from releve.nceas import entry, members, protocol, recipe, reference
from releve.nceas.data import Region, find_regions, read_region
from releve.nceas.design import make_design, random_shares


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory) -> Region:
    folder = write_region(tmp_path_factory.mktemp("nceas"))
    return read_region(find_regions(folder)[0])


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Members in small: the same code, fewer trees and steps."""
    few = {
        "hinge regression": members.hinge_regression,
        "network": partial(members.network, loss="deep_maxent", width=16, epochs=8, nets=1),
        "forest": partial(members.down_sampled_forest, trees=15),
    }
    monkeypatch.setattr(entry, "MEMBERS", few)


def aucs(region: Region, scores: members.Scores) -> np.ndarray:
    return np.array([row["auc"] for row in protocol.score_species(region, scores)])


def test_every_species_gets_the_scores_of_scikit_learn(region: Region) -> None:
    rng = np.random.default_rng(0)
    scores = [rng.integers(0, 9, (len(test.sites), 5)).astype(float) for test in region.tests]  # with ties
    rows = protocol.score_species(region, scores)
    assert [row["species"] for row in rows] == list(region.species)
    for row in rows:
        species = region.species.index(row["species"])
        k = region.species_group[species]
        truth = region.tests[k].present_NS[:, region.tests[k].species == species].ravel()
        assert row["auc"] == pytest.approx(sklearn.metrics.roc_auc_score(truth, scores[k][:, species]))
        assert row["ap"] == pytest.approx(sklearn.metrics.average_precision_score(truth, scores[k][:, species]))
        assert row["num_presences"] == truth.sum()


def test_means_and_gains_by_hand() -> None:
    rows = [(1, "A", "a", 0.8, 0.5), (1, "A", "b", 0.6, 0.3), (1, "B", "c", 1.0, 0.1)]
    rows += [(2, "A", "a", 0.7, 0.5), (2, "A", "b", 0.5, 0.3), (2, "B", "c", 0.9, 0.1)]
    names = {1: protocol.BLEND, 2: "other"}
    table = pl.DataFrame(
        [{"method": names[m], "region": r, "species": s, "auc": auc, "ap": ap} for m, r, s, auc, ap in rows]
    )
    seconds = {(name, region): 2.0 for name in names.values() for region in "AB"}
    content = protocol.Benchmark(table, seconds, {"seed": 0}, {"A": ("note",)}).to_dict()
    assert content["mean_auc"] == pytest.approx(0.8) and content["mean_ap"] == pytest.approx(0.3)
    assert content["regions"]["A"]["auc"] == pytest.approx(0.7)
    assert (content["regions"]["A"]["num_species"], content["seconds"]) == (2, 4.0)
    gain = content["others"]["other"]
    assert [gain[name] for name in ("auc_gain", "auc_gain_low", "auc_gain_high")] == pytest.approx([0.1] * 3)


def test_the_blend_finds_the_rain_and_repeats_itself(region: Region, quick: None) -> None:
    done = []
    scores = entry.predict_blend(region, 1, advance=lambda: done.append(1))
    again = entry.predict_blend(region, 1)
    assert len(done) == 3
    for one, other in zip(scores, again, strict=True):
        np.testing.assert_array_equal(one, other)
    assert aucs(region, scores).mean() > 0.8


@pytest.mark.parametrize("name", list(members.MEMBERS))
def test_every_member_learns(region: Region, name: str) -> None:
    quickly: dict[str, Any] = {"trees": 15} if "forest" in name else {"nets": 1} if "network" in name else {}
    scores = members.MEMBERS[name](make_design(region, with_place=False), 0, **quickly)  # type: ignore[call-arg]
    assert [table.shape for table in scores] == [(60, 5), (60, 5)]
    assert aucs(region, scores).mean() > 0.7


@pytest.mark.parametrize("name", list(members.MEMBERS))
def test_a_species_without_a_record_does_no_harm(region: Region, name: str) -> None:
    lost = region.keep(~region.found_NS[:, 0])
    quickly: dict[str, Any] = (
        {"trees": 3} if "forest" in name else {"nets": 1, "epochs": 1} if "network" in name else {}
    )
    for table in members.MEMBERS[name](make_design(lost, with_place=True), 0, **quickly):  # type: ignore[call-arg]
        assert np.isfinite(table).all()


def test_the_losses_by_hand() -> None:
    # Two species of one group at three sites: a found at the first two, b at the last.
    z = torch.tensor([[1.0, 0.0], [0.0, 0.0], [-1.0, 2.0]])
    found = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    own = torch.ones(3, 2, dtype=torch.bool)
    rest = (own, torch.zeros(1, 2), torch.tensor([0.5, 0.25]))  # random logits 0, of weight 3 for a and 1 for b
    e = np.exp([1.0, 0.0, -1.0])
    a, b = -np.log(e[:2] / (e.sum() + 3)).mean(), -np.log(np.exp(2) / (2 + np.exp(2) + 1))
    expected = (a * 2**0.5 + b) / (2**0.5 + 1)
    assert members.deep_maxent(z, found, *rest).item() == pytest.approx(expected, rel=1e-5)
    which = [-np.log(np.e / (np.e + 1)), np.log(2), -np.log(np.exp(2) / (np.exp(2) + np.exp(-1)))]
    assert members.which_species(z, found, *rest).item() == pytest.approx(np.mean(which), rel=1e-5)


def test_sites_of_another_group_are_no_background(region: Region) -> None:
    design = make_design(region, with_place=True)
    for species in range(5):
        found, others = design.target_group(species)
        assert (design.site_group[np.r_[found, others]] == region.species_group[species]).all()
        assert len(found) + len(others) == (region.site_group == region.species_group[species]).sum()
    z, found_table = torch.zeros(4, 2), torch.eye(2).repeat(2, 1)
    own = found_table.bool()
    rest = (torch.zeros(1, 2), torch.zeros(2))
    moved = z.clone()
    moved[~own] = 7.0  # logits at sites of the other group
    for loss in members.LOSSES.values():
        assert loss(z, found_table, own, *rest) == loss(moved, found_table, own, *rest)


def test_features_are_quantiles_indicators_and_place(region: Region) -> None:
    design = make_design(region, with_place=True)
    assert design.sites_NF.shape[1] == 3 + 3 + 3 + 4
    assert np.abs(design.sites_NF).max() <= np.sqrt(2) + 1e-6
    assert np.abs(np.median(np.r_[design.sites_NF, design.background_NF][:, 1])) < 0.05  # the middle rank is 0
    assert make_design(region, with_place=False).sites_NF.shape[1] == 9
    np.testing.assert_array_equal(design.sites_NF[:, 3:6].sum(1), 1)


def test_few_sites_draw_the_background_towards_the_region() -> None:
    assert random_shares(np.array([0, 600, 10**9])).tolist() == pytest.approx([0.3, 0.2, 0.0], abs=1e-6)


def test_the_measured_page_says_on_which_regions_the_blend_was_chosen() -> None:
    above = (Path(__file__).parents[2] / "benchmarks" / "nceas.md").read_text(encoding="utf-8").partition("\n|")[0]
    assert entry.CHOSEN_ON in above and "The reference models see the covariates only" in above


def test_scores_are_scaled_by_known_places_and_what_is_equal_there_is_left_out() -> None:
    """Known scores 0 and 2: mean 1, deviation 1; 5 and 5: not learned."""
    known = np.array([[0.0, 5.0], [2.0, 5.0]])
    assert entry.standardise(np.array([[2.0, 1.0], [2.0, 3.0]]), known).tolist() == [[1, 0], [1, 0]]


def with_one_alone(region: Region, at: int = 7) -> Region:
    """Return the region with two test sets: all plots of its first one, and one of these alone."""
    first = region.tests[0]
    return replace(region, tests=(first, replace(first, sites=first.sites.take(np.array([at])))))


def assert_alike(scores: members.Scores, at: int = 7) -> None:
    together, alone = scores
    np.testing.assert_allclose(alone, together[[at]], atol=1e-4)
    assert len(together) == 60 and np.ptp(together, axis=0).max() > 0.01


def test_the_blend_predicts_a_plot_alone_as_among_others(region: Region, quick: None) -> None:
    assert_alike(entry.predict_blend(with_one_alone(region), 0))


@pytest.mark.parametrize("name", members.MEMBERS)
def test_every_member_predicts_a_plot_alone_as_among_others(region: Region, name: str) -> None:
    few = {"trees": 5} if "forest" in name else {"nets": 1, "epochs": 3} if "net" in name else {}
    quickly: dict[str, Any] = few
    design = make_design(with_one_alone(region), with_place=True)
    assert_alike(members.MEMBERS[name](design, 0, **quickly))  # type: ignore[call-arg]


@pytest.mark.parametrize("name", ["MaxEnt, random", "forest, target group"])
def test_every_reference_predicts_a_plot_alone_as_among_others(region: Region, name: str) -> None:
    if "MaxEnt" in name:
        pytest.importorskip("elapid")
    assert_alike(reference.REFERENCES[name](with_one_alone(region), 0))


def test_the_recipe_learns_and_predicts_a_plot_alone_as_among_others(
    region: Region, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = recipe.RECIPE | {"train": recipe.RECIPE["train"] | {"epochs": 12, "batch_size": 32, "ema_decay": 0.9}}
    monkeypatch.setattr(recipe, "RECIPE", quick)
    assert aucs(region, recipe.predict_po(region, 0)).mean() > 0.7
    assert_alike(recipe.predict_po(with_one_alone(region), 0))


def test_the_recipe_is_that_of_the_file() -> None:
    """Network, loss and training of recipes/po.toml, whatever its modalities."""
    file = load_config(Path(__file__).parents[2] / "recipes" / "po.toml")
    ours = make_config(recipe.RECIPE, origin="test")
    left_out = {"modalities", "num_folds"}
    for section in ("model", "records", "train"):
        own, theirs = (getattr(config, section).model_dump(exclude=left_out) for config in (ours, file))
        assert own == theirs, section


def test_places_of_plots_do_not_move_those_of_the_sites(tmp_path: Path) -> None:
    """Degrees: a plot far away must not change the map on which the sites are measured."""
    folder = write_region(tmp_path)
    for file in folder.glob("*.parquet"):
        table = pl.read_parquet(file)
        edit(file, (pl.col("x") / 1e5).alias("x"), (pl.col("y") / 2e5).alias("y")) if "x" in table.columns else None
    before = read_region(find_regions(tmp_path)[0]).sites.xy_km
    far = pl.when(pl.int_range(pl.len()) == 0).then(-170.0).otherwise(pl.col("x")).alias("x")
    for kind in ("env", "pa"):
        edit(folder / f"XXtest_{kind}_bird.parquet", far)
    np.testing.assert_array_equal(read_region(find_regions(tmp_path)[0]).sites.xy_km, before)


def test_random_background_is_another_model_than_target_group(region: Region) -> None:
    forests = [reference.forest(region, 0, target_group=flag) for flag in (False, True)]
    assert all(aucs(region, scores).mean() > 0.7 for scores in forests)
    assert not np.allclose(forests[0][0], forests[1][0])


def test_maxent_learns(region: Region) -> None:
    pytest.importorskip("elapid")
    scores = reference.maxent(region, 0, target_group=True)
    assert aucs(region, scores).mean() > 0.7


def test_a_missing_reference_package_is_said_before_anything_is_fitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "elapid", None)
    with pytest.raises(ReleveError, match=r'pip install "releve\[benchmark\]"'):
        protocol.run_benchmark(tmp_path)


@pytest.mark.parametrize("buffer_km", [-1.0, float("nan")])
def test_an_impossible_buffer_is_refused(tmp_path: Path, buffer_km: float) -> None:
    write_region(tmp_path)
    with pytest.raises(TableError, match="0 km or more"):
        protocol.run_benchmark(tmp_path, buffer_km=buffer_km, references=False)
