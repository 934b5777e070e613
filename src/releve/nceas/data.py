"""Read the regions of the NCEAS benchmark: presence-only training, background, independent plots.

References
----------
Elith et al. (2020), Presence-only and presence-absence data for comparing species distribution modeling methods,
Biodiversity Informatics 15, 69-80, https://doi.org/10.17161/bi.v15i2.13384.
"""

# N sites, S species, C continuous covariates, K categorical covariates

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import polars as pl
from scipy.spatial import cKDTree

from releve.errors import ReleaseError, TableError
from releve.files import files_below
from releve.nceas.tables import META, aligned_plots, choose_covariates, kilometres, presence, read_table

NOMINAL = frozenset({"ontveg", "vegsys", "toxicats", "age", "calc"})  # codes without an order, in the published data
FEW_CODES = 8  # an integer column with so few values is also given as indicators, beside its order
FILE_NAME = re.compile(r"(?P<region>.+?)(?P<kind>train_po|train_bg|test_env|test_pa)(_(?P<group>.+))?\.(parquet|csv)")


@dataclass(frozen=True, eq=False)
class Sites:
    """Places and their covariates.

    Parameters
    ----------
    xy_km
        (N, 2) float64 kilometres, east and north of an arbitrary origin.
    continuous_NC
        float64 values of the region's continuous and ordinal covariates, finite.
    codes_NK
        Indices into the region's codes of every categorical covariate; -1 for a code that the training data lack.
    """

    xy_km: np.ndarray
    continuous_NC: np.ndarray
    codes_NK: np.ndarray

    def __len__(self) -> int:
        return len(self.xy_km)

    def take(self, rows: np.ndarray) -> Sites:
        """Return some of the sites; ``rows`` are indices or a mask."""
        return Sites(self.xy_km[rows], self.continuous_NC[rows], self.codes_NK[rows])


@dataclass(frozen=True, eq=False)
class TestSet:
    """Plots that one survey group visited, and what was found there.

    Parameters
    ----------
    sites
        The N plots.
    species
        (S,) indices of the species to score here.
    present_NS
        bool, one column for each of ``species``.
    """

    __test__ = False  # not a test case, whatever its name

    sites: Sites
    species: np.ndarray
    present_NS: np.ndarray


@dataclass(frozen=True, eq=False)
class Region:
    """One region: what models are trained on and the plots they are scored on.

    Parameters
    ----------
    name, species, groups
        Names; ``species`` and ``groups`` are sorted.
    sites, site_group
        The presence-only sites: each place that a group recorded once, however many species were found there;
        and the (N,) index of that group.
    found_NS
        bool, which species were recorded at each site.
    species_group
        (S,) index of each species' group.
    background
        Random sites of the region.
    tests
        One set of plots for every file; each species is scored on its own group's.
    covariates, categorical, num_codes
        Names of the columns of ``continuous_NC`` and ``codes_NK``, and the number of codes of the latter.
    notes
        What was dropped, left out or filled, for the user to read.
    """

    name: str
    species: tuple[str, ...]
    groups: tuple[str, ...]
    sites: Sites
    site_group: np.ndarray
    found_NS: np.ndarray
    species_group: np.ndarray
    background: Sites
    tests: tuple[TestSet, ...]
    covariates: tuple[str, ...]
    categorical: tuple[str, ...]
    num_codes: tuple[int, ...]
    notes: tuple[str, ...] = ()

    def keep(self, rows: np.ndarray, tests: tuple[TestSet, ...] | None = None) -> Region:
        """Return the region with some of its presence-only sites, a mask or indices, and maybe other tests."""
        return replace(
            self,
            sites=self.sites.take(rows),
            site_group=self.site_group[rows],
            found_NS=self.found_NS[rows],
            tests=self.tests if tests is None else tests,
        )


@dataclass(frozen=True)
class RegionFiles:
    """Where the files of a region lie; tests are keyed by their survey group, "" where the name has none."""

    name: str
    train: dict[str, Path] = field(default_factory=dict)
    env: dict[str, Path] = field(default_factory=dict)
    pa: dict[str, Path] = field(default_factory=dict)


def find_regions(folder: Path, names: Sequence[str] | None = None) -> list[RegionFiles]:
    """Return the regions whose files lie anywhere below a folder, by name.

    Parameters
    ----------
    folder
        Holds ``{R}train_po``, ``{R}train_bg``, ``{R}test_env[_{group}]`` and ``{R}test_pa[_{group}]`` of each
        region, parquet or CSV, at any depth.
    names
        The regions wanted; all if None.

    Raises
    ------
    ReleaseError
        If there is no region, a wanted one is absent, or a region lacks a file or has it twice.
    """
    found: dict[str, RegionFiles] = {}
    for path in files_below(Path(folder)):
        match = FILE_NAME.fullmatch(path.name)
        if match is None:
            continue
        files = found.setdefault(match["region"], RegionFiles(match["region"]))
        table = {"test_env": files.env, "test_pa": files.pa}.get(match["kind"], files.train)
        key = match["kind"] if table is files.train else match["group"] or ""
        if key in table:
            raise ReleaseError(f"{table[key]} and {path} are the same table", action="Remove one of them")
        table[key] = path
    wanted = sorted(found) if names is None else list(names)
    if absent := [name for name in wanted if name not in found]:
        raise ReleaseError(f"no region {absent} below {folder}", expected=f"some of {sorted(found)}")
    if not wanted:
        raise ReleaseError(
            f"no region below {folder}",
            expected="files such as AWTtrain_po.parquet, AWTtrain_bg, AWTtest_env_bird, AWTtest_pa_bird, or .csv",
            action="Export the tables of the R package disdat, one file each",
        )
    for name in wanted:
        _check_complete(found[name], folder)
    return [found[name] for name in wanted]


def _check_complete(files: RegionFiles, folder: Path) -> None:
    missing = [f"{files.name}{kind}" for kind in ("train_po", "train_bg") if kind not in files.train]
    for kind, here, there in (("test_env", files.env, files.pa), ("test_pa", files.pa, files.env)):
        lacking = sorted(set(there) - set(here)) if here or there else [""]
        missing += [f"{files.name}{kind}" + (f"_{group}" if group else "") for group in lacking]
    if missing:
        raise ReleaseError(
            f"region {files.name} below {folder} lacks {missing}",
            expected="train_po, train_bg and a pair of test_env and test_pa, parquet or CSV",
            action="Add the files, or choose other regions with --regions",
        )


def read_region(files: RegionFiles) -> Region:
    """Return a region with its sites pooled, its plots aligned and its covariates checked.

    A species is scored only on the plots of its own survey group, but on all of them where the test file names no
    group or train_po has no column ``group``. A covariate that is constant over the background, or absent from one
    of the tables, is dropped and noted; missing and infinite values become the background's median, and are noted.

    Raises
    ------
    TableError
        If a table lacks its columns or has no rows, the plots of the two test files differ, a value is neither 0
        nor 1, a species is of no group, of several or in several files, a test file's group has no species, a
        covariate is numbers in one table and text in another, no covariate is left, or no species can be scored.
    """
    notes: list[str] = []
    po = read_table(files.train["train_po"], ("spid", "x", "y"))
    background = read_table(files.train["train_bg"], ("x", "y"))
    envs = {group: read_table(path, ("siteid", "x", "y")) for group, path in sorted(files.env.items())}
    pas = {group: read_table(path, ("siteid",)) for group, path in sorted(files.pa.items())}
    for group, env in envs.items():
        pas[group], moved = aligned_plots(env, pas[group], files.env[group], files.pa[group])
        if moved:
            notes.append(f"the plots of {files.pa[group].name} were put in the order of {files.env[group].name}")
    tables = {"train_po": po, "train_bg": background, **{files.env[g].stem: env for g, env in envs.items()}}
    covariates, dropped = choose_covariates(tables, background, files.name)
    notes += dropped

    grouped = "group" in po.columns
    po = po.with_columns((pl.col("group") if grouped else pl.lit("all")).cast(pl.String).alias("group"))
    po = po.with_columns(pl.col("spid").cast(pl.String))
    of_species = _groups_of_species(po, files.train["train_po"])
    species, groups = tuple(of_species), tuple(sorted(set(of_species.values())))
    to_score = _species_to_score(of_species, grouped, pas, files, notes)
    found = pl.col("spid").unique().alias("found")
    pooled = po.group_by("group", "x", "y").agg(pl.col(covariates).sort_by("spid").first(), found)
    pooled = pooled.sort("group", "x", "y")

    encode = _fit_encoding(covariates, background, pooled)
    tables["train_po"] = pooled
    sites = {name: encode.sites(table) for name, table in tables.items()}
    notes += [line for name, table in tables.items() for line in encode.missing(table, name)]
    tests = [
        _test_set(sites[files.env[group].stem], pas[group], species, to_score[group], files.pa[group], notes)
        for group in envs
    ]
    if not any(len(test.species) for test in tests):
        raise TableError(
            f"no species of {files.name} can be scored",
            expected="species of train_po that are columns of their own group's test_pa, present and absent there",
        )
    return Region(
        name=files.name,
        species=species,
        groups=groups,
        sites=sites["train_po"],
        site_group=np.array([groups.index(name) for name in pooled["group"]]),
        found_NS=np.array([np.isin(species, names) for names in pooled["found"]]),
        species_group=np.array([groups.index(group) for group in of_species.values()]),
        background=sites["train_bg"],
        tests=tuple(tests),
        covariates=encode.continuous,
        categorical=tuple(encode.codes),
        num_codes=tuple(len(codes) for codes in encode.codes.values()),
        notes=tuple(notes),
    )


@dataclass
class _Encoding:
    """Turns a table of the region into sites."""

    continuous: tuple[str, ...]
    medians: tuple[float, ...]
    codes: dict[str, list[str]]
    to_km: Callable[[pl.DataFrame], np.ndarray]

    def sites(self, table: pl.DataFrame) -> Sites:
        filled = table.select(
            pl.col(name).cast(pl.Float64).fill_null(median)
            for name, median in zip(self.continuous, self.medians, strict=True)
        )
        codes = np.full((len(table), len(self.codes)), -1)
        for k, (name, known) in enumerate(self.codes.items()):
            number = {code: i for i, code in enumerate(known)}
            codes[:, k] = [number.get(code, -1) for code in _as_codes(table[name])]
        return Sites(self.to_km(table), filled.to_numpy().reshape(len(table), len(self.continuous)), codes)

    def missing(self, table: pl.DataFrame, name: str) -> list[str]:
        """Return a note on the values that ``sites`` fills, and one on the codes that are missing."""
        filled = sum(table[column].null_count() for column in self.continuous)
        without = sum(table[column].null_count() for column in self.codes if column not in self.continuous)
        notes = [f"{filled} missing covariate values of {name} were set to the background's median"] if filled else []
        return [*notes, f"{without} codes of {name} are missing and left so"] if without else notes


def _as_codes(column: pl.Series) -> pl.Series:
    """Return codes as text; 4 and 4.0 are the same code in two tables."""
    return (column.cast(pl.Float64) if column.dtype.is_numeric() else column).cast(pl.String)


def _fit_encoding(covariates: list[str], background: pl.DataFrame, pooled: pl.DataFrame) -> _Encoding:
    """Nominal columns become codes only; an integer column of few values keeps its order and is coded as well."""
    nominal = [name for name in covariates if name in NOMINAL or not background[name].dtype.is_numeric()]
    whole = [name for name in covariates if background[name].dtype.is_integer()]
    few = [name for name in whole if name not in nominal and background[name].n_unique() <= FEW_CODES]
    codes = {}
    for name in [*nominal, *few]:
        known = {*_as_codes(background[name]), *_as_codes(pooled[name])} - {None}
        codes[name] = sorted(known)
    continuous = tuple(name for name in covariates if name not in nominal)
    medians = background.select(pl.col(continuous).cast(pl.Float64).median()).row(0)
    return _Encoding(continuous, medians, codes, kilometres([background, pooled]))


def _groups_of_species(po: pl.DataFrame, path: Path) -> dict[str, str]:
    """Return the group of every species by name."""
    if unknown := int(((po["group"].fill_null("") == "") | po["spid"].is_null()).sum()):
        raise TableError(
            f"{unknown} of {len(po)} rows of {path} have no spid or no group",
            expected="a species and its survey group in every row",
            action="Fill them in; if the groups are not known, remove the column group",
        )
    pairs = po.select("spid", "group").unique().sort("spid", "group")
    if several := pairs["spid"].filter(pairs["spid"].is_duplicated()).unique().sort().to_list():
        raise TableError(f"species {several[:5]} of {path} are of several groups", expected="one group a species")
    return dict(pairs.iter_rows())


def _species_to_score(
    of_species: dict[str, str], grouped: bool, pas: dict[str, pl.DataFrame], files: RegionFiles, notes: list[str]
) -> dict[str, list[str]]:
    """Return the species to score on every test file, and note those that are on none.

    They are those of the file's group; all, if its name tells none or the training data are not ``grouped``.
    """
    groups = sorted(set(of_species.values()))
    unknown = [files.pa[group].name for group in pas if group and group not in groups]
    if grouped and unknown:
        raise TableError(
            f"no species of {files.train['train_po'].name} is of the group of {unknown}",
            expected=f"one of the groups {groups} at the end of the name",
            action="Rename the test files, or correct the column group",
        )
    to_score = {
        group: [
            name
            for name, own in of_species.items()
            if name in pa.columns and (own == group or not group or not grouped)
        ]
        for group, pa in pas.items()
    }
    scored = Counter(name for names in to_score.values() for name in names)
    if several := sorted(name for name, num in scored.items() if num > 1):
        raise TableError(
            f"species {several[:5]} of {files.name} are columns of several test files",
            expected="one test file a species",
            action="Give train_po a column group, or remove a test file",
        )
    untested = [group for group in groups if grouped and "" not in pas and group not in pas]
    for group in untested:
        names = [name for name, own in of_species.items() if own == group]
        notes.append(f"not scored, as group {group} has no test file: {', '.join(names)}")
    if only_po := [name for name, own in of_species.items() if name not in scored and own not in untested]:
        notes.append(f"not scored, without a column in their group's test_pa: {', '.join(only_po)}")
    if only_pa := sorted({name for pa in pas.values() for name in pa.columns} - set(META) - set(of_species)):
        notes.append(f"not scored, without a presence-only record: {', '.join(only_pa)}")
    return to_score


def _test_set(
    sites: Sites, pa: pl.DataFrame, species: Sequence[str], names: Sequence[str], path: Path, notes: list[str]
) -> TestSet:
    """Return the plots of one file with the species to score there."""
    present = presence(pa, names, path)
    mixed = present.any(0) & ~present.all(0)
    for name, column in zip(names, present.T, strict=True):
        if not column.any() or column.all():
            notes.append(f"species {name} not scored: present on {'all' if column.any() else 'none'} of its plots")
    index = {name: i for i, name in enumerate(species)}
    chosen = np.array([index[name] for name in names], dtype=np.int64)[mixed]
    return TestSet(sites, chosen, present[:, mixed])


def drop_near_tests(region: Region, buffer_km: float) -> Region:
    """Return the region without the presence-only sites that lie nearer than ``buffer_km`` to a plot.

    A species whose records are all gone is not scored any more.

    Raises
    ------
    TableError
        If the buffer is negative or not finite.
    """
    if not np.isfinite(buffer_km) or buffer_km < 0:
        raise TableError(f"a buffer of {buffer_km} km", expected="0 km or more")
    if buffer_km == 0:
        return region
    plots = np.concatenate([test.sites.xy_km for test in region.tests])
    far: np.ndarray = cKDTree(plots).query(region.sites.xy_km)[0] >= buffer_km
    known = region.found_NS[far].any(0)
    tests = []
    for test in region.tests:
        left = known[test.species]
        tests.append(replace(test, species=test.species[left], present_NS=test.present_NS[:, left]))
    notes = [f"{np.count_nonzero(~far)} of {len(far)} sites within {buffer_km:g} km of plots dropped"]
    if far.any() and not known.all():
        lost = [region.species[i] for i in np.flatnonzero(~known)]
        notes.append(f"not scored, without a record beyond the buffer: {', '.join(lost)}")
    return replace(region.keep(far, tuple(tests)), notes=(*region.notes, *notes))
