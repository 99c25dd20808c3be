"""1 - CCC over a batch, and the sums from which a CCC over many batches is computed."""

import torch

from ser.statistics.ccc import ccc_from_moments

SUMS = 6  # a target: number, labels, predictions, their squares, their product


def ccc_loss(labels: torch.Tensor, predictions: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """1 - CCC, averaged over targets, as `heads.training.ccc_loss`: (B, targets), (B, targets), (B,) -> ()."""
    weights = (weights / weights.sum())[:, None]
    label_mean, mean = (weights * labels).sum(0), (weights * predictions).sum(0)
    covariance = (weights * (labels - label_mean) * (predictions - mean)).sum(0)
    spread = (weights * ((labels - label_mean) ** 2 + (predictions - mean) ** 2)).sum(0)
    # Labels that are all the same make no CCC; the small term keeps the gradient finite there.
    return (1 - 2 * covariance / (spread + (label_mean - mean) ** 2 + 1e-8)).mean()


def sum_moments(labels: torch.Tensor, predictions: torch.Tensor) -> torch.Tensor:
    """Sums that add up over batches, (targets · SUMS,) float64, of labels and predictions (B, targets)."""
    y, p = labels.double(), predictions.detach().double()
    return torch.stack([torch.ones_like(y), y, p, y * y, p * p, y * p]).sum(1).T.flatten()


def ccc_of_sums(sums: list[float]) -> list[float]:
    """The CCC of each target."""
    scores = []
    for start in range(0, len(sums), SUMS):
        n, *rest = sums[start : start + SUMS]
        y, p, yy, pp, yp = (value / n for value in rest)
        scores.append(float(ccc_from_moments(y, p, yy - y * y, pp - p * p, yp - y * p)))
    return scores
