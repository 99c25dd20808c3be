"""Scores as tables for people: the columns of the workflow's `results/scored/NAME.csv`, then `flags` and `note`."""

import csv
import io
import json
import os
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path

from ser_score.bundle import Bundle
from ser_score.scores import Score, SpeakerScores

SPEAKER_COLUMNS = ["speaker", "n_utterances", "enough_utterances", "calibration"]
SPEAKER_COLUMNS += ["target", "seed", "k", "alpha", "neighbours", "similarities", "max_similarity"]
REJECTED_COLUMNS = ["file", "speaker", "reason"]
_FORMULA = re.compile(r"'*[=+\-@\t\r]")


def list_columns(bundle: Bundle) -> list[str]:
    columns = ["file", "speaker", *bundle.targets]
    columns += [f"{target}_{what}" for target in bundle.targets for what in ("low", "high", "seed_sd")]
    columns += ["coverage", "ablation", "calibration", *(f"{target}_k" for target in bundle.targets)]
    return [*columns, "neighbours", "n_utterances", "enough_utterances", "flags", "note"]


def describe_recording(bundle: Bundle, file: str, speaker: str, score: Score, of_speaker: SpeakerScores) -> dict:
    """The cells of a recording."""
    cells = {"file": file, "speaker": speaker, "coverage": f"{bundle.coverage:g}", "ablation": bundle.ablation}
    for t, target in enumerate(bundle.targets):
        cells |= {target: score.values[t], f"{target}_low": score.low[t], f"{target}_high": score.high[t]}
        cells[f"{target}_seed_sd"] = None if score.seed_sd is None else score.seed_sd[t]
        cells[f"{target}_k"] = _join(move["k"] for move in of_speaker.moves if move["target"] == target)
    cells |= {"calibration": score.calibration, "neighbours": ";".join(score.neighbours), "note": score.note}
    cells |= {"n_utterances": len(of_speaker.scores), "enough_utterances": "yes" if of_speaker.enough else "no"}
    return cells | {"flags": "; ".join(score.flags)}


def describe_speaker(speaker: str, found: SpeakerScores) -> list[dict]:
    """The rows of a speaker: one for each target and seed, or one where nothing was calibrated."""
    calibration = next((score.calibration for score in found.scores.values()), "none")
    cells = {"speaker": speaker, "n_utterances": len(found.scores), "calibration": calibration}
    cells["enough_utterances"] = "yes" if found.enough else "no"
    rows = []
    for move in found.moves or [{}]:
        joined = {"neighbours": ";".join(move.get("neighbours", []))}
        joined["similarities"] = ";".join(f"{cosine:.6f}" for cosine in move.get("similarities", []))
        rows.append(cells | move | joined)
    return rows


def format_table(columns: list[str], rows: Iterable[dict]) -> str:
    """CSV with a header: floats with 6 decimals, an empty cell for what a row lacks, no formulas."""
    text = io.StringIO()
    cells = ([_format_cell(row.get(column)) for column in columns] for row in rows)
    csv.writer(text, lineterminator="\n").writerows([columns, *cells])
    return text.getvalue()


def format_json(value) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False) + "\n"


def write_text(path: Path, text: str) -> None:
    """Write a file, whole or not at all."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def _format_cell(value) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return f"'{value}" if _FORMULA.match(value) else value
    if isinstance(value, int):
        return str(value)
    return f"{round(float(value), 6) + 0.0:.6f}"


def _join(values: Iterable) -> str:
    """One value if the seeds agree, else all of them in the seeds' order."""
    texts = [f"{value:g}" for value in values]
    return ";".join(texts) if len(set(texts)) > 1 else "".join(texts[:1])
