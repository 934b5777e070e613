"""Codes of classes that two sources number each in its own way, told by the names of the classes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from releve.ingest.columns import match_names


def recode(values: ArrayLike, theirs: Mapping[int, str], known: Mapping[int, str]) -> NDArray[np.float32]:
    """Return codes of one source as another has them; NaN for a class that the other does not know by its name.

    Parameters
    ----------
    values
        Codes; NaN where there is none.
    theirs
        The name of each of them; none if the source names no class.
    known
        Code and name of the classes as the other has them. Without names, a number is the same class in both.

    Examples
    --------
    >>> recode([1, 2, 3], {1: "Forest", 2: "bog", 3: "City"}, {0: "bog", 1: "forest"}).tolist()
    [1.0, 0.0, nan]
    >>> recode([1, 2], {}, {0: "bog", 1: "forest"}).tolist(), recode([1, 2], {1: "bog"}, {}).tolist()
    ([nan, nan], [1.0, 2.0])
    """
    numbers = np.asarray(values, np.float32)
    names = {code: name for code, name in known.items() if name}
    if not names or dict(theirs) == dict(known):
        return numbers
    spelt = match_names(theirs.values(), list(names.values()))
    codes = {name: code for code, name in names.items()}
    found = np.full(numbers.shape, np.nan, np.float32)
    for code, name in theirs.items():
        found[numbers == code] = codes.get(spelt.get(name, name), np.nan)
    return found
