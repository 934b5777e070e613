"""A study.toml as one would write it by hand: what was found, why, and as comments what could be instead."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from releve.discover.archives import rasters_inside
from releve.discover.columns import Found
from releve.discover.kinds import Table
from releve.discover.parts import CovariateFiles, Part
from releve.discover.rasters import RasterGroup, RasterLayer, names_seen
from releve.discover.study import Discovery
from releve.discover.units import UnitNote
from releve.ingest.config import StudyConfig
from releve.ingest.names import fold

WIDTH = 118
MAX_CLASSES_SHOWN = 6
MAX_OFFERED = 12
MAX_LEFT_OUT = 40


def study_text(found: Discovery, folder: Path) -> str:
    """Return the text of a study.toml that is to lie in a folder, checked as a run would check it."""
    text = "\n".join(_lines(found, folder)) + "\n"
    StudyConfig.model_validate(tomllib.loads(text)["study"])
    return text


def _lines(found: Discovery, folder: Path) -> list[str]:
    lines = [
        *_comment(
            f"What `releve init` found in {found.listing.root.resolve().name}. Lines after a # are not read: they say "
            "why, or what could be instead. Files are named from the folder of this file. Sections of a recipe may "
            "follow."
        ),
        "",
        "[study]",
        f"title = {_value(found.title)}",
        *_crs_lines(found),
        '# citation = "..."  # how the data are to be cited',
    ]
    for part in found.parts:
        lines += _part_lines(part, found, folder)
    for covariates in found.covariates:
        lines += _covariate_lines(covariates, folder)
    twice = {name for name, layers in names_seen(found.rasters).items() if len(layers) > 1}
    for group in found.rasters:
        lines += _raster_lines(group, found, folder, twice)
    for archive in found.listing.archives:
        lines += _archive_lines(archive)
    told = found.left_out_lines()
    lines += ["", "# Left out:"] if told else []
    for line in told[:MAX_LEFT_OUT]:
        lines += _comment(line, "#   ")
    lines += [f"#   and {len(told) - MAX_LEFT_OUT} more"] if len(told) > MAX_LEFT_OUT else []
    return lines


# ---- what is written how ---------------------------------------------------------------------------------


def _value(value: Any) -> str:
    r"""Return a value as TOML.

    Examples
    --------
    >>> _value(["Å", 'say "x"']), _value(0.1), _value(True)
    ('["Å", "say \\"x\\""]', '0.1', 'true')
    """
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    if isinstance(value, float):
        return f"{value:.10g}" if "." in f"{value:.10g}" or "e" in f"{value:.10g}" else f"{value:.10g}.0"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _setting(key: str, value: Any, why: str = "", *, offered: bool = False) -> list[str]:
    """Return the lines of one setting, as a comment if it is only offered; a long list goes over several lines."""
    mark = "# " if offered else ""
    line = f"{mark}{key} = {_value(value)}"
    if isinstance(value, (list, tuple)) and len(line) > WIDTH:
        lines = [f"{mark}{key} = ["]
        row = mark + "   "
        for item in value:
            text = f" {_value(item)},"
            if len(row) + len(text) > WIDTH:
                lines.append(row)
                row = mark + "   "
            row += text
        return [*_comment(why), *lines, row, f"{mark}]"]
    if why and len(line) + len(why) + 4 <= WIDTH:
        return [f"{line}  # {_plain(why)}"]
    return [*_comment(why), line]


def _comment(text: str, mark: str = "# ") -> list[str]:
    """Return a sentence as comment lines."""
    if not text:
        return []
    lines = [mark.rstrip()]
    for word in _plain(text).split(" "):
        if len(lines[-1]) + len(word) + 1 > WIDTH and len(lines[-1]) > len(mark):
            lines.append(mark.rstrip() + " " * (len(mark) - len(mark.rstrip()) - 1))
        lines[-1] += f" {word}" if lines[-1] != mark.rstrip() else mark[len(mark.rstrip()) :] + word
    return lines


def _plain(text: str) -> str:
    """Return text without what must not stand in a comment."""
    return re.sub(r"[\x00-\x1f\x7f]+", " ", text)


def _relative(path: Path | str, folder: Path) -> str:
    try:
        return Path(os.path.relpath(Path(path).absolute(), folder.absolute())).as_posix()
    except ValueError:  # another drive
        return Path(path).absolute().as_posix()


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _value(name)


def _short(names: Sequence[str], others: Iterable[str]) -> list[str]:
    """Return names as one pattern, if all that begin alike are meant and none else.

    Examples
    --------
    >>> _short(["env_1", "env_2", "env_3"], ["plot", "sp_1"]), _short(["a_1", "a_2", "b"], [])
    (['env_*'], ['a_1', 'a_2', 'b'])
    """
    prefix = re.sub(r"\d+$", "", os.path.commonprefix(list(names)))
    is_whole = len(prefix) >= 2 and (not prefix[-1].isalnum() or all(name[len(prefix) :].isdigit() for name in names))
    if len(names) < 3 or not is_whole or any(other.startswith(prefix) for other in others) or set(prefix) & set("*?[]"):
        return list(names)
    return [f"{prefix}*"]


# ---- the parts ---------------------------------------------------------------------------------------------


def _crs_lines(found: Discovery) -> list[str]:
    """Return the lines on the projection that only the owner of the data knows, if it is not said anywhere."""
    if not found.projections.lacking:
        return []
    what = ", ".join(found.projections.lacking)
    lines = ["", *_comment(f"TO BE GIVEN, as no file says it: the projection of the coordinates of {what}.")]
    lines += _shared_numbers(found)
    if any(part.table.place is not None and part.table.place.per_km for part in found.parts):
        lines += _comment(
            "They are in kilometres, as their columns are called; a projection in metres is right for them."
        )
    for hint in found.projections.hints:
        lines += _setting("crs", hint.crs, hint.why, offered=True)
    if not found.projections.hints:
        lines += ['# crs = "EPSG:..."  # such as EPSG:25832, ETRS89 / UTM zone 32N']
    if any(part.table.kind == "plots" and part.crs is None for part in found.parts):
        lines += _comment(
            "If nobody knows it, this keeps distances between plots right, but not where on Earth they are:"
        )
        lines += _setting("crs", "+proj=laea +lat_0=0 +lon_0=0 +ellps=GRS80", offered=True)
    return [*lines, ""]


def _shared_numbers(found: Discovery) -> list[str]:
    groups = [
        group for group in found.rasters if group.crs is None and str(group.files[0]) not in found.projections.rasters
    ]
    parts = [part for part in found.parts if part.crs is None]
    if groups and parts:
        return _comment("The places lie within the rasters as they are, so one line serves both.")
    return []


def _part_lines(part: Part, found: Discovery, folder: Path) -> list[str]:
    table, kind = part.table, part.table.kind
    sample = table.sample
    about = "" if sample.is_whole else "about "
    facts = [f"{about}{sample.num_rows:,} rows"]
    facts += [f"{table.num_plots:,} plots"] if kind == "plots" and table.num_plots else []
    facts += [f"{table.num_species:,} species"] if table.num_species else []
    seen = "" if sample.is_whole else " among the rows looked at"
    lines = ["", f"[[study.{kind}]]", *_comment(f"{sample.name}: {', '.join(facts)}{seen}. {_sentence(kind, part)}")]
    lines += _setting("file", _tables_value(part.files, found, folder))
    lines += _setting("layer", sample.layer) if sample.layer else []
    if part.crs and part.why_crs:
        lines += _setting("crs", part.crs, part.why_crs)
    elif part.crs:
        lines += _comment(f"The file says that it is in {part.crs}.")
    if part.split == "test":
        lines += _setting("split", "test", part.why_split)
    if table.form == "wide":
        lines += _wide_lines(table)
    if part.species_name:
        lines += _setting("species", part.species_name, part.why_name)
    if table.one_binomial:
        told = f"All {table.num_species} names are of {table.one_binomial} and are kept apart."
        lines += _comment(f"{told} To take them as one species, take away this # and the line species = below:")
        lines += _setting("species", table.one_binomial, offered=True)
    lines += _covariate_settings(part)
    lines += _column_lines(f"study.{kind}.columns", table.columns())
    if part.species_table is not None:
        lines += _species_table_lines(kind, part.species_table, folder)
    return lines


def _tables_value(files: Sequence[Path], found: Discovery, folder: Path) -> str | list[str]:
    """Return a file, several, or a pattern such as ``tile_*.csv`` for many that nothing else is called like."""
    names = [_relative(path, folder) for path in files]
    if len(names) < 4:
        return names[0] if len(names) == 1 else names
    prefix, suffix = os.path.commonprefix([path.name for path in files]), files[0].suffix
    pattern = f"{prefix}*{suffix}"
    alike = [path for path in found.listing.tables if path.parent == files[0].parent and path.suffix == suffix]
    same = {path for path in alike if path.name.startswith(prefix)}
    is_plain = not set(_relative(files[0].parent, folder) + prefix) & set("*?[]")
    if same != set(files) or not is_plain:
        return names
    parent = _relative(files[0].parent, folder)
    return pattern if parent == "." else f"{parent}/{pattern}"


def _sentence(kind: str, part: Part) -> str:
    what = "Plots" if kind == "plots" else "Records"
    other = "records" if kind == "plots" else "plots"
    return f"{what}, as {part.table.why}. If they are {other}, write [[study.{other}]]."


def _wide_lines(table: Table) -> list[str]:
    others = [name for name in table.profiles if name not in table.species_columns]
    shown = _short(table.species_columns, others)
    return [
        *_setting("form", "wide", "a column for each species"),
        *_setting("species_columns", shown),
        *(
            _setting("least_abundance", 1.0, "to count as presence only what has at least this abundance", offered=True)
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
        lines += _setting("covariates", _short(part.covariates, others), why)
    reasons: dict[str, list[str]] = {}
    for column, why in part.offered:
        reasons.setdefault(why, []).append(column)
    for why, columns in reasons.items():
        lines += _comment(f"Not taken: {_some(columns)}; {why}.")
    for name, count in list(table.classes.items())[:MAX_CLASSES_SHOWN]:
        lines += _comment(f"{name} has {count} classes in words; to use it, add it to covariates, and here:")
        lines += _setting("categorical", [name], offered=True)
    return lines


def _column_lines(section: str, columns: Mapping[str, Found]) -> list[str]:
    if not columns:
        return []
    lines = [f"[{section}]"]
    for role, found in columns.items():
        others = f"; could also be {', '.join(found.others[:3])}" if found.others else ""
        why = ("" if found.why == "by name" else found.why) + others
        lines += _setting(_key(role), found.column, why.removeprefix("; "))
    return lines


def _species_table_lines(kind: str, table: Table, folder: Path) -> list[str]:
    lines = [f"[study.{kind}.species_table]", *_comment(f"The species of the plots: {table.sample.name}.")]
    lines += _setting("file", _relative(table.sample.path, folder))
    lines += _setting("layer", table.sample.layer) if table.sample.layer else []
    if table.form == "wide":
        lines += [line for line in _wide_lines(table) if "least_abundance" not in line]
    return lines + _column_lines(f"study.{kind}.species_table.columns", table.roles)


def _covariate_lines(covariates: CovariateFiles, folder: Path) -> list[str]:
    table = covariates.table
    others = [name for name in table.profiles if name not in table.covariates]
    files = [_relative(path, folder) for path in covariates.files]
    key = table.roles["survey_id"].column
    return [
        "",
        "[[study.covariates]]",
        *_comment(f"{table.sample.name}: numbers by {key}, whose values are those of the plots."),
        *_setting("file", files[0] if len(files) == 1 else files),
        *(_setting("layer", table.sample.layer) if table.sample.layer else []),
        *_setting("group", fold(table.sample.path.stem) or "covariates"),
        *_setting("key", key),
        *_setting("columns", _short(table.covariates, others)),
    ]


# ---- rasters -----------------------------------------------------------------------------------------------


def _raster_lines(group: RasterGroup, found: Discovery, folder: Path, twice: set[str]) -> list[str]:
    match group.kind:
        case "layers":
            return _layer_lines(group, found, folder, twice)
        case "series":
            return _series_lines(group, folder)
        case "imagery":
            return _imagery_lines(group, folder)
        case _:
            raise AssertionError(group.kind)


def _files_value(group: RasterGroup, folder: Path) -> str | list[str]:
    if group.pattern:
        parent = _relative(group.files[0].parent, folder)
        return group.pattern if parent == "." else f"{parent}/{group.pattern}"
    names = list(dict.fromkeys(_file_of(layer, folder) for layer in group.layers))
    return names[0] if len(names) == 1 else names


def _file_of(layer: RasterLayer, folder: Path) -> str:
    """Return how a raster is named from the folder of the study: a file, or a variable inside one."""
    name = _relative(layer.file, folder)
    return f'{layer.driver}:"{name}":{layer.variable}' if layer.variable else name


def _layer_lines(group: RasterGroup, found: Discovery, folder: Path, twice: set[str]) -> list[str]:
    layers = group.layers
    rows, columns = layers[0].shape
    size = abs(layers[0].transform[0])
    names = _some([layer.name for layer in layers])
    what = "1 layer" if len(layers) == 1 else f"{len(layers)} layers"
    text = f"{what} of {columns:,} x {rows:,} cells of {size:.6g}, {group.crs or 'no projection named'}: {names}."
    lines = ["", "[[study.rasters]]", *_comment(text), *_setting("file", _files_value(group, folder))]
    if len(group.files) == 1 and [layer.band for layer in layers] != list(range(1, layers[0].num_bands + 1)):
        lines += _setting("bands", [layer.band for layer in layers])
    hint = found.projections.rasters.get(str(group.files[0]))
    lines += _setting("crs", hint.crs, hint.why) if hint else []
    if any(layer.name in twice for layer in layers):
        prefix = group.files[0].parent.name
        why = "other rasters have layers of the same names"
        lines += _setting("names", [f"{prefix}_{layer.name}" for layer in layers], why)
    lines += _class_lines(layers)
    lines += _unit_lines(_units_of(group, found), group, folder)
    return lines + (_elevation_lines(layers[0]) if len(layers) == 1 and layers[0].is_elevation else [])


def _class_lines(layers: Sequence[RasterLayer]) -> list[str]:
    classes = [layer for layer in layers if layer.why_classes]
    if any(layer.why_classes is None for layer in layers):
        return _comment("Too many to look at each: classes are found when they are read.")
    if not classes:
        return _setting("categorical", False, 'no layer looks like classes; name those that are: ["soil"]')
    by_reason: dict[str, list[str]] = {}
    for layer in classes:
        by_reason.setdefault(layer.why_classes or "", []).append(layer.name)
    why = "; ".join(f"{_some(names)}: {reason}" for reason, names in by_reason.items())
    return _setting("categorical", True if len(classes) == len(layers) else [layer.name for layer in classes], why)


def _units_of(group: RasterGroup, found: Discovery) -> list[UnitNote]:
    bands = {(layer.path, layer.band) for layer in group.layers}
    return [note for note in found.units if (note.layer.source, note.layer.band) in bands]


def _unit_lines(notes: Sequence[UnitNote], group: RasterGroup, folder: Path) -> list[str]:
    """Return what would bring layers into the unit of a table: settings of the entry, or an entry of their own."""
    lines: list[str] = []
    by_change: dict[tuple[str, float, float], list[UnitNote]] = {}
    for note in notes:
        by_change.setdefault((note.conversion, note.scale, note.offset), []).append(note)
    for (conversion, scale, offset), alike in by_change.items():
        names = list(dict.fromkeys(note.layer.name for note in alike))
        layers = [layer for layer in group.layers if layer.name in names]
        verb = "is" if len(layers) == 1 else "are"
        told = f"UNITS: {_some(names)} {conversion} {verb} what {alike[0].table} has under this name at its places."
        lines += _comment(told)
        if len(layers) < len(group.layers):
            lines += [*_comment("In the unit of the table they would be an entry of their own:"), "# [[study.rasters]]"]
            paths = list(dict.fromkeys(_file_of(layer, folder) for layer in layers))
            lines += _setting("file", paths[0] if len(paths) == 1 else paths, offered=True)
            if len(group.files) == 1:
                lines += _setting("bands", [layer.band for layer in layers], offered=True)
        lines += _setting("scale", float(scale), offered=True) if scale != layers[0].scale else []
        lines += _setting("offset", float(offset), offered=True) if offset != layers[0].offset else []
    return lines


def _elevation_lines(layer: RasterLayer) -> list[str]:
    lines = _comment(f"{layer.name} is an elevation; to have slope and the like worked out from it:")
    return lines + _setting("derive", ["slope", "northness", "eastness", "roughness"], offered=True)


def _series_lines(group: RasterGroup, folder: Path) -> list[str]:
    parent = _relative(group.files[0].parent, folder)
    template = group.template if parent == "." else f"{parent}/{group.template}"
    modality = "landsat" if group.seasons <= 4 else "climate"
    first, last = group.years
    text = f"{len(group.files)} dated rasters, {first} to {last}: a time series, not layers."
    text += " To learn from it, take away the #:"
    lines = ["", *_comment(text), "# [[study.series]]"]
    for key, value in {
        "modality": modality,
        "file": template,
        "channels": list(group.channels),
        "first_year": first,
        "last_year": last,
    }.items():
        lines += _setting(key, value, offered=True)
    return lines


def _imagery_lines(group: RasterGroup, folder: Path) -> list[str]:
    names = [layer.name for layer in group.layers]
    text = f"{group.files[0].name} is a picture ({', '.join(names)}). To learn from patches of it, take away the #:"
    return [
        "",
        *_comment(text),
        "# [study.patches]",
        *_setting("file", _relative(group.files[0], folder), offered=True),
        *_setting("names", names, offered=True),
        *_setting("size_m", 1280.0, offered=True),
    ]


def _archive_lines(archive: Path) -> list[str]:
    """Return what would read the rasters of a zip file where they are."""
    inside = rasters_inside(archive)
    if not inside:
        return []
    text = f"{archive.name} holds rasters. They can be read where they are, more slowly than unpacked; take away the #:"
    lines = ["", *_comment(text), "# [[study.rasters]]"]
    return lines + _setting("file", inside[0] if len(inside) == 1 else inside, offered=True)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_OFFERED} more" if len(names) > MAX_OFFERED else ""
    return ", ".join(names[:MAX_OFFERED]) + more
