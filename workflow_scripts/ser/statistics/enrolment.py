"""Which of a speaker's utterances are taken for enrolment."""

import hashlib


def enrolment_order(utterance_ids: list[str]) -> list[str]:
    """A speaker's utterances in the order in which they are taken for enrolment: that of their ids' SHA-256.

    The order is as good as random, but stays the same when utterances come or go.
    """
    return sorted(utterance_ids, key=enrolment_key)


def enrolment_key(utterance_id: str) -> bytes:
    return hashlib.sha256(utterance_id.encode()).digest()
