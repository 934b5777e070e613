from __future__ import annotations

import re
from pathlib import Path

import pytest

from releve.config import Config, apply_override, load_config, make_config
from releve.errors import ConfigError

RECIPES = sorted((Path(__file__).parents[1] / "recipes").glob("*.toml"))


def load(tmp_path: Path, text: str, *overrides: str) -> Config:
    file = tmp_path / "recipe.toml"
    file.write_text(text, encoding="utf-8")
    return load_config(file, list(overrides))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_loads_and_survives_a_round_trip(path: Path) -> None:
    config = load_config(path)
    assert config.title
    assert make_config(config.model_dump(mode="json"), origin="run.json") == config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[train]\nepoch = 3", r"unknown key 'train.epoch', did you mean 'epochs'\?"),
        ("[trian]\nepochs = 3", r"unknown key 'trian', did you mean 'train'\?"),
        ("[split]\nzebra = 3", r"unknown key 'split.zebra', choose one of \['block_size_km'"),
        ("[train]\nepochs = 0", "train.epochs is 0: input should be greater than or equal to 1"),
        ("[train]\nepochs = 'many'", "train.epochs is 'many': input should be a valid integer"),
        ("[data]\npatch_storage = 'zip'", "data.patch_storage is 'zip': input should be 'raw' or 'encoded'"),
        ("[data]\nmodalities = ['sound']", "data.modalities.0 is 'sound'"),
        ("[data]\nsplits = []", "data is .*splits is empty and records is not given"),
        ("train = 3", "train is 3"),
        ("[train]\nepochs = 0\nepoch = 1", r"train.epochs is 0.*; unknown key 'train.epoch'"),
    ],
)
def test_a_wrong_recipe_says_where_and_what(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, text)


def test_what_is_no_toml_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"recipe.toml is not TOML: .*line 1"):
        load(tmp_path, "epochs: 3\n")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="is not text in UTF-8"):
        load_config(tmp_path / "binary.toml")


def test_a_missing_recipe_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "geoplant.toml").write_text("")
    with pytest.raises(ConfigError, match=r"no recipe at .*geoplan.toml.*did you mean 'geoplant.toml'"):
        load_config(tmp_path / "geoplan.toml")
    with pytest.raises(ConfigError, match=r"no recipe at .*x.toml\. expected a .toml file\.$"):
        load_config(tmp_path / "none" / "x.toml")


def test_overrides_are_toml_values_or_else_text(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        "title = 'a'\n[train]\nepochs = 9",
        "train.epochs=4",
        "train.learning_rate = 1e-4",
        "train.device=cpu",
        'data.modalities=["covariates"]',
        "model.patch_bands=3",
        "title=two words = one",
    )
    assert (config.train.epochs, config.train.learning_rate, config.train.device) == (4, 1e-4, "cpu")
    assert config.data.modalities == ("covariates",) and config.model.patch_bands == 3
    assert config.title == "two words = one"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epochs", r"--set 'train.epochs'. expected section.field=value"),
        ("=3", "expected section.field=value"),
        ("title.x=3", "'title' is a value"),
        ("train.epoch=3", r"did you mean 'epochs'\?"),
        ("train.epochs=", "train.epochs is ''"),
    ],
)
def test_a_wrong_override_is_refused(override: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, "title = 'a'", override)


def test_an_override_makes_the_sections_it_needs() -> None:
    content: dict[str, object] = {}
    apply_override(content, "a.b.c=true")
    assert content == {"a": {"b": {"c": True}}}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("train.num_folds=9", "expected at most split.num_folds"),
        ("model.fusion=direct", "expected one modality"),
        ("model.pretrained=nowhere.safetensors", "no weights at nowhere.safetensors"),
        ("train.loss=focal", "train.loss is 'focal'"),
        ("evaluate.references=['extra tree']", "did you mean 'extra trees'"),
    ],
)
def test_what_would_fail_hours_later_is_refused_when_the_recipe_is_read(
    setting: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / "recipe.toml").write_text("")
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_config(tmp_path / "recipe.toml", [setting])


def test_a_recipe_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    assert load(tmp_path, "\ufeff[train]\nepochs = 3\n").train.epochs == 3


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("early = True", "expected true"),
        ("early = FALSE  # as in R", "expected false"),
        ("records = None", "expected no line at all where a value is not given"),
        ("learning_rate = 0,001", "expected a decimal point, 0.001"),
        ("device = cpu", 'expected quotes round a text, "cpu"'),
        ("epochs = = 3", "line 2 is 'epochs = = 3'"),
    ],
)
def test_what_other_languages_write_is_told_with_its_line(line: str, expected: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"line 2 is {line!r}")) as caught:
        load(tmp_path, f"[train]\n{line}\n")
    assert expected in str(caught.value)


def test_other_encodings_and_a_decimal_comma_in_a_setting_are_told(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text("[train]\nepochs = 3\n", encoding="utf-16")
    with pytest.raises(ConfigError, match="is not text in UTF-8. Save it as UTF-8"):
        load_config(tmp_path / "recipe.toml")
    with pytest.raises(ConfigError, match=r"train.learning_rate is '0,001'.*write a decimal point, 0.001"):
        load(tmp_path, "", "train.learning_rate=0,001")
