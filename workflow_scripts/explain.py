"""Where does a figure of the ablation table come from?

Prints everything that made one cell: its figures, checked against the predictions and labels; the config, encoder,
corpus, files with their hashes, k, alpha and neighbours of each speaker; code, versions, commit; and the command that
makes what it is computed from.

    python workflow_scripts/explain.py --ablation mfcc-sum --calibration mu_sigma --target arousal --split test
"""

import argparse
import json
import sys

from ser.files import DataError
from ser.text import clean
from ser.tracing.explanation import KEY, explain_cell
from ser.tracing.explanation_text import format_explanation


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in KEY:
        parser.add_argument(f"--{name}", required=True, help=f"the cell's {name}, as in results/ablation_table.csv")
    parser.add_argument("--results", default="results", help="the results folder (default: results)")
    parser.add_argument("--json", action="store_true", help="print JSON, with every neighbour and package")
    arguments = vars(parser.parse_args())
    as_json = arguments.pop("json")
    try:
        explained = explain_cell(**arguments)
    except (DataError, FileNotFoundError) as error:
        sys.exit(clean(str(error)))
    print(json.dumps(explained, indent=1) if as_json else clean(format_explanation(explained)))


if __name__ == "__main__":
    main()
