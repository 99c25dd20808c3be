"""A speech encoder in ONNX: samples of one utterance -> each layer averaged over time, and frames of one.

The front runs over parts of an utterance, the Transformer over the whole of it up to `WHOLE` frames, else over windows
of `INNER` frames that see `CONTEXT` more on either side: as the workflow does, and memory does not grow with length.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ser_score.errors import BundleError

HOP, WINDOW = 320, 400  # samples from a frame to the next, and that a frame sees; 16 kHz
INNER, CONTEXT = 3000, 500  # frames
WHOLE = INNER + 2 * CONTEXT
CHUNK = 200  # frames of the front at once
EPS = 1e-5  # of the GroupNorm

Run = Callable[..., dict[str, np.ndarray]]  # a graph: inputs by name -> outputs by name


@dataclass(frozen=True)
class Encoder:
    """`first` has `kernel` (C, k), `gamma` and `beta` (C,) of a convolution that a GroupNorm follows, or is None."""

    front: Run
    body: Run
    first: dict[str, np.ndarray] | None
    normalise: bool
    stride: int
    dtype: np.dtype  # that the workflow stores embeddings in
    states: int
    width: int
    frames: bool
    vector: bool  # whether it needs a vector of the speaker

    def embed(self, samples: np.ndarray, vector: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray | None]:
        """(states, W) means over time and (frames, W) of one layer, as the workflow stores them.

        Args:
            samples: (n,) float32 at 16 kHz, at least 25 ms
            vector: (W,) of the speaker, for a personalised encoder
        """
        samples, inputs = self._prepare(samples)
        n = (len(samples) - WINDOW) // HOP + 1
        own = {} if vector is None else {"vector": vector[None].astype(np.float32)}
        sums, frames = 0.0, []
        inner, context = (n, 0) if n <= WHOLE else (INNER, CONTEXT)
        for begin in range(0, n, inner):
            end = min(n, begin + inner)
            start, stop = max(0, begin - context), min(n, end + context)
            features = self._features(samples, inputs, start, stop)
            bounds = np.array([begin - start, end - start], np.int64)
            found = self.body(features=features, inner=bounds, **own)
            _check(found["sums"], (self.states, self.width))
            sums = sums + found["sums"].astype(np.float64)
            if self.frames:
                _check(found["frames"], (end - begin, self.width))
                frames.append(found["frames"])
        return self._store(sums / n), self._store(np.concatenate(frames)) if frames else None

    def _store(self, values: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            stored = values.astype(np.float32).astype(self.dtype)
        if not np.isfinite(stored).all():
            raise BundleError("the encoder makes numbers that are not finite")
        return stored.astype(np.float32)

    def _prepare(self, samples: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Normalised samples, and the first convolution with the utterance's own GroupNorm in it.

        A channel w · x has mean w · E[x] and variance w · Cov(x) · w over the windows x of samples.
        """
        samples = np.asarray(samples, np.float32)
        if self.normalise:
            wide = samples.astype(np.float64)
            samples = ((wide - wide.mean()) / np.sqrt(wide.var() + 1e-7)).astype(np.float32)
        if self.first is None:
            return samples, {}
        kernel = self.first["kernel"].astype(np.float64)  # (C, k)
        windows = np.lib.stride_tricks.sliding_window_view(samples, kernel.shape[1])[:: self.stride]
        total, squares = np.zeros(kernel.shape[1]), np.zeros((kernel.shape[1],) * 2)
        for begin in range(0, len(windows), 1 << 16):
            part = windows[begin : begin + (1 << 16)].astype(np.float64)
            total, squares = total + part.sum(axis=0), squares + part.T @ part
        mean = total / len(windows)
        covariance = squares / len(windows) - mean[:, None] * mean
        variance = np.maximum(((kernel @ covariance) * kernel).sum(axis=1), 0)
        gamma = self.first["gamma"] / np.sqrt(variance + EPS)
        kernel, bias = kernel * gamma[:, None], self.first["beta"] - kernel @ mean * gamma
        return samples, {"kernel": kernel[:, None].astype(np.float32), "bias": bias.astype(np.float32)}

    def _features(self, samples: np.ndarray, inputs: dict, start: int, stop: int) -> np.ndarray:
        """The front's frames `start` to `stop`, (frames, C)."""
        parts = []
        for begin in range(start, stop, CHUNK):
            end = min(begin + CHUNK, stop)
            part = samples[begin * HOP : (end - 1) * HOP + WINDOW]
            parts.append(self.front(samples=part[None, None], **inputs)["features"])
            _check(parts[-1], (end - begin, *parts[0].shape[1:]))
        return np.concatenate(parts)


def _check(values: np.ndarray, shape: tuple) -> None:
    if values.shape != shape:
        raise BundleError(f"the encoder makes an array of the shape {values.shape}, expected {shape}")
