"""Pseudo-labels: the k-means cluster of each of HuBERT's frames, in a space of MFCCs or of an encoder's layer.

HuBERT (Hsu et al. 2021, arXiv 2106.07447) is first trained on clusters of 39 MFCCs, then on clusters of an inner
layer of the encoder that came out.
"""

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from ser.adaptation.clusters import SCHEMA, read_clusters, write_clusters
from ser.audio import decode
from ser.audio.frames import HOP, SAMPLE_RATE, WINDOW
from ser.encoders.past import Past, describe_audio, read_past
from ser.files import DataError
from ser.formats import manifest as manifests
from ser.formats.encoder_families import check_trainable
from ser.formats.manifest import Utterance
from ser.formats.parquet import write_parquet

log = logging.getLogger(__name__)

N_MFCC, N_MELS = 13, 40


def mfcc_frames(samples: np.ndarray) -> np.ndarray:
    """MFCCs with first and second differences in time, (frames, 39) float32, at HuBERT's frames (16 kHz samples).

    The signal is brought to mean 0 and variance 1 first, as the encoder's input is: a recording's level is no cluster.
    """
    import librosa  # 1 s that a job which reads an encoder's layer saves

    samples = (samples - samples.mean()) / (samples.std() + 1e-7)
    options = {"n_mfcc": N_MFCC, "n_mels": N_MELS, "n_fft": WINDOW, "hop_length": HOP, "center": False}
    mfcc = librosa.feature.mfcc(y=samples, sr=SAMPLE_RATE, **options)
    differences = [librosa.feature.delta(mfcc, order=order, mode="nearest") for order in (1, 2)]
    return np.concatenate([mfcc, *differences]).T.astype(np.float32)


def open_features(encoder_card: str | None, options: dict, device: str, threads: int) -> Callable:
    """A function of an utterance's samples: its (frames, features) in the space that is clustered."""
    if options["features"] == "mfcc":
        return mfcc_frames
    from ser.encoders.engine import Encoder

    folder, layer = Path(encoder_card).parent, options["layer"]
    check_trainable(folder, "pseudo_labels")  # frames of masked prediction are the engine's
    encoder = Encoder(folder, device, threads)
    layers = encoder.config["num_hidden_layers"]
    if not -layers - 1 <= layer <= layers:
        raise DataError(f"pseudo_labels: layer {layer}: the encoder {folder} has layers 0 to {layers}")
    return lambda samples: encoder.embed([samples], layer % (layers + 1))[0].frames


def make_clusters(
    manifest_paths: Iterable[str],
    encoder_card: str | None,
    given: str | None,
    path: str | Path,
    *,
    options: dict,
    audio: dict,
    device: str,
    threads: int,
) -> None:
    """Write `centroids`, (clusters, features), of mini-batch k-means on a sample of about `frames` frames.

    The sample is of whole utterances, in the order of their ids' SHA-256: it hardly changes with the corpus. Where
    `given` names another encoder's `adaptation.safetensors`, its centroids are taken instead. `options` are those of
    the config's `pseudo_labels`.
    """
    past = read_past(Path(encoder_card).parent, encoder_card) if encoder_card else Past()
    if given:
        centroids, past = read_clusters(given), past + read_past(Path(given).parent, str(Path(given).parent))
    else:
        features = open_features(encoder_card, options, device, threads)
        sample, heard = _sample(manifest_paths, features, options["frames"], audio)
        centroids, past = _fit(sample, options), past + describe_audio("train (clusters)", heard)
    write_clusters(path, centroids, past)


def _sample(manifest_paths: Iterable[str], features: Callable, count: int, audio: dict) -> tuple[np.ndarray, list[str]]:
    """Frames, (frames, features), and the content of the utterances that they are of."""
    utterances = [utterance for path in manifest_paths for utterance in manifests.read(path)]
    utterances.sort(key=lambda utterance: hashlib.sha256(utterance.utterance_id.encode()).digest())
    sample, heard, taken = [], [], 0
    with tqdm(total=count, unit="frame", unit_scale=True, desc="sample", mininterval=5) as progress:
        for utterance, samples in _load(utterances, audio):
            sample.append(features(samples))
            heard.append(utterance.content)
            taken += len(sample[-1])
            progress.update(len(sample[-1]))
            if taken >= count:
                break
    if not sample:
        raise DataError("pseudo_labels: no audio fit for use to make clusters of")
    log.info("a sample of %d frames of %d utterances", taken, len(sample))
    return np.concatenate(sample), heard


def _fit(sample: np.ndarray, options: dict) -> np.ndarray:
    from sklearn.cluster import MiniBatchKMeans
    from threadpoolctl import threadpool_limits

    if len(sample) < options["clusters"]:
        raise DataError(f"pseudo_labels: {len(sample)} frames of audio are too few for {options['clusters']} clusters")
    # HuBERT's settings, but for n_init (20 there)
    settings = {"batch_size": 10_000, "max_iter": 100, "n_init": 5, "reassignment_ratio": 0.0, "tol": 0.0}
    kmeans = MiniBatchKMeans(options["clusters"], random_state=options["seed"], **settings)
    with threadpool_limits(1):  # sums in one order
        kmeans.fit(sample)
    log.info("mean squared distance to the centroids: %.4g", kmeans.inertia_ / len(sample))
    return kmeans.cluster_centers_.astype(np.float32)


def label_shard(
    manifest: str,
    clusters: str,
    encoder_card: str | None,
    path: str | Path,
    *,
    options: dict,
    audio: dict,
    device: str,
    threads: int,
) -> None:
    """Write the pseudo-labels of a shard: a row of SCHEMA an utterance whose audio is fit for use."""
    centroids = read_clusters(clusters)
    features = open_features(encoder_card, options, device, threads)
    offsets, rows = np.square(centroids).sum(1), []
    utterances = manifests.read(manifest)
    for utterance, samples in tqdm(_load(utterances, audio), total=len(utterances), unit="file", mininterval=5):
        frames = features(samples)
        if frames.shape[1] != centroids.shape[1]:
            raise DataError(f"{clusters}: clusters of {centroids.shape[1]} features, but frames have {frames.shape[1]}")
        labels = (offsets - 2 * frames @ centroids.T).argmin(1)
        row = utterance._asdict() | {"labels": labels.astype(np.uint16)}
        rows.append({name: row[name] for name in SCHEMA.names})
    write_parquet(path, pa.Table.from_pylist(rows, SCHEMA))


def _load(utterances: list[Utterance], audio: dict) -> Iterator[tuple[Utterance, np.ndarray]]:
    """Utterances with their samples, without those that are set aside."""
    for utterance in utterances:
        try:
            samples, _ = decode.load(**utterance.source, **audio)
        except decode.Rejected as reason:
            log.info("rejected %s: %s", utterance.utterance_id, reason)
        else:
            yield utterance, samples
