"""How good lists and scores are: sets against sets, scores against sets, and intervals for a mean.

Everything is computed over the whole set of surveys, never averaged over batches, and sparsely: no dense
table of surveys x species is ever made from lists.
"""

# N surveys, S species, K list positions, R resamples, G blocks

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from releve.errors import TableError

if TYPE_CHECKING:
    import scipy.sparse
    import torch


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


@dataclass(frozen=True, eq=False)
class SetScores:
    """How well lists match the truth; see :func:`score_sets`.

    ``sample_f1``, ``precision``, ``recall`` and ``jaccard`` are means over surveys; ``micro_f1`` pools all
    cells; ``macro_f1`` is the mean over the species present in the truth. ``richness_bias`` is the mean of
    (list length - observed richness), ``richness_mae`` the mean of its absolute value, both in species.
    ``per_survey_f1`` is (N,). ``per_species`` has a row for each species listed or observed: ``species_index,
    num_true, num_predicted, num_hit, precision, recall, f1``; precision is null for a species never listed,
    recall for one never observed.
    """

    sample_f1: float
    micro_f1: float
    macro_f1: float
    precision: float
    recall: float
    jaccard: float
    num_surveys: int
    richness_bias: float
    richness_mae: float
    per_survey_f1: np.ndarray
    per_species: pl.DataFrame

    def summary(self) -> dict[str, float]:
        """Return the scores that are single numbers, by name, ready for JSON."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.type in ("float", "int")}


def _ratio(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    """Return ``top / bottom`` with 0 / 0 = 0, as scikit-learn's ``zero_division=0``."""
    return np.divide(top, bottom, out=np.zeros(len(top)), where=bottom > 0)


def score_sets(predicted: Lists, truth: Lists, num_species: int) -> SetScores:
    """Return how well the predicted sets match the observed ones, over all surveys at once.

    For a survey with predicted set P and observed set T: F1 = 2·|P ∩ T| / (|P| + |T|), precision =
    |P ∩ T| / |P|, recall = |P ∩ T| / |T|, Jaccard = |P ∩ T| / |P ∪ T|. Every 0 / 0 counts as 0: an empty list
    earns nothing, even on an empty plot (real plots are never empty). Equal to scikit-learn's ``f1_score``,
    ``precision_score``, ``recall_score`` and ``jaccard_score`` with ``average="samples"``; micro F1 pools all
    pairs. Macro F1 is scikit-learn's with ``labels`` = the species present in the truth, as the field has it;
    over all columns, scikit-learn would count each species that is neither listed nor observed as a zero.

    Parameters
    ----------
    predicted
        One list per survey, indices below ``num_species``.
    truth
        The observed sets of the same surveys. An index of ``num_species`` or more is a species unknown to the
        model: it counts as a miss in recall, F1 and Jaccard, and as a species of F1 0 in the macro mean.
    num_species
        The number of columns of the model.

    Raises
    ------
    TableError
        If the numbers of surveys differ, there are none, or a list names a species without a column.

    Examples
    --------
    >>> scores = score_sets(Lists.from_rows([[0, 1], [2]]), Lists.from_rows([[0], [1, 2]]), num_species=3)
    >>> round(scores.sample_f1, 4), round(scores.micro_f1, 4), round(scores.macro_f1, 4)
    (0.6667, 0.6667, 0.6667)
    """
    if predicted.num_surveys != truth.num_surveys or not truth.num_surveys:
        raise TableError(
            f"{predicted.num_surveys} predicted lists for {truth.num_surveys} surveys",
            expected="one list for each of one or more surveys, in the same order",
        )
    if len(predicted.indices) and predicted.indices.max() >= num_species:
        raise TableError(
            f"a predicted list names species index {predicted.indices.max()}",
            expected=f"indices below the {num_species} species of the model",
        )
    width = max(num_species, int(truth.indices.max(initial=-1)) + 1)
    survey_of = predicted.surveys()
    hit = np.isin(survey_of * width + predicted.indices, truth.surveys() * width + truth.indices, assume_unique=True)
    hits_N = np.bincount(survey_of[hit], minlength=truth.num_surveys)
    listed_N, observed_N = predicted.lengths(), truth.lengths()
    f1_N = _ratio(2 * hits_N, listed_N + observed_N)
    excess_N = listed_N - observed_N

    hits_S = np.bincount(predicted.indices[hit], minlength=width)
    listed_S = np.bincount(predicted.indices, minlength=width)
    observed_S = np.bincount(truth.indices, minlength=width)
    f1_S = _ratio(2 * hits_S, listed_S + observed_S)
    present = observed_S > 0
    return SetScores(
        sample_f1=float(f1_N.mean()),
        micro_f1=2 * int(hits_S.sum()) / max(int(listed_S.sum() + observed_S.sum()), 1),
        macro_f1=float(f1_S[present].mean()) if present.any() else 0.0,
        precision=float(_ratio(hits_N, listed_N).mean()),
        recall=float(_ratio(hits_N, observed_N).mean()),
        jaccard=float(_ratio(hits_N, listed_N + observed_N - hits_N).mean()),
        num_surveys=truth.num_surveys,
        richness_bias=float(excess_N.mean()),
        richness_mae=float(np.abs(excess_N).mean()),
        per_survey_f1=f1_N,
        per_species=_species_table(hits_S, listed_S, observed_S, f1_S),
    )


def _species_table(hits_S: np.ndarray, listed_S: np.ndarray, observed_S: np.ndarray, f1_S: np.ndarray) -> pl.DataFrame:
    """Return one row per species that is listed or observed, with undefined ratios as nulls."""
    rows = np.flatnonzero(listed_S + observed_S)
    table = pl.DataFrame(
        {
            "species_index": rows,
            "num_true": observed_S[rows],
            "num_predicted": listed_S[rows],
            "num_hit": hits_S[rows],
        }
    )
    hit = pl.col("num_hit")
    return table.with_columns(
        pl.when(pl.col("num_predicted") > 0).then(hit / pl.col("num_predicted")).alias("precision"),
        pl.when(pl.col("num_true") > 0).then(hit / pl.col("num_true")).alias("recall"),
        pl.Series("f1", f1_S[rows]),
    )


@dataclass(frozen=True, eq=False)
class RankScores:
    """How well scores order surveys within a species and species within a survey; see :func:`rank_scores`.

    ``auc_S`` and ``ap_S`` are (S,), NaN where not defined. ``num_species_scored`` counts the species with an
    AUC. ``top_k_accuracy`` maps k to a share in [0, 1].
    """

    auc_macro: float
    ap_macro: float
    num_species_scored: int
    auc_S: np.ndarray
    ap_S: np.ndarray
    top_k_accuracy: dict[int, float]


def rank_scores(
    scores: np.ndarray | torch.Tensor, truth: Lists, *, top_k: Sequence[int] = (1, 5, 10, 20, 30)
) -> RankScores:
    """Return AUC and average precision of each species and their means, and the top-k accuracy.

    AUC is the chance that a survey with the species scores higher than one without, a tie counting one half:
    the mean rank of the presences, so that ties are handled as in scikit-learn's ``roc_auc_score``. Average
    precision is the mean, over the presences, of the precision among all surveys that score at least as high,
    equal to ``average_precision_score``. Both are defined for a species with a presence and an absence (AP
    alone for one present everywhere); the means are over the species for which they are defined, and are NaN
    where there is none. Top-k accuracy is the share of all (survey, observed species) pairs whose species is
    among the k best of its survey; a species unknown to the model is a miss; of equal scores the lower index
    comes first.

    Parameters
    ----------
    scores
        (N, S) probabilities, logits or any finite scores; a memory map is read in blocks.
    truth
        The N observed sets.
    top_k
        The values of k.

    Raises
    ------
    TableError
        If a score is NaN or infinite, or the numbers of surveys differ.

    Examples
    --------
    >>> probs = np.array([[0.9, 0.2], [0.4, 0.6], [0.5, 0.3]])
    >>> ranks = rank_scores(probs, Lists.from_rows([[0], [0, 1], []]), top_k=[1])
    >>> ranks.auc_S.tolist(), round(float(ranks.ap_S[0]), 4), round(ranks.top_k_accuracy[1], 4)
    ([0.5, 1.0], 0.8333, 0.6667)
    """
    scores_NS = scores if isinstance(scores, np.ndarray) else scores.detach().cpu().numpy()
    if scores_NS.ndim != 2 or len(scores_NS) != truth.num_surveys:
        raise TableError(f"scores of shape {scores_NS.shape}", expected=f"({truth.num_surveys}, species)")
    num_surveys, num_species = scores_NS.shape
    known = truth.indices < num_species
    order = np.argsort(truth.indices[known], kind="stable")
    positive_rows = truth.surveys()[known][order]
    starts = np.concatenate([[0], np.cumsum(np.bincount(truth.indices[known], minlength=num_species))])

    auc_S, ap_S = np.full(num_species, np.nan), np.full(num_species, np.nan)
    block_columns = max(1, min(256, 32_000_000 // max(num_surveys, 1)))
    for first in range(0, num_species, block_columns):
        columns = range(first, min(first + block_columns, num_species))
        block = np.ascontiguousarray(scores_NS[:, columns.start : columns.stop].T)
        _check_finite(block, first)
        for species in columns:
            rows = positive_rows[starts[species] : starts[species + 1]]
            if len(rows):
                column = block[species - first]
                auc_S[species], ap_S[species] = _auc_ap(np.sort(column), np.sort(column[rows]))
    return RankScores(
        auc_macro=_mean_defined(auc_S),
        ap_macro=_mean_defined(ap_S),
        num_species_scored=int(np.isfinite(auc_S).sum()),
        auc_S=auc_S,
        ap_S=ap_S,
        top_k_accuracy=_top_k_accuracy(scores_NS, truth, top_k),
    )


def _check_finite(block: np.ndarray, first_species: int) -> None:
    if not np.isfinite(block).all():
        raise TableError(
            f"{np.count_nonzero(~np.isfinite(block))} scores are NaN or infinite among the species from "
            f"index {first_species} on",
            expected="finite scores",
            action="Mask missing modalities before the model, or look for a diverged training run",
        )


def _auc_ap(sorted_all: np.ndarray, sorted_positives: np.ndarray) -> tuple[float, float]:
    """Return AUC (NaN without a negative) and average precision from sorted scores."""
    num_all, num_positives = len(sorted_all), len(sorted_positives)
    below = np.searchsorted(sorted_all, sorted_positives, side="left")
    not_above = np.searchsorted(sorted_all, sorted_positives, side="right")
    own = np.searchsorted(sorted_positives, sorted_positives, side="left")
    precision = (num_positives - own) / (num_all - below)
    num_negatives = num_all - num_positives
    wins = (below + not_above).sum() / 2 - num_positives**2 / 2
    return wins / (num_positives * num_negatives) if num_negatives else np.nan, precision.mean()


def _mean_defined(values: np.ndarray) -> float:
    values = values[np.isfinite(values)]
    return float(values.mean()) if len(values) else float("nan")


def _top_k_accuracy(scores_NS: np.ndarray, truth: Lists, top_k: Sequence[int]) -> dict[int, float]:
    """Return, for each k, the share of observed pairs among the k best of their survey."""
    num_surveys, num_species = scores_NS.shape
    hits = dict.fromkeys(top_k, 0)
    deepest = min(max(top_k, default=0), num_species)
    known = truth.indices < num_species
    pair_rows, pair_species = truth.surveys()[known], truth.indices[known]
    block_rows = max(1, 8_000_000 // max(num_species, 1))
    for first in range(0, num_surveys if deepest else 0, block_rows):
        block = np.asarray(scores_NS[first : first + block_rows])
        pairs = slice(*np.searchsorted(pair_rows, [first, first + block_rows]))
        rows, species = pair_rows[pairs] - first, pair_species[pairs]
        values = block[rows, species][:, None]
        best_BK = -np.sort(np.partition(-block, deepest - 1, axis=1)[:, :deepest], axis=1)
        ranks = np.count_nonzero(best_BK[rows] > values, axis=1)
        tied = np.count_nonzero(best_BK[rows] == values, axis=1) > 1
        tied |= (best_BK[rows, -1:] == values)[:, 0]  # the tie may go on beyond the deepest
        for i in np.flatnonzero(tied):
            ranks[i] += np.count_nonzero(block[rows[i], : species[i]] == values[i])
        for k in hits:
            hits[k] += int(np.count_nonzero(ranks < min(k, deepest)))
    return {k: count / max(len(truth.indices), 1) for k, count in hits.items()}


def bootstrap_interval(
    values: np.ndarray,
    blocks: np.ndarray,
    rng: np.random.Generator,
    *,
    num_resamples: int = 1000,
    level: float = 0.95,
) -> tuple[float, float]:
    """Return the percentile interval of the mean of ``values`` when whole spatial blocks are resampled.

    Neighbouring surveys are alike; resampling them one by one would make the interval too narrow. With G
    blocks, each resample draws G of them with replacement and takes the mean of all their values.

    Parameters
    ----------
    values
        (N,) finite values, for instance ``SetScores.per_survey_f1``.
    blocks
        (N,) block of each survey: any integers or names.
    rng
        Source of the resamples.
    num_resamples
        How many resamples.
    level
        Share of the resampled means inside the interval.

    Returns
    -------
    tuple[float, float]
        The low and the high end; (NaN, NaN) with a single block, which says nothing about the spread.

    Raises
    ------
    TableError
        If a value is NaN or infinite, there is none, or the lengths differ.

    References
    ----------
    Künsch (1989), The jackknife and the bootstrap for general stationary observations, Annals of Statistics
    17, 1217-1241, doi:10.1214/aos/1176347265.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> low, high = bootstrap_interval(np.array([0.1, 0.2, 0.3, 0.4]), np.array([0, 0, 1, 1]), rng)
    >>> round(low, 2), round(high, 2)
    (0.15, 0.35)
    """
    values_N = np.asarray(values, dtype=np.float64)
    if values_N.shape != (len(blocks),) or not len(values_N):
        raise TableError(f"values of shape {values_N.shape} for {len(blocks)} blocks", expected="one of each")
    if not np.isfinite(values_N).all():
        raise TableError(f"{np.count_nonzero(~np.isfinite(values_N))} of {len(values_N)} values are NaN")
    names, block_of = np.unique(np.asarray(blocks), return_inverse=True)
    num_blocks = len(names)
    if num_blocks == 1:
        return float("nan"), float("nan")
    sums_G = np.bincount(block_of, weights=values_N)
    sizes_G = np.bincount(block_of)
    means = []
    chunk = max(1, 20_000_000 // num_blocks)
    for first in range(0, num_resamples, chunk):
        size = min(chunk, num_resamples - first)
        draws_RG = rng.multinomial(num_blocks, np.full(num_blocks, 1 / num_blocks), size=size)
        means.append((draws_RG @ sums_G) / (draws_RG @ sizes_G))
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
