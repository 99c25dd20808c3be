"""Which of a speaker's utterances are taken for enrolment."""

import hashlib

import numpy as np


def rank_utterances(utterance_ids: list[str], speakers, draw: int) -> np.ndarray:
    """Each utterance's place, from 0, in the order in which a draw takes its speaker's utterances, (utterances,).

    The order is that of the SHA-256 of `DRAW ID` (the draw's number and the utterance's id with a space between): as
    good as random, another for each draw, and the same when utterances come or go.

    Args:
        speakers: the speaker of each utterance: names, or numbers
    """
    _, speaker = np.unique(np.asarray(speakers), return_inverse=True)
    keys = np.array([hashlib.sha256(f"{draw} {name}".encode()).digest() for name in utterance_ids], "S32")
    order = np.lexsort((keys, speaker))  # by speaker, then by key
    starts = np.searchsorted(speaker[order], speaker)
    ranks = np.empty(len(order), int)
    ranks[order] = np.arange(len(order))
    return ranks - starts
