"""What the report draws of encoders that were fine-tuned."""

from ser.report.datasets import collect_training
from ser.report.summary import list_cautions


def test_a_fine_tuned_encoder_has_measures_of_its_own(tmp_path):
    """Its loss is no cross-entropy; its CCC of each target is in the head's history."""
    logs = {"papt": "loss,accuracy\n8,train,3.5,0.1\n", "finetuned/ft/seed-2": "loss,ccc,valence_ccc\n"}
    logs["finetuned/ft/seed-2"] += "4,train,0.9,0.1,0.2\n8,validation,0.8,0.2,0.3\n"
    paths = {}
    for number, (name, text) in enumerate(logs.items()):
        paths[name] = str(tmp_path / f"{number}.csv")
        (tmp_path / f"{number}.csv").write_text(f"step,split,{text}")
    curves, measures = collect_training(paths)
    assert measures == ["loss", "accuracy", "loss, fine-tuning", "ccc, fine-tuning"]
    tuned = "finetuned/ft/seed-2"
    assert curves.groups["ccc, fine-tuning"] == [[tuned] * 2, ["train", "validation"], [4, 8], [0.1, 0.2]]
    assert curves.groups["loss"] == [["papt"], ["train"], [8], [3.5]]


def test_seeds_that_learned_nothing_are_said():
    cells = [{"ablation": name, "split": "test", "n_speakers": 20} for name in ("frozen", "ft")]
    cells[0]["encoder"], cells[1]["encoder"] = "demo", "demo (fine-tuned; seed 2, 3 learned nothing)"
    assert list_cautions(cells, {}, [1, 2, 3], 0) == [
        "In fine-tuning ft, seed 2, 3 learned nothing; the figures are averaged over all seeds."
    ]
