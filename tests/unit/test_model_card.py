"""A model card says what the models take, and the table's scores."""

import re

import pytest
from made_provenance import add_provenance
from made_results import METHODS, TARGETS, MadeResults

from ser.config.ablation import Ablation
from ser.files import DataError, read_json, sha256, write_json
from ser.heads.model import build_head
from ser.report.model_card import list_inputs, write_model_cards


@pytest.mark.parametrize("speaker", ["none", "mfcc"])
@pytest.mark.parametrize(
    "settings",
    [
        {"layer": "weighted", "units": [4]},
        {"layer": -1, "units": [4]},
        {"head": "transformer", "units": {"width": 4, "layers": 1, "attention_heads": 1, "feed_forward": 4}},
    ],
    ids=["all layers", "one layer", "frames"],
)
def test_inputs_are_those_of_the_head(settings, speaker):
    fusion = "none" if speaker == "none" else "sum"
    settings = Ablation("e", speaker=speaker, fusion=fusion, training={"dropout": 0.1}, **settings)
    head = build_head(settings, n_layers=5, width=6, label_mean=[4.0], label_sd=[1.0])
    expected = {x.name: [str(size or "frames") for size in x.shape[1:]] for x in head.inputs if x.name != "speaker"}
    told = list_inputs(settings, {"layers": 4, "width": 6})
    listed = re.findall(r"`(\w+)`, \((.*?)\)", told)
    assert {name: re.findall(r"\w+", sizes) for name, sizes in listed} == expected
    assert ("`speaker`: the vector mfcc" in told) == ("speaker" in {x.name for x in head.inputs})


def test_a_card_has_the_scores_of_its_ablation(tmp_path):
    made = MadeResults(tmp_path, methods=[METHODS[2]])
    made.evaluate()
    add_provenance(made)
    card, provenance = made.root / "encoders/demo/card.json", made.root / "provenance.json"
    write_json(card, {"weights": "pretrained", "layers": 4, "width": 6, "revision": None})
    described = read_json(provenance) | {"packages": {"keras": "3.0"}, "git": {"commit": "abc", "dirty": True}}
    described["tables"] = {"ablation_table.csv": sha256(made.root / "ablation_table.csv")}
    for settings in described["ablations"].values():
        settings |= {"layer": "weighted", "units": [4], "training": {"learning_rate": 0.001}}
    write_json(provenance, described)
    paths = {name: str(made.root / f"models/{name}/README.md") for name in made.ablations}
    winners = {"other": str(made.root / "tuning/baseline.json")}
    write_json(winners["other"], {"settings": {"learning_rate": 0.05}})
    protocol, table = made.root / "protocol.json", made.root / "ablation_table.csv"
    write_model_cards(provenance, protocol, table, {"demo": card}, winners, TARGETS, paths)
    text = (made.root / "models/other/README.md").read_text()
    assert "Keras 3.0, commit abc with changes" in text and "revision" not in text and "never trained" not in text
    assert "900 of 60 speakers (train)" in text
    assert '"learning_rate": 0.05' in text  # what tuning found
    rows = [line.split(",") for line in table.read_text().splitlines()]
    places = [rows[0].index(name) for name in ("split", "target", "calibration", "o_ccc", "a_ccc_high")]
    for row in (row for row in rows if row[0] == "other"):
        split, target, calibration, o_ccc, high = (row[place] for place in places)
        scores = rf"{float(o_ccc):.3f} .* {float(high):.3f}\]"
        assert len(re.findall(rf"\| {split} \| {target} \| {re.escape(calibration)} \| \w+ \| {scores} \|", text)) == 1
    hostile = {"weights": "random-init", "architecture": "<script>alert(1)</script>", "base": "a\n\n# b\x1b[2J"}
    write_json(card, read_json(card) | hostile)
    write_model_cards(provenance, protocol, table, {"demo": card}, winners, TARGETS, paths)
    assert "no claim of accuracy" in (made.root / "models/other/README.md").read_text()
    text = (made.root / "models/other/README.md").read_text()
    assert "- architecture: &lt;script&gt;alert(1)&lt;/script&gt;\n- base: a  \\# b\\\\x1b\\[2J\n" in text
    table.write_text(table.read_text().replace("other", "0ther"))
    with pytest.raises(DataError, match="ablation_table.csv: is damaged or was edited"):
        write_model_cards(provenance, protocol, table, {"demo": card}, winners, TARGETS, paths)
