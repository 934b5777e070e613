"""A study.toml as one would write it by hand: what was found, why, and as comments what could be instead."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

from releve.discover.archives import rasters_inside
from releve.discover.columns import Found
from releve.discover.kinds import Table
from releve.discover.parts import CovariateFiles, Part
from releve.discover.raster_sections import raster_lines
from releve.discover.rasters import names_seen
from releve.discover.study import Discovery
from releve.discover.toml import as_pattern, comment, relative, setting, some_names, toml_key, toml_value
from releve.ingest.config import StudyConfig
from releve.ingest.names import fold

MAX_CLASSES_SHOWN = 6
MAX_LEFT_OUT = 40


def study_text(found: Discovery, folder: Path) -> str:
    """Return the text of a study.toml that is to lie in a folder, checked as a run would check it."""
    text = "\n".join(_lines(found, folder)) + "\n"
    StudyConfig.model_validate(tomllib.loads(text)["study"])
    return text


def _lines(found: Discovery, folder: Path) -> list[str]:
    lines = [
        *comment(
            f"What `releve init` found in {found.listing.root.resolve().name}. Lines after a # are not read: they say "
            "why, or what could be instead. Files are named from the folder of this file. Sections of a recipe may "
            "follow."
        ),
        "",
        "[study]",
        f"title = {toml_value(found.title)}",
        *_crs_lines(found),
        '# citation = "..."  # how the data are to be cited',
    ]
    for part in found.parts:
        lines += _part_lines(part, found, folder)
    for covariates in found.covariates:
        lines += _covariate_lines(covariates, folder)
    twice = {name for name, layers in names_seen(found.rasters).items() if len(layers) > 1}
    for group in found.rasters:
        lines += raster_lines(group, found, folder, twice)
    for archive in found.listing.archives:
        lines += _archive_lines(archive)
    told = found.left_out_lines()
    lines += ["", "# Left out:"] if told else []
    for line in told[:MAX_LEFT_OUT]:
        lines += comment(line, "#   ")
    lines += [f"#   and {len(told) - MAX_LEFT_OUT} more"] if len(told) > MAX_LEFT_OUT else []
    return lines


# ---- the parts ---------------------------------------------------------------------------------------------


def _crs_lines(found: Discovery) -> list[str]:
    """Return the lines on the projection that only the owner of the data knows, if it is not said anywhere."""
    if not found.projections.lacking:
        return []
    what = ", ".join(found.projections.lacking)
    lines = ["", *comment(f"TO BE GIVEN, as no file says it: the projection of the coordinates of {what}.")]
    lines += _shared_numbers(found)
    if any(part.table.place is not None and part.table.place.per_km for part in found.parts):
        lines += comment(
            "They are in kilometres, as their columns are called; a projection in metres is right for them."
        )
    for hint in found.projections.hints:
        lines += setting("crs", hint.crs, hint.why, offered=True)
    if not found.projections.hints:
        lines += ['# crs = "EPSG:..."  # such as EPSG:25832, ETRS89 / UTM zone 32N']
    if any(part.table.kind == "plots" and part.crs is None for part in found.parts):
        lines += comment(
            "If nobody knows it, this keeps distances between plots right, but not where on Earth they are:"
        )
        lines += setting("crs", "+proj=laea +lat_0=0 +lon_0=0 +ellps=GRS80", offered=True)
    return [*lines, ""]


def _shared_numbers(found: Discovery) -> list[str]:
    groups = [
        group for group in found.rasters if group.crs is None and str(group.files[0]) not in found.projections.rasters
    ]
    parts = [part for part in found.parts if part.crs is None]
    if groups and parts:
        return comment("The places lie within the rasters as they are, so one line serves both.")
    return []


def _part_lines(part: Part, found: Discovery, folder: Path) -> list[str]:
    table, kind = part.table, part.table.kind
    sample = table.sample
    about = "" if sample.is_whole else "about "
    facts = [f"{about}{sample.num_rows:,} rows"]
    facts += [f"{table.num_plots:,} plots"] if kind == "plots" and table.num_plots else []
    facts += [f"{table.num_species:,} species"] if table.num_species else []
    seen = "" if sample.is_whole else " among the rows looked at"
    lines = ["", f"[[study.{kind}]]", *comment(f"{sample.name}: {', '.join(facts)}{seen}. {_sentence(kind, part)}")]
    lines += setting("file", _tables_value(part.files, found, folder))
    lines += setting("layer", sample.layer) if sample.layer else []
    if part.crs and part.why_crs:
        lines += setting("crs", part.crs, part.why_crs)
    elif part.crs:
        lines += comment(f"The file says that it is in {part.crs}.")
    if part.split == "test":
        lines += setting("split", "test", part.why_split)
    if table.form == "wide":
        lines += _wide_lines(table)
    if part.species_name:
        lines += setting("species", part.species_name, part.why_name)
    if table.one_binomial:
        told = f"All {table.num_species} names are of {table.one_binomial} and are kept apart."
        lines += comment(f"{told} To take them as one species, take away this # and the line species = below:")
        lines += setting("species", table.one_binomial, offered=True)
    lines += _covariate_settings(part)
    lines += _column_lines(f"study.{kind}.columns", table.columns())
    if part.species_table is not None:
        lines += _species_table_lines(kind, part.species_table, folder)
    return lines


def _tables_value(files: Sequence[Path], found: Discovery, folder: Path) -> str | list[str]:
    """Return a file, several, or a pattern such as ``tile_*.csv`` for many that nothing else is called like."""
    names = [relative(path, folder) for path in files]
    if len(names) < 4:
        return names[0] if len(names) == 1 else names
    prefix, suffix = os.path.commonprefix([path.name for path in files]), files[0].suffix
    pattern = f"{prefix}*{suffix}"
    alike = [path for path in found.listing.tables if path.parent == files[0].parent and path.suffix == suffix]
    same = {path for path in alike if path.name.startswith(prefix)}
    is_plain = not set(relative(files[0].parent, folder) + prefix) & set("*?[]")
    if same != set(files) or not is_plain:
        return names
    parent = relative(files[0].parent, folder)
    return pattern if parent == "." else f"{parent}/{pattern}"


def _sentence(kind: str, part: Part) -> str:
    what = "Plots" if kind == "plots" else "Records"
    other = "records" if kind == "plots" else "plots"
    return f"{what}, as {part.table.why}. If they are {other}, write [[study.{other}]]."


def _wide_lines(table: Table) -> list[str]:
    others = [name for name in table.profiles if name not in table.species_columns]
    shown = as_pattern(table.species_columns, others)
    return [
        *setting("form", "wide", "a column for each species"),
        *setting("species_columns", shown),
        *(
            setting("least_abundance", 1.0, "to count as presence only what has at least this abundance", offered=True)
            if any(table.profiles[name].high > 1 for name in table.species_columns)
            else []
        ),
    ]


def _covariate_settings(part: Part) -> list[str]:
    table = part.table
    lines = []
    others = [name for name in table.profiles if name not in part.covariates]
    if part.covariates:
        why = "numbers that are the same in all rows of a plot"
        lines += setting("covariates", as_pattern(part.covariates, others), why)
    reasons: dict[str, list[str]] = {}
    for column, why in part.offered:
        reasons.setdefault(why, []).append(column)
    for why, columns in reasons.items():
        lines += comment(f"Not taken: {some_names(columns)}; {why}.")
    for name, count in list(table.classes.items())[:MAX_CLASSES_SHOWN]:
        lines += comment(f"{name} has {count} classes in words; to use it, add it to covariates, and here:")
        lines += setting("categorical", [name], offered=True)
    return lines


def _column_lines(section: str, columns: Mapping[str, Found]) -> list[str]:
    if not columns:
        return []
    lines = [f"[{section}]"]
    for role, found in columns.items():
        others = f"; could also be {', '.join(found.others[:3])}" if found.others else ""
        why = ("" if found.why == "by name" else found.why) + others
        lines += setting(toml_key(role), found.column, why.removeprefix("; "))
    return lines


def _species_table_lines(kind: str, table: Table, folder: Path) -> list[str]:
    lines = [f"[study.{kind}.species_table]", *comment(f"The species of the plots: {table.sample.name}.")]
    lines += setting("file", relative(table.sample.path, folder))
    lines += setting("layer", table.sample.layer) if table.sample.layer else []
    if table.form == "wide":
        lines += [line for line in _wide_lines(table) if "least_abundance" not in line]
    return lines + _column_lines(f"study.{kind}.species_table.columns", table.roles)


def _covariate_lines(covariates: CovariateFiles, folder: Path) -> list[str]:
    table = covariates.table
    others = [name for name in table.profiles if name not in table.covariates]
    files = [relative(path, folder) for path in covariates.files]
    key = table.roles["survey_id"].column
    return [
        "",
        "[[study.covariates]]",
        *comment(f"{table.sample.name}: numbers by {key}, whose values are those of the plots."),
        *setting("file", files[0] if len(files) == 1 else files),
        *(setting("layer", table.sample.layer) if table.sample.layer else []),
        *setting("group", fold(table.sample.path.stem) or "covariates"),
        *setting("key", key),
        *setting("columns", as_pattern(table.covariates, others)),
    ]


def _archive_lines(archive: Path) -> list[str]:
    """Return what would read the rasters of a zip file where they are."""
    inside = rasters_inside(archive)
    if not inside:
        return []
    text = f"{archive.name} holds rasters. They can be read where they are, more slowly than unpacked; take away the #:"
    lines = ["", *comment(text), "# [[study.rasters]]"]
    return lines + setting("file", inside[0] if len(inside) == 1 else inside, offered=True)
