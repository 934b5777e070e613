"""The steps of a run, each reading only what the step before it wrote: prepare, train, evaluate, predict."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from releve.config import Config
from releve.decide.companions import fit_companions, write_companions
from releve.decide.decision import fit_decision
from releve.errors import RunError
from releve.files import atomic_path, file_sha256, make_way, write_json, write_parquet, write_text
from releve.geo import block_ids
from releve.ingest.study import Source, Study, open_source
from releve.lists import Lists
from releve.models.kinds import TABLE_KINDS
from releve.predict.novelty import write_novelty
from releve.predict.novelty_fit import fit_novelty
from releve.predict.places import describe_places, places_file, say_places
from releve.predict.seen import read_seen
from releve.predict.tables import Predicted, store_for_prediction, write_predictions
from releve.prepare.records import prepare_records
from releve.progress import progress_bar, say
from releve.runs.claim import check_store_matches, claim_folder, identity_of, refuse_folder, store_path_from
from releve.runs.folder import COMPANIONS_FILE, FILES, Run, open_run
from releve.runs.predict import fit_stretches, predict_held_out
from releve.runs.provenance import add_step, write_provenance
from releve.store.build import build_store
from releve.store.contents import read_contents
from releve.store.layers import rasters_in
from releve.store.read import Store
from releve.train.loop import train_member
from releve.train.members import Member, fit_member, plan_members
from releve.train.processes import processes
from releve.train.trouble import out_of_memory_explained

if TYPE_CHECKING:
    from releve.evaluate.evaluation import Evaluation
    from releve.explain.explain import Asked


def prepare(
    config: Config,
    data: Path,
    out: Path,
    *,
    seed: int = 0,
    overwrite: bool = False,
    scheduler: str | None = None,
    reasons: Sequence[str] = (),
    source: Source | None = None,
) -> Store:
    """Build the store of a recipe from a release or study, and its ``run.json``, which says what chose the settings.

    ``source`` is what lies at ``data``, where it was opened before: a study's tables are then not read again.
    """
    started = time.monotonic()
    work = Path(out).with_name(Path(out).name + ".rasters")  # kept by a call that is killed, for the next one
    settings: dict[str, Any] = {"clean": config.clean, "pseudoplots": config.pseudoplots}
    source = source or open_source(data)
    contents = read_contents(source, config.data, **settings, work=work, scheduler=scheduler)
    workers = config.data.num_workers
    store = build_store(contents, config.split, out, seed=seed, num_workers=workers, overwrite=overwrite)
    shutil.rmtree(work, ignore_errors=True)
    if not (out / "run.json").is_file():
        write_provenance(
            out,
            "prepare",
            started,
            config=config.model_dump(mode="json"),
            seed=seed,
            data=str(Path(data).resolve()) if Path(data).suffix == ".toml" else str(data),
            reasons=list(reasons),
            rasters=rasters_in(source, out),
            citation=source.config.citation if isinstance(source, Study) else "",
            inputs={"fingerprint": store.manifest.fingerprint},
        )
    return store


def group(config: Config, data: Path, split: str, out: Path, *, overwrite: bool = False) -> Path:
    """Clean and group a release's presence-only records into pseudo-plots; write tables and diagnostics to a folder.

    ``pseudoplots.parquet`` and ``species.parquet`` (plot_id, species_id, and species where they have names) are the
    result, ``members.parquet`` says which record went where, ``flagged.csv`` and ``dropped.csv`` count by publisher,
    ``diagnostics.json`` and ``.png`` show richness before and after, effort and trust.
    """
    from releve.prepare.pseudoplots.diagnostics import describe, draw_diagnostics

    started = time.monotonic()
    make_way(out, "group", overwrite=overwrite)
    source = open_source(data)
    made = prepare_records(source, split, config.clean, config.pseudoplots)
    out.mkdir(parents=True, exist_ok=True)
    kept, grouped = made.cleaned.table, made.pseudoplots
    members = grouped.members.with_columns(
        survey_id=kept["survey_id"].gather(grouped.members["record"]),
        species_id=kept["species_id"].gather(grouped.members["record"]),
    )
    tables = {
        "pseudoplots": made.table,
        "species": _with_names(grouped.labels.rename({"plot": "plot_id"}), source.species),
        "members": _with_names(members.drop("record").rename({"plot": "plot_id"}), source.species),
    }
    for name, table in tables.items():
        with atomic_path(out / f"{name}.parquet") as partial:
            write_parquet(partial, table)
    write_text(out / "flagged.csv", made.cleaned.flagged.write_csv())
    write_text(out / "dropped.csv", made.cleaned.dropped.write_csv())
    write_json(out / "diagnostics.json", describe(grouped, kept) | {"dropped": made.dropped})
    draw_diagnostics(grouped, out / "diagnostics.png", records=kept)
    files = [*(f"{name}.parquet" for name in tables), "flagged.csv", "dropped.csv"]
    entries = [*files, "diagnostics.json", "diagnostics.png"]
    settings = {name: getattr(config, name).model_dump(mode="json") for name in ("clean", "pseudoplots")}
    write_provenance(out, "group", started, config=settings, data=str(data), split=split, entries=entries)
    return out


def _with_names(table: pl.DataFrame, names: pl.DataFrame | None) -> pl.DataFrame:
    """Return a table of ``species_id`` with a column ``species`` where species have names."""
    if names is None:
        return table
    return table.join(names.rename({"name": "species"}), on="species_id", how="left", maintain_order="left")


def train(
    config: Config, store: Store, out: Path, *, seed: int = 0, resume: bool = False, overwrite: bool = False
) -> Run:
    """Train the members of a recipe, fit its decision on held-out rows, and return the run.

    Processes that ``torchrun`` started train each network together; what else there is to do, the first does alone.

    Parameters
    ----------
    config
        The recipe.
    store
        A store prepared by it.
    out
        Folder of the run.
    seed
        Seed of the members.
    resume
        Go on with a run that was stopped; the losses are those of an unbroken run.
    overwrite
        Start over where a run is.

    Raises
    ------
    StoreError
        If the store was prepared by another recipe.
    RunError
        If the folder is in use, or holds a run of another recipe, seed or store.
    """
    started = time.monotonic()
    check_store_matches(config, store)
    plan = plan_members(config, store, seed)
    inputs = {"store": file_sha256(store.path / "manifest.json"), "release": store.manifest.fingerprint}
    identity = {"recipe": identity_of(config), "seed": seed, "inputs": inputs}
    processes().on_first(lambda: claim_folder(out, identity, resume=resume, overwrite=overwrite))
    facts: dict[str, Any] = identity | {
        "config": config.model_dump(mode="json"),
        "store": store_path_from(out, store.path),
        "members": [asdict(member) for member in plan],
    }
    processes().on_first(lambda: write_provenance(out, "train", started, **facts))
    timings: dict[str, float] = {}
    num_epochs = sum(phase.epochs for phase in config.phases())
    with progress_bar() as bar:
        task = bar.add_task("train", total=len(plan) * num_epochs)
        for member in plan:
            member_started = time.monotonic()
            if member.kind in TABLE_KINDS:
                processes().on_first(partial(fit_member, store, member, config, out / member.name, resume=resume))
                bar.advance(task, num_epochs)
            else:
                advance = partial(bar.advance, task)
                settings = (config.model, config.train, config.split, out / member.name)
                options: dict[str, Any] = {"records": config.records, "resume": resume, "advance": advance}
                stop_after = None if member.fold is not None else mean_best_epochs(out, plan, config)
                with out_of_memory_explained(config.train):
                    train_member(store, member, *settings, **options, stop_after=stop_after)
            timings[member.name] = round(time.monotonic() - member_started, 1)
    processes().on_first(lambda: decide(Run(out, config, seed, tuple(plan))))
    processes().on_first(lambda: write_provenance(out, "train", started, **facts, timings=timings))
    return open_run(out)


def decide(run: Run) -> None:
    """Fit the decision of a run whose members are trained, what seen species say and how new a place is; write them."""
    rows, logits = predict_held_out(run)
    truth = run.store.labels.take(rows)
    decision = fit_decision(logits, truth, run.config.decide)
    blocks = block_ids(run.store.lon[rows], run.store.lat[rows], run.config.split.block_size_km)
    companions = fit_companions(decision.probs(logits), truth, blocks, seed=run.seed)
    if companions is not None:
        write_companions(run.path / COMPANIONS_FILE, companions)
    write_novelty(run, fit_novelty(run))
    if run.config.decide.calibration != "none":
        decision = decision.stretched(fit_stretches(run, decision, rows, logits))
    write_text(run.path / "decision.json", decision.model_dump_json(indent=1) + "\n")


def mean_best_epochs(out: Path, plan: list[Member], config: Config) -> int:
    """Return how many epochs of the last phase the networks that held out a fold were best after, on average."""
    first = sum(phase.epochs for phase in config.phases()) - config.train.epochs
    files = [out / m.name / "member.json" for m in plan if m.kind == "network" and m.fold is not None]
    best = [json.loads(file.read_text(encoding="utf-8"))["best_epoch"] + 1 - first for file in files]
    return round(sum(best) / len(best))


def evaluate(run: Run) -> Evaluation:
    """Score a run on its held-out folds; write the tables to ``RUN/evaluation``, and the report."""
    from releve.evaluate.coverage import conformal_held_out
    from releve.evaluate.evaluation import evaluate_held_out
    from releve.evaluate.held_out import assessment_groups, decide_held_out
    from releve.report.write import write_report

    started = time.monotonic()
    rows, logits = predict_held_out(run)
    truth, groups = run.store.labels.take(rows), assessment_groups(run.store, rows)
    promised = conformal_held_out(logits, truth, groups, run.config.decide)
    probs, lists = decide_held_out(logits, truth, groups, run.config.decide)
    del logits  # as large as the probabilities, and not needed beside the reference models'
    evaluation = evaluate_held_out(run.store, rows, probs, lists, run.config, seed=run.seed, promised=promised)
    folder = run.path / "evaluation"
    folder.mkdir(exist_ok=True)
    for name, table in evaluation.tables.items():
        write_text(folder / f"{name}.csv", table.write_csv())
        with atomic_path(folder / f"{name}.parquet") as part:
            write_parquet(part, table)
    write_json(folder / "scores.json", evaluation.tables["scores"].to_dicts())
    write_report(run)
    add_step(run.path, "evaluate", started)
    return evaluation


def predict(
    run: Run,
    data: Path,
    split: str,
    out: Path,
    *,
    probabilities: Path | None = None,
    seen: str | None = None,
    rasters: Path | None = None,
    crs: str | None = None,
    overwrite: bool = False,
) -> Predicted:
    """Write the submission of a split or table, how new its places are, and if asked sparse probabilities.

    ``seen`` is the column of a table that names the species known to be at each place; what its covariates are is
    taken from ``rasters``, by default those of the run's study, where the table does not say; ``crs`` is that of its
    coordinates.
    """
    for file in (out, places_file(out), probabilities):
        if file is not None and file.exists() and not overwrite:
            raise RunError(f"{file} exists", action="Give another name, or --overwrite")
    started = time.monotonic()
    sightings = None if seen is None else read_seen(run, data, seen)
    store = store_for_prediction(run, data, split, rasters=rasters, crs=crs)
    return _predict_store(run, store, out, started, data=data, probabilities=probabilities, seen=sightings)


def _predict_store(
    run: Run,
    store: Store,
    out: Path,
    started: float,
    *,
    data: Path,
    probabilities: Path | None = None,
    seen: Lists | None = None,
) -> Predicted:
    """Write what :func:`predict` does of the places of a store."""
    if store.path.is_dir() and not (store.path / "run.json").is_file():
        inputs = {"fingerprint": store.manifest.fingerprint}
        write_provenance(store.path, "prepare", started, config=store.manifest.recipe, data=str(data), inputs=inputs)
    places = describe_places(run, store)
    say_places(places)
    predicted = write_predictions(run, store, out, probabilities, seen)
    write_text(places_file(out), places.write_csv())
    if run.config.is_of_records_alone:
        say(
            f"{predicted.num_listed:,} species are listed at {predicted.num_surveys:,} places. The run learned from "
            "records alone, which do not tell how often a species is there: go by the order of the places "
            "(--probabilities), not by the lists"
        )
    return predicted


def explain(run: Run, asked: Asked, out: Path | None = None, *, seed: int = 0) -> Path:
    """Write what drives a run to ``RUN/explain``, or another folder, and return its page; write the report anew.

    Parameters
    ----------
    run
        A trained run.
    asked
        Species, variables, pairs and plot.
    out
        The folder; what an earlier call wrote there is replaced, and nothing else is touched.
    seed
        Of everything that is drawn.
    """
    from releve.explain.explain import explain
    from releve.explain.write import write_explanation
    from releve.report.explanation import write_explanation_page
    from releve.report.write import write_report

    started, folder = time.monotonic(), out or run.path / "explain"
    with progress_bar() as bar:
        tasks: dict[str, Any] = {}

        def advance(step: str, done: int, total: int) -> None:
            task = tasks[step] if step in tasks else tasks.setdefault(step, bar.add_task(step, total=total))
            bar.advance(task, done)

        found = explain(run, asked, seed=seed, advance=advance)
    write_explanation(found, folder)
    page = write_explanation_page(folder, run.config.title or run.path.name)
    add_step(run.path, "explain", started)
    if out is None and (run.path / FILES[0]).is_file():
        write_report(run)
    return page


def run(
    config: Config,
    data: Path,
    out: Path,
    *,
    seed: int = 0,
    resume: bool = False,
    overwrite: bool = False,
    scheduler: str | None = None,
    reasons: Sequence[str] = (),
    source: Source | None = None,
) -> Evaluation:
    """Prepare, train, evaluate, and predict every test split of the release. The store lies in ``out/store``.

    The split ``test`` goes to ``predictions.csv``; another, such as ``test_ood``, to ``predictions_ood.csv``.
    """
    refuse_folder(out, resume=resume, overwrite=overwrite)
    source = source or open_source(data)
    how: dict[str, Any] = {"seed": seed, "overwrite": overwrite}
    store = prepare(config, data, out / "store", **how, scheduler=scheduler, reasons=reasons, source=source)
    trained = train(config, store, out, seed=seed, resume=resume, overwrite=overwrite)
    evaluation = evaluate(trained)
    splits = [split for split in source.splits if split.startswith("test")]
    for split in splits:
        started, file = time.monotonic(), out / f"predictions{split.removeprefix('test')}.csv"
        target = store_for_prediction(trained, source, split)
        _predict_store(trained, target, file, started, data=data)
        add_step(out, f"predict {split}", started, file=file.name)
        say(f"lists of split {split} are in {file}")
        score_split(trained, target, split)
    if not splits:
        say("there is no test split: nothing was predicted")
    return evaluation


def score_split(run: Run, target: Store, split: str) -> None:
    """Score the store of a split whose species are known; write ``RUN/evaluation/SPLIT.csv`` and the report anew."""
    from releve.evaluate.test_split import score_test_split
    from releve.report.write import write_report

    if len(target.labels.indices):
        scores = score_test_split(run, target)
        write_text(run.path / "evaluation" / f"{split}.csv", scores.write_csv())
        write_report(run)
        ours = scores.filter("is_model").row(0, named=True)
        if ours["num_near"]:
            say(
                f"split {split}: {ours['num_near']:,} of {ours['num_surveys']:,} plots lie within "
                f"{run.config.split.buffer_km:g} km of places that the run learned from: scores are too good for others"
            )
        lists = "" if run.config.is_of_records_alone else f"sF1 {ours['sample_f1']:.3f}, "
        say(f"split {split}: {lists}AUC {ours['auc_macro'] or float('nan'):.3f}; see the report")
