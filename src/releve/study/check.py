"""What a study of one's own holds: tables and rasters, and what is wrong or strange about them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from releve.discover.kinds import Table, judge_table
from releve.discover.projections import DEGREES
from releve.discover.samples import read_samples
from releve.discover.units import compare_units_of
from releve.errors import ReleveError
from releve.ingest.inventory import Finding, Inventory, Row, split_rows
from releve.ingest.study import Study
from releve.ingest.surveys import Surveys, read_surveys
from releve.progress import progress_bar
from releve.rasters.layer import Layer
from releve.rasters.sample import Sampled, sample_layers
from releve.store.layers import layers_of
from releve.study.settings import settings_for

MOST_PLACES = 20_000
"""Of more surveys so many, evenly spread, are looked up in the rasters."""
RARE = 5
NUM_EXAMPLES = 3


def check_study(study: Study) -> Inventory:
    """Return what a study holds: its tables, each of its layers at its places, and what is wrong or strange.

    Found are rows left out by reason, spellings, layers that are constant, empty or the same as another, places outside
    of rasters, rasters in other units than the columns of the same name, and what a run without a recipe would do.

    Parameters
    ----------
    study
        An open study.
    """
    rows: list[Row] = []
    surveys: dict[str, Surveys] = {}
    try:
        for split in study.splits:
            surveys[split] = read_surveys(study, split)
            first, *others = split_rows(study, split, surveys[split])
            species = _species_findings(surveys[split], is_plots=split != "po")
            rows += [replace(first, findings=(*species, *first.findings)), *others]
    except ReleveError as error:
        rows.append(_broken("all", "tables", error))
    try:
        layers = layers_of(study)
        rows += _raster_rows(study, surveys, layers)
    except ReleveError as error:
        rows.append(_broken("all", "rasters", error))
    if not any(finding.severity == "error" for row in rows for finding in row.findings):
        rows.append(_settings_row(study))
    rows.sort(key=lambda row: row.split != "all")
    return Inventory(str(study.path), study.rules.name if surveys else "study", _title(study), tuple(rows))


def _settings_row(study: Study) -> Row:
    """Return what a run would do with the study if no recipe is given."""
    try:
        reasons = settings_for(study, None).reasons
    except ReleveError as error:
        return _broken("all", "settings", error)
    return Row("all", "settings", 0, 0, 0, 0, tuple(Finding("note", "settings", reason, 1) for reason in reasons))


def _title(study: Study) -> str:
    return study.config.title or "A study of one's own"


def _broken(split: str, what: str, error: ReleveError) -> Row:
    return Row(split, what, 0, 0, 0, 0, (Finding("error", "unreadable", str(error), 1),))


def _species_findings(surveys: Surveys, *, is_plots: bool) -> Iterator[Finding]:
    """Yield how many species there are, and how many of them are hardly ever met."""
    num_surveys = len(surveys.table)
    counts = surveys.labels.group_by("species_id").len()["len"]
    if not len(counts):
        yield Finding("warning", "no-species", "no presence of any species", 1)
        return
    rare = int((counts < RARE).sum())
    message = "species" + (f", {rare:,} of them fewer than {RARE} times" if rare else "")
    message += "; there are more species than places" if is_plots and len(counts) > num_surveys else ""
    yield Finding("note", "species", message, len(counts))
    num_everywhere = int((counts == num_surveys).sum())
    if is_plots and num_everywhere:
        yield Finding("note", "everywhere", "species on every plot, of which nothing can be learned", num_everywhere)


# ---- rasters at the places -----------------------------------------------------------------------------------


def _raster_rows(study: Study, surveys: dict[str, Surveys], layers: Sequence[Layer]) -> Iterator[Row]:
    if not layers:
        if not any(study.rules.covariates):
            message = "neither rasters nor columns of covariates: a model would know nothing but where the places are"
            yield Row("all", "study", 0, 0, 0, 0, (Finding("warning", "no-covariates", message, 1),))
        return
    yield Row("all", "study", 0, 0, 0, 0, (*_grid_findings(layers), *_class_findings(layers), *_units(study, layers)))
    for split, found in surveys.items():
        table = found.table
        chosen = _evenly(len(table))
        lon, lat = (table[axis].to_numpy()[chosen] for axis in ("lon", "lat"))
        sampled = _sampled(layers, lon, lat, f"rasters at the {split} places")
        groups = dict.fromkeys(layer.group for layer in layers)
        for group in groups:
            columns = [at for at, layer in enumerate(_by_column(layers)) if layer.group == group]
            num_present = int(np.isfinite(sampled.values[:, columns]).any(axis=1).sum())
            findings = list(_value_findings(layers, group, sampled, table[chosen]))
            if len(chosen) < len(table):
                message = f"only {len(chosen):,} of {len(table):,} surveys were looked up"
                findings.append(Finding("note", "sampled", message, len(chosen)))
            yield Row(split, group, len(chosen), num_present, len(chosen) - num_present, 0, tuple(findings))


def _sampled(layers: Sequence[Layer], lon: NDArray[np.float64], lat: NDArray[np.float64], what: str) -> Sampled:
    with progress_bar() as bar:
        task = bar.add_task(what)
        return sample_layers(
            layers, lon, lat, advance=lambda done, total: bar.update(task, completed=done, total=total)
        )


def _evenly(num: int) -> NDArray[np.int64]:
    return np.unique(np.linspace(0, max(num - 1, 0), min(num, MOST_PLACES)).astype(np.int64))


def _by_column(layers: Sequence[Layer]) -> list[Layer]:
    return [layer for layer in layers for _ in layer.columns]


def _value_findings(layers: Sequence[Layer], group: str, sampled: Sampled, table: pl.DataFrame) -> Iterator[Finding]:
    """Yield what is strange about the values of a group's layers at the places of a split."""
    here = [layer.name for layer in layers if layer.group == group]
    num = len(table)
    if num and sampled.num_outside_all == num:
        message = "no place lies within any raster: the CRS of the table, or of the rasters, is another one"
        yield Finding("error", "outside-all", message, num, _examples(table, np.ones(num, bool)))
        return
    empty = [name for name in sampled.empty if name in here]
    yield from _some("warning", "no-data", "layers without data at any place, of no use", empty)
    constant = [name for name in sampled.constant if name in here]
    yield from _some("warning", "constant", "layers with one value at all places, of no use", constant)
    yield from _missing_findings([name for name in here if name not in empty], layers, sampled, table)
    pairs = [f"{first} and {second}" for first, second in sampled.correlated if first.partition("=")[0] in here]
    yield from _some("warning", "same", "pairs of layers that say the same: one would do", pairs)


def _missing_findings(
    names: Sequence[str], layers: Sequence[Layer], sampled: Sampled, table: pl.DataFrame
) -> Iterator[Finding]:
    """Yield where layers have no value; those without one at the same places together."""
    alike: dict[bytes, list[str]] = {}
    for name in names:
        columns = [at for at, layer in enumerate(_by_column(layers)) if layer.name == name]
        is_missing = ~np.isfinite(sampled.values[:, columns]).all(axis=1)
        if is_missing.any():
            alike.setdefault(is_missing.tobytes(), []).append(name)
    for mask, together in alike.items():
        is_missing = np.frombuffer(mask, bool)
        outside = max(sampled.outside[name] for name in together)
        nodata = max(sampled.on_nodata[name] for name in together)
        parts = [f"{outside:,} outside"] if outside else []
        parts += [f"{nodata:,} where it has no data"] if nodata else []
        what = f"{together[0]}{f' and {len(together) - 1} more layers' if len(together) > 1 else ''}"
        message = f"places without a value of {what} ({is_missing.mean():.1%}): {', '.join(parts)}"
        yield Finding("warning", "missing-values", message, int(is_missing.sum()), _examples(table, is_missing))


def _examples(table: pl.DataFrame, chosen: NDArray[np.bool_]) -> tuple[str, ...]:
    some = table.filter(pl.Series(chosen)).head(NUM_EXAMPLES)
    return tuple(
        f"{name}: lon {lon:.5g}, lat {lat:.5g}" for name, lon, lat in some.select("survey_id", "lon", "lat").rows()
    )


def _some(severity: str, code: str, message: str, names: Sequence[str]) -> Iterator[Finding]:
    """Yield a finding about some names, the first of which are shown, if there are any."""
    if names:
        shown = names if len(names) <= NUM_EXAMPLES else [*names[:2], f"and {len(names) - 2} more"]
        yield Finding(severity, code, message, len(names), tuple(shown))


# ---- rasters by themselves -----------------------------------------------------------------------------------


def _grid_findings(layers: Sequence[Layer]) -> Iterator[Finding]:
    """Yield a note for each grid: how many layers lie on it, its cells and projection."""
    grids: dict[str, list[str]] = {}
    for layer in layers:
        grid = layer.grid
        across, down = np.hypot(grid.transform[0], grid.transform[3]), np.hypot(grid.transform[1], grid.transform[4])
        cells = f"{across:.6g}" if np.isclose(across, down) else f"{across:.6g} x {down:.6g}"
        crs = grid.crs if len(grid.crs) < 30 else "a projection of its own"
        message = f"layers of {grid.width:,} x {grid.height:,} cells of {cells}, {crs}"
        grids.setdefault(message, []).append(layer.name)
    for message, names in grids.items():
        yield from _some("note", "grid", message, names)


def _class_findings(layers: Sequence[Layer]) -> Iterator[Finding]:
    """Yield which layers are taken for classes, by what tells so."""
    by_reason: dict[str, list[str]] = {}
    for layer in layers:
        if layer.categorical:
            by_reason.setdefault(layer.found_by, []).append(layer.name)
    for reason, names in by_reason.items():
        mend = "" if reason == "declared" else "; if they are amounts, write categorical = false"
        yield from _some("note", "classes", f"layers of classes ({reason}){mend}", names)


def _units(study: Study, layers: Sequence[Layer]) -> Iterator[Finding]:
    """Yield the layers that are in another unit than the column of the same name in a table of plots or records."""
    alike: dict[tuple[str, str, str], list[str]] = {}
    for config in (*study.config.plots, *study.config.records):
        for path in study.files_of(config.file):
            table = _table(path, config.layer)
            crs = config.crs or _crs_of(table, study.config.crs)
            for note in compare_units_of(table, crs, layers) if crs is not None else ():
                told = [f"scale = {note.scale:.6g}"] if note.scale != note.layer.scale else []
                told += [f"offset = {note.offset:.6g}"] if note.offset != note.layer.offset else []
                alike.setdefault((note.conversion, note.table, " and ".join(told)), []).append(note.layer.name)
    for (conversion, name, mend), names in alike.items():
        message = f"layers that, {conversion}, are what {name} has under this name; to mend it, give them {mend}"
        yield from _some("warning", "other-units", message, names)


def _table(path: Path, layer: str | None) -> Table:
    """Return a table of plots or records as init looks at it."""
    samples = read_samples(path)
    sample = next((sample for sample in samples if sample.layer == layer), samples[0])
    return judge_table(sample)


def _crs_of(table: Table, usual: str | None) -> str | None:
    if table.place is None:
        return None
    return DEGREES if table.place.kind == "lon" else table.sample.crs or usual
