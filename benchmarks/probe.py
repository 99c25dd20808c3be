"""What an encoder's layers know: linear probes of its pooled embeddings, against averaged MFCCs and chance.

    python benchmarks/probe.py RESULTS SHEET [--classes category]

RESULTS is the results folder of a finished run, SHEET its corpus' sheet in layout csv. For every encoder and layer:

- speaker: logistic regression on the training speakers, five-fold over their utterances; accuracy
- each column of --classes: learned on training speakers, scored on test speakers; mean recall of the classes
- each target: ridge regression learned on training speakers, its penalty chosen on validation speakers, scored on test
  speakers; O-CCC and A-CCC

The baseline `mfcc` is mean and deviation over time of 39 MFCCs (13 with differences). Features are standardised on the
training utterances. Speakers of the test split are in no other.
"""

import argparse
import csv
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import recall_score
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.preprocessing import StandardScaler

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "workflow_scripts"))

from ser.adaptation.pseudo_labels import mfcc_frames  # noqa: E402
from ser.audio import decode  # noqa: E402
from ser.formats import manifest, tfrecord  # noqa: E402
from ser.statistics.ccc import compute_ccc  # noqa: E402

TARGETS = ("valence", "arousal", "dominance")
PENALTIES = np.logspace(0, 5, 11)
LIMITS = {"min_seconds": 0.1, "max_seconds": 600, "silence_db": -80}


def read_embeddings(folder: Path) -> dict[str, np.ndarray]:
    """Pooled embeddings, (layers + 1, width), by utterance id."""
    paths = sorted(folder.glob("*/shard-*.tfrecord"))
    return {
        record.utterance_id: record.embedding.astype(np.float32) for path in paths for record in tfrecord.read(path)
    }


def measure_mfcc(results: Path) -> dict[str, np.ndarray]:
    """Mean and deviation of 39 MFCCs, (1, 78), by utterance id."""
    features = {}
    for path in sorted(results.glob("manifests/*/shard-*.csv")):
        for utterance in manifest.read(path):
            try:
                frames = mfcc_frames(decode.load(utterance.path, **LIMITS)[0])
            except decode.Rejected:
                continue
            features[utterance.utterance_id] = np.concatenate([frames.mean(0), frames.std(0)])[None]
    return features


def probe(x: dict[str, np.ndarray], rows: dict[str, np.ndarray], classes: list[str]) -> dict[str, float]:
    """Scores of one set of features, {split: (utterances, features)}; `rows` are the sheet's, {split: [row, ...]}."""
    scaler = StandardScaler().fit(x["train"])
    x = {split: scaler.transform(values) for split, values in x.items()}
    logistic = LogisticRegression(C=0.1, max_iter=2000)
    speakers = [row["speaker"] for row in rows["train"]]
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    scores = {"speaker": cross_val_score(logistic, x["train"], speakers, cv=folds).mean()}
    for column in classes:
        logistic.fit(x["train"], [row[column] for row in rows["train"]])
        true = [row[column] for row in rows["test"]]
        scores[column] = recall_score(true, logistic.predict(x["test"]), average="macro", zero_division=0)
    for target in TARGETS:
        y = {split: np.array([float(row[target]) for row in rows[split]]) for split in rows}
        models = [Ridge(penalty).fit(x["train"], y["train"]) for penalty in PENALTIES]
        model = max(models, key=lambda m: compute_ccc(y["validation"], m.predict(x["validation"])))
        predicted = model.predict(x["test"])
        scores[f"{target} O"] = compute_ccc(y["test"], predicted)
        groups = defaultdict(list)
        for i, row in enumerate(rows["test"]):
            groups[row["speaker"]].append(i)
        scores[f"{target} A"] = np.mean([compute_ccc(y["test"][own], predicted[own]) for own in groups.values()])
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("sheet", type=Path)
    parser.add_argument("--classes", nargs="*", default=[], help="columns of the sheet to classify")
    options = parser.parse_args()
    with open(options.sheet, newline="", encoding="utf-8") as file:
        sheet = list(csv.DictReader(file))
    encoders = {path.name: read_embeddings(path) for path in sorted((options.results / "embeddings").iterdir())}
    first = True
    for name, features in ({"mfcc": measure_mfcc(options.results)} | encoders).items():
        rows = {split: [] for split in ("train", "validation", "test")}
        x = {split: [] for split in rows}
        for row in sheet:
            if row["split"] in rows and row["file"] in features:
                rows[row["split"]].append(row)
                x[row["split"]].append(features[row["file"]])
        for layer in range(len(x["train"][0])):
            scores = probe({s: np.stack(v)[:, layer] for s, v in x.items()}, rows, options.classes)
            if first:
                print(f"{'features':<24}", *(f"{key:>12}" for key in scores))
                chance = {"speaker": 1 / len({row["speaker"] for row in rows["train"]})}
                chance |= {c: 1 / len({row[c] for row in rows["test"]}) for c in options.classes}
                print(f"{'chance':<24}", *(f"{chance.get(key, 0):12.3f}" for key in scores))
                first = False
            label = name if name == "mfcc" else f"{name}, layer {layer}"
            print(f"{label:<24}", *(f"{value:12.3f}" for value in scores.values()), flush=True)


if __name__ == "__main__":
    main()
