"""Audio decoded ahead of the encoder, in threads, with a bound on what is held."""

import logging
import math
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ser.audio import decode
from ser.audio.frames import SAMPLE_RATE
from ser.formats.manifest import Utterance

log = logging.getLogger(__name__)

HELD_SAMPLES = 3600 * SAMPLE_RATE  # decoded ahead, 230 MB, where utterances are long


def decode_ahead(
    utterances: list[Utterance], audio: dict, ahead: int, workers: int
) -> Iterator[tuple[Utterance, np.ndarray]]:
    """Yield utterances with their samples (float32, 16 kHz), decoded in threads up to `ahead` utterances in advance.

    While HELD_SAMPLES are waiting to be taken, only the utterance that is asked for is decoded: hours-long recordings
    do not fill the memory.
    """
    room, held, wanted = threading.Condition(), 0, 0.0

    def load(number: int, utterance: Utterance) -> np.ndarray:
        nonlocal held
        with room:
            room.wait_for(lambda: held < HELD_SAMPLES or number <= wanted)
        samples, _ = decode.load(**utterance.source, **audio)
        with room:
            held += len(samples)
        return samples

    def want(number: float, taken: int) -> None:
        nonlocal held, wanted
        with room:
            held, wanted = held - taken, number
            room.notify_all()

    with ThreadPoolExecutor(workers) as pool:
        pending: deque = deque()
        try:
            for number, utterance in enumerate((*utterances, *[None] * ahead)):
                if utterance:
                    pending.append((number, utterance, pool.submit(load, number, utterance)))
                if pending and (utterance is None or len(pending) > ahead):
                    number, utterance, future = pending.popleft()
                    want(number, 0)
                    try:
                        samples = future.result()
                    except decode.Rejected as reason:
                        log.info("rejected %s: %s", utterance.utterance_id, reason)
                    else:
                        want(number, len(samples))
                        yield utterance, samples
        finally:
            want(math.inf, 0)  # nobody waits for room any more
            pool.shutdown(cancel_futures=True)
