"""What a run knows of ODMAP's sections Model, Assessment and Prediction."""

from __future__ import annotations

from collections.abc import Callable

from releve.report import words
from releve.report.facts import Facts
from releve.report.odmap.data import describe_averaging
from releve.report.page import format_interval, format_score, is_number
from releve.report.parts import list_differences


def _extrapolation(facts: Facts) -> str:
    tables = facts.uses("covariates") or facts.uses("survey") or facts.uses("location")
    held = "Table values beyond those of the training rows are held at the end of their scale (clamping). "
    similarity = "MESS with the most dissimilar covariate, and " if facts.uses("covariates") else ""
    return (held if tables else "") + (
        f"Beside each prediction stands how new its place is: {similarity}the dissimilarity index with the area of "
        "applicability (doi:10.1111/2041-210X.13650)."
    )


def _parameter_uncertainty(facts: Facts) -> str:
    number = facts.num_members.total()
    if number < 2:
        return ""
    return f"Not quantified by itself; {number} members with other seeds, folds or kinds show how far fits differ."


def _selection(facts: Facts) -> str:
    text = words.tell_runs(facts, _epoch)
    return f"{text} Choice among recipes: [for the author]" if text else ""


def _epoch(facts: Facts) -> str:
    train = facts.config.train
    if not facts.num_members["network"] or not train.selection_share:
        return ""
    return (
        "The epoch of each network was chosen by sF1 on blocks kept from fitting "
        f"({100 * train.selection_share:g} % of the rows outside the held-out fold)."
    )


def _ensemble(facts: Facts) -> str:
    seeds = {part.run.seed for part in facts.trained}
    parts = ["training folds"] if len(facts.folds) > 1 else []
    parts += ["seeds"] if len(seeds) > 1 or facts.config.train.kinds.count("network") > 1 else []
    parts += ["kinds of model"] if len(facts.num_members) > 1 else []
    fields = list_differences(facts)
    parts += [f"settings ({', '.join(fields)})"] if fields else []
    return f"Members differ in {words.join_words(parts)}." if parts else ""


def _spatial(facts: Facts) -> str:
    return (
        f"Scores are of whole {words.name_units(facts)} held out with a buffer of {facts.config.split.buffer_km:g} km, "
        "and "
        f"their intervals of a bootstrap over blocks of {facts.bootstrap_km:g} km. Residual autocorrelation is not "
        "modelled."
    )


def _nested(facts: Facts) -> str:
    return "Plot area, country and region are predictors; there are no random effects." if facts.uses("survey") else ""


def _threshold(facts: Facts) -> str:
    text = words.describe_rule(facts)
    setting = facts.decision.get("setting")
    return f"{text[0].upper()}{text[1:]}" + (f" ({setting:g})." if is_number(setting) else ".")


def _training_scores(facts: Facts) -> str:
    losses = [log[-1]["train_loss"] for _, _, log in facts.curves if is_number(log[-1].get("train_loss"))]
    if not losses:
        return ""
    return (
        f"Not scored. Training loss of the last epoch: {min(losses):.3g} to {max(losses):.3g} (networks, with "
        "dropout); all "
        "epochs are in the members' metrics.jsonl."
    )


def _validation_scores(facts: Facts) -> str:
    return words.describe_scores(facts)


def _novelty(facts: Facts) -> str:
    if "novelties" not in facts.tables:
        return ""
    rows = [
        f"{row['group']}: {format_score(row['sample_f1'])} "
        f"({format_interval(row['sample_f1_low'], row['sample_f1_high'])})"
        for row in facts.tables["novelties"].to_dicts()
        if {"sample_f1", "sample_f1_low", "sample_f1_high"} <= row.keys()
    ]
    return f"Not masked. sF1 by novelty of the environment: {'; '.join(rows)}." if rows else ""


FILLS: dict[str, Callable[[Facts], str]] = {
    "m_preselect_1": lambda facts: "None: all variables of the modalities used.",
    "m_multicol_1": lambda facts: (
        "Not dealt with: the models are for prediction, and single effects are not read from them."
    ),
    "m_settings_1": lambda facts: (
        f"{words.describe_network(facts)} {words.describe_training(facts)} All settings: run.json"
        f"{' of each run' if facts.parts else ''}."
    ),
    "m_settings_2": _extrapolation,
    "m_estim_1": lambda facts: "Not assessed: the models have no coefficients that stand for a species' response.",
    "m_estim_2": _parameter_uncertainty,
    "m_selection_1": _selection,
    "m_selection_2": describe_averaging,
    "m_selection_3": _ensemble,
    "m_depend_1": _spatial,
    "m_depend_2": lambda facts: "Not modelled.",
    "m_depend_3": _nested,
    "m_threshold_1": _threshold,
    "a_perform_1": _training_scores,
    "a_perform_2": _validation_scores,
    "p_output_1": lambda facts: "Probability that a species is recorded on a plot, 0 to 1; and species lists of plots.",
    "p_output_2": lambda facts: "None.",
    "p_uncertainty_5": _novelty,
}
"""What a run knows of an element; an empty text where it does not know after all."""
