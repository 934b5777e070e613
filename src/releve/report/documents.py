"""The texts beside the page: a model card, methods ready to paste, and the text of the citations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from releve.report import words
from releve.report.citations import list_works
from releve.report.facts import Facts
from releve.report.intervals import GroupTable, make_table
from releve.report.limits import list_limits
from releve.report.page import DASH, format_count, format_interval, format_score, is_number, render_text

CARD_GROUPS = {
    "frequency_classes": "Species by number of training plots",
    "distances": "Plots by distance to the nearest training plot",
    "novelties": "Plots by novelty of the environment",
    "countries": "Plots by country",
    "regions": "Plots by region",
}
CARD_SCORES = (
    ("sample_f1", "sF1 (mean F1 of the lists)"),
    ("macro_f1", "macro F1 (mean over species)"),
    ("precision", "precision"),
    ("recall", "recall"),
    ("auc_macro", "AUC (mean over species)"),
    ("brier", "Brier score"),
    ("calibration_slope", "calibration slope"),
    ("richness_bias", "species predicted minus observed"),
)


def write_methods(facts: Facts) -> list[str]:
    """Return the paragraphs of a methods section, with the numbers of this run: data, models, decision and scores."""
    data = [
        f"Data were from {facts.manifest.origin}: {words.describe_rows(facts)}",
        words.describe_predictors(facts),
        words.describe_split(facts),
    ]
    models = [words.describe_network(facts), words.describe_training(facts), words.describe_members(facts)]
    models.append(f"We used Relevé {facts.version}.")
    scores = [words.describe_decision(facts), words.describe_scores(facts), words.describe_coverage(facts)]
    return [" ".join(filter(None, sentences)) for sentences in (data, models, scores)]


def render_methods(facts: Facts) -> str:
    """Return the methods and the works they cite as Markdown."""
    works = "\n".join(f"- {mark(work.text)}" for work in list_works(facts, "records", "predictors", "methods"))
    text = "\n\n".join(mark(paragraph) for paragraph in write_methods(facts))
    return f"# Methods\n\n{text}\n\n# References\n\n{works}\n"


def render_card(facts: Facts) -> str:
    """Return the run's model card as Markdown.

    References
    ----------
    Mitchell et al. (2019), Model cards for model reporting, doi:10.1145/3287560.3287596
    """
    groups = [
        make_table(facts.tables[name], name, title, "", marks={}, by_size=name in ("countries", "regions"))
        for name, title in CARD_GROUPS.items()
        if name in facts.tables
    ]
    return render_text(
        "model_card.md.j2",
        facts=facts,
        words=words,
        scores=write_table(("score", "value", "95 % interval"), _score_rows(facts.model)),
        rivals=write_table(
            ("model", "AUC" if facts.is_ranked else "sF1", "95 % interval", "gain of this model"), _rival_rows(facts)
        ),
        groups=[(table.title, _group_table(table)) for table in groups if table],
        limits=[mark(limit) for limit in list_limits(facts)],
        works=[mark(work.text) for work in list_works(facts, "records", "predictors")],
        mark=mark,
    )


def write_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    r"""Return a table in Markdown.

    Examples
    --------
    >>> print(write_table(("a", "b"), [("x | y", "1")]))
    | a | b |
    |---|---|
    | x \| y | 1 |
    """
    lines = [head, *rows]
    texts = ["| " + " | ".join(mark(cell) for cell in line) + " |" for line in lines]
    return "\n".join([texts[0], "|" + "---|" * len(head), *texts[1:]])


def mark(text: str) -> str:
    r"""Return a text with the signs escaped that Markdown would take for its own.

    Examples
    --------
    >>> print(mark("a_b *c* <d> | [e]"))
    a\_b \*c\* \<d> \| \[e]
    """
    for sign in "\\`*_<|[":
        text = text.replace(sign, f"\\{sign}")
    return text


def _score_rows(model: dict[str, Any]) -> list[tuple[str, str, str]]:
    digits = {"brier": 4, "calibration_slope": 2, "richness_bias": 1}
    return [
        (
            name,
            format_score(model[key], digits.get(key, 3), signed=key == "richness_bias"),
            format_interval(model.get(f"{key}_low"), model.get(f"{key}_high"), digits.get(key, 3)),
        )
        for key, name in CARD_SCORES
        if is_number(model.get(key))
    ]


def _rival_rows(facts: Facts) -> list[tuple[str, str, str, str]]:
    rows = []
    for row in facts.scores:
        gain = ""
        if not row["is_model"]:
            gain = format_score(row["gain"], signed=True)
            gain += f" ({format_interval(row['gain_low'], row['gain_high'], signed=True)})" if gain != DASH else ""
        interval = format_interval(row.get(f"{facts.headline}_low"), row.get(f"{facts.headline}_high"))
        rows.append((row["model"], format_score(row[facts.headline]), interval, gain))
    return rows


def _group_table(table: GroupTable) -> str:
    head = ("group", *([table.counted] if table.counted else []), table.main, "95 % interval", *table.head)
    rows = [
        (
            str(row["group"]),
            *([format_count(row["count"])] if table.counted else []),
            row["value"],
            row["interval"],
            *row["cells"],
        )
        for row in table.rows
    ]
    return write_table(head, rows)
