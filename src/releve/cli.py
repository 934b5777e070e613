"""The command line. Each command reads what the one before it wrote; none asks a question."""

from __future__ import annotations

import math
import os
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text
from typer.core import TyperGroup

import releve
from releve.errors import ProcessError, ReleveError, RunError
from releve.progress import console, say

app = typer.Typer(
    name="releve",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="""Which plants grow here? From plots, records and rasters, or an official release, to scored species lists.

Start with `releve demo`; with a folder of your own: `releve init FOLDER`, then `releve check study.toml` and
`releve run --data study.toml --out RUN`; or with a GeoPlant / GeoLifeCLEF release: `releve check RELEASE`, then
`releve run RECIPE --data RELEASE --out RUN`. Recipes are TOML files; see `recipes/`.""",
)


def _found(what: str, marker: str = "") -> Any:
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


def _found_one(path: Path | None) -> Path | None:
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
    Path, typer.Option("--data", help="Folder of an official release, or a study.toml", callback=_found(A_RELEASE))
]
Scheduler = Annotated[
    str | None,
    typer.Option("--scheduler", help="Read rasters by the workers of a Dask scheduler: its address, or local"),
]
Run = Annotated[Path, typer.Argument(help="Run made by releve train", callback=_found(A_RUN, "run.json"))]
StoreFolder = Annotated[
    Path, typer.Option("--store", help="Store made by releve prepare", callback=_found(A_STORE, "manifest.json"))
]
MapsFolder = Annotated[
    Path,
    typer.Argument(help="Maps made by releve map", callback=_found("maps, as releve map draws them", "manifest.json")),
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of everything random")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what an earlier call wrote")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with a run that was stopped")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.FIELD=VALUE", help="Change one value of the recipe; may be repeated"),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else on standard output")]


def main() -> None:
    """Run the command line; a problem the user can mend is one message and exit code 2."""
    try:
        app()
    except (ReleveError, OSError) as error:
        if os.environ.get("RANK", "0") != "0" and not isinstance(error, ProcessError):
            sys.exit(2)  # the first of several processes says it
        Console(stderr=True, soft_wrap=True).print(Text("error:", style="bold red"), Text(str(error)))
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


@app.callback(invoke_without_command=True)
def version(
    context: typer.Context,
    show: Annotated[bool, typer.Option("--version", help="Print the version and exit")] = False,
) -> None:
    """Hold the options of the program itself."""
    if show:
        print(releve.__version__)
        raise typer.Exit
    if os.environ.get("WORLD_SIZE", "1") != "1" and context.invoked_subcommand != "train":
        raise RunError(
            f"torchrun started {os.environ['WORLD_SIZE']} processes of releve {context.invoked_subcommand}",
            expected="releve train, the one command that several processes share",
            action="Run releve prepare, torchrun -m releve train, releve evaluate and releve predict one by one",
        )


def _settings(recipe: Path | None, data: Path, overrides: list[str] | None) -> tuple[Any, dict[str, Any]]:
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
    config = _checked(SimulateConfig, content, settings)
    make_way(out, "simulate", overwrite=overwrite)
    started = time.monotonic()
    summary = simulate_release(config, out)
    entries = sorted(path.name for path in out.iterdir())
    write_provenance(out, "simulate", started, config=config.model_dump(mode="json"), seed=config.seed, entries=entries)
    _print_facts(f"simulated release in {out}", asdict(summary))


@app.command()
def init(
    folder: Annotated[
        Path,
        typer.Argument(
            help="Folder with your plots, records and rasters, at any depth",
            callback=_found("the folder of your plots, records and rasters"),
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
    _print_titled(f"Found in {folder}", found_table(found))
    for title, lines in told_lines(found, out).items():
        _print_lines(title, lines)


@app.command()
def check(
    data: Annotated[
        Path,
        typer.Argument(
            help="Folder of an official release, or the study.toml of your own study",
            callback=_found("the folder of a release, or a study.toml"),
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
        _print_json(inventory.to_dict())
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
    config, chosen = _settings(recipe, data, settings)
    from releve import pipeline

    options: dict[str, Any] = {"seed": seed, "overwrite": overwrite, "scheduler": scheduler}
    store = pipeline.prepare(config, data, out, **options, **chosen)
    _print_store(store)


@app.command()
def group(
    data: Annotated[Path, typer.Argument(help="Folder of an official release", callback=_found(A_RELEASE))],
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


@app.command()
def train(
    recipe: Recipe,
    store: StoreFolder,
    out: Annotated[Path, typer.Option("--out", help="Folder of the run")],
    resume: Resume = False,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what it will take, after a few steps on trial, and write nothing")
    ] = False,
    settings: Settings = None,
) -> None:
    """Train the members of a recipe on a store, and fit calibration and list rule on held-out blocks.

    On several GPUs or machines: `torchrun --nproc-per-node 2 -m releve train ...`; the processes share every step.
    """
    from releve.config import load_config

    config = load_config(recipe, settings)
    from releve import pipeline
    from releve.runs.estimate import estimate_training
    from releve.store.read import open_store
    from releve.train.processes import joined_processes, processes, wanted_ranks

    if dry_run and wanted_ranks() > 1:
        raise RunError("--dry-run by several processes", action="Start it without torchrun")
    if dry_run:
        _print_facts(f"training of {recipe.name} on {store}", estimate_training(config, open_store(store), seed=seed))
        return
    with joined_processes():
        is_first = processes().rank == 0
        console.quiet = not is_first
        run = pipeline.train(config, open_store(store), out, seed=seed, resume=resume, overwrite=overwrite)
        if not is_first:
            return
    facts: dict[str, Any] = {"members": len(run.members), "list rule": run.decision.rule}
    for kind, fitted in run.decision.kinds.items():
        facts[f"{kind}: share"] = fitted.share
        facts[f"{kind}: calibration"] = fitted.calibration.summary()
        facts[f"{kind}: slope of the mean of two folds"] = round(fitted.stretch.slope_of_two, 3)
    _print_facts(f"run in {out}", facts)


@app.command()
def evaluate(
    run: Run,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Seed of intervals and reference models")] = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Score a run on its held-out blocks beside reference models fitted on the same folds.

    Tables go to RUN/evaluation, a page to RUN/report.html and documents beside it; earlier ones are replaced. Only
    `evaluate.*`, `train.device` and `data.num_workers` can be changed with --set: the rest is fixed in the run.
    """
    from releve import pipeline

    evaluation = pipeline.evaluate(_open_run(run, settings, ("evaluate.*", "train.device", "data.num_workers"), seed))
    if as_json:
        _print_json({"models": evaluation.tables["scores"].to_dicts()})
    else:
        _print_scores(evaluation.table().to_dicts())


@app.command()
def report(run: Run) -> None:
    """Write the report of a run again, without evaluating again.

    RUN/report.html is one page for the screen, the phone and paper; beside it the ODMAP protocol (odmap.csv, .html), a
    model card, a methods paragraph and the citations of the data.
    """
    from releve.report.write import write_report
    from releve.runs.folder import open_run

    for file in write_report(open_run(run)):
        say(f"wrote {file}")


@app.command()
def explain(
    run: Run,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for the tables and the page", show_default="RUN/explain")
    ] = None,
    species: Annotated[
        list[str] | None,
        typer.Option("--species", metavar="NAME", help="A species, by name or id; may be repeated"),
    ] = None,
    variables: Annotated[
        list[str] | None,
        typer.Option("--variable", metavar="NAME", help="Also draw the response to this variable; may be repeated"),
    ] = None,
    pair: Annotated[
        tuple[str, str] | None, typer.Option("--pair", metavar="NAME NAME", help="Draw the response to two variables")
    ] = None,
    plot: Annotated[
        str | None, typer.Option("--plot", metavar="ID", help="Show what this plot's patch and series add")
    ] = None,
    seed: Seed = 0,
    settings: Settings = None,
) -> None:
    """Say what drives a run: importance of variables, response curves, limiting factors; of a plot, its saliency.

    Importance is measured on held-out surveys, by variable, group and modality. Curves and limiting factors are of the
    expected number of species, or of each --species. Tables and explain.html go to RUN/explain, and a section to the
    run's report. Only `train.device` can be changed with --set.
    """
    from releve import pipeline
    from releve.explain.explain import Asked

    opened = _open_run(run, settings, ("train.device",))
    asked = Asked(tuple(species or ()), tuple(variables or ()), () if pair is None else (pair,), plot)
    say(f"wrote {pipeline.explain(opened, asked, out, seed=seed)}")


@app.command()
def predict(
    run: Run,
    data: Annotated[
        Path,
        typer.Option(
            "--data",
            help="A release or study, or a CSV / parquet table of places: longitude, latitude, an id if there is one",
            callback=_found("a release or a table"),
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="CSV file: surveyId,predictions")],
    split: Annotated[str, typer.Option("--split", help="Split of the release; not used for a table")] = "test",
    probabilities: Annotated[
        Path | None, typer.Option("--probabilities", help="Also write a parquet table: survey, species, probability")
    ] = None,
    seen: Annotated[
        str | None,
        typer.Option("--seen", metavar="COLUMN", help="Column of the table: species seen there, separated by ;"),
    ] = None,
    rasters: Annotated[
        Path | None,
        typer.Option(
            "--rasters",
            help="Rasters that the table's covariates are taken from: a folder, a file or a study.toml",
            show_default="those of the run's study",
            callback=_found("a folder, a raster or a study.toml"),
        ),
    ] = None,
    crs: Annotated[
        str | None,
        typer.Option("--crs", help="Coordinate system of the table, such as EPSG:25832", show_default="degrees"),
    ] = None,
    settings: Settings = None,
    overwrite: Overwrite = False,
) -> None:
    """Predict the species list of every survey of a split, or of a table of your own.

    Covariates that the table lacks are taken from rasters, so that coordinates are enough.

    Beside OUT.csv, OUT.places.csv says how far each place is from the training plots and from what the model has seen.
    With --seen, the species that you have already found at a place are in its list, and what else grows there is told
    by them too; where the column is empty, nothing changes.
    Only `train.device` and `data.num_workers` can be changed with --set: the rest is fixed in the run.
    """
    from releve import pipeline
    from releve.predict.tables import check_probabilities_name

    if probabilities is not None:
        check_probabilities_name(probabilities)
    opened = _open_run(run, settings, ("train.device", "data.num_workers"))
    options: dict[str, Any] = {"probabilities": probabilities, "seen": seen, "rasters": rasters, "crs": crs}
    made = pipeline.predict(opened, data, split, out, **options, overwrite=overwrite)
    mean = made.num_listed / made.num_surveys
    say(f"{made.num_surveys:,} lists, {mean:.1f} species on average, in {out}")


@app.command()
def run(
    data: Data,
    out: Annotated[Path, typer.Option("--out", help="Folder of the run")],
    recipe: NoRecipe = None,
    resume: Resume = False,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    scheduler: Scheduler = None,
    settings: Settings = None,
) -> None:
    """Do it all: prepare, train, evaluate, and predict the test split into OUT/predictions.csv.

    The store is kept in OUT/store. A run that was stopped goes on with --resume. A study of your own needs no recipe:
    regime, folds and sizes are chosen from its data, and said.
    """
    config, chosen = _settings(recipe, data, settings)
    from releve import pipeline

    options: dict[str, Any] = {"seed": seed, "resume": resume, "overwrite": overwrite, "scheduler": scheduler}
    evaluation = pipeline.run(config, data, out, **options, **chosen)
    _print_scores(evaluation.table().to_dicts())


@app.command()
def score(
    predictions: Annotated[
        Path, typer.Argument(help="CSV file: surveyId,predictions", callback=_found("a table of lists"))
    ],
    solution: Annotated[
        Path,
        typer.Argument(help="CSV file: surveyId,target_species_ids", callback=_found("a table of species")),
    ],
    as_json: AsJson = False,
) -> None:
    """Score a submission against a solution: sets of species, a missing survey scores 0."""
    from releve.evaluate.submission import score_files

    scores = score_files(predictions, solution).summary()
    names = ("sample_f1", "micro_f1", "macro_f1", "precision", "recall", "num_surveys")
    chosen = {name: scores[name] for name in names}
    if as_json:
        _print_json(chosen)
    else:
        _print_facts(f"{predictions.name} against {solution.name}", chosen)


@app.command()
def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(
            help="Evaluated runs; the others are compared with the first", callback=_found(A_RUN, "run.json")
        ),
    ],
    solution: Annotated[
        Path | None, typer.Option("--solution", help="CSV file: surveyId,target_species_ids of the test split")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Also write the table to this CSV file")] = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Put several runs into one table: scores on held-out blocks, and the paired gain over the first run.

    With --solution, the lists of the test split (RUN/predictions.csv) are scored too.
    """
    from releve.evaluate.compare import compare_runs
    from releve.files import write_text

    table = compare_runs(runs, solution, seed=seed)
    if out is not None:
        write_text(out, table.write_csv())
    if as_json:
        _print_json({"runs": table.to_dicts()})
    else:
        _print_comparison(table.to_dicts())


@app.command()
def ensemble(
    runs: Annotated[
        list[Path], typer.Argument(help="Two or more runs on one release", callback=_found(A_RUN, "run.json"))
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of the ensemble")],
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Combine runs into one, weighted by what held-out plots say, and evaluate it.

    Other seeds, other regimes, other settings, such as a run that does not see coordinates. The ensemble refers to the
    runs; `releve evaluate`, `compare`, `report` and `predict` take it like a run.
    """
    from releve import pipeline
    from releve.runs.ensemble import make_ensemble

    made = make_ensemble(runs, out, seed=seed, overwrite=overwrite)
    evaluation = pipeline.evaluate(made)
    facts = {kind: f"share {fitted.share:.2f}" for kind, fitted in made.decision.kinds.items()}
    _print_facts(f"ensemble in {out}", facts)
    _print_scores(evaluation.table().to_dicts())


@app.command()
def select(
    recipe: Recipe,
    store: StoreFolder,
    trials: Annotated[
        list[str],
        typer.Option("--try", metavar="SECTION.FIELD=A,B", help="Values to try; all combinations if repeated"),
    ],
    out: Annotated[Path | None, typer.Option("--out", help="Also write the table to this CSV file")] = None,
    folds: Annotated[int, typer.Option("--folds", min=1, help="Spatial folds that are held out in turn")] = 3,
    seed: Seed = 0,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Choose settings, such as the background mixture, by spatial cross-validation.

    Regime `po` is scored on held-out presence-only sites: where a species was recorded against where others were.
    Random cross-validation is shown beside as a warning: it flatters models that remember places.
    """
    from releve.config import load_config

    config = load_config(recipe, settings)
    from releve.evaluate.select import select_settings
    from releve.files import write_text
    from releve.runs.claim import check_store_matches
    from releve.store.read import open_store

    opened = open_store(store)
    check_store_matches(config, opened)
    table = select_settings(config, opened, trials, num_folds=folds, seed=seed)
    if out is not None:
        write_text(out, table.write_csv())
    if as_json:
        _print_json({"candidates": table.to_dicts()})
    else:
        _print_rows("Spatial cross-validation, the best first", table.columns, [list(row) for row in table.rows()])


class MapCommands(TyperGroup):
    """``releve map RUN`` draws; a word that is none of the other commands is a run."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put in the command that is meant where none is named."""
        named = args and (args[0] in self.commands or args[0] == "--help")
        return super().parse_args(ctx, args if named or not args else ["draw", *args])


maps_app = typer.Typer(
    cls=MapCommands,
    no_args_is_help=True,
    help="Draw maps of a run: `releve map RUN --out MAPS`; then what can be made of them.",
)
app.add_typer(maps_app, name="map")


@maps_app.command("draw")
def draw_map(
    run: Run,
    out: Annotated[Path, typer.Option("--out", help="Folder of the maps; a call that was killed goes on there")],
    rasters: Annotated[
        Path | None,
        typer.Option(
            "--rasters", help="Where covariates are taken from: a folder, a file or a study.toml", callback=_found_one
        ),
    ] = None,
    bounds: Annotated[
        tuple[float, float, float, float] | None,
        typer.Option("--bounds", metavar="W S E N", help="What is mapped, in degrees; W may lie east of E"),
    ] = None,
    region: Annotated[
        Path | None, typer.Option("--region", help="Polygons, as GeoPackage or GeoJSON", callback=_found_one)
    ] = None,
    resolution: Annotated[
        float | None, typer.Option("--resolution", metavar="M", help="Side of a cell in metres")
    ] = None,
    crs: Annotated[
        str | None, typer.Option("--crs", help="Of the map, such as EPSG:3035", show_default="the rasters' own")
    ] = None,
    year: Annotated[
        int | None, typer.Option("--year", help="Of the survey that is predicted", show_default="typical of training")
    ] = None,
    area_m2: Annotated[
        float | None, typer.Option("--area-m2", help="Plot area that is predicted", show_default="typical of training")
    ] = None,
    groups: Annotated[
        Path | None,
        typer.Option("--groups", help="Table group, species of indicators to map", callback=_found_one),
    ] = None,
    species: Annotated[
        list[str] | None, typer.Option("--species", metavar="NAME", help="Also write this species' image; repeatable")
    ] = None,
    group: Annotated[
        list[str] | None, typer.Option("--group", metavar="NAME", help="Also write images of a group of --groups")
    ] = None,
    precision: Annotated[
        str | None, typer.Option("--precision", help="fp32 or bf16", show_default="as trained")
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option("--scheduler", help="Draw by the workers of a Dask scheduler: its address, or local")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it will take, and write nothing")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Predict every cell of a region: what grows there, how many species, and where the model is guessing.

    OUT holds richness, list lengths, disagreement and novelty as GeoTIFFs, the likely species of every cell and the
    places of every species, and maps.html, which shows them. Memory does not grow with the map.
    """
    from releve.predict.maps.draw import Request, draw_maps, estimate_maps
    from releve.predict.maps.export import species_of
    from releve.predict.maps.grid import Bounds
    from releve.report.map_page import write_maps_page

    if precision not in (None, "fp32", "bf16"):
        raise RunError(f"--precision {precision}", expected="fp32 or bf16")
    within = None if bounds is None else Bounds(*bounds)
    shown = tuple(species or ()), tuple(group or ())
    request = Request(rasters, within, region, resolution, crs, year, area_m2, groups, precision, *shown)
    if dry_run:
        facts = asdict(estimate_maps(run, request))
        sizes = facts.pop("num_bytes")
        facts |= {f"{name} (MB)": f"{size / 1e6:,.0f}" for name, size in sizes.items()}
        _print_facts(f"maps of {run}", facts)
        return
    maps = draw_maps(run, out, request, overwrite=overwrite, scheduler=scheduler)
    page = write_maps_page(maps, species_of(maps, *shown))
    facts = {"cells mapped": f"{maps.manifest.num_cells:,}", "species kept a cell": maps.manifest.kept_per_cell}
    _print_facts(
        f"maps in {out}",
        facts | {name: each.file for name, each in maps.manifest.products.items()} | {"page": page.name},
    )


@maps_app.command("export")
def export_map(
    maps: MapsFolder,
    out: Annotated[Path, typer.Option("--out", help="Folder of the images")],
    species: Annotated[
        list[str] | None, typer.Option("--species", metavar="NAME", help="A species to write; may be repeated")
    ] = None,
    group: Annotated[
        list[str] | None, typer.Option("--group", metavar="NAME", help="Write all species of a group of the maps")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write the map of a species as a GeoTIFF: its probability, and where it is in the cell's list.

    Nothing is predicted: the images come from what was kept of each cell.
    """
    from releve.predict.maps.export import export_species, species_of
    from releve.predict.maps.read import open_maps

    drawn = open_maps(maps)
    images = export_species(drawn, species_of(drawn, species or [], group or []), out, overwrite=overwrite)
    _print_facts(f"species in {out}", {image.title: image.file for image in images})


@maps_app.command("change")
def change_map(
    first: MapsFolder,
    second: MapsFolder,
    out: Annotated[Path, typer.Option("--out", help="Folder of the images and their page")],
    overwrite: Overwrite = False,
) -> None:
    """Show what changes from one map to another: species gained and lost, and turnover.

    Both are of one grid and of the same species: of two years (`--year`), or from two stacks of rasters (`--rasters`).
    """
    from releve.predict.maps.change import compare_maps
    from releve.predict.maps.read import open_maps
    from releve.report.map_page import write_change_page

    change = compare_maps(open_maps(first), open_maps(second), out, overwrite=overwrite)
    page = write_change_page(change, out)
    for note in change.notes:
        say(note)
    facts = {"cells of both": f"{change.num_cells:,}"}
    _print_facts(
        f"change in {out}", facts | {name: each.file for name, each in change.products.items()} | {"page": page.name}
    )


@maps_app.command("limiting")
def limiting_map(
    maps: MapsFolder,
    out: Annotated[Path, typer.Option("--out", help="Folder of the images")],
    species: Annotated[
        list[str] | None,
        typer.Option("--species", metavar="NAME", help="A species; may be repeated", show_default="the community"),
    ] = None,
) -> None:
    """Show what holds species back: for each cell the covariate whose change would help most.

    Every cell is predicted once for each covariate: draw coarse maps for it (`--resolution`).
    """
    from releve.explain.limiting_map import draw_limiting
    from releve.predict.maps.export import species_of
    from releve.predict.maps.read import open_maps

    drawn = open_maps(maps)
    images = draw_limiting(drawn, species_of(drawn, species) if species else [None], out)
    _print_facts(f"limiting factors in {out}", {image.title: image.file for image in images})


@maps_app.command("summary")
def summarise_map(
    maps: MapsFolder,
    zones: Annotated[
        Path, typer.Option("--zones", help="Polygons, as GeoPackage, GeoJSON or shapefile", callback=_found("polygons"))
    ],
    out: Annotated[Path, typer.Option("--out", help="Table: .csv, with another of species beside it, or .gpkg")],
    overwrite: Overwrite = False,
) -> None:
    """Sum a map up by polygon: means over their area, the share where the model guesses, and the species of each.

    Cells that a border cuts count in part. Means are of what a plot in the polygon is expected to hold; how many
    species the whole polygon holds is not known from them.
    """
    from releve.predict.maps.read import open_maps
    from releve.predict.maps.summary import summarise_zones, write_summary

    summary = summarise_zones(open_maps(maps), zones)
    for note in summary.notes:
        say(note)
    files = write_summary(summary, zones, out, overwrite=overwrite)
    facts = {"zones": f"{summary.zones.height:,}", "rows of species": f"{summary.species.height:,}"}
    _print_facts("zones of the map", facts | {"written": ", ".join(map(str, files))})


benchmark = typer.Typer(no_args_is_help=True, help="Score Relevé on public benchmarks, beside reference models.")
app.add_typer(benchmark, name="benchmark")


@benchmark.command()
def nceas(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", help="Folder with the regions' tables, at any depth", callback=_found("a folder of regions")
        ),
    ],
    as_json: AsJson = False,
    buffer_km: Annotated[
        float, typer.Option("--buffer-km", help="Leave out presence-only sites nearer than this to any plot")
    ] = 0.0,
    seed: Seed = 0,
    regions: Annotated[
        list[str] | None, typer.Option("--regions", metavar="NAME", help="Run this region only; may be repeated")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for species.csv, summary.json and auc.png; replaced if there")
    ] = None,
    no_references: Annotated[
        bool, typer.Option("--no-references", help="Leave out MaxEnt and the down-sampled forests")
    ] = False,
) -> None:
    """Train on presence-only records and score on independent plots: the NCEAS benchmark of Elith et al. (2020).

    DIR holds tables of the R package disdat as parquet or CSV: `AWTtrain_po`, `AWTtrain_bg`, `AWTtest_env_bird`,
    `AWTtest_pa_bird`, and so on. AUC and average precision are means over species, each scored on the plots of its
    own survey group, with the gain over each reference model and its 95 % interval. The reference model MaxEnt needs
    `pip install "releve[benchmark]"`.
    """
    from releve.nceas.figure import make_folder, write_results
    from releve.nceas.protocol import overall_rows, region_rows, run_benchmark

    if out is not None:
        make_folder(out)
    result = run_benchmark(folder, seed=seed, buffer_km=buffer_km, regions=regions, references=not no_references)
    if out is not None:
        write_results(result, out)
    if as_json:
        _print_json(result.to_dict())
        return
    for title, rows in {
        "All species, on independent plots": overall_rows(result),
        "AUC (average precision) by region (number of species)": region_rows(result),
    }.items():
        _print_rows(title, list(rows[0]), [list(row.values()) for row in rows])
    for name, lines in result.notes.items():
        for line in lines:
            say(f"{name}: {line}")


def _open_run(path: Path, settings: list[str] | None, free: tuple[str, ...], seed: int | None = None) -> Any:
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


def _checked(model: Any, content: dict[str, Any], settings: list[str] | None) -> Any:
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


def _print_json(content: dict[str, Any]) -> None:
    """Print one object, in which what is not defined is null."""
    from releve.files import json_text

    print(json_text(content))


def _print_facts(title: str, facts: dict[str, Any]) -> None:
    table = Table(show_header=False)
    for name, value in facts.items():
        table.add_row(Text(name.replace("_", " ")), Text(_told(value, digits=4)))
    _print_titled(title, table)


def _print_rows(title: str, head: list[str], rows: list[list[Any]]) -> None:
    """Print a table whose first column are names: they stay whole, however long."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    for i, name in enumerate(head):
        table.add_column(Text(name), justify="right" if i else "left")
    for row in rows:
        table.add_row(*(Text(_told(value)) for value in row))
    _print_titled(title, table)


def _print_titled(title: str, table: Table) -> None:
    """Print a title and a table that is as wide as it must be: no name of a file is broken in its middle."""
    from rich.measure import Measurement

    console = Console()
    console.print(Text(title, style="italic"), soft_wrap=True)
    width = max(console.width, Measurement.get(console, console.options.update(width=9999), table).maximum)
    Console(width=width).print(table)


def _print_lines(title: str, lines: list[str]) -> None:
    """Print sentences as they are: the terminal breaks them, no name of a file is broken by us."""
    for line in (Text(title, style="italic"), *map(Text, lines), Text("")):
        Console().print(line, soft_wrap=True)


def _told(value: Any, digits: int = 3) -> str:
    """Return a value as people read it: a number with some decimals, a dash where there is none."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "\N{EN DASH}"
    if not isinstance(value, float):
        return str(value)
    return f"{value:.{digits}f}" if digits > 3 else _short(value)


def _print_store(store: Any) -> None:
    manifest = store.manifest
    facts: dict[str, Any] = {"surveys": f"{manifest.num_surveys:,}", "species": f"{manifest.num_species:,}"}
    for name, array in manifest.arrays.items():
        facts[name] = f"{array.num_rows:,} surveys of {array.shape} {array.dtype}, {array.encoding}"
    for split, reasons in manifest.dropped.items():
        for reason, count in reasons.items():
            what = f"{reason} masked" if split.endswith("covariates") else reason
            facts[f"{split}: {what}"] = f"{count:,}"
    if manifest.problems:
        facts["files that could not be read"] = f"{len(manifest.problems):,}, listed in manifest.json"
    if manifest.leakage:
        nearest = min(row["nearest_train_km"] for row in manifest.leakage)
        median = sum(row["median_train_km"] for row in manifest.leakage) / len(manifest.leakage)
        facts["validation to nearest training row"] = f"{nearest:.1f} km at least, {median:.1f} km in the median"
    _print_facts(f"store in {store.path}", facts)


def _print_scores(rows: list[dict[str, Any]]) -> None:
    """Print one line a model; the file of scores holds more numbers with more digits."""
    names = {"sample_f1": "sF1", "interval": "95 %", "gain": "gain of the run", "macro_f1": "macro", "auc_macro": "AUC"}
    if any("auc_gain" in row for row in rows):
        names = {"auc_macro": "AUC", "auc_gain": "gain of the run", "ap_macro": "AP", "boyce": "Boyce"}
    shown = []
    for row in rows:
        interval = f"{_told(row['sample_f1_low'])}\N{EN DASH}{_told(row['sample_f1_high'])}"
        whole = row | {"interval": interval}
        whole |= {name: "" if row["is_model"] else _gain(row, name) for name in ("gain", "auc_gain") if name in names}
        shown.append([row["model"], *(whole[name] for name in names)])
    what = "How well held-out places are ranked" if "auc_gain" in names else "F1 and more on held-out spatial blocks"
    _print_rows(what, ["model", *names.values()], shown)


def _print_comparison(rows: list[dict[str, Any]]) -> None:
    """Print one line a run; --json and --out hold more numbers with more digits."""
    names = {"regime": "regime", "records": "records", "sample_f1": "sF1", "gain": "gain (95 %)"}
    names |= {"macro_f1": "macro", "auc_macro": "AUC"}
    names |= {"test_sample_f1": "test sF1"} if "test_sample_f1" in rows[0] else {}
    shown = []
    for row in rows:
        whole = row | {"gain": "reference" if row["is_reference"] else _gain(row)}
        shown.append([row["run"], *(whole[name] for name in names)])
    _print_rows(f"{rows[0]['num_plots']:,} plots that all runs have held out", ["run", *names.values()], shown)


def _gain(row: dict[str, Any], name: str = "gain") -> str:
    """Return a paired difference with its interval, as ``+.012 (+.003, +.020)``."""
    values = [row[f"{name}{end}"] for end in ("", "_low", "_high")]
    gain, *ends = (
        f"{value:+.3f}".replace("0.", ".") if value is not None and math.isfinite(value) else "\N{EN DASH}"
        for value in values
    )
    return f"{gain} ({', '.join(ends)})"


def _short(value: float) -> str:
    """Return a score with three decimals, as ``.206``."""
    return f"{value:.3f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.3f}"


if __name__ == "__main__":
    main()
