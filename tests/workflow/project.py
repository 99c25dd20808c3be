"""A small project of its own folder, on which the tests run the whole workflow as a user would."""

import contextlib
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import yaml
from made_corpus import make_corpus, read_sheet, write_sheet
from safetensors.numpy import load_file, save_file

REPOSITORY = Path(__file__).parents[2]
CHECKOUT = ("Snakefile", "rules", "workflow_scripts", "envs", "profiles")
PLACES = ("ablation", "encoder", "split", "shard")  # order of the wildcards in a job's name

# Each run is forked from a process that has imported Snakemake and what this imports later: that takes longer than a
# plan. It must not have imported `ser`, which is the project's own.
PLUGINS = str(Path(__file__).parent / "plugins")
sys.path.insert(0, PLUGINS)
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["snakemake.cli", "snakemake.report.html_reporter", "smart_open", "jsonschema", "project"])

# Their shards, by SHA-256 of "train 0" and so on: train 0 1 0 1 1 0, validation 0 1, test 0 0 0 0 1.
SPEAKERS = {"train": 6, "validation": 2, "test": 5}

CONFIG = {
    "corpus": {"folder": "corpus", "shards": 2, "groups": ["gender"]},
    "encoders": {
        "framed": {"base": "encoders/framed", "threads": 1},
        "plain": {"base": "encoders/plain", "threads": 1},
    },
    "ablations": [
        {"name": "base", "encoder": "plain", "layer": "weighted"},
        {"name": "fused", "encoder": "framed", "head": "transformer", "speaker": "mfcc", "fusion": "sum"},
    ],
    "baseline": "base",
    "seeds": [1],
    "heads": {"mlp": [8], "transformer": {"width": 8, "layers": 1, "attention_heads": 2, "feed_forward": 8}},
    "training": {"epochs": 2, "batch_size": 16},
    "calibration": {
        "methods": [
            {"name": "mu_sigma"},
            {"name": "mfcc", "similarity": "mfcc"},
            {"name": "enrol", "enrolment": 2},
            {"name": "labels", "enrolment": 1, "enrolment_labels": True},
        ],
        "k": [1, 2],
        "enrolment_draws": 1,
        "min_reference_utterances": 1,
    },
    "evaluation": {"bootstrap_draws": 100, "min_utterances": 2},
}


def with_report(jobs: set[str]) -> set[str]:
    """The report shows every result: it is made anew with whatever else is."""
    return jobs | {"report"} if jobs else jobs


def run_snakemake(arguments: list[str], folder: Path, environment: dict) -> subprocess.CompletedProcess:
    """What `snakemake ARGUMENTS` does in a folder, without the wait for its imports."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        names = [f"/proc/{os.getpid()}/fd/{file.fileno()}" for file in (out, err)]
        process = FORKS.Process(target=_snakemake, args=(arguments, folder, dict(environment), names))
        process.start()
        process.join()
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(["snakemake", *arguments], process.exitcode, out.read(), err.read())


def _snakemake(arguments: list[str], folder: Path, environment: dict, outputs: list[str]) -> None:
    for number, name in enumerate(outputs, 1):
        os.dup2(os.open(name, os.O_WRONLY), number)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    tempfile.tempdir = None  # TMPDIR may be another
    sys.argv = ["snakemake", *arguments]
    from snakemake.cli import main

    main(arguments)


class Project:
    """A working folder with a corpus, encoders and a config, and a checkout of the workflow that is not that folder."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.checkout = folder / "checkout"
        self.work = folder / "work"
        self.corpus = self.work / "corpus"

    def make(self) -> "Project":
        self.checkout.mkdir(parents=True)
        for name in CHECKOUT:
            source = REPOSITORY / name
            if source.is_dir():
                shutil.copytree(source, self.checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(source, self.checkout / name)
        make_corpus(self.corpus, speakers=SPEAKERS)
        rows = [row | {"gender": "fm"[int(row["speaker"][-1]) % 2]} for row in read_sheet(self.corpus)]
        write_sheet(self.corpus, rows)
        for name in CONFIG["encoders"]:
            shutil.copytree(REPOSITORY / "demo" / "encoder", self.work / "encoders" / name)
            self.scale_encoder(name, 1.0 if name == "framed" else 0.9)
        self.config = CONFIG
        return self

    def copy(self, folder: Path, *left_out: str) -> "Project":
        """This project in another folder: results and what Snakemake knows of them too, unless left out."""
        shutil.copytree(self.folder, folder, ignore=shutil.ignore_patterns(*left_out))
        return Project(folder)

    @property
    def config(self) -> dict:
        return yaml.safe_load((self.work / "config.yaml").read_text(encoding="utf-8"))

    @config.setter
    def config(self, config: dict) -> None:
        (self.work / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")

    @contextlib.contextmanager
    def configure(self):
        """Yield the config to be changed, and write it."""
        config = self.config
        yield config
        self.config = config

    def scale_encoder(self, name: str, factor: float) -> None:
        """Other weights for an encoder."""
        path = self.work / "encoders" / name / "model.safetensors"
        weights = {key: value * factor for key, value in load_file(path).items()}
        save_file(weights, path, metadata={"format": "pt"})

    def run(
        self, *arguments: str, cores: int = 2, check: bool = True, snakefile: Path | None = None
    ) -> subprocess.CompletedProcess:
        snakefile = snakefile or self.checkout / "Snakefile"
        command = ["--snakefile", snakefile, "--directory", self.work, "--cores", cores]
        command += ["--logger", "jobs", "--nocolor", *arguments]
        jobs = self.folder / "jobs.jsonl"
        jobs.write_text("")
        environment = {"PYTHONPATH": PLUGINS} | os.environ | {"JOBS_FILE": str(jobs)}
        done = run_snakemake(list(map(str, command)), self.folder, environment)
        if check and done.returncode:
            pytest.fail(f"{done.args} failed:\n{done.stdout}{done.stderr}")
        self.reasons = {}
        for line in jobs.read_text(encoding="utf-8").splitlines():
            job = json.loads(line)
            names = [job["wildcards"][place] for place in PLACES if place in job["wildcards"]]
            self.reasons[" ".join([job["rule"], *names])] = job["reason"]
        self.reasons.pop("all", None)
        return done

    def plan(self, *arguments: str) -> set[str]:
        """The jobs that Snakemake would run: `rule ablation encoder split shard`, as far as the rule has these."""
        self.run("--dry-run", *arguments)
        return set(self.reasons)

    def build(self, *arguments: str, cores: int = 2) -> set[str]:
        """Run, and return the jobs that ran."""
        self.run(*arguments, cores=cores)
        return set(self.reasons)

    def expect(self, jobs: set[str]) -> None:
        """Check that these jobs are planned, that exactly they run, and that nothing is left to do then."""
        self.expect_plan(jobs)
        jobs = with_report(jobs)
        ran = self.build()
        assert ran == jobs, self._explain(jobs, ran)
        left = self.plan()
        assert not left, f"still to do after the run: {self.reasons}"

    def expect_plan(self, jobs: set[str]) -> None:
        jobs, planned = with_report(jobs), self.plan()
        assert planned == jobs, self._explain(jobs, planned)

    def _explain(self, expected: set[str], found: set[str]) -> str:
        superfluous = {job: self.reasons[job] for job in sorted(found - expected)}
        return f"missing: {sorted(expected - found)}; superfluous: {superfluous}"

    def list_checkout(self) -> set[tuple[str, int]]:
        """The files of the checkout with their modification times, but for Python's own."""
        paths = [path for path in self.checkout.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
        return {(str(path), path.stat().st_mtime_ns) for path in paths}

    def artefacts(self) -> dict[str, bytes]:
        """The content of everything that the workflow makes, but logs, benchmarks, the report and its own notes."""
        results = self.work / "results"
        paths = [path for path in sorted(results.rglob("*")) if path.is_file()]
        names = {path.relative_to(results): path for path in paths}
        left_out = ("logs", "benchmarks", ".reuse", "report.html")  # the report tells what jobs cost
        kept = {name: path for name, path in names.items() if name.parts[0] not in left_out}
        return {str(name): path.read_bytes() for name, path in kept.items() if "digests" not in name.name}
