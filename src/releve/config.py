"""One TOML file describes a run. Strict: an unknown key is an error that names the nearest valid one."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from releve.decide.config import DecideConfig
from releve.errors import ConfigError, nearest
from releve.evaluate.config import EvaluateConfig
from releve.models.config import ForestConfig, ModelConfig
from releve.prepare.config import CleanConfig, PseudoplotConfig, SplitConfig
from releve.store.config import DataConfig
from releve.train.config import Phase, RecordsConfig, TrainConfig, plan_phases


class Config(BaseModel):
    """A recipe."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str = ""
    """What the recipe is for."""
    data: DataConfig = Field(default_factory=DataConfig)
    clean: CleanConfig = Field(default_factory=CleanConfig)
    pseudoplots: PseudoplotConfig = Field(default_factory=PseudoplotConfig)
    split: SplitConfig = Field(default_factory=SplitConfig)
    model: ModelConfig = Field(default_factory=ModelConfig)
    records: RecordsConfig = Field(default_factory=RecordsConfig)
    train: TrainConfig = Field(default_factory=TrainConfig)
    forest: ForestConfig = Field(default_factory=ForestConfig)
    decide: DecideConfig = Field(default_factory=DecideConfig)
    evaluate: EvaluateConfig = Field(default_factory=EvaluateConfig)

    @model_validator(mode="after")
    def _agree(self) -> Config:
        """Refuse, before anything is read, what would only fail hours later."""
        if self.train.num_folds > self.split.num_folds:
            raise ValueError(
                f"train.num_folds is {self.train.num_folds}, expected at most split.num_folds, {self.split.num_folds}"
            )
        if self.train.regime != "pa" and self.data.records is None:
            raise ValueError(
                f"train.regime is {self.train.regime!r} and data.records is not given, expected the name of the "
                "release's presence-only split, such as data.records = 'po'"
            )
        if self.train.regime != "po" and not self.data.splits:
            raise ValueError(f"train.regime is {self.train.regime!r} and data.splits is empty, expected plots")
        if self.model.fusion == "direct" and len(self.model.modalities) != 1:
            raise ValueError(
                f"model.fusion = 'direct' with modalities {list(self.model.modalities)}, expected one modality; use "
                "fusion = 'concat' for several"
            )
        if self.model.pretrained not in (None, "hub") and not Path(self.model.pretrained or "").is_file():
            raise ValueError(f"model.pretrained: no weights at {self.model.pretrained}")
        return self

    @property
    def is_of_records_alone(self) -> bool:
        """Whether no plot teaches or calibrates: numbers then order places, and lists mean little."""
        return self.data.records is not None and not self.data.splits

    def phases(self) -> list[Phase]:
        """Return the phases of training."""
        return plan_phases(self.train.regime, self.train.epochs, self.records.pretrain_epochs)


def load_config(path: Path, overrides: list[str] | None = None) -> Config:
    """Return the recipe in a TOML file, with ``section.field=value`` overrides applied.

    Raises
    ------
    ConfigError
        If the file is missing or is no TOML, a key is unknown, or a value is impossible.
    """
    return make_config(read_toml(path, overrides), origin=str(path))


def read_toml(path: Path, overrides: list[str] | None = None, *, what: str = "recipe") -> dict[str, Any]:
    """Return what a TOML file holds, with ``section.field=value`` overrides applied.

    Raises
    ------
    ConfigError
        If the file, a ``what``, is missing or is no TOML.
    """
    path = Path(path)
    if not path.is_file():
        there = sorted(p.name for p in path.parent.glob("*.toml")) if path.parent.is_dir() else []
        raise ConfigError(
            f"no {what} at {path}", expected="a .toml file", action=nearest(path.name, there) if there else ""
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
        content = tomllib.loads(text)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not text in UTF-8", action="Save it as UTF-8 in your editor") from error
    except tomllib.TOMLDecodeError as error:
        raise _not_toml(path, text, error) from error
    for text in overrides or []:
        apply_override(content, text)
    return content


def _not_toml(path: Path, text: str, error: tomllib.TOMLDecodeError) -> ConfigError:
    """Return the error that shows the line, and what other languages would write as it is."""
    where = re.search(r"at line (\d+)", str(error))
    line = text.splitlines()[int(where[1]) - 1].strip() if where else ""
    shown = f"; line {where[1]} is {line!r}" if where else ""
    value = line.partition("=")[2].partition("#")[0].strip()
    expected = {"True": "true", "TRUE": "true", "T": "true", "False": "false", "FALSE": "false", "F": "false"}.get(
        value, ""
    )
    if value in ("None", "NULL", "null", "nil", "NA"):
        expected = "no line at all where a value is not given"
    elif re.fullmatch(r"[+-]?\d+,\d+", value):
        expected = f"a decimal point, {value.replace(',', '.')}"
    elif re.fullmatch(r"[A-Za-z][\w /.-]*", value) and not expected:
        expected = f'quotes round a text, "{value}"'
    return ConfigError(f"{path} is not TOML: {error}{shown}", expected=expected)


def make_config(content: dict[str, Any], *, origin: str) -> Config:
    """Return the checked configuration of a nested mapping.

    Raises
    ------
    ConfigError
        Naming every wrong key and value.
    """
    try:
        return Config.model_validate(content)
    except ValidationError as error:
        problems = [explain(item, Config) for item in error.errors()]
        raise ConfigError(f"{origin}: " + "; ".join(problems)) from error


def apply_override(content: dict[str, Any], text: str) -> None:
    """Set one ``section.field=value`` in a nested mapping; the value is read as TOML, else as text.

    Raises
    ------
    ConfigError
        If the text has no ``=``, or its path runs through a value.

    Examples
    --------
    >>> content = {"train": {"epochs": 5}}
    >>> apply_override(content, "train.epochs=7")
    >>> apply_override(content, "model.modalities=['patch']")
    >>> apply_override(content, "train.device=cpu")
    >>> content
    {'train': {'epochs': 7, 'device': 'cpu'}, 'model': {'modalities': ['patch']}}
    """
    path, equals, value = text.partition("=")
    if not equals or not path.strip():
        raise ConfigError(f"--set {text!r}", expected="section.field=value, such as train.epochs=5")
    *sections, field = path.strip().split(".")
    for section in sections:
        content = content.setdefault(section, {})
        if not isinstance(content, dict):
            raise ConfigError(f"--set {text!r}: {section!r} is a value", expected="a section")
    try:
        content[field] = tomllib.loads(f"x = {value.strip()}")["x"]
    except tomllib.TOMLDecodeError:
        content[field] = value.strip()


def explain(item: Any, model: type[BaseModel]) -> str:
    """Return one problem that pydantic found in words: where, what was found, what was expected."""
    where = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        *sections, key = item["loc"]
        section = model
        for name in sections:
            section = section if isinstance(name, int) else _model_in(section.model_fields[name].annotation)
        return f"unknown key {where!r}, {nearest(str(key), section.model_fields)}"
    comma = isinstance(item["input"], str) and re.fullmatch(r"[+-]?\d+,\d+", item["input"])
    point = f"; write a decimal point, {item['input'].replace(',', '.')}" if comma else ""
    what = f"{item['msg'][0].lower()}{item['msg'][1:]}{point}"
    return f"{where} is {item['input']!r}: {what}" if where else what.removeprefix("value error, ")


def _model_in(annotation: Any) -> Any:
    """Return the model that a field is, or is made of: that of ``tuple[Model, ...]``, ``Model | None`` and the like."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_in(part)) is not None), None)
