"""Similar-speaker data weighting: training speakers count more the more target speakers they resemble.

After Sridhar and Busso, "Unsupervised Personalization of an Emotion Recognition System", IEEE Transactions on Affective
Computing 2022, the paper's baseline B2: their weighting approach with one model for all target speakers, and by
default averaged MFCCs as the space in which speakers are compared. It sees the target speakers' audio, so it is
transductive.
"""

import numpy as np

from ser.statistics.similarity import normalise


def weigh_speakers(
    training: dict[str, np.ndarray], targets: dict[str, np.ndarray], neighbours: int, strength: float
) -> dict[str, float]:
    """Weights of training speakers, from vectors (W,) of training and of target speakers (at least one of each).

    Each target speaker votes for the `neighbours` training speakers most similar by cosine, in the space standardised
    on training speakers; a weight is 1 + `strength` × votes / the mean number of votes, scaled to a mean of 1.
    """
    names = sorted(training)
    known = np.stack([training[name] for name in names]).astype(np.float64)
    mean, sd = known.mean(axis=0), known.std(axis=0)
    sd = np.where(sd > 0, sd, 1)
    wanted = np.stack([targets[name] for name in sorted(targets)])
    cosine = normalise((wanted - mean) / sd) @ normalise((known - mean) / sd).T  # (targets, training)
    nearest = np.argsort(-np.round(cosine, 9), axis=1, kind="stable")[:, :neighbours]
    votes = np.bincount(nearest.ravel(), minlength=len(names))
    weights = 1 + strength * votes / votes.mean()
    return dict(zip(names, (weights / weights.mean()).tolist(), strict=True))
