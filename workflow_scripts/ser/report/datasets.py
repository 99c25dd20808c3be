"""What the report shows of the result tables, as datasets that a page can look up by split, target, ablation, ..."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.csv

from ser.config.finetuning import FOLDER
from ser.evaluation.scoring import ROUNDING
from ser.files import read_json
from ser.formats import csv_files
from ser.report.summary import LEVEL

NUMBERS = 4  # decimals of what is drawn; the ablation table keeps all of its digits
TEXTS = (
    *("ablation", "encoder", "speaker", "fusion", "head", "calibration", "protocol", "target", "split"),
    *("family", "note", "against", "k", "alpha", "max_similarity", "labels", "utterances", "counterpart"),
    *("encoder_trained_on", "speaker_id", "x", "y", "group", "value", "utterance_id", "path", "reason"),
)
NOT_MEASURED = ("step", "epoch", "learning_rate")  # in the training log of an encoder
CURVE_POINTS = 400  # of a long training log


@dataclass(frozen=True)
class Dataset:
    """Rows in groups: the page finds a group by the values of `keys`, joined by `|`, which no name contains."""

    keys: tuple[str, ...]
    fields: tuple[str, ...]
    groups: dict[str, list[list]]  # of each group a list a field

    def to_json(self) -> dict:
        """As the page reads it: each text stands once, in `texts`, and its place there where it is used."""
        texts, groups = {}, {key: list(columns) for key, columns in self.groups.items()}
        for f, field in enumerate(self.fields):
            values = {value for columns in groups.values() for value in columns[f]}
            if values and all(isinstance(value, str) for value in values):
                texts[field] = sorted(values)
                place = {value: number for number, value in enumerate(texts[field])}
                for columns in groups.values():
                    columns[f] = [place[value] for value in columns[f]]
        return {"keys": self.keys, "fields": self.fields, "texts": texts, "groups": groups}


def group_rows(keys: Iterable[str], fields: Iterable[str], rows: Iterable[dict]) -> Dataset:
    """A dataset of rows (dictionaries), which keep their order; floats are rounded."""
    keys, fields, groups = tuple(keys), tuple(fields), {}
    for row in rows:
        columns = groups.setdefault("|".join(str(row[key]) for key in keys), [[] for _ in fields])
        for column, field in zip(columns, fields, strict=True):
            column.append(shorten(row.get(field)))
    return Dataset(keys, fields, groups)


def shorten(value):
    """A float with few decimals, or few digits where it is small; all else as it is."""
    if not isinstance(value, float):
        return value
    rounded = round(value, NUMBERS) if abs(value) >= 0.01 else float(f"{value:.3g}")
    return int(rounded) if rounded == int(rounded) else rounded


def read_table(path: str) -> list[dict]:
    """The rows of one of the result tables; an empty cell of a number is None, of a text the empty text."""
    return csv_files.read_table(path, TEXTS)


def collect_cells(rows: list[dict]) -> dict:
    """The ablation table as columns and rows, all digits kept."""
    columns = list(rows[0]) if rows else []
    return {"columns": columns, "rows": [[_whole(value) for value in row.values()] for row in rows]}


def _whole(value):
    return int(value) if isinstance(value, float) and value == int(value) else value


def collect_speakers(rows: Iterable[dict]) -> Dataset:
    """Each speaker's CCC with and without a calibration, those whom it helps most first.

    Without: on the same utterances, which with enrolment are fewer than the uncalibrated row's. With calibration
    `none` it is that of the baseline, as in the table. A speaker whom A-CCC leaves out has no CCC and is not there.
    """
    pairs = [
        row
        | {"speaker": row["speaker_id"], "before": row["ccc"] - row["delta_ccc"]}
        | {"effect": name_effect(row["delta_ccc"])}
        for row in rows
        if row["ccc"] is not None and row["delta_ccc"] is not None
    ]
    pairs.sort(key=lambda row: (-row["delta_ccc"], row["speaker"]))
    fields = ("speaker", "n", "before", "ccc", "delta_ccc", "effect")
    return group_rows(("split", "target", "ablation", "calibration"), fields, pairs)


def name_effect(delta: float) -> str:
    """Whether a change of a speaker's CCC is help or harm, as `speaker_summary.csv` counts it."""
    return "helped" if delta > ROUNDING else "harmed" if delta < -ROUNDING else "unchanged"


def collect_shares(rows: Iterable[dict]) -> Dataset:
    """The shares of speakers that each calibration of an ablation helps and harms."""
    kept = [row for row in rows if row["calibration"] != "none" and row["share_helped"] is not None]
    kept = [row | {"alike": 1 - row["share_helped"] - row["share_harmed"]} for row in kept]
    fields = ("calibration", "n_speakers", "share_helped", "share_harmed", "alike", "worst_decile_ccc", "gini_ccc")
    return group_rows(("split", "target", "ablation"), fields, kept)


def collect_groups(rows: Iterable[dict]) -> Dataset:
    """The figures of groups of speakers, and whether a gap is told from none after its family's correction."""
    rows = [
        row
        | {"value": f"{row['value']} ({row['n_speakers']:.0f})"}
        | {"told": int(row["gap_a_ccc_p_adjusted"] is not None and row["gap_a_ccc_p_adjusted"] < LEVEL)}
        for row in rows
    ]
    figures = [f"{name}{end}" for name in ("a_ccc", "delta_a_ccc", "gap_a_ccc") for end in ("", "_low", "_high")]
    fields = ("value", "n_utterances", *figures, "told", "note")
    return group_rows(("group", "split", "target", "ablation", "calibration"), fields, rows)


def collect_choices(choices: dict[str, str]) -> tuple[Dataset, Dataset]:
    """The validation A-CCC by k and by alpha, of each seed, with what was chosen marked.

    Where both are chosen, a point of one curve is the best over the other.
    """
    curves = {"k": [], "alpha": []}
    for ablation, path in choices.items():
        for choice in read_json(path)["choices"]:
            for name, rows in curves.items():
                best = defaultdict(lambda: -2.0)
                for point in choice["curve"]:
                    if point[name] is not None:
                        best[point[name]] = max(best[point[name]], point["a_ccc"])
                rows.extend(
                    {"ablation": ablation, "value": value, "a_ccc": a_ccc, "chosen": int(value == choice[name])}
                    | {key: choice[key] for key in ("calibration", "target", "seed")}
                    for value, a_ccc in sorted(best.items())
                )
    keys, fields = ("target", "ablation", "calibration"), ("seed", "value", "a_ccc", "chosen")
    return group_rows(keys, fields, curves["k"]), group_rows(keys, fields, curves["alpha"])


def count_references(choices: dict[str, str]) -> dict[str, int]:
    """Training speakers who can be neighbours, and those who cannot: the same for every ablation."""
    return read_json(next(iter(choices.values())))["references"]


def count_few_utterances(shares: Iterable[dict]) -> dict[str, int]:
    """Of each split the speakers whom A-CCC leaves out for few utterances, where none of them is enrolled."""
    return {row["split"]: int(row["n_few_utterances"]) for row in shares if row["calibration"] == "none"}


def collect_enrolment(rows: Iterable[dict]) -> tuple[Dataset, Dataset]:
    """What few utterances of a speaker add, without and with labels, by their number; last all of them.

    The second dataset has the rows that have intervals.
    """
    points = []
    for row in rows:
        if row["delta_a_ccc"] is None:
            continue
        place = float("inf") if row["utterances"] == "all" else int(row["utterances"])
        point = {"place": place, "series": "with labels" if row["labels"] == "enrolled" else "without labels"}
        for name, column in {"gain": "delta_a_ccc", "beyond": "beyond_a_ccc"}.items():
            point |= {f"{name}{end}": row[f"{column}{end}"] for end in ("", "_low", "_high")}
        points.append(row | point)
    points.sort(key=lambda point: point["place"])
    places = sorted({point["place"] for point in points})
    points = [point | {"place": places.index(point["place"])} for point in points]
    figures = [f"{name}{end}" for name in ("gain", "beyond") for end in ("", "_low", "_high")]
    fields = ("calibration", "series", "utterances", "place", "n_speakers", *figures)
    keys, known = ("split", "target", "ablation"), [point for point in points if point["gain_low"] is not None]
    return group_rows(keys, fields, points), group_rows(keys, fields, known)


def collect_shifts(rows: Iterable[dict], correlations: Iterable[dict]) -> tuple[Dataset, Dataset]:
    """Shifts of speakers against performance and gain, and their correlations."""
    fields = ("speaker", "n", "feature_shift", "label_shift", "ccc", "gain")
    keys = ("split", "target", "ablation")
    points = group_rows(keys, fields, [row | {"speaker": row["speaker_id"]} for row in rows])
    figures = ("r", "r_low", "r_high", "r_given_n", "r_given_n_low", "r_given_n_high")
    return points, group_rows(keys, ("x", "y", "n_speakers", *figures), correlations)


def collect_histories(histories: Iterable[str]) -> Dataset:
    """The training curves of the heads, from files `.../{ablation}/seed-{seed}/history.csv`."""
    rows = [
        row | {"ablation": Path(path).parts[-3], "seed": int(Path(path).parts[-2].removeprefix("seed-"))}
        for path in histories
        for row in read_table(path)
    ]
    return group_rows(("target", "ablation"), ("seed", "epoch", "loss", "validation_ccc", "best"), rows)


def collect_training(logs: dict[str, str]) -> tuple[Dataset, list[str]]:
    """Training logs of encoders, whatever they measure: one row per step, and the names of the measures.

    Of fine-tuned encoders, `finetuned/...`, what their head's history has not: the loss and CCC of all targets.
    """
    rows, measures = [], []
    for encoder, path in logs.items():
        table = pyarrow.csv.read_csv(path)
        axis = next((name for name in ("step", "epoch") if name in table.column_names), None)
        names = [n for n in table.column_names if n not in NOT_MEASURED and _is_number(table[n].type)]
        if axis is None:
            continue
        shown = {name: name for name in names}
        if encoder.startswith(f"{FOLDER}/"):
            shown = {name: f"{name}, fine-tuning" for name in ("loss", "ccc")}
        measures += [name for name in shown.values() if name not in measures]
        parts = defaultdict(list)
        for row in table.to_pylist():
            parts[row.get("split") or "train"].append(row)
        for split, points in parts.items():
            thinned = points[:: -(-len(points) // CURVE_POINTS)]
            thinned += points[-1:] if thinned[-1] is not points[-1] else []
            rows.extend(
                {"encoder": encoder, "split": split, "step": row[axis], "measure": told, "value": row[name]}
                for row in thinned
                for name, told in shown.items()
                if row[name] is not None
            )
    return group_rows(("measure",), ("encoder", "split", "step", "value"), rows), measures


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


def list_calibrations(rows: Iterable[dict]) -> list[str]:
    """The calibrations of a table in its order, `none` first."""
    return list(dict.fromkeys(row["calibration"] for row in rows))
