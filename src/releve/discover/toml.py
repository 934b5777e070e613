"""TOML with comments: settings that are written, settings that are offered, and why."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

WIDTH = 118
MAX_NAMED = 12
"""Names that a sentence holds."""


def toml_value(value: Any) -> str:
    r"""Return a value as TOML.

    Examples
    --------
    >>> toml_value(["Å", 'say "x"']), toml_value(0.1), toml_value(True)
    ('["Å", "say \\"x\\""]', '0.1', 'true')
    """
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    if isinstance(value, float):
        return f"{value:.10g}" if "." in f"{value:.10g}" or "e" in f"{value:.10g}" else f"{value:.10g}.0"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def setting(key: str, value: Any, why: str = "", *, offered: bool = False) -> list[str]:
    """Return the lines of one setting, as a comment if it is only offered; a long list goes over several lines."""
    mark = "# " if offered else ""
    line = f"{mark}{key} = {toml_value(value)}"
    if isinstance(value, (list, tuple)) and len(line) > WIDTH:
        lines = [f"{mark}{key} = ["]
        row = mark + "   "
        for item in value:
            text = f" {toml_value(item)},"
            if len(row) + len(text) > WIDTH:
                lines.append(row)
                row = mark + "   "
            row += text
        return [*comment(why), *lines, row, f"{mark}]"]
    if why and len(line) + len(why) + 4 <= WIDTH:
        return [f"{line}  # {_plain(why)}"]
    return [*comment(why), line]


def comment(text: str, mark: str = "# ") -> list[str]:
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


def relative(path: Path | str, folder: Path) -> str:
    """Return a path as it is named from a folder; from the root where it lies on another drive."""
    try:
        return Path(os.path.relpath(Path(path).absolute(), folder.absolute())).as_posix()
    except ValueError:  # another drive
        return Path(path).absolute().as_posix()


def toml_key(name: str) -> str:
    """Return the key of a setting, in quotes where it must be."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else toml_value(name)


def as_pattern(names: Sequence[str], others: Iterable[str]) -> list[str]:
    """Return names as one pattern, if all that begin alike are meant and none else.

    Examples
    --------
    >>> as_pattern(["env_1", "env_2", "env_3"], ["plot", "sp_1"]), as_pattern(["a_1", "a_2", "b"], [])
    (['env_*'], ['a_1', 'a_2', 'b'])
    """
    prefix = re.sub(r"\d+$", "", os.path.commonprefix(list(names)))
    is_whole = len(prefix) >= 2 and (not prefix[-1].isalnum() or all(name[len(prefix) :].isdigit() for name in names))
    if len(names) < 3 or not is_whole or any(other.startswith(prefix) for other in others) or set(prefix) & set("*?[]"):
        return list(names)
    return [f"{prefix}*"]


def some_names(names: Sequence[str]) -> str:
    """Return names as a list in a sentence, of many the first and how many more there are."""
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(names[:MAX_NAMED]) + more
