"""How similar speakers are: cosines of their vectors."""

import numpy as np


def rank_neighbours(vectors: np.ndarray, references: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each speaker all references, most similar first, and their cosines: two (speakers, references) arrays.

    Equal cosines (to 9 digits: vectors are float32) keep the references' order; a vector of zeros is similar to none.
    """
    cosine = np.round(normalise(vectors) @ normalise(references).T, 9)  # (speakers, references)
    order = np.argsort(-cosine, axis=1, kind="stable")
    return order, np.take_along_axis(cosine, order, axis=1)


def normalise(vectors: np.ndarray) -> np.ndarray:
    """Rows of length 1; a row of zeros stays."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(length > 0, length, 1)
