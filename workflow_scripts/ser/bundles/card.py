"""The card of a bundle: what it scores and on which labels, how well on validation speakers, and whose terms apply."""

from ser.config.ablation import Ablation
from ser.config.finetuning import describe_method
from ser.encoders.past import tell_labels
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


def format_bundle_card(manifest: dict, cards: list[dict], choices: list[dict]) -> str:
    """The text of a bundle's README.md; `cards` are of each seed's encoder, `choices` those of `choices.json`."""
    encoder = cards[0]
    lost = [str(seed) for seed, card in zip(manifest["seeds"], cards, strict=True) if not card.get("learned", True)]
    lost = f"- of these, learned nothing when the encoder was trained: {', '.join(lost)}\n" if lost else ""
    settings, training = Ablation.read(manifest["settings"]["ablation"]), manifest["training"]
    targets, notes = manifest["targets"], manifest["notes"]
    untrained = UNTRAINED if encoder["weights"] == "random-init" else ""
    # Of an encoder that was fine-tuned the card says its own labels alone.
    before = manifest["settings"]["encoder"].get("trained_on") or tell_labels(encoder.get("origin"))
    before = f"- trained before on: {escape_markdown(before)}\n" if before else ""
    tuned = f"\nIt was trained with each head ({describe_method(settings.finetune)}).\n" if settings.finetune else ""
    low, high = manifest["label_range"]
    return f"""# {manifest["name"]}

Scores {", ".join(targets)} of recordings, from {low:g} to {high:g}. It is for `ser-score`.

- ablation: {manifest["ablation"]}
- calibration: {manifest["calibration"]}
- seeds, over which scores are averaged: {", ".join(map(str, manifest["seeds"]))}
{lost}{untrained}
## What the scale rests on

{escape_markdown(notes["labels"]) or "The labels of the training corpus, as its listeners gave them."}
{training["labels"]["utterances"]} labelled utterances of {training["labels"]["speakers"]} speakers:

{_format_labels(training["labels"]["targets"])}

The scale is that corpus': a score says what its listeners would have said of speech like that speech. Other
microphones, languages and situations move scores; audio unlike the training audio is flagged.

## Scores on validation speakers

On these speakers the calibration was chosen; rows of test speakers are in the study's `ablation_table.csv` (ablation
{manifest["ablation"]}, calibration {manifest["calibration"]}).

{_format_choices(manifest, choices)}

Intervals hold {manifest["coverage"]:.0%} of the labels of new speakers who are like the validation speakers.

## Speakers

A calibration compares a speaker with training speakers. They are here as vectors and as means and deviations of their
labels, without names and in an order that tells nothing of names. Who has the corpus can find them again by computing
the same vectors: give a bundle to nobody who may not know that they are in it.

## Licences

{escape_markdown(notes["licence"]) or "None was named (config: bundles, licence)."}
The weights derive from the encoder below, whose licence goes with them, and from a corpus, whose terms do.

## Encoder

{chr(10).join(describe_encoder(encoder))}
{before}{tuned}
{LIMITS}"""


def _format_labels(targets: dict[str, dict]) -> str:
    lines = ["| target | mean | standard deviation | lowest | highest |", "|---|---|---|---|---|"]
    for target, own in targets.items():
        lines.append(f"| {target} | {own['mean']:.2f} | {own['sd']:.2f} | {own['low']:g} | {own['high']:g} |")
    return "\n".join(lines)


def _format_choices(manifest: dict, choices: list[dict]) -> str:
    """The A-CCC of each calibration with what was chosen, averaged over seeds."""
    lines = ["| calibration | target | A-CCC |", "|---|---|---|"]
    for name in (method["name"] for method in manifest["calibrations"]):
        for target in manifest["targets"]:
            key = name, target
            own = [c for c in choices if (c["calibration"], c["target"]) == key and c["seed"] in manifest["seeds"]]
            if own:
                lines.append(f"| {name} | {target} | {sum(c['a_ccc'] for c in own) / len(own):.3f} |")
    return "\n".join(lines) if len(lines) > 2 else "No calibration was chosen."
