"""What the workflow adds to the work: the demo by Snakemake against the same functions called in one process.

    python benchmarks/overhead.py [--cores 2] [--epochs 60]

Snakemake runs the demo's config in an empty folder. Then one Python process carries out the same scripts with the same
arguments, one after the other in the same order, so that everything is imported once. Wall seconds depend on what else
the machine does; processor seconds hardly do.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
ALL_IN_ONE = """
import os, runpy, sys, time, traceback
import tensorboard.compat
tensorboard.compat.tf2.summary  # TensorFlow's, before adaptation, which needs none, asks TensorBoard for its substitute
errors = os.dup(2)  # a script's log takes over standard output and errors
for script in sys.argv[1:]:
    started = time.perf_counter(), time.process_time()
    try:
        runpy.run_path(script, run_name="__main__")
    except BaseException:
        os.write(errors, f"{script}: {traceback.format_exc()}".encode())
        os._exit(1)
    wall, processor = time.perf_counter() - started[0], time.process_time() - started[1]
    with open("one_process.txt", "a") as file:
        print(script.split(".")[-2], wall, processor, file=file)
"""


def run(command: list, folder: Path) -> tuple[float, float]:
    """Wall and processor seconds of a command and its children."""
    started, before = time.perf_counter(), os.times()
    with open(folder / "output.txt", "w") as output:
        code = subprocess.run(list(map(str, command)), cwd=folder, stdout=output, stderr=subprocess.STDOUT).returncode
    if code:
        sys.exit((folder / "output.txt").read_text()[-5000:])
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return time.perf_counter() - started, used


def read_benchmarks(folder: Path) -> dict[str, list[float]]:
    """Wall seconds of the jobs of each rule, as Snakemake took them."""
    seconds = defaultdict(list)
    for path in sorted((folder / "results" / "benchmarks").rglob("*.tsv")):
        rule = path.relative_to(folder / "results" / "benchmarks").parts[0].removesuffix(".tsv")
        seconds[rule].append(float(path.read_text().splitlines()[1].split("\t")[0]))
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cores", type=int, default=os.cpu_count())
    parser.add_argument("--epochs", type=int, help="other than the demo's")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "demo").symlink_to(ROOT / "demo")
        config = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
        if options.epochs:
            config["training"]["epochs"] = options.epochs
        (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
        snakemake = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--cores", options.cores]
        workflow = run([*snakemake, "--skip-script-cleanup"], folder)
        print(f"workflow, {options.cores} cores: {workflow[0]:6.1f} s, {workflow[1]:6.1f} s of processor", flush=True)
        by_rule = read_benchmarks(folder)
        scripts = sorted((folder / ".snakemake" / "scripts").glob("*.py"), key=lambda path: path.stat().st_mtime_ns)
        shutil.rmtree(folder / "results" / ".reuse")
        one = run([sys.executable, "-c", ALL_IN_ONE, *scripts], folder)
        print(f"in one process:    {one[0]:6.1f} s, {one[1]:6.1f} s of processor, {len(scripts)} jobs")
        print(f"workflow / one process: wall {workflow[0] / one[0]:.2f}, processor {workflow[1] / one[1]:.2f}")
        alone = defaultdict(list)
        for line in (folder / "one_process.txt").read_text().splitlines():
            script, wall, _ = line.split()
            alone[script].append(float(wall))
        print(f"\n{'rule':24} {'jobs':>5} {'s each':>8} {'in one process':>16}")
        for rule, seconds in by_rule.items():
            inside = sum(alone[rule]) / max(1, len(alone[rule]))
            print(f"{rule:24} {len(seconds):5} {sum(seconds) / len(seconds):8.2f} {inside:16.2f}")


if __name__ == "__main__":
    main()
