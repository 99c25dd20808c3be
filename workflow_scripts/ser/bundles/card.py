"""The card of a bundle: what it scores and on which labels, how well on validation speakers, and whose terms apply."""

from ser.config.ablation import Ablation
from ser.config.finetuning import describe_method
from ser.formats.utterances import Utterances
from ser.report.model_card import LIMITS, UNTRAINED, describe_encoder
from ser.text import escape_markdown


def describe_labels(labels: Utterances) -> dict:
    """How many training labels there are, of how many speakers, and how each target's lie."""
    spread = {
        target: {
            "mean": float(column.mean()),
            "sd": float(column.std()),
            "low": float(column.min()),
            "high": float(column.max()),
        }
        for target, column in zip(labels.targets, labels.values.T, strict=True)
    }
    return {"utterances": len(labels.ids), "speakers": len(labels.speakers), "targets": spread}


def format_bundle_card(manifest: dict, encoder: dict, choices: list[dict]) -> str:
    """The text of a bundle's README.md; `choices` are those of `choices.json`."""
    settings, training = Ablation.read(manifest["settings"]["ablation"]), manifest["training"]
    targets, notes = manifest["targets"], manifest["notes"]
    untrained = UNTRAINED if encoder["weights"] == "random-init" else ""
    tuned = f"\nIt was trained with each head ({describe_method(settings.finetune)}).\n" if settings.finetune else ""
    labels = "\n".join(
        f"- {target}: mean {own['mean']:.2f}, standard deviation {own['sd']:.2f}, from {own['low']:g} to {own['high']:g}"
        for target, own in training["labels"]["targets"].items()
    )
    return f"""# {manifest["name"]}

Scores {", ".join(targets)} of recordings, from {manifest["label_range"][0]:g} to {manifest["label_range"][1]:g}: ablation
{manifest["ablation"]}, calibration {manifest["calibration"]}, mean over {len(manifest["seeds"])} seeds. For `ser-score`.
{untrained}
## What the scale rests on

{escape_markdown(notes["labels"]) or "The labels of the training corpus, as its listeners gave them."}
{training["labels"]["utterances"]} labelled utterances of {training["labels"]["speakers"]} speakers:

{labels}

The scale is that corpus': a score says what its listeners would have said of speech like that speech. Other
microphones, languages and situations move scores; audio unlike the training audio is flagged.

## Scores on validation speakers

On these speakers the calibration was chosen; rows of test speakers are in the study's `ablation_table.csv` (ablation
{manifest["ablation"]}, calibration {manifest["calibration"]}).

{_format_choices(manifest, choices)}

Intervals hold {manifest["coverage"]:.0%} of the labels of new speakers who are like the validation speakers.

## Speakers

A calibration compares a speaker with training speakers. They are here as vectors and as means and deviations of their
labels, without names and in an order that tells nothing of names. Who has the corpus can find them again by computing the
same vectors: give a bundle to nobody who may not know that they are in it.

## Licences

{escape_markdown(notes["licence"]) or "None was named (config: bundles, licence)."}
The weights derive from the encoder below, whose licence goes with them, and from a corpus, whose terms do.

## Encoder

{chr(10).join(describe_encoder(encoder))}
{tuned}
{LIMITS}"""


def _format_choices(manifest: dict, choices: list[dict]) -> str:
    lines = ["| calibration | seed | target | k | A-CCC |", "|---|---|---|---|---|"]
    bundled = {method["name"] for method in manifest["calibrations"]}
    for choice in choices:
        if choice["calibration"] in bundled and choice["seed"] in manifest["seeds"]:
            lines.append(
                f"| {choice['calibration']} | {choice['seed']} | {choice['target']} | {choice['k']} | {choice['a_ccc']:.3f} |"
            )
    return "\n".join(lines) if len(lines) > 2 else "No calibration was chosen."
