"""Model cards: what the trained heads of an ablation are, how well they do, and what they are not for."""

import json

from ser.config.ablation import Ablation
from ser.config.finetuning import describe_method, name_encoder
from ser.config.tuning_grid import apply_winner
from ser.files import check_digests, read_json, write_text
from ser.formats.csv_files import read_rows
from ser.text import escape_markdown

FRONT = """---
library_name: keras
tags: [speech-emotion-recognition, regression, valence-arousal-dominance]
---
"""
UNTRAINED = "\n**The encoder's weights were never trained: these scores are no claim of accuracy.**\n"
LIMITS = """## Limits

- The labels are what listeners of one corpus perceived, not what speakers felt. Do not decide about people with them.
- The scores hold for speakers like those of the test splits; how much they differ between speakers is in
  `results/speaker_table.csv`.
- A calibration needs the predictions of a speaker's other utterances, and the training speakers' label statistics.
"""


def write_model_cards(
    provenance: str,
    protocol: str,
    table: str,
    cards: dict[str, str],
    winners: dict[str, str],
    targets: list[str],
    paths: dict[str, str],
) -> None:
    """Write a README.md beside the models of each ablation.

    Args:
        provenance, protocol, table: `provenance.json`, `protocol.json` and `ablation_table.csv` of the run
        cards: the card of each encoder, the fine-tuned ones among them
        winners: what tuning found best, of each ablation that is `tuned`
        paths: the card to write of each ablation
    """
    made, splits = read_json(provenance), read_json(protocol)["splits"]
    check_digests([table], made.get("tables", {}), provenance)
    rows = read_rows(table)
    for ablation, path in paths.items():
        settings = Ablation.read(made["ablations"][ablation])
        if ablation in winners:
            settings = apply_winner(settings, winners[ablation])
        own = [row for row in rows if row["ablation"] == ablation]
        encoder = read_json(cards[settings.encoder])
        tuned = {name: read_json(file) for name, file in cards.items() if name.startswith(name_encoder(ablation, ""))}
        write_text(path, format_card(ablation, settings, encoder, tuned, made, splits, own, targets))


def format_card(
    ablation: str,
    settings: Ablation,
    encoder: dict,
    tuned: dict[str, dict],
    made: dict,
    splits: dict,
    rows: list[dict],
    targets: list[str],
) -> str:
    """The text of a card; `tuned` are the cards of its fine-tuned encoders, `rows` the ablation's of the table."""
    git = made["git"]
    commit = f", commit {git['commit']}{' with changes' if git['dirty'] else ''}" if git else ""
    sizes = ", ".join(f"{n['utterances']} of {n['speakers']} speakers ({name})" for name, n in splits.items())
    untrained = UNTRAINED if encoder["weights"] == "random-init" else ""
    return f"""{FRONT}
# {ablation}

Predicts {", ".join(targets)} of an utterance from the features of a speech encoder. One Keras model a seed
(`seed-*/model.keras`), made with Keras {made["packages"]["keras"]}{commit}.
{untrained}
## Inputs and outputs

{list_inputs(settings, encoder)}
- out: `labels`, ({len(targets)},), in the order {", ".join(targets)}; `fused`, what calibration compares

```python
import keras
import ser.heads.model  # in workflow_scripts/: the model's own layers

model = keras.saving.load_model("seed-{made["config"]["seeds"][0]}/model.keras", compile=False, safe_mode=True)
```

## Training

Labelled utterances: {sizes}.
No speaker is in two splits; training stopped on validation speakers.

```json
{json.dumps(settings.to_dict(), indent=1)}
```

## Encoder

{chr(10).join(describe_encoder(encoder))}
{format_past(rows)}{format_tuning(settings, tuned)}
## Scores

Means over {len(made["config"]["seeds"])} seeds, with 95 % bootstrap intervals over speakers.

{format_scores(rows)}

{LIMITS}"""


def describe_encoder(card: dict) -> list[str]:
    """An encoder's card as lines of Markdown: it may come from elsewhere, and is shown as text."""
    shown = {key: value for key, value in card.items() if value is not None and key != "origin"}
    return [f"- {escape_markdown(key)}: {escape_markdown(value)}" for key, value in shown.items()]


def format_past(rows: list[dict]) -> str:
    """What the encoder was trained on before, as the config says; nothing where it says nothing."""
    said = {row.get("encoder_trained_on") for row in rows} - {None, ""}
    return "".join(f"- trained before on: {escape_markdown(text)}\n" for text in sorted(said))


def format_tuning(settings: Ablation, tuned: dict[str, dict]) -> str:
    """What fine-tuning made of the encoder, seed by seed; nothing where it stayed as it was."""
    if not tuned:
        return ""
    lines = ["| encoder | epoch | validation CCC | |", "|---|---|---|---|"]
    for name, card in tuned.items():
        said = "" if card["learned"] else "learned nothing"
        lines.append(f"| `results/{name}` | {card['epoch']} | {card['validation_ccc']:.3f} | {said} |")
    table = "\n".join(lines)
    return f"""
Then it was trained with each head ({describe_method(settings.finetune)}), which reads that encoder's features alone.

{table}
"""


def list_inputs(settings: Ablation, encoder: dict) -> str:
    """The inputs of an ablation's models, as `heads.build_head` names them."""
    layers, width = encoder["layers"], encoder["width"]
    if settings.reads_frames:
        rate = encoder.get("frame_rate", 50)
        lines = [f"- `features`, (frames, {width}): one layer at {rate} Hz, padded; `n_frames`, (1,): those that count"]
    elif settings.layer == "weighted":
        lines = [f"- `features`, ({layers + 1}, {width}): each layer's output, averaged over time"]
    else:
        which = "the encoder's output" if settings.finetune else f"output of layer {settings.layer}"
        lines = [f"- `features`, ({width},): {which}, averaged over time"]
    if settings.reads_speakers:
        lines.append(f"- `speaker`: the vector {settings.speaker}, the mean over the speaker's utterances, unscaled")
    if settings.attended:
        lines.append(f"- `others`: {settings.attended} other utterances of the speaker, each as `features` is")
        lines.append(f"- `known`, ({settings.attended},): 1 for each of them, 0 where there are fewer")
    if settings.normalise:
        lines.append(f"- all of these are {settings.describe_speaker()} before the model has them")
    return "\n".join(lines)


def format_scores(rows: list[dict]) -> str:
    """Rows of the ablation table as a Markdown table."""
    lines = ["| split | target | calibration | protocol | O-CCC | A-CCC |", "|---|---|---|---|---|---|"]
    # Test splits first: k was chosen on validation. Sorting keeps the calibrations' order.
    for row in sorted(rows, key=lambda row: (row["split"] == "validation", row["split"], row["target"])):
        cells = [row[name] for name in ("split", "target", "calibration", "protocol")]
        cells += [_format_score(row, name) for name in ("o_ccc", "a_ccc")]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _format_score(row: dict, name: str) -> str:
    if not row[name]:
        return ""
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    interval = f" [{float(low):.3f}, {float(high):.3f}]" if low else ""
    return f"{float(row[name]):.3f}{interval}"
