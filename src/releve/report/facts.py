"""What is known of a run: its provenance, recipe, store, learning curves, decision and scores, gathered once."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from releve.config import Config
from releve.data.survey import SURVEY_CATEGORICAL, SURVEY_NUMERIC
from releve.evaluate.facts import bootstrap_side_km
from releve.report.tables import read_tables
from releve.runs.folder import Run
from releve.store.read import Store
from releve.store.schema import ArraySpec, Manifest
from releve.train.members import Member


@dataclass(frozen=True, eq=False)
class Facts:
    """A run or ensemble and its evaluation, as every page and file of the report reads them.

    Parameters
    ----------
    run
        A trained run or an ensemble of runs.
    provenance
        Its ``run.json``; empty if it has none.
    decision
        Its ``decision.json``.
    tables
        Tables of its evaluation, by name.
    is_part
        Whether it is one of an ensemble's runs.
    """

    run: Run
    provenance: dict[str, Any]
    decision: dict[str, Any]
    tables: dict[str, pl.DataFrame]
    is_part: bool = False

    @property
    def config(self) -> Config:
        """The recipe."""
        return self.run.config

    @cached_property
    def parts(self) -> tuple[Facts, ...]:
        """What is known of each run of an ensemble; none of a run.

        Their tables are the ensemble's: what is asked of a part is how it was trained, not how well it does.
        """
        return tuple(
            Facts(
                part,
                _read_json(part.path / "run.json"),
                _read_json(part.path / "decision.json"),
                self.tables,
                is_part=True,
            )
            for part in self.run.parts
        )

    @cached_property
    def trained(self) -> tuple[Facts, ...]:
        """Whatever has members of its own: the runs of an ensemble, or the run itself."""
        return self.parts or (self,)

    @property
    def name(self) -> str:
        """Name of the folder, which tells the runs of an ensemble apart."""
        return self.run.path.name

    @property
    def store(self) -> Store:
        """The store it was trained on; of an ensemble, that of its first run, whose rows are scored."""
        return self.run.store

    @property
    def manifest(self) -> Manifest:
        """What the store is."""
        return self.run.store.manifest

    @property
    def title(self) -> str:
        """What the run is called."""
        return self.config.title or self.run.path.name or "Run"

    @property
    def surveys(self) -> pl.DataFrame:
        """One row a held-out survey."""
        return self.tables["surveys"]

    @property
    def is_ranked(self) -> bool:
        """Whether models are compared by how well they rank places, as of records, and not by their lists."""
        return "auc_gain" in self.tables["scores"].columns

    @property
    def headline(self) -> str:
        """The score by which models are compared."""
        return "auc_macro" if self.is_ranked else "sample_f1"

    @cached_property
    def scores(self) -> list[dict[str, Any]]:
        """One row a model, the best first; ``gain`` is that of the run in its ``headline``."""
        rows = self.tables["scores"].to_dicts()
        ends = ("", "_low", "_high")
        return [row | {f"gain{end}": row[f"auc_gain{end}"] for end in ends} if self.is_ranked else row for row in rows]

    @cached_property
    def model(self) -> dict[str, Any]:
        """The scores of the run itself."""
        return next(row for row in self.scores if row["is_model"])

    @cached_property
    def rival(self) -> dict[str, Any] | None:
        """The scores of the best reference model, with the run's gain over it; None without one."""
        others = [row for row in self.scores if not row["is_model"] and row[self.headline] is not None]
        return max(others, key=lambda row: row[self.headline], default=None)

    @cached_property
    def preparation(self) -> dict[str, Any]:
        """What is noted of how the store was made: why settings are so, and how a study asks to be cited."""
        file = self.store.path / "run.json"
        return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}

    @property
    def bootstrap_km(self) -> float:
        """Side of the blocks that are drawn whole when intervals are worked out."""
        return bootstrap_side_km(self.config.split.block_size_km)

    @cached_property
    def num_random(self) -> int:
        """Random places beside the records."""
        return 0 if self.store.is_target_group else int(self.store.is_random.sum())

    @cached_property
    def num_plots(self) -> int:
        """Plots in the store."""
        return int(self.store.is_plot.sum())

    @cached_property
    def with_records(self) -> Facts | None:
        """What was trained on a store with presence-only rows, of several runs the first; None if there are none."""
        return next((facts for facts in self.trained if not facts.store.is_plot.all()), None)

    @cached_property
    def num_pseudoplots(self) -> int:
        """Presence-only rows in the store: pseudo-plots or single records."""
        return 0 if self.with_records is None else int((~self.with_records.store.is_plot).sum())

    @cached_property
    def num_records(self) -> int:
        """Presence-only records that the pseudo-plots were made of."""
        if self.with_records is None or "num_records" not in self.with_records.store.surveys.columns:
            return self.num_pseudoplots
        return int(self.with_records.store.surveys["num_records"].cast(pl.Float64).fill_null(0).sum())

    @cached_property
    def scored(self) -> pl.DataFrame:
        """The store's rows that models are validated on: plots, or presence-only rows where there are no plots."""
        return self.store.surveys.filter(pl.Series(self.store.is_scored))

    @cached_property
    def presences(self) -> np.ndarray:
        """(S,) plots, or presence-only rows where there are no plots, that each species is present on."""
        rows = np.flatnonzero(self.store.is_scored)
        return np.bincount(self.store.labels.take(rows).indices, minlength=len(self.store.species_ids))

    @cached_property
    def years(self) -> tuple[int, int] | None:
        """First and last year of the surveys."""
        years = self.store.surveys["year"].drop_nulls() if "year" in self.store.surveys.columns else pl.Series()
        return (int(years.min()), int(years.max())) if len(years) else None  # type: ignore[arg-type]

    @cached_property
    def bounds(self) -> dict[str, float] | None:
        """West, south, east, north of the surveys in degrees; None if no place is known."""
        lon, lat = self.store.lon, self.store.lat
        keep = np.isfinite(lon) & np.isfinite(lat)
        if not keep.any():
            return None
        lon, lat = lon[keep], lat[keep]
        west, east, south, north = lon.min(), lon.max(), lat.min(), lat.max()
        return {"west": float(west), "south": float(south), "east": float(east), "north": float(north)}

    @cached_property
    def countries(self) -> list[tuple[str, int]]:
        """Countries and their number of plots, the most first; none if the release does not say."""
        if "country" not in self.scored.columns:
            return []
        counts = self.scored["country"].drop_nulls().value_counts(sort=True)
        return [(str(name), int(count)) for name, count in counts.rows() if name]

    def numbers_of(self, column: str) -> np.ndarray:
        """Return the known values of a numeric column of the plots."""
        if column not in self.scored.columns:
            return np.zeros(0)
        values = self.scored[column].cast(pl.Float64, strict=False).to_numpy()
        return values[np.isfinite(values)]

    @cached_property
    def num_members(self) -> Counter[str]:
        """Members by kind, such as network and forest, that had a fold held out."""
        return Counter(member.kind for _, member in self.members if member.fold is not None)

    @cached_property
    def members(self) -> list[tuple[Facts, Member]]:
        """All members, each with what is known of its run."""
        return [(facts, member) for facts in self.trained for member in facts.run.members]

    @cached_property
    def folds(self) -> list[int]:
        """Folds that were held out in turn; of an ensemble, those of the plots that all its runs have held out."""
        if self.parts:
            return sorted(int(fold) for fold in self.surveys["fold"].drop_nulls().unique())
        return sorted({member.fold for _, member in self.members if member.fold is not None})

    @cached_property
    def num_refitted(self) -> Counter[str]:
        """Members by kind that were trained on all rows, nothing held out."""
        return Counter(member.kind for _, member in self.members if member.fold is None)

    @cached_property
    def leakage(self) -> list[dict[str, Any]]:
        """One row a fold: how many rows it has, and how far they lie from the rows trained on."""
        if "folds" in self.tables:
            return self.tables["folds"].to_dicts()
        return [dict(row) for row in self.manifest.leakage]

    @cached_property
    def curves(self) -> list[tuple[Facts, Member, list[dict[str, Any]]]]:
        """The learning curve of each network that left one, with the network and its run."""
        logs = [
            (facts, member, read_logs(facts.run.path / member.name / "metrics.jsonl")) for facts, member in self.members
        ]
        return [(facts, member, log) for facts, member, log in logs if log]

    @cached_property
    def best_epochs(self) -> list[int]:
        """For each network with rows to choose on, the epoch, counted from 1, whose weights were kept."""
        kept = [read_kept_epoch(facts.run.path / member.name) for facts, member, _ in self.curves]
        return [epoch + 1 for epoch in kept if epoch is not None]

    @cached_property
    def covariate_groups(self) -> dict[str, list[str]]:
        """Covariates that the models look at, by their group; without a group under ``other``."""
        spec = self.spec_of("covariates")
        groups: dict[str, list[str]] = {}
        for name in spec.channels if spec else ():
            groups.setdefault(spec.groups.get(name, "other"), []).append(name)  # type: ignore[union-attr]
        return groups

    def spec_of(self, modality: str) -> ArraySpec | None:
        """Return what an array holds that the models look at; None if none does, or no store has it."""
        for facts in self.trained:
            if modality in facts.config.model.modalities and modality in facts.store.arrays:
                return facts.store.arrays[modality].spec
        return None

    @cached_property
    def modalities(self) -> list[dict[str, Any]]:
        """For each modality: how many surveys have it, its shape, and whether the models look at it.

        Of several runs, that of the store with the most such surveys, used if any run uses it.
        """
        if self.parts:
            rows: dict[str, dict[str, Any]] = {}
            for row in (row for part in self.parts for row in part.modalities):
                known = rows.get(row["name"], row)
                most = max(known, row, key=lambda either: either["num_surveys"])
                rows[row["name"]] = most | {"used": known["used"] or row["used"]}
            return list(rows.values())
        return self._own_modalities()

    def _own_modalities(self) -> list[dict[str, Any]]:
        used = self.config.model.modalities
        rows = [
            {
                "name": name,
                "num_surveys": int((array.row_of >= 0).sum()),
                "shape": " × ".join(str(size) for size in array.spec.shape),
                "used": name in used,
            }
            for name, array in self.store.arrays.items()
        ]
        columns = {"survey": len(SURVEY_NUMERIC + SURVEY_CATEGORICAL), "location": 2}
        for name in used:
            if name in columns:
                rows.append({"name": name, "num_surveys": len(self.store), "shape": str(columns[name]), "used": True})
            elif name not in self.store.arrays:
                rows.append({"name": name, "num_surveys": 0, "shape": "", "used": True})
        return rows

    def uses(self, modality: str) -> bool:
        """Return whether the models look at a modality and the store has it."""
        return any(row["name"] == modality and row["used"] and row["num_surveys"] for row in self.modalities)

    @property
    def version(self) -> str:
        """Version and commit that the run was trained, or the ensemble made, with."""
        commit = self.provenance.get("git_commit")
        return f"{self.provenance.get('releve', 'unknown')}" + (f", commit {commit[:10]}" if commit else "")


def gather_facts(run: Run) -> Facts:
    """Return all that a report is made of.

    Raises
    ------
    RunError
        If the run was not evaluated.
    StoreError
        If its store is gone or was prepared again.
    """
    tables = read_tables(run.path / "evaluation", run.config.title or "model")
    facts = Facts(run, _read_json(run.path / "run.json"), _read_json(run.path / "decision.json"), tables)
    for part in facts.trained:
        assert part.manifest  # opens the store, so that what is wrong with it is said before anything is drawn
    return facts


def read_logs(file: Path) -> list[dict[str, Any]]:
    """Return the lines of a member's ``metrics.jsonl``, or none if there is no such file."""
    if not file.is_file():
        return []
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]


def read_kept_epoch(folder: Path) -> int | None:
    """Return the epoch, counted from 0, that was kept; None where there were no rows to select it on."""
    found = _read_json(folder / "member.json")
    return int(found["best_epoch"]) if found.get("selection_sf1") is not None else None


def _read_json(file: Path) -> dict[str, Any]:
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}
