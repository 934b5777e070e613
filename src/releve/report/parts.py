"""The runs of an ensemble side by side: what each is, where they differ, how much each counts, how to make it again."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from releve.config import Config
from releve.errors import RunError
from releve.report import words
from releve.report.facts import Facts
from releve.report.page import is_number
from releve.report.tables import read_tables

IDLE = ("title", "evaluate", "train.device", "data.num_workers")
"""Fields and sections that change nothing of what is trained."""


def list_runs(facts: Facts) -> list[dict[str, Any]]:
    """Return one row a run of an ensemble, in its order; none for a run.

    ``name, seed, regime, inputs, members, epochs, share, sample_f1`` (of the run alone; None unless it was evaluated on
    the same plots) and ``differs``: its settings that are not those of most runs.
    """
    fields = list_differences(facts)
    values = [{field: _flat(part.config).get(field) for field in fields} for part in facts.parts]
    usual = {field: Counter(_text(row[field]) for row in values).most_common(1)[0][0] for field in fields}
    return [
        {
            "name": part.name,
            "seed": part.run.seed,
            "regime": part.config.train.regime,
            "inputs": [row["name"] for row in part.modalities if row["used"] and row["num_surveys"]],
            "members": _members(part),
            "epochs": part.best_epochs,
            "share": _share(facts, part),
            "sample_f1": _score_alone(facts, part),
            "differs": [f"{field} = {_text(row[field])}" for field in fields if _text(row[field]) != usual[field]],
        }
        for part, row in zip(facts.parts, values, strict=True)
    ]


def list_differences(facts: Facts) -> list[str]:
    """Return the fields of the recipe, as ``section.field``, that the runs of an ensemble do not agree on."""
    flat = [_flat(part.config) for part in facts.parts]
    return [field for field in flat[0] if len({_text(row[field]) for row in flat}) > 1] if flat else []


def write_commands(facts: Facts) -> str:
    """Return the commands that make an ensemble again from a release, recipes named as in ``list_recipes``."""
    recipes = {name: names[0] for names, _ in list_recipes(facts) for name in names}
    stores = [part.provenance.get("inputs", {}).get("store") for part in facts.parts]
    shared = len(set(stores)) == 1 and stores[0] is not None
    lines: list[str] = []
    for part in facts.parts:
        recipe, store = f"{recipes[part.name]}.toml", "STORE" if shared else f"STORE-{part.name}"
        if not (shared and lines):
            lines.append(f"releve prepare {recipe} --data RELEASE --out {store} --seed {part.store.manifest.seed}")
        lines.append(f"releve train {recipe} --store {store} --out {part.name} --seed {part.run.seed}")
    names = " ".join(part.name for part in facts.parts)
    return "\n".join([*lines, f"releve ensemble {names} --out ENSEMBLE --seed {facts.run.seed}"])


def list_recipes(facts: Facts) -> list[tuple[list[str], Config]]:
    """Return the recipes of an ensemble's runs, each once, with the names of the runs that have it."""
    named: dict[str, tuple[list[str], Config]] = {}
    for part in facts.parts:
        key = json.dumps({name: _text(value) for name, value in _flat(part.config).items()})
        named.setdefault(key, ([], part.config))[0].append(part.name)
    return list(named.values())


def _members(part: Facts) -> str:
    kinds = part.num_members + part.num_refitted
    return words.join_words([words.counted(number, kind) for kind, number in kinds.items()])


def _share(facts: Facts, part: Facts) -> float | None:
    kinds = facts.decision.get("kinds", {})
    shares = [kinds.get(f"{part.name}/{kind}", {}).get("share") for kind in part.num_members]
    return sum(shares) if shares and all(is_number(share) for share in shares) else None


def _score_alone(facts: Facts, part: Facts) -> float | None:
    """Return the sF1 that a run has alone, where it was evaluated on the ensemble's plots."""
    try:
        tables = read_tables(part.run.path / "evaluation", part.config.title or "model")
    except RunError:
        return None
    if set(tables["surveys"]["survey_id"]) != set(facts.surveys["survey_id"]):
        return None
    return next(float(row["sample_f1"]) for row in tables["scores"].to_dicts() if row["is_model"])


def _flat(config: Config) -> dict[str, Any]:
    """Return the fields that decide what is trained, by ``section.field``."""
    content = config.model_dump(mode="json")
    pairs = {
        f"{section}.{field}": value
        for section, values in content.items()
        if isinstance(values, dict) and section not in IDLE
        for field, value in values.items()
    }
    return {field: value for field, value in pairs.items() if field not in IDLE}


def _text(value: Any) -> str:
    return "not set" if value is None else json.dumps(value, ensure_ascii=False)
