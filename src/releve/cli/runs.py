"""Commands that train, judge, explain and use a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from releve.cli.app import app
from releve.cli.options import (
    A_RUN,
    AsJson,
    Data,
    NoRecipe,
    Overwrite,
    Recipe,
    Resume,
    Run,
    Scheduler,
    Seed,
    Settings,
    StoreFolder,
    existing,
    run_with,
    settings_of,
)
from releve.cli.show import print_comparison, print_facts, print_json, print_rows, print_scores
from releve.errors import RunError
from releve.progress import console, say


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
        print_facts(f"training of {recipe.name} on {store}", estimate_training(config, open_store(store), seed=seed))
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
    print_facts(f"run in {out}", facts)


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

    evaluation = pipeline.evaluate(run_with(run, settings, ("evaluate.*", "train.device", "data.num_workers"), seed))
    if as_json:
        print_json({"models": evaluation.tables["scores"].to_dicts()})
    else:
        print_scores(evaluation.table().to_dicts())


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

    opened = run_with(run, settings, ("train.device",))
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
            callback=existing("a release or a table"),
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
            callback=existing("a folder, a raster or a study.toml"),
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
    opened = run_with(run, settings, ("train.device", "data.num_workers"))
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
    config, chosen = settings_of(recipe, data, settings)
    from releve import pipeline

    options: dict[str, Any] = {"seed": seed, "resume": resume, "overwrite": overwrite, "scheduler": scheduler}
    evaluation = pipeline.run(config, data, out, **options, **chosen)
    print_scores(evaluation.table().to_dicts())


@app.command()
def score(
    predictions: Annotated[
        Path, typer.Argument(help="CSV file: surveyId,predictions", callback=existing("a table of lists"))
    ],
    solution: Annotated[
        Path,
        typer.Argument(help="CSV file: surveyId,target_species_ids", callback=existing("a table of species")),
    ],
    as_json: AsJson = False,
) -> None:
    """Score a submission against a solution: sets of species, a missing survey scores 0."""
    from releve.evaluate.submission import score_files

    scores = score_files(predictions, solution).summary()
    names = ("sample_f1", "micro_f1", "macro_f1", "precision", "recall", "num_surveys")
    chosen = {name: scores[name] for name in names}
    if as_json:
        print_json(chosen)
    else:
        print_facts(f"{predictions.name} against {solution.name}", chosen)


@app.command()
def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(
            help="Evaluated runs; the others are compared with the first", callback=existing(A_RUN, "run.json")
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
        print_json({"runs": table.to_dicts()})
    else:
        print_comparison(table.to_dicts())


@app.command()
def ensemble(
    runs: Annotated[
        list[Path], typer.Argument(help="Two or more runs on one release", callback=existing(A_RUN, "run.json"))
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
    print_facts(f"ensemble in {out}", facts)
    print_scores(evaluation.table().to_dicts())


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
        print_json({"candidates": table.to_dicts()})
    else:
        print_rows("Spatial cross-validation, the best first", table.columns, [list(row) for row in table.rows()])
