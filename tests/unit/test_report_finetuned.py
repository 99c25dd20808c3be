"""What the report draws of encoders that were fine-tuned."""

from ser.report.datasets import collect_training


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
