"""A run in words: sentences for the page, the methods, the model card and ODMAP, each true of every regime."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from releve.decide.config import RULES_IN_WORDS
from releve.models.boosting import MAX_LEAVES, NUM_ROUNDS
from releve.prepare.config import GROUPINGS_IN_WORDS, HELD_OUT_IN_WORDS
from releve.report.facts import Facts
from releve.report.page import format_count, format_interval, format_score, is_number

GROUPS = {
    "bioclim": "climate",
    "elevation": "elevation",
    "landcover": "land cover",
    "human_footprint": "human footprint",
    "soil": "soil",
    "other": "other",
}
"""Groups of covariates, in words."""
MODALITIES = {
    "survey": "facts of the survey (plot area, location uncertainty, year, country, region)",
    "location": "the coordinates",
    "landsat": "Landsat time series",
    "climate": "monthly climate time series",
    "patch": "Sentinel-2 patches",
}
LOSSES = {
    "bce": "binary cross-entropy over all species",
    "trusted_bce": "binary cross-entropy in which the silence of a row counts as far as it is trusted",
    "an_full": "the full assume-negative loss (Cole et al. 2023)",
    "full_weighted": "the full weighted loss (Zbinden et al. 2024)",
    "deep_maxent": "the DeepMaxent loss (Ryckewaert et al. 2024)",
    "asymmetric": "the asymmetric loss (Ridnik et al. 2021)",
}
BACKGROUNDS = {
    "target_group": "silence was taken at the presence-only rows themselves (target-group background)",
    "random": "silence was taken at rows drawn evenly over the map (random background)",
    "mixed": "silence was taken half at the presence-only rows themselves and half at rows drawn evenly over the map",
}
REGIMES = {
    "pa": "The models were trained on plots",
    "po": "The models were trained on presence-only rows alone; plots, where there are any, only validate",
    "presence": "The models were trained on plots and presence-only rows in every step, with one response to the "
    "environment shared by both",
    "classes": "The models were first trained on presence-only rows, then on plots",
}


def join_words(words: Sequence[str]) -> str:
    """Return words as a list in a sentence.

    Examples
    --------
    >>> join_words(["a"]), join_words(["a", "b", "c"]), join_words([])
    ('a', 'a, b and c', '')
    """
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def counted(number: float, noun: str, plural: str = "") -> str:
    """Return a number with its noun.

    Examples
    --------
    >>> counted(1, "plot"), counted(2500, "plot"), counted(2, "species", "species")
    ('1 plot', '2,500 plots', '2 species')
    """
    return f"{format_count(number)} {noun if number == 1 else plural or noun + 's'}"


def with_interval(row: dict[str, object], name: str, digits: int = 3) -> str:
    """Return a score with its 95 % interval in brackets, where it has one.

    Examples
    --------
    >>> with_interval({"f1": 0.5, "f1_low": 0.4, "f1_high": 0.6}, "f1"), with_interval({"f1": 0.5}, "f1")
    ('0.500 (95 % interval 0.400 to 0.600)', '0.500')
    """
    value, low, high = (row.get(key) for key in (name, f"{name}_low", f"{name}_high"))
    text = format_score(value, digits)  # type: ignore[arg-type]
    if not (is_number(low) and is_number(high)):
        return text
    return f"{text} (95 % interval {format_interval(low, high, digits)})"


def tell_runs(facts: Facts, describe: Callable[[Facts], str]) -> str:
    """Return what there is to say of a run; for an ensemble, of each of its runs, those told alike together."""
    named: dict[str, list[str]] = {}
    for part in facts.trained:
        named.setdefault(describe(part), []).append(part.name)
    if len(named) < 2:
        return next(iter(named), "")
    return " ".join(f"{name_runs(names)}: {text}" for text, names in named.items() if text)


def name_runs(names: Sequence[str]) -> str:
    """Return the runs of an ensemble, to begin a sentence with.

    Examples
    --------
    >>> name_runs(["a"]), name_runs(["a", "b"])
    ('Run a', 'Runs a and b')
    """
    return f"{'Run' if len(names) == 1 else 'Runs'} {join_words(names)}"


def describe_rows(facts: Facts) -> str:
    """Return what the data are: plots, species, years and countries, and presence-only rows."""
    presences = facts.presences
    years = f", recorded {_years(facts)}" if facts.years else ""
    parts = []
    if facts.num_plots:
        per_plot = f"; on average {presences.sum() / facts.num_plots:.1f} species a plot"
        parts.append(
            f"{counted(facts.num_plots, 'vegetation plot')} with {counted(presences.sum(), 'presence')} of "
            f"{counted(int((presences > 0).sum()), 'species', 'species')}{per_plot}{years}."
        )
    if facts.num_pseudoplots:
        parts.append(describe_records(facts))
    if facts.countries:
        shown = [f"{name} ({format_count(count)})" for name, count in facts.countries[:6]]
        more = len(facts.countries) - len(shown)
        parts.append(
            f"{'Plots' if facts.num_plots else 'They'} lie in {join_words(shown)}"
            + (f", and {counted(more, 'other country', 'other countries')}." if more else ".")
        )
    return " ".join(parts)


def describe_records(facts: Facts) -> str:
    """Return how presence-only records became rows."""
    source = facts.with_records or facts
    config, clean = source.config.pseudoplots, source.config.clean
    place = GROUPINGS_IN_WORDS[config.method]
    if config.method in ("grid", "radius"):
        place += f" of {config.size_m:g} m" if config.method == "grid" else f" of at most {config.size_m:g} m radius"
    time = "" if config.years is None else f" and {counted(config.years, 'year')}"
    dropped = sum(row["count"] for row in source.manifest.dropped_by_publisher)
    lost = f"; {counted(dropped, 'record')} with a doubtful place, date, rank or repeat were dropped" if dropped else ""
    return (
        f"{counted(facts.num_records, 'presence-only record')} in "
        f"{counted(facts.num_pseudoplots, 'row')} ({place}{time}){lost}. Records were checked for "
        f"{counted(len(clean.drop), 'kind')} of doubt."
    )


def describe_predictors(facts: Facts) -> str:
    """Return what the models look at."""
    parts = []
    if facts.uses("covariates"):
        groups = [f"{len(names)} of {GROUPS.get(group, group)}" for group, names in facts.covariate_groups.items()]
        number = sum(len(names) for names in facts.covariate_groups.values())
        parts.append(f"{counted(number, 'covariate')} ({join_words(groups)})")
    parts += [words for name, words in MODALITIES.items() if facts.uses(name)]
    series = facts.uses("landsat") or facts.uses("climate")
    return (
        f"Predictors were {join_words(parts)}."
        + (" Every series was cut at the survey's date." if series else "")
        + " A modality that a survey lacks was masked."
    )


def describe_split(facts: Facts) -> str:
    """Return how plots are held out, and how far they lie from those trained on."""
    split = facts.config.split
    units = name_units(facts)
    text = (
        f"{units[0].upper()}{units[1:]} were dealt to {facts.manifest.num_folds} folds of nearly equal "
        f"size and held out whole; training rows nearer than {split.buffer_km:g} km to a held-out row were left out."
    )
    rows = [row for row in facts.leakage if int(row["fold"]) in facts.folds]
    nearest = [row["nearest_train_km"] for row in rows if is_number(row.get("nearest_train_km"))]
    median = [row["median_train_km"] for row in rows if is_number(row.get("median_train_km"))]
    if nearest and median:
        low, high = f"{min(median):.1f}", f"{max(median):.1f}"
        ends = low if low == high else f"{low} to {high}"
        text += (
            f" The median distance from a held-out to the nearest training row was {ends} km, "
            f"the smallest {min(nearest):.1f} km."
        )
    return text


def name_units(facts: Facts) -> str:
    """Return what is held out whole, such as ``square blocks of 50 km``."""
    split = facts.config.split
    return HELD_OUT_IN_WORDS[split.method] + (f" of {split.block_size_km:g} km" if split.method == "blocks" else "")


def describe_network(facts: Facts) -> str:
    """Return what the members of each kind are made of."""
    return tell_runs(facts, _network)


def _network(facts: Facts) -> str:
    model, forest = facts.config.model, facts.config.forest
    parts = []
    if facts.num_members["network"]:
        names = [row["name"] for row in facts.modalities if row["used"] and row["num_surveys"]]
        if model.fusion == "direct":
            text = f"The network passed {names[0]} straight to a linear head"
        else:
            text = (
                f"The network encoded each of {join_words(names)} to {model.embedding_dim} values, joined them and "
                f"passed them through {model.hidden_dim} units and {counted(model.num_layers, 'residual layer')}"
            )
        patch = f"; patches went through {model.patch_backbone}" if "patch" in names else ""
        weights = "" if "patch" not in names else (" with pre-trained weights" if model.pretrained else " from scratch")
        text += f", with one output for each species{patch}{weights}."
        text += f" Dropout was {model.dropout:g}"
        if model.fusion != "direct":
            text += f", a column of a table was hidden at a rate of {model.input_dropout:g}"
            text += f" and a whole modality at {model.modality_dropout:g}"
        parts.append(text + ".")
    if facts.num_members["forest"]:
        parts.append(
            f"Each forest had {counted(forest.num_trees, 'extremely randomised tree')} (Geurts et al. 2006) with at "
            f"least {counted(forest.min_rows, 'row')} a leaf and {100 * forest.feature_share:g} % of the features "
            "tried at a split; they saw the tables only."
        )
    if facts.num_members["booster"]:
        parts.append(
            f"Each booster had {NUM_ROUNDS} trees of at most {MAX_LEAVES} leaves, grown one after the other on random "
            "projections of all species' errors (Iosipoi & Vakhrushev 2022); they saw the tables only."
        )
    return " ".join(parts)


def describe_training(facts: Facts) -> str:
    """Return on which rows, with which loss and for how long the networks were trained."""
    return f"{tell_runs(facts, _training)}{_best_epochs(facts)}"


def _training(facts: Facts) -> str:
    train, records = facts.config.train, facts.config.records
    sentences = [REGIMES[train.regime] + "."]
    if facts.num_members["network"]:
        losses = []
        if train.regime != "po":
            losses.append(f"{LOSSES[train.loss]}{' for the plots' if train.regime != 'pa' else ''}")
        if train.regime != "pa":
            weight = f", weighted {records.weight:g}" if train.regime == "presence" else ""
            losses.append(f"{LOSSES[records.loss]} for the presence-only rows{weight}")
        sentences.append(f"The loss was {join_words(losses)}.")
        if train.regime != "pa":
            sentences.append(f"For presence-only rows {BACKGROUNDS[records.background]}.")
            if records.observation_head:
                sentences.append(
                    "They were also explained by publisher, effort and access, which is left out when predicting."
                )
        if train.class_weight:
            sentences.append(f"Presences of rare species weighed more (power {train.class_weight:g} of their rarity).")
        pretrain = f" after {counted(records.pretrain_epochs, 'epoch')} on presence-only rows"
        before = pretrain if train.regime == "classes" else ""
        sentences.append(
            f"AdamW ran for at most {counted(train.epochs, 'epoch')}{before} (batches of {train.batch_size}, highest "
            f"learning rate {train.learning_rate:g} with warm-up and cosine decay, weight decay "
            f"{train.weight_decay:g}). " + _selection(facts)
        )
    return " ".join(sentences)


def describe_members(facts: Facts) -> str:
    """Return which models there are, and how they are joined."""
    if facts.parts:
        held_out = {_held_out(part) for part in facts.parts}
        alike = f", every model {held_out.copy().pop()}" if len(held_out) == 1 else ""
        runs = join_words([f"{part.name} ({_members(part, told=bool(alike))})" for part in facts.parts])
        text = f"The ensemble joins {counted(len(facts.parts), 'run')}{alike}: {runs}."
    else:
        text = f"In all, {_members(facts)}."
    if facts.num_refitted:
        more = [counted(number, kind) for kind, number in facts.num_refitted.items()]
        text += (
            f" {join_words(more)} more learned from all rows for the folds' mean best epochs; they predict new places."
        )
    shares = _shares(facts)
    if len(shares) > 1:
        kinds = "the kinds of each run" if facts.parts else "the kinds"
        text += (
            f" Probabilities of {kinds} were averaged with the weights {join_words(shares)}, fitted by likelihood "
            "and drawn towards equal ones."
        )
    return text


def _members(facts: Facts, *, told: bool = False) -> str:
    """Return the members of a run that held out a fold, and which, unless that is told already."""
    text = join_words([counted(number, kind) for kind, number in facts.num_members.items()])
    several = facts.num_members.total() > 1
    if not facts.is_part:
        text += f" {'were' if several else 'was'} trained"
    seeds = facts.config.train.kinds.count("network")
    if not told:
        text += f", {'each ' if several else ''}{_held_out(facts)}"
    text += f", {seeds} networks a fold with seeds of their own" if seeds > 1 else ""
    return f"{text}, seed {facts.run.seed}" if facts.is_part else f"{text} (seed {facts.run.seed})"


def _held_out(facts: Facts) -> str:
    if len(facts.folds) > 1:
        return f"with one of {len(facts.folds)} folds held out"
    return f"with fold {facts.folds[0]} of {facts.manifest.num_folds} held out"


def describe_decision(facts: Facts) -> str:
    """Return how logits become probabilities and lists."""
    if facts.config.decide.calibration == "none":
        text = "Probabilities were not calibrated."
    else:
        text = "Logits of held-out plots were calibrated by Platt scaling, a slope and an intercept of the logits "
        text += "(Platt 1999), for each kind of model on its own"
        drawn = "; one slope and intercept more, the same for all, make their mean calibrated"
        text += f"{drawn if len(facts.decision.get('kinds', {})) > 1 else ''}."
    text += f" The predicted list of a plot is {describe_rule(facts)}."
    return f"{text} {_roles(facts)}"


def describe_rule(facts: Facts) -> str:
    """Return what the predicted list of a plot is."""
    decide = facts.config.decide.model_dump()
    rule = str(facts.decision.get("rule", decide["rule"]))
    return RULES_IN_WORDS[rule].format(**decide).replace("%", " %")


def describe_scores(facts: Facts) -> str:
    """Return the scores with their intervals, and the gain over the best reference model."""
    model = facts.model
    text = (
        f"On {counted(facts.surveys.height, 'held-out plot')}, each predicted only by models that were not trained on "
        f"its fold, the mean F1 of the lists (sF1) was {with_interval(model, 'sample_f1')}, macro F1 over species "
        f"{with_interval(model, 'macro_f1')} and mean AUC {with_interval(model, 'auc_macro')}"
    )
    if is_number(model.get("calibration_slope")):
        text += f"; the calibration slope was {format_score(model['calibration_slope'], 2)}"
    text += f". Intervals are of a bootstrap over blocks of {facts.bootstrap_km:g} km."
    rival = facts.rival
    if rival is None:
        return text
    score, name = format_score(rival[facts.headline]), "AUC" if facts.is_ranked else "sF1"
    text += f" The best reference model on the same folds, {rival['model']}, had an {name} of {score}"
    if is_number(rival.get("gain")):
        text += f"; the paired difference was {format_score(rival['gain'], signed=True)}"
        if is_number(rival.get("gain_low")):
            text += f" ({format_interval(rival['gain_low'], rival['gain_high'], signed=True)})"
    return text + "."


def describe_coverage(facts: Facts) -> str:
    """Return what conformal lists cover over all plots; nothing where none were made."""
    if "coverage" not in facts.tables:
        return ""
    table = facts.tables["coverage"]
    whole = [row for row in table.to_dicts() if row["group"] == "all" or row.get("grouping") in ("all", None)]
    parts = [
        f"lists with a target of {100 * row['target']:g} % covered {100 * row['coverage']:.1f} %"
        for row in whole
        if is_number(row["target"]) and is_number(row["coverage"])
    ]
    return f"Conformal {join_words(parts)}." if parts else ""


def _years(facts: Facts) -> str:
    assert facts.years
    first, last = facts.years
    return f"in {first}" if first == last else f"from {first} to {last}"


def _selection(facts: Facts) -> str:
    train = facts.config.train
    weights = "a running average of the weights" if train.ema_decay else "the weights"
    if not train.selection_share:
        return f"Of the last epoch, {weights} was kept." if train.ema_decay else "The last epoch's weights were kept."
    share, patience = f"{100 * train.selection_share:g} %", counted(train.patience, "epoch")
    return (
        f"Whole blocks with about {share} of the rows outside the held-out fold were kept from fitting to choose the "
        f"epoch by sF1 (patience {patience}); {weights} of the best epoch {'was' if train.ema_decay else 'were'} kept."
    )


def _best_epochs(facts: Facts) -> str:
    best = facts.best_epochs
    if not best or not any(part.config.train.selection_share for part in facts.trained):
        return ""
    low, high = min(best), max(best)
    return f" The best epoch was {low}." if low == high else f" The best epochs were {low} to {high}."


def _shares(facts: Facts) -> list[str]:
    kinds = facts.decision.get("kinds", {})
    return [
        f"{format_score(kind['share'], 2)} ({name})"
        for name, kind in kinds.items()
        if isinstance(kind, dict) and is_number(kind.get("share"))
    ]


def _roles(facts: Facts) -> str:
    others = "the other folds" if len(facts.folds) > 1 else "other blocks of the held-out fold"
    return f"For every score, calibration and rule were fitted on {others}, never on the plots that are scored."
