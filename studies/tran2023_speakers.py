"""Write the speakers of the paper's splits, for `corpus.speaker_splits` of studies/tran2023.yaml.

    python studies/tran2023_speakers.py MSP-PODCAST/Labels/labels_consensus.csv runs/tran2023/speakers.csv

Validation and test speakers are those that draft code of the paper lists, by their numbers in MSP-Podcast; speakers of
the sheet's own training split who are in none of these lists train. With release 1.6 they are the paper's, with a
later one more. Speaker 135, whom the draft has in training and validation, validates; of the 63 of test-c the paper
counts 62.
"""

import argparse
import csv
from pathlib import Path

LISTS = {
    "validation": """
        127 128 26 43 45 314 51 54 97 169 98 167 110 124 146 116 184 451 679 149 210 471 350 235 237 270 288 287 315 335
        316 743 733 749 750 762 764 765 772 766 135""",
    "test-b": """
        134 150 23 7 133 94 170 148 80 4 19 20 2 143 5 130 60 28 131 132 36 141 8 39 33 16 162 164 30 9 18 27 22 155 17
        32 160 42 59 159 152 151 81 63 35 53 95 34 29 96""",
    "test-c": """
        747 505 504 1106 1107 1105 1108 1110 1109 1114 1112 1113 1115 1121 1122 1129 1123 1126 1125 1127 1130 1116 1169
        1168 1170 1172 1171 1173 1117 1118 1133 1132 1131 1242 1136 1135 1134 1138 1137 1087 1088 1089 1092 1091 1090
        746 1177 1176 1141 1140 1155 1154 1156 1139 1259 1158 1157 1159 1174 1200 1198 1196 1197""",
}
SPLITS = {speaker: split for split, speakers in LISTS.items() for speaker in speakers.split()}


def list_speakers(sheet: Path) -> list[tuple[str, str]]:
    """(speaker, split) of those in a sheet of MSP-Podcast who are in a split of the paper, in order of number."""
    with open(sheet, newline="", encoding="utf-8-sig") as file:
        sets = {(row["SpkrID"].strip(), row["Split_Set"].strip()) for row in csv.DictReader(file)}
    heard = {speaker for speaker, _ in sets}
    training = {speaker for speaker, own in sets if own == "Train" and speaker.isdigit()}
    found = dict.fromkeys(training, "train") | {name: split for name, split in SPLITS.items() if name in heard}
    return sorted(found.items(), key=lambda row: int(row[0]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sheet", type=Path, help="the release's label sheet")
    parser.add_argument("out", type=Path, help="the CSV file to write")
    options = parser.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with open(options.out, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([("speaker", "split"), *list_speakers(options.sheet)])
