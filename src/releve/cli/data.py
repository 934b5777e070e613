"""Commands from a folder to a store, and virtual worlds."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from releve.cli.app import app
from releve.cli.options import (
    A_RELEASE,
    AsJson,
    Data,
    NoRecipe,
    Overwrite,
    Scheduler,
    Seed,
    Settings,
    checked_with,
    existing,
    settings_of,
)
from releve.cli.show import print_facts, print_json, print_lines, print_store, print_titled
from releve.errors import RunError


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for everything the demo makes")] = Path("demo"),
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Simulate a world with known truth, train on it, and compare models in OUT/report.html.

    The whole job on an embedded default: a virtual release in the official layout is written, packed, learned from
    with all modalities and with each alone, and scored beside reference models and the oracle, the best that is
    possible. Takes some minutes on two cores.
    """
    from releve.demo import run_demo

    page = run_demo(out, seed=seed, overwrite=overwrite)
    print(page)


@app.command()
def simulate(
    out: Annotated[Path, typer.Argument(help="Folder to make")],
    seed: Seed = 0,
    overwrite: Overwrite = False,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Change a size, such as num_plots=500; may be repeated"),
    ] = None,
) -> None:
    """Write a virtual world with known truth in the layout of an official release.

    Terrain, climate, soil, land cover, roads and towns as rasters; plots, presence-only records, patches and series;
    and under OUT/truth the true probabilities and the test plots' species.
    """
    from releve.files import make_way
    from releve.runs.provenance import write_provenance
    from releve.simulate.config import SimulateConfig
    from releve.simulate.write import simulate_release

    content: dict[str, Any] = {"seed": seed}
    config = checked_with(SimulateConfig, content, settings)
    make_way(out, "simulate", overwrite=overwrite)
    started = time.monotonic()
    summary = simulate_release(config, out)
    entries = sorted(path.name for path in out.iterdir())
    write_provenance(out, "simulate", started, config=config.model_dump(mode="json"), seed=config.seed, entries=entries)
    print_facts(f"simulated release in {out}", asdict(summary))


@app.command()
def init(
    folder: Annotated[
        Path,
        typer.Argument(
            help="Folder with your plots, records and rasters, at any depth",
            callback=existing("the folder of your plots, records and rasters"),
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Study file to write")] = Path("study.toml"),
    overwrite: Overwrite = False,
) -> None:
    """Look through a folder and write study.toml: which table holds plots and which records, columns, rasters.

    Every guess stands in the file with its reason, and what could be instead as a comment. Nothing is asked, and
    nothing but OUT is written.
    """
    if out.exists() and not overwrite:
        raise RunError(f"{out} exists", action="Give another file with --out, or --overwrite")
    if not folder.is_dir():
        raise RunError(f"{folder} is no folder", expected="the folder that holds plots, records and rasters")
    from releve.discover.document import study_text
    from releve.discover.render import found_table, told_lines
    from releve.discover.study import look_through
    from releve.files import write_text

    found = look_through(folder)
    write_text(out, study_text(found, out.parent))
    print_titled(f"Found in {folder}", found_table(found))
    for title, lines in told_lines(found, out).items():
        print_lines(title, lines)


@app.command()
def check(
    data: Annotated[
        Path,
        typer.Argument(
            help="Folder of an official release, or the study.toml of your own study",
            callback=existing("the folder of a release, or a study.toml"),
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Look through a release or a study: what is present, missing, corrupt or suspicious, of each split.

    Of a study also its rasters at its places: where they have no data, which say the same, which are in another unit
    than the table's columns. Exits with 1 if something would break a run, else with 0.
    """
    from releve.ingest.inventory import check_release, render_inventory
    from releve.ingest.study import Study, open_source

    source = open_source(data)
    if isinstance(source, Study):
        from releve.study.check import check_study

        inventory = check_study(source)
    else:
        inventory = check_release(source)
    if as_json:
        print_json(inventory.to_dict())
    else:
        shown = render_inventory(inventory)
        needed = Console(width=10_000).measure(shown).minimum + 3  # so that no name is broken in its middle
        Console(width=max(Console().width, needed)).print(shown)
    raise typer.Exit(1 if inventory.breaks_run else 0)


@app.command()
def prepare(
    data: Data,
    out: Annotated[Path, typer.Option("--out", help="Folder of the store")],
    recipe: NoRecipe = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    scheduler: Scheduler = None,
    settings: Settings = None,
) -> None:
    """Pack a release or a study into a store: one folder of tables and memory-mapped arrays.

    A call that was killed goes on where it stopped, and ends with the same bytes.
    """
    config, chosen = settings_of(recipe, data, settings)
    from releve import pipeline

    options: dict[str, Any] = {"seed": seed, "overwrite": overwrite, "scheduler": scheduler}
    store = pipeline.prepare(config, data, out, **options, **chosen)
    print_store(store)


@app.command()
def group(
    data: Annotated[Path, typer.Argument(help="Folder of an official release", callback=existing(A_RELEASE))],
    out: Annotated[Path, typer.Option("--out", help="Folder for the tables and diagnostics")],
    split: Annotated[str, typer.Option("--split", help="Split of presence-only records")] = "po",
    recipe: Annotated[Path | None, typer.Option("--recipe", help="Recipe with sections clean and pseudoplots")] = None,
    overwrite: Overwrite = False,
    settings: Settings = None,
) -> None:
    """Clean presence-only records and group close ones into pseudo-plots, to look at or to use elsewhere.

    Writes OUT/pseudoplots.parquet, species.parquet, members.parquet, the counts of what was flagged and dropped, and
    diagnostics. `releve prepare` does the same inside when a recipe names `data.records`.
    """
    from releve.config import apply_override, load_config, make_config

    if recipe is None:
        content: dict[str, Any] = {}
        for text in settings or []:
            apply_override(content, text)
        config = make_config(content, origin="--set")
    else:
        config = load_config(recipe, settings)
    from releve import pipeline

    print(pipeline.group(config, data, split, out, overwrite=overwrite) / "diagnostics.png")
