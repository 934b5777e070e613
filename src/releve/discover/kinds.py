"""What a table is: plots, records, species of plots, covariates by plot, or nothing that a study needs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl

from releve.discover.columns import Found, Place, find_place, find_roles, find_species, words_of
from releve.discover.profiles import Profile, is_braun_blanquet, profile_columns
from releve.discover.samples import Sample
from releve.ingest.names import fold

RECORD_TERMS = frozenset(
    {
        *("basisofrecord", "catalognumber", "catalogno", "institutioncode", "collectioncode", "recordedby", "gbifid"),
        *("occurrenceid", "coordinateuncertaintyinmeters", "recordnumber", "typestatus", "identifiedby", "collector"),
        *("collectornumber", "collection", "barcode", "specimendetails", "herbarium", "datasetkey", "gbifnotes"),
        *("dateidentified", "coorduncertaintym", "coordinateprecision", "recordid", "datatype", "lastinterpreted"),
        *(
            "reference",
            "institution",
            "license",
            "qualitygrade",
            "userlogin",
            "placeguess",
            "numidentificationagreements",
        ),
    }
)
"""Columns of tables with a row for each specimen or observation."""
ID_WORDS = frozenset(
    {"id", "key", "code", "nr", "no", "num", "number", "fid", "objectid", "index", "uuid", "gid", "cat"}
)
NAME_LIKE = re.compile(
    r"^(?:sp|spp|spec|species|taxon)[\W_]*\d+$"
    r"|^(?:[×xX][ ._]*)?[A-ZÀ-Þ][a-zß-ÿ]+[ ._]+(?:[×xX][ ._]+|×)?[a-zß-ÿ][a-zß-ÿ-]+",
    re.ASCII,
)
"""Columns of a wide table: ``sp_001``, ``Abies_alba``, ``Abies alba Mill.``"""
ENVIRONMENT = re.compile(
    r"(?:^|[\W_])(?:soil(?:grid)?s?|clim\w*|bio|temp(?:erature)?|prec(?:ip\w*)?|rain(?:fall)?|elev(?:ation)?|env|alt|"
    r"altitude|slope|aspect|\w*footprint|cover|land|ndvi|clay|sand|silt|north(?:ness)?|east(?:ness)?|height|depth|"
    r"layer|total|number|area|uncertainty|accuracy|index|share|percent|distance|density|age|year|rate|abundance)"
    r"(?=$|[\W_\d])",
    re.IGNORECASE,
)
"""Words in the names of columns that are no species, whatever their values are."""
MIN_WIDE = 3
"""Fewer columns called like species are not taken for a wide table if others look like species too."""
MANY, MOST_ABUNDANT = 0.4, 1000
"""Amounts that are 0 or blank in more than this share of the rows, and never more than that, may be of a species."""


@dataclass(frozen=True)
class Table:
    """A table and what it was taken for."""

    sample: Sample
    kind: str
    """``plots``, ``records``, ``species`` (of plots elsewhere), ``header`` (plots without species), ``covariates`` (by
    plot id), ``other``."""
    why: str
    place: Place | None = None
    roles: Mapping[str, Found] = field(default_factory=dict)
    form: str = "long"
    species_columns: tuple[str, ...] = ()
    """Of a wide table."""
    covariates: tuple[str, ...] = ()
    classes: Mapping[str, int] = field(default_factory=dict)
    """Columns of words that could be classes -> how many."""
    profiles: Mapping[str, Profile] = field(default_factory=dict)
    species_name: str = ""
    """Of a table of one species without a column of species; to be given by whoever knows the folder."""
    num_plots: int = 0
    """In the rows looked at."""
    num_species: int = 0
    one_binomial: str = ""
    """The two words that all its names of species begin with, where there are several names."""
    remarks: tuple[str, ...] = ()

    def columns(self) -> dict[str, Found]:
        """Return what every column means that means anything."""
        return {**(self.place.columns if self.place else {}), **self.roles}


def judge_table(sample: Sample) -> Table:
    """Return what a table is, by its columns and values.

    A table of *plots* says what was looked for: species as columns, 0 and 1 in one column, or several species under one
    plot. A table of *records* has a species and a place in each row, columns of collections (collector, catalogue
    number), or the one word "presence" in every row.
    """
    cells = sample.cells
    profiles = profile_columns(cells, decimal_comma=sample.decimal_comma)
    place = find_place(sample, profiles)
    taken = {f.column for f in place.columns.values() if isinstance(f.column, str)} if place else set()
    species = find_species(cells, profiles, taken)
    species_columns = set(
        [species.column] if species and isinstance(species.column, str) else species.column if species else ()
    )
    roles = find_roles(cells, profiles, taken | species_columns)
    wide = () if species else _wide_columns(profiles, taken | _columns_of(roles))
    if wide:
        roles = {role: found for role, found in roles.items() if found.column not in wide}
    if species:
        roles = {"species": species, **roles}
    table = Table(sample, "other", "", place, roles, profiles=profiles)
    if wide:
        return _with_covariates(_judge_wide(table, wide))
    if species:
        return _with_covariates(_judge_long(table))
    return _with_covariates(_judge_without_species(table))


def _columns_of(roles: Mapping[str, Found]) -> set[str]:
    return {name for f in roles.values() for name in ([f.column] if isinstance(f.column, str) else f.column)}


# ---- wide ------------------------------------------------------------------------------------------------


def _wide_columns(profiles: Mapping[str, Profile], taken: set[str]) -> tuple[str, ...]:
    """Return the columns of a wide table that are species: 0/1, cover with many zeros, or codes of abundance."""
    like = [p.name for p in profiles.values() if p.name not in taken and _is_species_like(p)]
    zero_one = [name for name in like if profiles[name].is_zero_one]
    called = [name for name in like if NAME_LIKE.match(name)]
    if called and len(called) >= 0.5 * len(like):
        few = zero_one if called == like else []  # one or two columns are a table of species if they are all there is
        among = like[like.index(called[0]) : like.index(called[-1]) + 1]  # with a genus alone, or a name cut short
        return tuple(among) if len(called) >= MIN_WIDE else tuple(few)
    if len(like) < 2 * MIN_WIDE and not (len(zero_one) >= MIN_WIDE and like == zero_one):
        return ()
    # Species that grow nearly everywhere stand among the others, and are as whole as they are.
    order = list(profiles)
    among = order[order.index(like[0]) : order.index(like[-1]) + 1]
    is_whole = all(profiles[name].is_whole for name in like if profiles[name].is_number)
    return tuple(name for name in among if name in like or (name not in taken and _is_amount(profiles[name], is_whole)))


def _is_amount(profile: Profile, is_whole: bool) -> bool:
    """Return whether a column may be the amount of a common species."""
    if ENVIRONMENT.search(profile.name) or not profile.is_number or profile.is_row_number:
        return False
    return profile.low >= 0 and profile.high <= MOST_ABUNDANT and (profile.is_whole or not is_whole)


def _is_species_like(profile: Profile) -> bool:
    """Return whether a column may be a species: 0 and 1, codes of abundance, amounts that are 0 or blank in many rows.

    One that is called like a species may also hold nothing, and be of a species that is in most rows.
    """
    if ENVIRONMENT.search(profile.name):
        return False
    if profile.is_zero_one:
        return True
    called = bool(NAME_LIKE.match(profile.name))
    if not profile.num_values:
        return called
    if not profile.is_number:
        return is_braun_blanquet(profile.distinct)
    known = profile.numbers[np.isfinite(profile.numbers)]
    share_absent = float(np.mean(known == 0)) * profile.share + 1 - profile.share
    return profile.low >= 0 and profile.high <= MOST_ABUNDANT and (called or share_absent > MANY)


def _judge_wide(table: Table, wide: tuple[str, ...]) -> Table:
    kinds = [table.profiles[name] for name in wide]
    if all(p.is_zero_one or p.high == p.low or not p.num_values for p in kinds):
        what = "0 and 1"
    else:
        what = "codes of abundance" if any(not p.is_number for p in kinds if p.num_values) else "numbers of abundance"
    shown = ", ".join(wide[:3]) + (", ..." if len(wide) > 3 else "")
    columns = f"{len(wide)} columns ({shown}) hold" if len(wide) > 1 else f"{shown} holds"
    why = f"{columns} {what} and nothing else: a column for each species"
    kept = {
        role: found for role, found in table.roles.items() if role not in ("abundance", "occurrence_status", "count")
    }
    table = replace(table, form="wide", roles=kept, species_columns=wide, num_species=len(wide))
    if table.place is None:
        return replace(table, kind="species", why=f"{why}, and it has no coordinates")
    return replace(table, kind="plots", why=why, num_plots=len(table.sample.cells))


# ---- long ------------------------------------------------------------------------------------------------


def _judge_long(table: Table) -> Table:
    cells = table.sample.cells
    name = _species_of(table)
    known = cells.filter(name.is_not_null())
    table = replace(table, num_species=known.select(name.n_unique()).item() if len(known) else 0)
    table = replace(table, one_binomial=_one_binomial(known.select(name).to_series()) if table.num_species > 1 else "")
    key = table.roles.get("survey_id")
    terms = sorted({column for column in cells.columns if fold(column) in RECORD_TERMS})
    by_plot = _species_per(table, [str(key.column)]) if key else 0.0
    by_place = _species_per(table, None) if table.place else 0.0
    status = table.roles.get("occurrence_status") or table.roles.get("count") or table.roles.get("abundance")
    absences = status is not None and table.profiles[str(status.column)].low == 0 or _has_absences(table)
    if table.place is None:
        if key and by_plot > 1.2:
            why = f"species under {key.column}, {by_plot:.0f} for each in the mean, and no coordinates"
            return replace(table, kind="species", why=why)
        return replace(
            table, kind="other", why="it has species, but neither coordinates nor a plot id that is repeated"
        )
    if absences and len(terms) < 3 and (by_plot > 1.2 or by_place > 1.2):
        return _plots(table, "rows say where a species was looked for and not found, besides where it was")
    if len(terms) >= 3:
        shown = ", ".join(terms[:4])
        return _records(table, f"a row for each specimen or observation: it has the columns {shown}")
    if by_plot >= 1.5:
        return _plots(
            table, f"{key.column if key else ''} is repeated over species, {by_plot:.1f} for each in the mean"
        )
    if key is None and by_place >= 3 and len(terms) == 0:
        why = f"a place has {by_place:.1f} species in the mean: lists rather than single finds"
        return _plots(table, why)
    if key is not None:
        roles = {role: found for role, found in table.roles.items() if role != "survey_id"}
        table = replace(table, roles=roles)
    if absences and table.num_species == 1:
        return _plots(table, "rows say where its one species was looked for and not found, besides where it was")
    if absences:
        remark = "rows where a species was not found are left out, as others may grow there"
        table = replace(table, remarks=(f"{table.sample.name}: {remark}",))
    return _records(table, "a row has one species and a place, and no plot that several rows share")


def _one_binomial(names: pl.Series) -> str:
    """Return the genus and species that all names begin with, if they are those of one species and its parts."""
    words = names.str.to_lowercase().str.extract_groups(r"^(\p{L}+)[ _](\p{L}[\p{L}-]+)").struct.unnest()
    if words.null_count().sum_horizontal().item() or words.n_unique() != 1:
        return ""
    genus, epithet = words.row(0)
    return f"{genus.capitalize()} {epithet}"


def _species_of(table: Table) -> pl.Expr:
    column = table.roles["species"].column
    return pl.concat_str(list(column), separator=" ") if isinstance(column, tuple) else pl.col(column)


def _has_absences(table: Table) -> bool:
    status = table.roles.get("occurrence_status")
    return status is not None and table.profiles[str(status.column)].is_zero_one


def _species_per(table: Table, columns: list[str] | None) -> float:
    """Return the mean number of species of a plot: of an id, or, without one, of a place and a date.

    Of a large table not all rows are there, so some plots are cut; the mean is near.
    """
    cells = table.sample.cells.with_columns(_species_of(table).alias("\0species"))
    if columns is None and table.place is not None and table.place.points is not None:
        x, y = (pl.Series(axis, values) for axis, values in zip(("\0x", "\0y"), table.place.points.T, strict=True))
        cells = cells.with_columns(x.fill_nan(None), y.fill_nan(None)).drop_nulls(["\0x", "\0y"])
        dates = [str(table.roles[role].column) for role in ("date", "year", "month", "day") if role in table.roles]
        columns = ["\0x", "\0y", *dates]
    cells = cells.drop_nulls("\0species")
    if not len(cells) or not columns:
        return 0.0
    return float(np.mean(cells.group_by(columns).agg(pl.col("\0species").n_unique())["\0species"].to_numpy()))


def _plots(table: Table, why: str) -> Table:
    key = table.roles.get("survey_id")
    num_plots = table.sample.cells[str(key.column)].n_unique() if key else _num_places(table)
    return replace(table, kind="plots", why=why, num_plots=num_plots)


def _num_places(table: Table) -> int:
    if table.place is None or table.place.points is None:
        return 0
    points = table.place.points
    return len(np.unique(points[np.isfinite(points).all(axis=1)], axis=0))


def _records(table: Table, why: str) -> Table:
    """Return a table of records; an id of each row is no plot."""
    roles = {role: found for role, found in table.roles.items() if role not in ("survey_id", "area_m2")}
    return replace(table, kind="records", why=why, roles=roles)


# ---- neither -----------------------------------------------------------------------------------------------


def _judge_without_species(table: Table) -> Table:
    status = table.roles.get("occurrence_status")
    profile = table.profiles[str(status.column)] if status else None
    if table.place is not None and profile is not None and status is not None:
        if profile.is_zero_one:
            said = " and ".join(sorted(profile.distinct)[:2])
            why = f"{status.column} holds {said}: places where one species was looked for"
            return replace(table, kind="plots", why=why, num_plots=len(table.sample.cells), num_species=1)
        if profile.is_presence:
            why = f"{status.column} is {profile.distinct[0]!r} in every row: finds of one species"
            return _records(replace(table, num_species=1), why)
    key = table.roles.get("survey_id")
    if table.place is not None and key is not None:
        return replace(table, kind="header", why="plots with places, and no species in this table")
    if key is not None and any(p.is_number for name, p in table.profiles.items() if name != key.column):
        return replace(table, kind="covariates", why=f"numbers by {key.column}, without places or species")
    if table.place is not None:
        return replace(table, kind="other", why="places without species")
    return replace(table, kind="other", why="no species, no coordinates and no plot id in it")


# ---- covariates --------------------------------------------------------------------------------------------


def _with_covariates(table: Table) -> Table:
    """Return a table with the columns that may be covariates: numbers that are no role, no id and not always the same.

    Of several rows of a plot the numbers must be the same. Columns of few words that are repeated may be classes.
    """
    used = _columns_of(table.columns()) | set(table.species_columns)
    key = table.roles.get("survey_id")
    keys = [str(key.column)] if key else [str(f.column) for f in table.place.columns.values()] if table.place else []
    found, classes = [], {}
    for name, profile in table.profiles.items():
        if name in used or not profile.num_values or profile.num_distinct < 2 or fold(name) in RECORD_TERMS:
            continue
        is_class = (
            table.kind != "records" and not profile.is_number and 0 < len(profile.distinct) <= profile.num_values / 5
        )
        is_measure = profile.is_number and not _is_bookkeeping(profile)
        if profile.share < 0.5 or not (is_class or is_measure):
            continue
        if table.form == "wide" or not keys or _is_constant_within(table.sample.cells, keys, name):
            if is_class:
                classes[name] = len(profile.distinct)
            else:
                found.append(name)
    return replace(table, covariates=tuple(found), classes=classes)


_NOT_OF_THE_PLACE = frozenset(
    {
        "elevationaccuracy",
        "depthaccuracy",
        "depth",
        "julianday",
        "timeofday",
        "mindepthm",
        "maxdepthm",
        "individualcount",
    }
)


_OF_THE_SPECIES = re.compile(r"richness|n(?:um|b|o)?species|speciescount|shannon|simpson|evenness|diversity|totalcover")
"""Folded names of numbers that are worked out from the species themselves: a model would learn its own answer."""


def _is_bookkeeping(profile: Profile) -> bool:
    """Return whether a column numbers or names things rather than measures them."""
    folded = fold(profile.name)
    if profile.is_row_number or folded in _NOT_OF_THE_PLACE or _OF_THE_SPECIES.search(folded):
        return True
    name = fold(profile.name)
    is_date_part = any(word in name for word in ("year", "month", "day", "longitude", "latitude"))
    is_id = profile.is_whole and (not ID_WORDS.isdisjoint(words_of(profile.name)[-1:]) or name.endswith("id"))
    return is_date_part or is_id


def _is_constant_within(cells: pl.DataFrame, keys: list[str], name: str) -> bool:
    """Return whether nearly all plots have one value of a column."""
    counts = cells.drop_nulls([*keys, name]).group_by(keys).agg(pl.col(name).n_unique().alias("\0num"))["\0num"]
    return len(counts) > 0 and float(np.mean(counts.to_numpy() == 1)) >= 0.95
