"""Sets of species, one a survey, without a dense table."""

# N surveys

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from releve.errors import TableError

if TYPE_CHECKING:
    import scipy.sparse


@dataclass(frozen=True, eq=False)
class Lists:
    """One set of species per survey, stored one after the other.

    Parameters
    ----------
    indptr
        (N + 1,) int64; survey ``i`` owns ``indices[indptr[i]:indptr[i + 1]]``.
    indices
        int32 species indices, strictly ascending within a survey. In lists of the *truth* an index may lie
        beyond the model's last column: a species the model does not know, which no prediction can hit.

    Raises
    ------
    TableError
        If the arrays do not describe ascending sets.

    Examples
    --------
    >>> lists = Lists.from_rows([[7, 2, 2], [], [0]])
    >>> lists.num_surveys, lists.lengths().tolist(), lists.row(0).tolist()
    (3, [2, 0, 1], [2, 7])
    """

    indptr: np.ndarray
    indices: np.ndarray

    def __post_init__(self) -> None:
        object.__setattr__(self, "indptr", np.asarray(self.indptr, dtype=np.int64))
        object.__setattr__(self, "indices", np.asarray(self.indices, dtype=np.int32))
        starts = self.indptr
        if starts.ndim != 1 or not len(starts) or starts[0] != 0 or (np.diff(starts) < 0).any():
            raise TableError("indptr of the lists is not ascending from 0")
        if self.indices.shape != (starts[-1],):
            raise TableError(f"the lists hold {self.indices.shape} indices", expected=f"{starts[-1]}")
        if len(self.indices) and self.indices.min() < 0:
            raise TableError(f"negative species index {self.indices.min()} in the lists")
        rising = np.diff(self.indices) > 0
        inner = starts[1:-1]
        rising[inner[(inner > 0) & (inner < starts[-1])] - 1] = True  # a new survey may start lower
        if not rising.all():
            raise TableError(
                f"{np.count_nonzero(~rising)} species indices of the lists are repeated or out of order",
                expected="strictly ascending indices within a survey",
                action="Build the lists with Lists.from_pairs or Lists.from_rows, which sort and keep sets",
            )

    @classmethod
    def from_pairs(cls, surveys: np.ndarray, species: np.ndarray, num_surveys: int) -> Lists:
        """Return lists from pairs (survey row, species index), in any order; a repeated pair counts once.

        Raises
        ------
        TableError
            If a row lies outside ``0 … num_surveys - 1`` or a species index is negative.

        Examples
        --------
        >>> Lists.from_pairs(np.array([1, 0, 1, 1]), np.array([5, 3, 2, 5]), 2).indices.tolist()
        [3, 2, 5]
        """
        surveys, species = np.asarray(surveys, dtype=np.int64), np.asarray(species, dtype=np.int64)
        if len(surveys) and (surveys.min() < 0 or surveys.max() >= num_surveys or species.min() < 0):
            raise TableError(
                f"pairs with survey rows {surveys.min()} to {surveys.max()}, species from {species.min()}",
                expected=f"rows in 0 to {num_surveys - 1} and species of 0 or more",
            )
        width = int(species.max(initial=0)) + 1
        keys = np.unique(surveys * width + species)
        lengths = np.bincount(keys // width, minlength=num_surveys)
        return cls(np.concatenate([[0], np.cumsum(lengths)]), keys % width)

    @classmethod
    def from_rows(cls, rows: Iterable[Iterable[int]]) -> Lists:
        """Return lists from one collection of species indices per survey; a repeated species counts once.

        Examples
        --------
        >>> Lists.from_rows([{4, 1}, []]).indptr.tolist()
        [0, 2, 2]
        """
        sets = [sorted(set(row)) for row in rows]
        starts = np.concatenate([[0], np.cumsum([len(row) for row in sets], dtype=np.int64)])
        return cls(starts, np.array([species for row in sets for species in row], dtype=np.int32))

    @property
    def num_surveys(self) -> int:
        """The number of surveys, those with an empty list included."""
        return len(self.indptr) - 1

    def lengths(self) -> np.ndarray:
        """Return the number of species of each survey, (N,) int64."""
        return np.diff(self.indptr)

    def row(self, i: int) -> np.ndarray:
        """Return the ascending species indices of survey ``i``."""
        if not 0 <= i < self.num_surveys:
            raise IndexError(f"survey {i} of {self.num_surveys}")
        return self.indices[self.indptr[i] : self.indptr[i + 1]]

    def surveys(self) -> np.ndarray:
        """Return the survey row of every entry of ``indices``, int64."""
        return np.repeat(np.arange(self.num_surveys), self.lengths())

    def take(self, rows: np.ndarray) -> Lists:
        """Return the lists of some surveys, in the order asked for; ``rows`` are indices or a mask.

        Examples
        --------
        >>> Lists.from_rows([[1], [2, 3], []]).take(np.array([1, 0])).indices.tolist()
        [2, 3, 1]
        """
        rows = np.arange(self.num_surveys)[rows]
        lengths = self.lengths()[rows]
        starts = np.concatenate([[0], np.cumsum(lengths)])
        within = np.arange(starts[-1]) - np.repeat(starts[:-1], lengths)
        return Lists(starts, self.indices[np.repeat(self.indptr[rows], lengths) + within])

    def union(self, other: Lists) -> Lists:
        """Return, survey by survey, the species of either.

        Examples
        --------
        >>> Lists.from_rows([[1, 4], []]).union(Lists.from_rows([[4, 2], [7]])).indices.tolist()
        [1, 2, 4, 7]
        """
        surveys = np.concatenate([self.surveys(), other.surveys()])
        return Lists.from_pairs(surveys, np.concatenate([self.indices, other.indices]), self.num_surveys)

    def same_as(self, other: Lists) -> bool:
        """Return whether two are the same sets, survey by survey.

        Examples
        --------
        >>> Lists.from_rows([[1], [2]]).same_as(Lists.from_rows([[1, 2], []]))
        False
        """
        return np.array_equal(self.indptr, other.indptr) and np.array_equal(self.indices, other.indices)

    def to_csr(self, num_species: int) -> scipy.sparse.csr_matrix:
        """Return the (N, num_species) 0/1 table, sparse uint8; species beyond the last column are left out.

        Examples
        --------
        >>> Lists.from_rows([[0, 2], [9]]).to_csr(3).toarray().tolist()
        [[1, 0, 1], [0, 0, 0]]
        """
        import scipy.sparse

        known = self.indices < num_species
        starts = np.concatenate([[0], np.cumsum(known)])[self.indptr]
        columns = self.indices[known]
        ones = np.ones(len(columns), dtype=np.uint8)
        return scipy.sparse.csr_matrix((ones, columns, starts), shape=(self.num_surveys, num_species))
