"""The page of a run: what it was trained on, how good it is beside reference models, and where it fails."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import polars as pl

from releve.evaluate.tables import DISTANCE_WORDS
from releve.report import words
from releve.report.charts import draw_bins, draw_bins_by_class, draw_folds, draw_members, draw_quality, draw_scores
from releve.report.explanation import find_drivers
from releve.report.facts import Facts
from releve.report.figures import draw_richness
from releve.report.intervals import GroupTable, make_table
from releve.report.limits import list_limits
from releve.report.page import is_number, render_page
from releve.report.parts import list_recipes, list_runs, write_commands

MIN_PRESENCES = 10
"""Held-out presences below which a species' score says too little to be listed."""
NUM_LISTED = 15
MAX_DROPPED_ROWS = 40
MAX_PUBLISHERS = 12
MAX_PROBLEMS = 8
MAX_EXAMPLES = 8
MAX_NAMES = 24
"""Species of one column of an example."""
COLUMNS = (
    ("macro_f1", "macro F1", 3),
    ("precision", "precision", 3),
    ("recall", "recall", 3),
    ("auc_macro", "AUC", 3),
    ("brier", "Brier", 4),
    ("calibration_slope", "slope", 2),
    ("richness_bias", "bias", 1),
)
"""Scores of the table of models after sF1 and gain, in its order, with their decimals."""
RANKED_COLUMNS = (("ap_macro", "average precision", 3), ("boyce", "Boyce index", 2))
"""The same, where models are compared by how they rank places."""
GROUPS = (
    (
        "frequency_classes",
        "Species, by plots trained on",
        "Species by the number of training plots that have them. Rare species are hard; a model that only lists common "
        "ones shows zeros here.",
    ),
    (
        "distances",
        "Plots, by distance to training plots",
        "Plots by the distance to the nearest plot that the model was trained on: what a far place costs.",
    ),
    (
        "novelties",
        "Plots, by novelty of the environment",
        "Plots by how unlike the environments trained on theirs is, from the most familiar to the most novel.",
    ),
    ("countries", "Plots, by country", "Plots by country, those with the most plots first."),
    ("regions", "Plots, by region", "Plots by biogeographical region, those with the most plots first."),
)
LARGEST_FIRST = ("countries", "regions")


def render_run(facts: Facts, **more: Any) -> str:
    """Return the run's page as HTML text; ``more`` is handed to the template."""
    surveys, manifest = facts.surveys, facts.manifest
    best, worst = pick_species(facts.tables.get("species"), by="auc" if facts.is_ranked else "f1")
    richness, num_beyond = draw_richness(
        surveys["num_observed"], surveys["num_predicted"], "richness", "Observed against predicted number of species"
    )
    reliability = facts.tables.get("reliability")
    return render_page(
        "run.html.j2",
        title=facts.title,
        facts=facts,
        run=facts.run,
        provenance=facts.provenance,
        manifest=manifest,
        words=words,
        model=facts.model,
        scores=facts.scores,
        columns=[
            column
            for column in (RANKED_COLUMNS if facts.is_ranked else COLUMNS)
            if any(is_number(row[column[0]]) for row in facts.scores)
        ],
        rival=facts.rival,
        headline=facts.headline,
        headline_name="AUC" if facts.is_ranked else "sF1",
        reasons=facts.preparation.get("reasons", []),
        test=list_test(facts),
        verdict=describe_gain(facts.rival) if facts.rival else "",
        verdict_words=describe_gains(facts.scores, facts.headline),
        block_km=facts.bootstrap_km,
        num_species_seen=count_seen(facts.tables.get("species")),
        chart=draw_scores(facts.scores, facts.headline),
        f1_map=draw_quality(surveys),
        f1_quartiles=[surveys["f1"].quantile(q, "linear") for q in (0.25, 0.5, 0.75)],
        num_zero=surveys.filter(pl.col("f1") == 0).height,
        dropped=list_dropped(manifest.dropped),
        publishers=list_publishers(manifest.dropped_by_publisher),
        max_problems=MAX_PROBLEMS,
        folds_map=draw_folds(facts),
        curves=draw_members(facts),
        kinds=list_kinds(facts.decision),
        parts=list_runs(facts),
        num_curves=len(facts.curves),
        groups=[] if facts.is_ranked else list_groups(facts),
        reliability=draw_bins(reliability),
        classes=draw_bins_by_class(reliability),
        num_cells=count_cells(reliability),
        calibration=list_calibration(facts),
        coverage=list_coverage(facts),
        richness=richness,
        num_beyond=num_beyond,
        best=best,
        worst=worst,
        min_presences=MIN_PRESENCES,
        examples=[] if facts.is_ranked else list_examples(facts),
        drivers=find_drivers(facts.run.path / "explain"),
        limits=list_limits(facts),
        commands=write_commands(facts),
        recipes=[(names, write_toml(config.model_dump(mode="json"))) for names, config in list_recipes(facts)],
        config_text=write_toml(facts.config.model_dump(mode="json")),
        **more,
    )


VERDICTS = {
    "better": "It is better than {}.",
    "close": "It is not to be told apart from {}: the interval of the difference holds zero.",
    "worse": "It is worse than {}.",
    "unknown": "How sure the difference to {} is was not measured.",
}


def list_test(facts: Facts) -> list[dict[str, Any]]:
    """Return the scores of a test split, a row a model; nothing where none was scored."""
    file = facts.run.path / "evaluation" / "test.csv"
    if not file.is_file():
        return []
    scores = pl.read_csv(file, glob=False)
    return scores.sort(facts.headline, descending=True, nulls_last=True, maintain_order=True).to_dicts()


def describe_gains(scores: Sequence[dict[str, Any]], headline: str = "sample_f1") -> str:
    """Return in words what the paired differences say of the run beside each reference model.

    Examples
    --------
    >>> gain = {"is_model": False, "sample_f1": 0.1, "gain_low": 0.1, "gain_high": 0.2}
    >>> describe_gains([{"model": "mine", "is_model": True}, {"model": "a"} | gain, {"model": "b"} | gain])
    'It is better than a and b.'
    """
    named: dict[str, list[str]] = {}
    for row in scores:
        if not row["is_model"] and row[headline] is not None:
            named.setdefault(describe_gain(row), []).append(row["model"])
    return " ".join(text.format(words.join_words(named[word])) for word, text in VERDICTS.items() if word in named)


def describe_gain(row: dict[str, Any]) -> str:
    """Return in one word what a paired difference says: ``better``, ``worse``, ``close`` or ``unknown``."""
    if not (is_number(row.get("gain_low")) and is_number(row.get("gain_high"))):
        return "unknown"
    if row["gain_low"] > 0:
        return "better"
    return "worse" if row["gain_high"] < 0 else "close"


def list_groups(facts: Facts) -> list[GroupTable]:
    """Return the tables of scores by group of plots or species."""
    made = [
        make_table(facts.tables[name], name, title, caption, marks=facts.model, by_size=name in LARGEST_FIRST)
        for name, title, caption in GROUPS
        if name in facts.tables
    ]
    return [table for table in made if table]


def list_calibration(facts: Facts) -> GroupTable | None:
    """Return calibration slope, intercept and errors by class of species; None if they were not measured."""
    if "calibration" not in facts.tables:
        return None
    table = facts.tables["calibration"].rename({"prevalence_class": "group"})
    return make_table(table, "calibration", "", "", marks={"slope": 1.0})


def list_coverage(facts: Facts) -> GroupTable | None:
    """Return the coverage of conformal lists over all plots and by group; None if none were made."""
    if "coverage" not in facts.tables:
        return None
    table = facts.tables["coverage"]
    if "grouping" in table.columns:
        near = pl.col("group").replace_strict({word: i for i, word in enumerate(DISTANCE_WORDS)}, default=None)
        sizes = [pl.col("num_surveys")] if "num_surveys" in table.columns else []
        table = table.sort("grouping", near, *sizes, descending=[False, False, *(True for _ in sizes)])
        both = pl.concat_str([pl.col("grouping"), pl.col("group")], separator=": ", ignore_nulls=True)
        table = table.with_columns(group=pl.when(pl.col("group") == "all").then("group").otherwise(both))
    return make_table(table, "coverage", "", "", marks={})


def list_kinds(decision: dict[str, Any]) -> list[dict[str, Any]]:
    """Return each kind of member with its share, calibration, and what its mean over folds is stretched by, in words.

    Examples
    --------
    >>> linear = {"slope": 0.8, "intercept": -0.1, "method": "linear"}
    >>> list_kinds({"kinds": {"network": {"calibration": linear, "share": 0.6, "stretch": {"slope_of_two": 1.04}}}})
    [{'kind': 'network', 'share': 0.6, 'calibration': 'slope 0.80, intercept −0.10', 'stretch': '1.04'}]
    """
    rows = []
    for kind, values in decision.get("kinds", {}).items():
        fitted = values.get("calibration", values)
        text = _line(fitted.get("slope"), fitted.get("intercept"))
        slope = values.get("stretch", {}).get("slope_of_two")
        stretch = "" if slope is None else words.format_score(slope, 2)
        rows.append({"kind": kind, "share": values.get("share"), "calibration": text, "stretch": stretch})
    return rows


def _line(slope: float | None, intercept: float | None) -> str:
    return f"slope {words.format_score(slope, 2)}, intercept {words.format_score(intercept, 2, signed=True)}"


def pick_species(species: pl.DataFrame | None, *, by: str = "f1") -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the best and the worst species by F1, or AUC, among those with enough presences, never one in both.

    Ties go by AUC, then by the number of presences. The worst species come worst first.
    """
    if species is None:
        return [], []
    lacking = [
        name for name in ("precision", "recall", "auc", "num_predicted", "num_train") if name not in species.columns
    ]
    species = species.with_columns(pl.lit(None, pl.Float64).alias(name) for name in lacking)
    species = species.with_columns(auc=pl.col("auc").cast(pl.Float64).fill_nan(None))
    enough = species.filter(pl.col("num_true") >= MIN_PRESENCES, pl.col(by).is_not_null())
    order = enough.sort(by, "auc", "num_true", descending=True, nulls_last=True).to_dicts()
    num_best = min(NUM_LISTED, (len(order) + 1) // 2)
    num_worst = min(NUM_LISTED, len(order) - num_best)
    return order[:num_best], order[::-1][:num_worst]


def count_seen(species: pl.DataFrame | None) -> int | None:
    """Return the number of species on held-out plots; None without a table of species."""
    return None if species is None else species.filter(pl.col("num_true") > 0).height


def count_cells(reliability: pl.DataFrame | None) -> int:
    """Return the pairs of plot and species that the reliability figure shows."""
    if reliability is None:
        return 0
    if "prevalence_class" in reliability.columns:
        reliability = reliability.filter(pl.col("prevalence_class") == "all")
    return int(reliability["num_cells"].sum())


def list_examples(facts: Facts) -> list[dict[str, Any]]:
    """Return a few plots with their species, found, missed and wrongly listed, the most probable first."""
    if "examples" not in facts.tables:
        return []
    about = {row["survey_id"]: row for row in facts.surveys.to_dicts()}
    examples = []
    for (survey_id,), group in facts.tables["examples"].group_by("survey_id", maintain_order=True):
        group = group.sort("probability", descending=True, nulls_last=True)
        lists = {
            "Found": group.filter(pl.col("is_observed") & pl.col("is_predicted")),
            "Missed": group.filter(pl.col("is_observed") & ~pl.col("is_predicted")),
            "Wrongly listed": group.filter(~pl.col("is_observed") & pl.col("is_predicted")),
        }
        columns = [
            {
                "name": name,
                "count": part.height,
                "species": part.select("species", "probability").head(MAX_NAMES).rows(),
                "num_more": max(0, part.height - MAX_NAMES),
            }
            for name, part in lists.items()
        ]
        examples.append({"survey_id": survey_id, "about": about.get(survey_id, {}), "columns": columns})
    return examples[:MAX_EXAMPLES]


def list_dropped(dropped: dict[str, dict[str, int]]) -> dict[str, Any]:
    """Return the counts by split and reason, the largest first, and how many reasons were left off."""
    rows: list[dict[str, Any]] = [
        {"where": where, "reason": reason, "count": count}
        for where, reasons in dropped.items()
        for reason, count in reasons.items()
        if count
    ]
    rows.sort(key=lambda row: -row["count"])
    return {"rows": rows[:MAX_DROPPED_ROWS], "num_more": max(0, len(rows) - MAX_DROPPED_ROWS)}


def list_publishers(dropped: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the dropped records by publisher, the largest first, with each publisher's reasons.

    Examples
    --------
    >>> rows = [{"reason": "sea", "publisher": "A", "count": 2}, {"reason": "duplicate", "publisher": "A", "count": 5}]
    >>> list_publishers(rows)["rows"]
    [{'publisher': 'A', 'count': 7, 'reasons': 'duplicate 5, sea 2'}]
    """
    by_publisher: dict[str, list[tuple[int, str]]] = {}
    for row in dropped:
        if row["count"]:
            by_publisher.setdefault(row["publisher"] or "not named", []).append((row["count"], row["reason"]))
    rows: list[dict[str, Any]] = [
        {
            "publisher": publisher,
            "count": sum(count for count, _ in reasons),
            "reasons": ", ".join(f"{reason.replace('_', ' ')} {count:,}" for count, reason in sorted(reasons)[::-1]),
        }
        for publisher, reasons in by_publisher.items()
    ]
    rows.sort(key=lambda row: -row["count"])
    return {"rows": rows[:MAX_PUBLISHERS], "num_more": max(0, len(rows) - MAX_PUBLISHERS)}


def write_toml(config: dict[str, Any]) -> str:
    """Return a nested configuration as TOML; what is None is left out, as in a recipe.

    Examples
    --------
    >>> print(write_toml({"title": "a", "train": {"epochs": 5, "bands": None, "parts": ["x"], "ema": True}}))
    title = "a"
    <BLANKLINE>
    [train]
    epochs = 5
    parts = ["x"]
    ema = true
    """
    plain = {key: value for key, value in config.items() if not isinstance(value, dict)}
    sections = {key: value for key, value in config.items() if isinstance(value, dict)}
    blocks = [_assignments(plain)]
    blocks += [f"[{name}]\n{_assignments(values)}".rstrip() for name, values in sections.items()]
    return "\n\n".join(block for block in blocks if block)


def _assignments(values: dict[str, Any]) -> str:
    # JSON writes text, numbers, booleans and lists of them as TOML does.
    return "\n".join(
        f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values.items() if value is not None
    )
