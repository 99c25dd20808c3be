"""What a config may say of fine-tuning, and what is refused before any work."""

from pathlib import Path

import pytest
import yaml

from ser.config.ablations import resolve_ablations
from ser.config.finetuning import check_encoder, check_size, describe_method
from ser.config.schema import check
from ser.config.tuning_grid import resolve_tuned
from ser.evaluation.tables import describe_encoder
from ser.files import DataError, write_json

ROOT = Path(__file__).parents[2]
SCHEMA = ROOT / "rules" / "config.schema.yaml"
SMALLEST = {
    "corpus": {"folder": "x"},
    "encoders": {"e": {"base": "b"}, "inner": {"base": "b", "frames_layer": 6}},
    "baseline": "a",
}


def resolve(*ablations, **sections):
    return resolve_ablations(check(SMALLEST | sections | {"ablations": [{"name": "a"}, *ablations]}, SCHEMA))


def test_the_defaults_are_the_papers():
    ablation = resolve({"name": "ft", "finetune": {}})["ft"]
    settings = ablation.finetune
    paper = {"method": "whole", "learning_rate": 5e-5, "weight_decay": 1e-4, "batch_size": 32, "clip": 1}
    paper |= {"epochs": 30, "patience": 3, "crop_seconds": 250_000 / 16_000, "dropout": 0.1}
    assert paper.items() <= settings.items() and not {"rank", "layers"} & settings.keys()
    assert ablation.layer == -1 and ablation.training["dropout"] == 0.1
    assert resolve()["a"].finetune is None


def test_an_ablation_says_what_differs_for_it_and_keeps_what_has_a_meaning():
    shared = {"epochs": 5, "rank": 4}
    made = resolve(
        {"name": "lora", "finetune": {"method": "lora"}, "layer": "weighted"},
        {"name": "top", "finetune": {"method": "top", "layers": 2, "learning_rate": 0.001}},
        finetuning=shared,
    )
    assert made["lora"].finetune["rank"] == 4 and made["lora"].layer == "weighted"
    assert made["top"].finetune["layers"] == 2 and made["top"].finetune["learning_rate"] == 0.001
    assert all(made[name].finetune["epochs"] == 5 for name in ("lora", "top"))
    assert [describe_method(made[name].finetune) for name in ("lora", "top")] == ["lora 4", "top 2 layers fine-tuned"]


def test_settings_of_the_heads_do_not_train_it_anew():
    one, other = (resolve({"name": "ft", "finetune": {}}, training={"epochs": n})["ft"] for n in (5, 6))
    assert one == other


@pytest.mark.parametrize(
    ("ablation", "message"),
    [
        ({"layer": 3}, "layer is 3, but finetune trains"),
        ({"training": {"epochs": 3}}, "training does not go with finetune; its settings are those of finetuning"),
        ({"outputs": "separate"}, "outputs does not go with finetune; one encoder .*corpus.targets"),
        ({"tuned": "a"}, "tuned does not go with finetune"),
        ({"finetune": {"layers": 2}}, "finetune: layers has a meaning with method top alone"),
        ({"finetune": {"method": "top", "rank": 2}}, "finetune: rank has a meaning with method lora alone"),
        (
            {"head": "transformer", "normalise": "speaker"},
            "beside finetune, normalise is of features averaged over time",
        ),
        ({"head": "transformer", "fusion": "attention"}, "attention looks at utterances averaged over time"),
        ({"encoder": "inner", "head": "transformer"}, r"encoders.inner.frames_layer is 6; set it to -1"),
    ],
)
def test_what_makes_no_sense_is_refused(ablation, message):
    with pytest.raises(DataError, match=f"ablations: 'ft':? ?.*{message}"):
        resolve({"name": "ft", "finetune": {}} | ablation)


def test_an_encoder_that_does_not_move_needs_a_step_size_of_the_head():
    still = {"name": "ft", "finetune": {"learning_rate": 0}}
    for shared, ablation in (({}, still), ({"learning_rate": 0}, {"name": "ft", "finetune": {}})):
        with pytest.raises(DataError, match="'ft': finetune: learning_rate is 0, .* set head_learning_rate"):
            resolve(ablation, finetuning=shared)
    assert resolve(still, finetuning={"head_learning_rate": 0.001})["ft"].finetune["learning_rate"] == 0


def test_a_step_size_that_decays_needs_all_epochs():
    decays = {"name": "ft", "finetune": {"decay": True}}
    for shared, patience in (({}, 3), ({"epochs": 9, "patience": 8}, 8)):
        with pytest.raises(DataError, match=f"'ft': finetune: with decay .* but patience {patience} may end"):
            resolve(decays, finetuning=shared)
    assert resolve(decays, finetuning={"epochs": 3})["ft"].finetune["decay"]


def test_a_head_that_reads_averages_may_know_other_utterances_of_the_speaker():
    made = resolve({"name": "ft", "finetune": {}, "normalise": "speaker", "enrolment": 5, "fusion": "attention"})["ft"]
    assert (made.normalise, made.enrolment, made.attended, made.layer) == ("speaker", 5, 5, -1)


@pytest.mark.parametrize(
    ("finetune", "message"),
    [
        ({"method": "prompt"}, "'prompt' is not one of"),
        ({"batch_size": 4}, "4 is less than the minimum of 8"),
        ({"learning_rate": -1}, "less than the minimum"),
        ({"layer": 2}, "there is no key 'layer'; did you mean 'layers'"),
    ],
)
def test_values_that_cannot_be_are_named(finetune, message):
    with pytest.raises(DataError, match=message):
        resolve({"name": "ft", "finetune": finetune})


def test_an_encoder_that_is_too_small_is_named(tmp_path):
    write_json(tmp_path / "config.json", {"num_hidden_layers": 6, "hidden_size": 192})
    made = resolve(
        {"name": "top", "finetune": {"method": "top", "layers": 7}},
        {"name": "lora", "finetune": {"method": "lora", "rank": 193}},
        {"name": "fits", "finetune": {"method": "top", "layers": 6}},
    )
    check_encoder("fits", made["fits"], tmp_path)
    with pytest.raises(DataError, match="'top': finetune: layers is 7, but encoder 'e' has 6"):
        check_encoder("top", made["top"], tmp_path)
    with pytest.raises(DataError, match="'lora': finetune: rank is 193, above the width of encoder 'e', 192"):
        check_encoder("lora", made["lora"], tmp_path)


def test_a_training_split_that_fills_no_batch_is_refused():
    ablation = resolve({"name": "ft", "finetune": {}})["ft"]
    check_size("ft", ablation, 32)
    with pytest.raises(DataError, match="has 31 utterances, fewer than a batch; set finetuning: batch_size to 31"):
        check_size("ft", ablation, 31)


def test_heads_cannot_take_settings_of_a_fine_tuned_ablation():
    made = resolve({"name": "ft", "finetune": {}}, {"name": "b", "tuned": "ft"})
    with pytest.raises(DataError, match="tuned is 'ft', which is fine-tuned"):
        resolve_tuned(made, {"dropout": [0.1, 0.2]})


@pytest.mark.parametrize("study", sorted((ROOT / "studies").glob("*.yaml")), ids=lambda path: path.stem)
def test_studies_are_valid(study):
    resolve_ablations(check(yaml.safe_load(study.read_text()), SCHEMA))


def test_the_table_names_the_method_and_the_seeds_that_learned_nothing(tmp_path):
    made = resolve(
        {"name": "ft", "finetune": {}},
        {"name": "ft-2", "finetune": {"method": "lora"}},
        {"name": "top", "finetune": {"method": "top"}},
    )
    cards = {"e": tmp_path / "e.json"}
    write_json(cards["e"], {"weights": "pretrained"})
    for name in ("ft", "ft-2", "top"):
        for seed in (1, 2, 3):
            encoder = f"finetuned/{name}/seed-{seed}"
            cards[encoder] = tmp_path / f"{name}-{seed}.json"
            write_json(cards[encoder], {"seed": seed, "learned": name != "ft-2" or seed == 1})
    assert describe_encoder("a", made["a"], cards) == "e"
    assert describe_encoder("ft", made["ft"], cards) == "e (fine-tuned)"
    assert describe_encoder("ft-2", made["ft-2"], cards) == "e (lora 8; seed 2, 3 learned nothing)"
    write_json(cards["e"], {"weights": "random-init"})
    assert describe_encoder("top", made["top"], cards) == "e (random-init; top 4 layers fine-tuned)"
