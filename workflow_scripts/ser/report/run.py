"""What the report says of the run itself: corpus, set-aside audio, encoders, code, time, memory and disk."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from ser.files import read_json
from ser.formats.parquet import read_parquet
from ser.report.datasets import group_rows, read_table

PACKAGES = ("snakemake", "numpy", "scipy", "pyarrow", "soundfile", "transformers", "torch", "tensorflow", "keras")
LISTED = 200  # rejected files; their table has all
BINS = 24
UNCOUNTED = {"logs", "benchmarks", "report.html"}  # of the disk: what a run says of itself


def summarise_corpus(utterances: str, splits: list[str], targets: list[str], label_range: list[float]) -> dict:
    """Speakers, utterances and hours of each split, label histograms, and the utterances that speakers have."""
    table = read_parquet(utterances)
    used = table.filter(pc.equal(table["status"], "ok"))
    rows, labels, speakers = [], [], []
    edges = np.linspace(*label_range, BINS + 1)
    for split in splits:
        every, part = (each.filter(pc.equal(each["split"], split)) for each in (table, used))
        counts = part["speaker_id"].value_counts()
        numbers = sorted(value["counts"].as_py() for value in counts)
        rows.append(
            {"split": split, "speakers": len(counts), "utterances": len(part), "rejected": len(every) - len(part)}
            | {"hours": (pc.sum(part["duration_s"]).as_py() or 0) / 3600}
            | {"median": numbers[len(numbers) // 2] if numbers else 0, "most": numbers[-1] if numbers else 0}
        )
        for target in targets:
            values = part[target].drop_null().to_numpy() if target in part.column_names else np.empty(0)
            heights = np.histogram(np.clip(values, *label_range), edges)[0]
            labels.extend(
                {"split": split, "target": target, "low": float(low), "high": float(high)}
                | {"share": float(count) / max(len(values), 1), "count": int(count)}
                for low, high, count in zip(edges[:-1], edges[1:], heights, strict=True)
                if len(values)
            )
        top = max(numbers, default=0)
        for low, high in _round_edges(top):
            count = sum(low <= number < high for number in numbers)
            speakers.append({"split": split, "low": low, "high": high, "speakers": count})
    return {
        "splits": rows,
        "labels": group_rows(("target",), ("split", "low", "high", "share", "count"), labels),
        "speakers": group_rows(("split",), ("low", "high", "speakers"), speakers),
    }


def _round_edges(top: int) -> list[tuple[int, int]]:
    """About a dozen equal bins of whole numbers that hold 1 to `top`."""
    width = max(1, -(-top // 12))
    return [(low, low + width) for low in range(0, top + 1, width)]


def describe_rejected(path: str) -> dict:
    """The audio that was set aside: counts a reason, and the first files."""
    rows = read_table(path)
    counts = defaultdict(int)
    for row in rows:
        counts[row["reason"].split(":")[0]] += 1
    listed = [{key: row[key] for key in ("utterance_id", "speaker_id", "split", "reason")} for row in rows[:LISTED]]
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return {"count": len(rows), "reasons": ordered, "listed": listed}


def describe_encoders(cards: dict[str, str]) -> dict[str, dict]:
    """The card of each encoder, flat, without that of its base (`origin`)."""
    read = {name: read_json(path) for name, path in cards.items()}
    return {name: _flatten({k: v for k, v in card.items() if k != "origin"}) for name, card in read.items()}


def list_keys(cards: dict[str, dict]) -> list[str]:
    """What any card has a value for, in the order of the fullest one."""
    ordered = sorted(cards.values(), key=len, reverse=True)
    return list(dict.fromkeys(key for card in ordered for key, value in card.items() if value is not None))


def _flatten(value: dict, prefix: str = "") -> dict:
    flat = {}
    for key, item in value.items():
        item = ", ".join(map(str, item)) if isinstance(item, list) else item
        flat |= _flatten(item, f"{prefix}{key}.") if isinstance(item, dict) else {f"{prefix}{key}": item}
    return flat


def measure_costs(folder: str | Path, names: Iterable[str]) -> list[dict]:
    """Time and memory of each rule from the benchmarks of its jobs, the longest first.

    A benchmark whose path names something that this run does not have (an ablation that is gone) is left out.
    """
    known, rules = set(names), defaultdict(list)
    for path in sorted(Path(folder).rglob("*.tsv")):
        rule, *parts = path.relative_to(folder).with_suffix("").parts
        if all(part in known or part == rule or part.startswith("shard-") for part in parts):
            rules[rule].append(_read_benchmark(path))
    costs = [
        {
            "rule": rule,
            "jobs": len(jobs),
            "seconds": sum(job["s"] for job in jobs),
            "longest": max(job["s"] for job in jobs),
            "cpu": sum(job["cpu_time"] for job in jobs),
            "memory": max(job["max_rss"] for job in jobs),
            "read": sum(job["io_in"] for job in jobs),
            "written": sum(job["io_out"] for job in jobs),
        }
        for rule, jobs in rules.items()
    ]
    return sorted(costs, key=lambda cost: (-cost["seconds"], cost["rule"]))


def _read_benchmark(path: Path) -> dict[str, float]:
    """Snakemake's benchmark of a job in seconds and bytes; what a short job has no value for counts as 0."""
    header, *lines = path.read_text(encoding="utf-8").splitlines() or [""]
    job = dict.fromkeys(("s", "max_rss", "io_in", "io_out", "cpu_time"), 0.0)
    for name, value in zip(header.split("\t"), lines[0].split("\t") if lines else (), strict=False):
        if name in job and value.replace(".", "", 1).isdigit():
            job[name] = float(value) * (1 if name in ("s", "cpu_time") else 2**20)  # memory and I/O are in MiB
    return job


def measure_disk(results: str | Path) -> list[dict]:
    """Files and bytes of each kind of artefact, the largest first; a file with two names (hard link) counts once."""
    seen, kinds = set(), defaultdict(lambda: [0, 0])
    for entry in sorted(Path(results).iterdir(), key=lambda path: (path.name.startswith("."), path.name)):
        if entry.name in UNCOUNTED:
            continue
        kind = "tables" if entry.is_file() else entry.name
        for path in [entry] if entry.is_file() else entry.rglob("[!.]*"):  # not what another job is writing
            if path.is_file() and (inode := path.stat()) and (inode.st_dev, inode.st_ino) not in seen:
                seen.add((inode.st_dev, inode.st_ino))
                kinds[kind][0] += 1
                kinds[kind][1] += inode.st_size
    rows = [{"kind": kind, "files": files, "bytes": size} for kind, (files, size) in kinds.items()]
    return sorted(rows, key=lambda row: (-row["bytes"], row["kind"]))


def describe_code(provenance: dict) -> dict:
    """The commit and the versions that decide a result, out of `provenance.json`."""
    versions = {"Python": provenance["python"]}
    versions |= {name: provenance["packages"][name] for name in PACKAGES if name in provenance["packages"]}
    git = provenance["git"]
    commit = git["commit"] if git else "not known to git"
    return {"versions": versions, "commit": commit, "dirty": bool(git and git["dirty"])}


def read_left_out(results: str | Path) -> dict[str, int]:
    """What of the label sheet names nobody, and was left out: utterances by what they name."""
    index = Path(results) / "manifests" / "index.json"
    return read_json(index)["left_out"] if index.is_file() else {}
