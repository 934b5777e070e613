"""An official release on disk: which one it is, which splits it holds and where their files are."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from releve.errors import ReleaseError
from releve.ingest.files import Tree, scan_tree
from releve.ingest.layouts import LAYOUTS, Layout, Split
from releve.ingest.names import find_column, normalise
from releve.ingest.text import read_header


@dataclass(frozen=True)
class Release:
    """A release that was recognised; reading its tables comes later."""

    root: Path
    layout: str
    splits: tuple[str, ...]
    """The splits that are present, in the layout's order."""
    files: tuple[Path, ...]
    """Every table that a reader uses: metadata, covariates and series."""
    tree: Tree

    @property
    def rules(self) -> Layout:
        """The layout's row of data."""
        return LAYOUTS[self.layout]

    def split_rules(self, split: str) -> Split:
        """Return a split's row of data.

        Raises
        ------
        ReleaseError
            If the release has no such split.
        """
        if split not in self.splits:
            raise ReleaseError(f"{self.root} has no split {split!r}", expected=f"one of {list(self.splits)}")
        return next(rules for rules in self.rules.splits if rules.name == split)

    def pattern(self, split: str, template: str, **names: str) -> str:
        """Return the pattern of a split's files."""
        for name, value in {"split": self.split_rules(split).token, **names}.items():
            template = template.replace("{" + name + "}", value)
        return template

    def tables(self, split: str, template: str, **names: str) -> list[str]:
        """Return the paths, relative to the root, of a split's tables, the preferred one first."""
        return self.tree.tables_like(self.pattern(split, template, **names))


def open_release(path: Path) -> Release:
    """Return the official release that lies in a folder.

    Raises
    ------
    ReleaseError
        If there is no such folder, or it holds none or several of the known releases.
    """
    root = Path(path)
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise ReleaseError(f"{root} {what}", expected="the folder of a release", action="Check the path")
    tree = scan_tree(root)
    present = {name: _splits_present(root, tree, layout) for name, layout in LAYOUTS.items()}
    known = [name for name, splits in present.items() if splits]
    if not known:
        raise _unknown_release(root, tree)
    if len(known) > 1:
        titles = [LAYOUTS[name].title for name in known]
        raise ReleaseError(
            f"{root} holds several releases: {titles}",
            expected="one",
            action="Give the folder of one of them",
        )
    release = Release(root, known[0], present[known[0]], (), tree)
    return Release(root, known[0], present[known[0]], _used_tables(release), tree)


def _splits_present(root: Path, tree: Tree, layout: Layout) -> tuple[str, ...]:
    return tuple(split.name for split in layout.splits if _is_present(root, tree, layout, split))


def _is_present(root: Path, tree: Tree, layout: Layout, split: Split) -> bool:
    tables = tree.tables_like(split.metadata)
    if not tables or not split.subset:
        return bool(tables)
    return find_column(read_header(root / tables[0], error=ReleaseError), layout.columns["subset"]) is not None


def _used_tables(release: Release) -> tuple[Path, ...]:
    used: set[str] = set()
    for split in release.splits:
        rules = release.split_rules(split)
        templates = [rules.metadata, rules.labels] + [group.table for group in release.rules.covariates]
        for series in release.rules.series:
            templates += [series.table.replace("{channel}", channel) for channel in series.channel_names]
        for template in filter(None, templates):
            used.update(release.tables(split, template))
    return tuple(release.root / path for path in sorted(used))


def _unknown_release(root: Path, tree: Tree) -> ReleaseError:
    wanted = [readable(split.metadata) for layout in LAYOUTS.values() for split in layout.splits]
    zips = f"; zipped parts, to be unpacked first: {list(tree.zips[:5])}" if tree.zips else ""
    return ReleaseError(
        f"{root} is not a known release; its tables are {list(tree.tables[:10]) or 'none'}{zips}",
        expected=f"one of the tables {sorted(set(wanted))} (any letter case, - or _)",
        action="Give the folder that holds the official files",
    )


def readable(pattern: str) -> str:
    r"""Return a pattern as a file name for messages.

    Examples
    --------
    >>> readable(r"(^|/)glc24-pa-metadata-train\.csv$")
    'glc24-pa-metadata-train.csv'
    """
    pattern = re.sub(r"\(\^\|\[?/-?\]?\)|\([^()]*\)\?|\(\?[=!<][^()]*(\([^()]*\)[^()]*)*\)|[\^$\\]", "", pattern)
    return normalise(pattern.replace("(", "").replace(")", ""))
