"""Logistic regression of all species at once on the columns of all tables, their squares and hinges."""

# N training rows, M rows to predict, B batch, S species, K columns

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from releve.evaluate.references.design import Design
from releve.models.softmax import one_thread

HINGES = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Quantiles of the training rows from which on a hinge rises."""
EPOCHS = 30
BATCH_SIZE = 256
LEARNING_RATE = 0.01
PENALTY = 10.0
"""Weight of half the sum of squared coefficients against the log-likelihood of all training rows."""


def predict_logistic(design: Design, seed: int) -> NDArray[np.float32]:
    """Return (M, S) probabilities by one linear layer with an L2 penalty, fitted by Adam.

    Beside the columns of the tables there are their squares, and hinges at five quantiles: the response shapes that
    generalised linear models of species use. A missing value is taken for the median, where the normal score is 0.
    """
    x_NK, x_MK = (torch.from_numpy(part) for part in make_features(*design.filled(0.0)))
    labels, num_rows = design.labels, len(design.train)
    share_S = torch.from_numpy(np.asarray(labels.mean(axis=0), np.float32).ravel())
    weight_KS, bias_S = torch.zeros(x_NK.shape[1], labels.shape[1]), torch.logit(share_S, eps=1e-6)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam([weight_KS, bias_S], LEARNING_RATE)
    num_steps = EPOCHS * -(-num_rows // BATCH_SIZE)
    decay = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / num_steps)
    with one_thread(), torch.inference_mode():
        for _ in range(EPOCHS):
            for batch in torch.randperm(num_rows, generator=generator).split(BATCH_SIZE):
                y_BS = torch.from_numpy(labels[batch.numpy()].toarray())
                x_BK = x_NK[batch]
                error_BS = torch.sigmoid(torch.addmm(bias_S, x_BK, weight_KS)).sub_(y_BS).div_(len(batch))
                weight_KS.grad = torch.addmm(weight_KS, x_BK.T, error_BS, beta=PENALTY / num_rows)
                bias_S.grad = error_BS.sum(dim=0)
                optimizer.step()
                decay.step()
        return torch.sigmoid(x_MK @ weight_KS + bias_S).numpy()


def make_features(known: NDArray[np.float32], table: NDArray[np.float32]) -> tuple[NDArray, NDArray]:
    """Return columns, squares and hinges of training rows and of others, scaled by the training rows.

    Examples
    --------
    A column of 0 and 1 gets neither square nor hinge:

    >>> make_features(np.array([[0.0], [1.0]]), np.array([[1.0]]))[1].tolist()
    [[1.0]]
    """
    continuous = np.array([len(np.unique(column)) > 2 for column in known.T])
    knots = np.quantile(known[:, continuous], HINGES, axis=0) if continuous.any() else np.zeros((0, 0))

    def expand(part: NDArray[np.float32]) -> NDArray[np.float64]:
        columns = part[:, continuous]
        return np.column_stack([part, columns**2, *(np.maximum(columns - knot, 0) for knot in knots)])

    wide, wide_table = expand(known), expand(table)
    scale = np.where(wide.std(axis=0) > 0, wide.std(axis=0), 1)
    mean = np.where(np.arange(wide.shape[1]) < known.shape[1], 0, wide.mean(axis=0))
    scale[: known.shape[1]] = 1
    return tuple(((part - mean) / scale).astype(np.float32) for part in (wide, wide_table))  # type: ignore[return-value]
