"""Mean MFCCs against librosa, with its defaults at 16 kHz."""

import warnings
from pathlib import Path

import librosa
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ser.audio import mfcc

CORPORA = Path(__file__).parents[2].parent / "shared" / "data"
# Both take the same float32 transform of the same frames; what differs is the order of sums over at most 2,049 bins
# and 128 bands (relative error about 1e-6, 4e-6 dB) and float32 against float64 means over frames of up to 1,000 dB
# (1e-4 of a coefficient as large as -900). Coefficients of different voices are whole units apart.
TOLERANCE = 1e-3


def reference(samples: np.ndarray) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="n_fft=2048 is too large for input signal")
        return librosa.feature.mfcc(y=samples, sr=16_000, n_mfcc=13).mean(axis=1)


def noise(count: int, level: float = 0.1) -> np.ndarray:
    return np.random.default_rng(count).normal(0, level, count).astype(np.float32)


def click(count: int, at: int) -> np.ndarray:
    samples = np.zeros(count, np.float32)
    samples[at] = 0.9
    return samples


TIME = np.arange(40_000) / 16_000
SIGNALS = {
    "noise": noise(50_000),
    "quiet noise, at the decibels' floor": noise(50_000, 1e-6),
    "a voice": sum(np.sin(2 * np.pi * 120 * k * TIME + np.sin(5 * TIME)) / k for k in range(1, 60)).astype(np.float32),
    "a pure tone": np.sin(2 * np.pi * 1000 * TIME).astype(np.float32),
    "a tone at the band's edge": np.sin(2 * np.pi * 7_990 * TIME).astype(np.float32),
    "a click in silence": click(30_000, 12_345),
    "speech, then silence": np.concatenate([noise(20_000), np.zeros(20_000, np.float32)]),
    "an offset": noise(20_000, 0.01) + np.float32(0.5),
    "unscaled integers": noise(20_000) * 2**31,
    "a minute": noise(960_000),
}


@pytest.mark.parametrize("samples", SIGNALS.values(), ids=SIGNALS)
def test_signals_are_as_in_librosa(samples):
    np.testing.assert_allclose(mfcc.mean_mfcc(samples), reference(samples), atol=TOLERANCE)


@pytest.mark.parametrize(
    "count", [1, 2, 400, 511, 512, 513, 1_024, 2_047, 2_048, 2_049, *(mfcc.BLOCK * 512 + d for d in (-513, -512, 0, 1))]
)
def test_every_length_is_as_in_librosa(count):
    np.testing.assert_allclose(mfcc.mean_mfcc(noise(count)), reference(noise(count)), atol=TOLERANCE)


@pytest.mark.parametrize("corpus", ["emodb", "ravdess_shift"])
def test_real_speech_is_as_in_librosa(corpus):
    files = sorted((CORPORA / corpus / "audio").glob("*"))
    if not files:
        pytest.skip(f"{corpus} is not beside this repository")
    for path in files[:: len(files) // 12]:
        samples, _ = librosa.load(path, sr=16_000)
        np.testing.assert_allclose(mfcc.mean_mfcc(samples), reference(samples), atol=TOLERANCE)


def test_the_mel_filters_are_librosas():
    expected = librosa.filters.mel(sr=16_000, n_fft=2_048, n_mels=128, htk=False, norm="slaney", dtype=np.float64)
    np.testing.assert_allclose(mfcc.mel_weights(), expected, atol=1e-15)  # values up to 0.046 in float64


def test_groups_of_filters_hold_the_whole_matrix():
    whole = np.zeros((mfcc.FRAME // 2 + 1, mfcc.N_MELS), np.float32)
    for bands, bins, weights in mfcc._mel_filters():
        whole[bins, bands] += weights
    np.testing.assert_array_equal(whole.T, mfcc.mel_weights().astype(np.float32))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1 << 32), count=st.integers(400, 40_000), gain=st.floats(0.1, 100))
def test_a_gain_moves_the_first_coefficient_alone(seed, count, gain):
    """Decibels of all bands move by 20 log10(gain); the orthonormal DCT of a constant c is c sqrt(128), 0, 0, ...

    Noise this loud is far above the floor of 1e-10 that would not move.
    """
    samples = np.random.default_rng(seed).normal(0, 0.1, count).astype(np.float32)
    change = mfcc.mean_mfcc(samples * np.float32(gain)) - mfcc.mean_mfcc(samples)
    expected = np.eye(13)[0] * 20 * np.log10(gain) * np.sqrt(128)
    np.testing.assert_allclose(change, expected, atol=1e-3)  # float32 rounding of the samples


def test_the_result_is_one_vector_of_float64():
    result = mfcc.mean_mfcc(noise(16_000))
    assert result.shape == (13,) and result.dtype == np.float64 and np.isfinite(result).all()
