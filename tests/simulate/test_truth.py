"""The science of the virtual world: what decides which species grow where, and what does not."""

import numpy as np
import polars as pl
import pytest

from releve.decide.expected_f1 import expected_f1_sets
from releve.simulate.config import SimulateConfig
from releve.simulate.imagery import make_textures, monthly_climate, render_landsat, render_patches
from releve.simulate.records import PUBLISHERS, sample_records
from releve.simulate.species import make_species, oracle_sets, sample_f1, true_probabilities
from releve.simulate.surveys import (
    LATENTS,
    add_yearly_latents,
    draw_plots,
    draw_presences,
    make_places,
    recent_change,
    sample_landscape,
    sample_plots,
    visit_features,
)
from releve.simulate.world import make_world

CONFIG = SimulateConfig(
    num_plots=400, num_test_plots=100, num_records=3000, num_species=120, richness=12, cell_size_deg=0.1
)


@pytest.fixture(scope="module")
def world():
    return make_world(CONFIG, np.random.default_rng(0))


@pytest.fixture(scope="module")
def species(world):
    features = visit_features(world, sample_landscape(world, 1500, np.random.default_rng(1)))
    return make_species(CONFIG.num_species, features, np.random.default_rng(2), richness=CONFIG.richness)


@pytest.fixture(scope="module")
def plots(world):
    return sample_plots(world, CONFIG, np.random.default_rng(3))


def visits_at(world, num=50, year=2020, **columns):
    rng = np.random.default_rng(4)
    row, col = np.nonzero(world.land)
    chosen = rng.choice(len(row), num)
    lon = (col[chosen] + 0.5) * world.cell_size_deg
    lat = 52 - (row[chosen] + 0.5) * world.cell_size_deg
    places = make_places(world, lon, lat, rng).with_columns(year=pl.lit(year), quarter=pl.lit(3))
    return add_yearly_latents(world, places.with_columns(**{name: pl.lit(value) for name, value in columns.items()}))


def test_species_grow_as_often_as_their_probabilities_say(world, species, plots):
    features = visit_features(world, plots)
    probs = true_probabilities(species, features)
    assert probs.min() >= 0 and probs.max() <= 1
    draw = draw_presences(species, features, np.random.default_rng(5))
    grown = np.zeros(probs.shape)
    grown[draw.presences["row"], draw.presences["species_index"]] = 1
    for low in np.arange(0, 1, 0.1):
        inside = (probs >= low) & (probs < low + 0.1)
        deviation = np.sqrt((probs[inside] * (1 - probs[inside])).sum())
        assert abs(grown[inside].sum() - probs[inside].sum()) < 4 * deviation + 1
    kept = draw.probabilities
    assert np.array_equal(kept["probability"].to_numpy(), probs[kept["row"], kept["species_index"]])
    assert len(kept) == (probs >= 1e-4).sum()


def test_commonness_is_long_tailed_and_sums_to_the_richness(species):
    prevalence = np.sort(species.prevalence)[::-1]
    assert prevalence.sum() == pytest.approx(CONFIG.richness)
    assert 0.3 < prevalence[0] <= 0.48
    assert np.median(prevalence) < 0.6 * prevalence.mean()
    assert prevalence[:12].sum() > 0.3 * prevalence.sum()


def test_a_clearing_counts_only_from_the_year_after(world, species):
    def probabilities(cut_year):
        columns = {"cut_year": cut_year, "cut_quarter": 2, "severity": 0.9}
        return true_probabilities(species, visit_features(world, visits_at(world, year=2019, **columns)))

    never = probabilities(None)
    assert np.array_equal(probabilities(2019), never)
    assert np.array_equal(probabilities(2021), never)
    assert not np.allclose(probabilities(2018), never, atol=0.05)
    # and it is forgotten with the years
    assert np.abs(probabilities(2018) - never).mean() > np.abs(probabilities(2005) - never).mean()


def test_the_truth_of_a_place_changes_with_the_year(world, species):
    early = true_probabilities(species, visit_features(world, visits_at(world, year=2017)))
    late = true_probabilities(species, visit_features(world, visits_at(world, year=2021)))
    assert np.abs(early - late).max() > 0.1


def test_recent_change_reads_only_years_before_the_visit():
    # the years 2000..2018 hold 0, 1, 2, ..., 18
    series = np.arange(19.0)[None]
    # before 2010: last five 2005..2009 (mean 7), earlier 2000..2004 (mean 2)
    assert recent_change(series, np.array([2010])).tolist() == [5.0]
    # 2021 sees no year after 2018: 2014..2018 (mean 16) against 2000..2013 (mean 6.5)
    assert recent_change(series, np.array([2021])).tolist() == [9.5]
    changed = series.copy()
    changed[:, 17:] = 1000
    assert recent_change(changed, np.array([2017])) == recent_change(series, np.array([2017]))


def test_the_climate_series_shows_the_warming_that_species_follow(world):
    visits = visits_at(world, year=2019)
    cube = monthly_climate(world, visits)
    shown = recent_change(cube[:, 1].mean(axis=2) / 10, np.full(len(visits), 2019))
    assert np.corrcoef(shown, visits["warming"])[0, 1] > 0.999
    rain = recent_change(np.log(cube[:, 0]).mean(axis=2), np.full(len(visits), 2019))
    assert np.corrcoef(-rain, visits["drying"])[0, 1] > 0.99


def test_landsat_shows_leaf_fall_mowing_and_clearings(world):
    visits = visits_at(world, num=200, cut_year=None, cut_quarter=None, severity=0.0)
    nir = np.nanmean(render_landsat(visits, np.random.default_rng(0))[:, 3], axis=2)  # N x quarter
    assert np.corrcoef(nir[:, 1] - nir[:, 0], visits["deciduous"])[0, 1] > 0.9
    assert np.corrcoef(nir[:, 1] - nir[:, 2], visits["mown"])[0, 1] > 0.9
    cut = visits_at(world, num=20, cut_year=2015, cut_quarter=2, severity=0.9)
    series = render_landsat(cut, np.random.default_rng(0))
    assert (series[:, 3, 2, 15] < 0.85 * series[:, 3, 2, 14]).mean() > 0.9  # near infrared falls at once
    assert series[:, 3, 2, 19].mean() > series[:, 3, 2, 15].mean() + 5  # and returns
    assert np.isnan(series[:, :, 3, 20]).all() and not np.isnan(series[:, :, :3, 20]).any()


def test_patches_show_canopy_rock_and_wetness(world):
    visits = visits_at(world, num=120)
    rng = np.random.default_rng(0)
    patches = render_patches(visits, make_textures(rng, size_px=160), rng, size_px=64)
    assert patches.shape == (120, 4, 64, 64) and patches.min() >= 1 and patches.max() <= 10_000
    red, nir = patches[:, 0], patches[:, 3]
    assert np.corrcoef((red < 420).mean(axis=(1, 2)), visits["canopy"])[0, 1] > 0.8
    assert np.corrcoef((red > 1200).mean(axis=(1, 2)), visits["rock"])[0, 1] > 0.6
    assert np.corrcoef((nir < 1000).mean(axis=(1, 2)), visits["wet"])[0, 1] > 0.6
    # wetness is the near infrared's alone
    assert abs(np.corrcoef(red.mean(axis=(1, 2)), visits["wet"])[0, 1]) < 0.3


def test_no_covariate_gives_a_latent_of_the_imagery_away(world, plots):
    plots = plots.unique(["lon", "lat"], maintain_order=True)
    row, col = plots["row"].to_numpy(), plots["col"].to_numpy()
    for name in LATENTS[:6]:
        for driver in world.drivers.values():
            assert abs(np.corrcoef(driver[row, col], plots[name])[0, 1]) < 0.2


def test_some_train_plots_revisit_a_place_in_another_year_with_the_same_habitat(plots):
    train = plots.filter(pl.col("split") == "train")
    again = train.group_by("lon", "lat").agg(pl.len(), pl.col("year").n_unique(), pl.col("canopy").n_unique())
    twice = again.filter(pl.col("len") == 2)
    assert len(train) == 400 and len(twice) >= 30
    assert (twice["year"] == 2).all() and (twice["canopy"] == 1).all()


def test_oracle_beats_the_most_frequent_species_and_is_near_the_exact_optimum(world, species, plots):
    features = visit_features(world, plots)
    probs = true_probabilities(species, features)
    draw = draw_presences(species, features, np.random.default_rng(6))
    grown = np.zeros(probs.shape, bool)
    grown[draw.presences["row"], draw.presences["species_index"]] = True
    assert np.allclose(draw.oracle_f1, sample_f1(oracle_sets(probs), grown))
    frequent = np.zeros(probs.shape, bool)
    frequent[:, np.argsort(-species.prevalence)[:12]] = True
    assert draw.oracle_f1.mean() > sample_f1(frequent, grown).mean() + 0.2
    exact = np.zeros(probs.shape, bool)
    best = expected_f1_sets(probs)
    for row in range(len(probs)):
        exact[row, best.row(row)] = True
    assert abs(sample_f1(exact, grown).mean() - draw.oracle_f1.mean()) < 0.01


def test_records_follow_roads_showiness_and_presence(world, species):
    sampled = sample_records(world, species, CONFIG, np.random.default_rng(7))
    assert len(sampled.records) == CONFIG.num_records
    surveys = sampled.surveys
    effort = world.effort[surveys["row"], surveys["col"]]
    assert effort.mean() > 2 * world.effort[world.land].mean()
    assert set(surveys["publisher"]) <= set(PUBLISHERS) and surveys["publisher"].n_unique() > 3
    assert set(world.country[surveys["row"], surveys["col"]]) == set(range(6))
    # a recorded species is likely where it was recorded
    probs = true_probabilities(species, visit_features(world, surveys))
    seen = probs[sampled.records["survey"], sampled.records["species_index"]]
    assert seen.min() > 0.02 and seen.mean() > 3 * probs.mean()
    # showy species are over-reported
    counts = np.bincount(sampled.records["species_index"], minlength=len(species.species_id))
    excess = np.log((counts + 1) / (probs.sum(axis=0) + 1))
    assert np.corrcoef(excess, np.log(species.showiness))[0, 1] > 0.4


def test_no_plot_is_bare():
    probs = np.array([[0.02, 0.0, 0.0], [0.9, 0.5, 0.1], [1e-9, 1e-8, 0.0]], np.float32)
    draws = np.stack([draw_plots(probs, np.random.default_rng(seed)) for seed in range(300)])
    assert draws.any(axis=2).all()
    assert draws[:, 0].tolist() == [[True, False, False]] * 300
    assert draws[:, 2].tolist() == [[False, True, False]] * 300
    # a rich plot is hardly touched: bare with 0.1 x 0.5 x 0.9 = 0.045, so 0.9 becomes 0.9 / 0.955
    assert draws[:, 1, 0].mean() == pytest.approx(0.9 / 0.955, abs=0.05)
