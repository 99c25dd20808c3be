"""All benchmarks that take a minute or two each, one after the other; each has its baseline in the same run.

    python benchmarks/all.py [NAME ...]

Left out, because they take longer: adapt.py (large), rebuild.py (265,000 files), report.py (as many) and overhead.py.
"""

import argparse
import subprocess
import sys
from pathlib import Path

RUNS = {
    "measure_audio": ["--repetitions", "3"],
    "embed": [],
    "train": ["--ablations", "1"],
    "evaluate": [],
    "reuse": ["--utterances", "400"],
    "growth": [],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(RUNS)}; all if none is named")
    names = parser.parse_args().names or list(RUNS)
    if unknown := sorted(set(names) - set(RUNS)):
        parser.error(f"there is no {', '.join(unknown)}; choose from {', '.join(RUNS)}")
    for name in names:
        print(f"\n== {name} {' '.join(RUNS[name])}", flush=True)
        script = Path(__file__).with_name(f"{name}.py")
        # What libraries have to say goes to standard error: not shown unless the script fails.
        run = subprocess.run([sys.executable, script, *RUNS[name]], stderr=subprocess.PIPE, text=True)
        if run.returncode:
            sys.exit(run.stderr[-5000:])


if __name__ == "__main__":
    main()
