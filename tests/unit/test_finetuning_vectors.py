"""Whether a fine-tuned row trains the vectors of its personalised encoder's speakers: what a config may say."""

from pathlib import Path

import pytest

from ser.config.ablations import resolve_ablations
from ser.config.schema import check
from ser.files import DataError

SCHEMA = Path(__file__).parents[2] / "rules" / "config.schema.yaml"
ENCODERS = {"e": {"base": "b"}, "papt": {"base": "b", "adaptation": "papt"}}
ENCODERS["first"] = ENCODERS["papt"] | {"position": "first"}


def resolve(ablation, **shared):
    ablations = [{"name": "a"}, {"name": "ft"} | ablation]
    config = {"corpus": {"folder": "x"}, "encoders": ENCODERS, "baseline": "a", "finetuning": shared}
    return resolve_ablations(check(config | {"ablations": ablations}, SCHEMA))["ft"].finetune["vectors"]


def test_they_stay_unless_told_otherwise():
    assert resolve({"encoder": "papt", "finetune": {}}) == "frozen"
    assert resolve({"encoder": "papt", "finetune": {"vectors": "tuned"}}) == "tuned"
    assert resolve({"encoder": "first", "finetune": {}}, vectors="tuned") == "tuned"
    assert resolve({"finetune": {}}, vectors="tuned") == "frozen"  # has none


@pytest.mark.parametrize(
    ("ablation", "message"),
    [
        (
            {"finetune": {"vectors": "tuned"}},
            "'ft': finetune: vectors has a meaning with an encoder of adaptation papt",
        ),
        ({"encoder": "typo", "finetune": {"vectors": "tuned"}}, "'ft': encoder 'typo' is not under encoders: e, papt"),
        (
            {"encoder": "first", "finetune": {"vectors": "tuned", "method": "lora"}},
            "before the first layer .position: first., where method lora trains nothing; take method whole",
        ),
    ],
)
def test_where_it_makes_no_sense_it_is_refused(ablation, message):
    with pytest.raises(DataError, match=message):
        resolve(ablation)
