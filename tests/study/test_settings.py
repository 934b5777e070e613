"""The recipe of a study: chosen from its data, changed by its own file, by a recipe and on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.study.studies import make_study

from releve.errors import ConfigError
from releve.ingest.release import Release
from releve.ingest.study import open_source
from releve.study.settings import facts_of, settings_for


def test_facts_are_those_of_the_files(tmp_path: Path) -> None:
    study = open_source(make_study(tmp_path, num_plots=30, num_records=200))
    facts = facts_of(study)  # type: ignore[arg-type]
    assert len(facts.plot_lon) == 30 and facts.num_species == 6 and facts.modalities == ("covariates",)
    assert 100 < len(facts.record_lon) < 200 and facts.regime == "presence" and facts.num_random == 0
    # Cells of 0.02 degrees at 47 north: 2.22 km along, 1.52 across.
    assert facts.cell_km == pytest.approx((2.22 * 1.52) ** 0.5, rel=0.02)


def test_few_species_of_records_alone_get_random_places(tmp_path: Path) -> None:
    path = make_study(tmp_path, num_plots=0, num_records=100)
    assert facts_of(open_source(path)).num_random == 10_000  # type: ignore[arg-type]
    path.write_text(path.read_text().replace("[study]", "[study]\nbackground = 0", 1))
    assert facts_of(open_source(path)).num_random == 0  # type: ignore[arg-type]


def test_the_study_changes_what_was_chosen_and_the_command_line_both(tmp_path: Path) -> None:
    path = make_study(tmp_path)
    path.write_text(path.read_text() + "[train]\nepochs = 7\nbatch_size = 8\n")
    settings = settings_for(open_source(path), None, ["train.batch_size=4"])
    assert settings.config.train.epochs == 7 and settings.config.train.batch_size == 4
    assert settings.config.train.kinds == ("network", "forest", "booster", "booster") and settings.reasons
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("[train]\nepochs = 3\npatience = 2\n")
    given = settings_for(open_source(path), recipe)
    assert given.config.train.epochs == 7 and given.config.train.patience == 2 and not given.reasons
    assert given.config.train.kinds == ("network",)


def test_a_release_without_a_recipe_and_a_wrong_key_are_refused(tmp_path: Path) -> None:
    path = make_study(tmp_path)
    path.write_text(path.read_text() + "[train]\nepoch = 7\n")
    with pytest.raises(ConfigError, match="train.epoch"):
        settings_for(open_source(path), None)
    release = object.__new__(Release)
    object.__setattr__(release, "layout", "glc24")
    with pytest.raises(ConfigError, match="no recipe for GeoLifeCLEF 2024"):
        settings_for(release, None)
