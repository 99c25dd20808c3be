"""Why did the ablation table change?

Compares two runs, each a results folder or a summary that was saved of one: the inputs that differ (audio, labels,
encoder weights, config, code, package versions) and the cells that do, with the change as a share of half the width
of the first run's interval and the inputs that can account for it.

    python workflow_scripts/compare.py --save before.json results
    python workflow_scripts/compare.py before.json results
"""

import argparse
import json
import sys
from dataclasses import asdict

from ser.files import DataError, write_json
from ser.text import clean
from ser.tracing.comparison import KEY, compare, read_summary
from ser.tracing.comparison_text import format_comparison


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a results folder, or a saved summary of one")
    parser.add_argument("--save", metavar="FILE", help="save the summary of one run, and compare nothing")
    parser.add_argument("--json", action="store_true", help="print JSON, with every input and cell")
    arguments = parser.parse_args()
    if len(arguments.runs) != (1 if arguments.save else 2):
        parser.error("expected one RUN with --save" if arguments.save else "expected two RUNs")
    try:
        summaries = [read_summary(run) for run in arguments.runs]
    except (DataError, FileNotFoundError) as error:
        sys.exit(clean(str(error)))
    if arguments.save:
        write_json(arguments.save, summaries[0])
        return
    changes, differences = compare(*summaries)
    if arguments.json:
        described = {"changes": list(map(asdict, changes)), "cells": list(map(asdict, differences))}
        print(json.dumps(described, indent=1, default=sorted))
    else:
        cells = {tuple(row[name] for name in KEY) for run in summaries for row in run["table"]}
        print(clean(format_comparison(changes, differences, len(cells))))


if __name__ == "__main__":
    main()
