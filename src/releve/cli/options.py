"""Options and arguments that several commands have, and what is read from them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from releve.errors import RunError
from releve.progress import say


def existing(what: str, marker: str = "") -> Any:
    """Return a check of a path that says what is missing before anything heavy is imported.

    Parameters
    ----------
    what
        What the path should be, in words.
    marker
        A file that only such a folder holds.
    """

    def check(paths: Any) -> Any:
        for path in paths if isinstance(paths, list) else [paths] if paths is not None else []:
            if not path.exists() and not path.with_name(path.name + ".part").exists():
                raise RunError(f"{path} does not exist", expected=what, action="Check the path")
            if path.is_dir() and marker and not (path / marker).is_file():
                raise RunError(f"{path} is not {what}: it has no {marker}")
        return paths

    return check


def existing_one(path: Path | None) -> Path | None:
    """Return a path that may be left out, once it is known to be there."""
    if path is not None and not path.exists():
        raise RunError(f"{path} does not exist", action="Check the path")
    return path


A_RELEASE, A_RUN = "the folder of a release, or a study.toml", "a run, as releve train makes it"
A_STORE = "a store, as releve prepare makes it"
Recipe = Annotated[Path, typer.Argument(help="TOML file that describes the run, such as recipes/pa.toml")]
NoRecipe = Annotated[
    Path | None,
    typer.Argument(
        help="TOML file that describes the run; a study may go without", show_default="chosen from the data"
    ),
]
Data = Annotated[
    Path, typer.Option("--data", help="Folder of an official release, or a study.toml", callback=existing(A_RELEASE))
]
Scheduler = Annotated[
    str | None,
    typer.Option("--scheduler", help="Read rasters by the workers of a Dask scheduler: its address, or local"),
]
Run = Annotated[Path, typer.Argument(help="Run made by releve train", callback=existing(A_RUN, "run.json"))]
StoreFolder = Annotated[
    Path, typer.Option("--store", help="Store made by releve prepare", callback=existing(A_STORE, "manifest.json"))
]
MapsFolder = Annotated[
    Path,
    typer.Argument(
        help="Maps made by releve map", callback=existing("maps, as releve map draws them", "manifest.json")
    ),
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of everything random")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what an earlier call wrote")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with a run that was stopped")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.FIELD=VALUE", help="Change one value of the recipe; may be repeated"),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else on standard output")]


def settings_of(recipe: Path | None, data: Path, overrides: list[str] | None) -> tuple[Any, dict[str, Any]]:
    """Return the recipe of a run, and of a study the opened source and why the data chose what they did.

    What is wrong with a recipe is said before anything is read.
    """
    from releve.config import load_config

    if recipe is not None:
        config = load_config(recipe, overrides)
        if data.suffix != ".toml" and not (data / "study.toml").is_file():
            return config, {}
    from releve.ingest.study import open_source
    from releve.study.settings import settings_for

    source = open_source(data)
    chosen = settings_for(source, recipe, overrides)
    for reason in chosen.reasons:
        say(reason)
    return chosen.config, {"reasons": chosen.reasons, "source": source}


def run_with(path: Path, settings: list[str] | None, free: tuple[str, ...], seed: int | None = None) -> Any:
    """Return a run with some of its settings changed; what is built into its networks and lists cannot be.

    ``free`` are the fields that can, ``section.*`` standing for all of a section.
    """
    from releve.config import apply_override, make_config
    from releve.errors import ConfigError
    from releve.runs.folder import open_run

    run = open_run(path)
    content = run.config.model_dump(mode="json")
    for text in settings or []:
        field = text.partition("=")[0].strip()
        if field not in free and f"{field.partition('.')[0]}.*" not in free:
            raise ConfigError(f"--set {text!r} changes what is fixed in a run", expected=f"one of {', '.join(free)}")
        apply_override(content, text)
    config = make_config(content, origin="--set")
    return replace(run, config=config, seed=run.seed if seed is None else seed)


def checked_with(model: Any, content: dict[str, Any], settings: list[str] | None) -> Any:
    """Return a checked configuration, or an error that names the nearest valid key."""
    from pydantic import ValidationError

    from releve.config import apply_override, explain
    from releve.errors import ConfigError

    for text in settings or []:
        apply_override(content, text)
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise ConfigError("; ".join(explain(item, model) for item in error.errors())) from error
