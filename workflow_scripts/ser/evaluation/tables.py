"""The result tables: every ablation, calibration, target and split as rows of CSV files."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from ser.config.ablation import Ablation
from ser.config.calibration_methods import CHOSEN, Method
from ser.config.finetuning import describe_method, name_encoder
from ser.encoders.past import tell_labels
from ser.evaluation.cells import CONSTANT, SPEAKER_MEAN, WITH_TEST_LABELS, Cell, build_cells
from ser.evaluation.enrolment_curve import CURVE_COLUMNS, extend_curve
from ser.evaluation.families import adjust_families, list_controls, name_family
from ser.evaluation.scoring import contrast_cells, list_speakers, score_cell, summarise_speakers
from ser.files import read_json
from ser.formats.csv_files import join_values, write_csv
from ser.formats.utterances import find_runs, read_labels
from ser.statistics.moments import Policy

TABLE_COLUMNS = [
    *("ablation", "encoder", "speaker", "fusion", "head", "calibration", "protocol", "target", "split"),
    *("n_speakers", "n_utterances", "n_seeds"),
    *("o_ccc", "o_ccc_low", "o_ccc_high", "a_ccc", "a_ccc_low", "a_ccc_high", "a_ccc_sd"),
    *("delta_a_ccc", "delta_a_ccc_low", "delta_a_ccc_high", "delta_o_ccc", "delta_o_ccc_low", "delta_o_ccc_high"),
    *("pearson", "rmse", "k", "alpha"),
    *("a_ccc_seed_sd", "o_ccc_seed_sd", "detectable_delta"),
    *("delta_a_ccc_p", "delta_o_ccc_p", "family", "delta_a_ccc_p_adjusted", "delta_o_ccc_p_adjusted"),
    *("delta_a_ccc_bound", "delta_o_ccc_bound", "note", "max_similarity"),
    "encoder_trained_on",
]
CONTRAST_COLUMNS = [
    *("ablation", "calibration", "against", "target", "split", "n_speakers", "n_utterances", "n_seeds"),
    *("delta_a_ccc", "delta_a_ccc_low", "delta_a_ccc_high", "delta_o_ccc", "delta_o_ccc_low", "delta_o_ccc_high"),
    *("delta_a_ccc_p", "delta_o_ccc_p", "family", "delta_a_ccc_p_adjusted", "delta_o_ccc_p_adjusted"),
    *("delta_a_ccc_bound", "delta_o_ccc_bound", "detectable_delta", "note"),
]
SPEAKER_COLUMNS = [
    *("speaker_id", "ablation", "calibration", "target", "split", "n"),
    *("ccc", "delta_ccc", "mean_true", "mean_pred", "sd_true", "sd_pred"),
]
SUMMARY_COLUMNS = [
    *("ablation", "calibration", "target", "split"),
    *("n_speakers", "n_few_utterances", "n_constant_labels", "n_only_enrolment"),
    *("share_helped", "share_harmed", "worst_decile_ccc", "gini_ccc"),
]


@dataclass(frozen=True)
class Design:
    """What the tables compare with what; ablations and targets are in the tables' order.

    `hearing` are the ablations whose encoder needs all audio of a test speaker, or has heard some; `studied` is the
    calibration method that is held against its controls, `primary` the ablation of which that was chosen beforehand as
    the test. `trained_on` says of encoders, by name, what labels their weights have seen before this run, in the
    config's words; the others' cards may say it.
    """

    ablations: dict[str, Ablation]
    hearing: list[str]
    methods: list[Method]
    targets: list[str]
    baseline: str
    studied: str
    primary: str
    policy: Policy
    trained_on: dict[str, str] = field(default_factory=dict)


Key = tuple[str, str, str, str]  # ablation, calibration, target, split


@dataclass
class Scores:
    """What scoring found: by key the row, the rows of its speakers and their summary; contrasts, curve of enrolment."""

    cells: dict[Key, tuple[dict, list[dict], dict]] = field(default_factory=dict)
    contrasts: list[dict] = field(default_factory=list)
    curve: list[dict] = field(default_factory=list)


def score_runs(
    design: Design,
    labels: dict[str, str],
    train_labels: str,
    calibrated: list[str],
    choices: dict[str, str],
    cards: dict[str, str],
    paths: dict[str, str],
) -> None:
    """Write the five tables from the calibrated predictions and the labels of the evaluated splits.

    Args:
        labels: the labels file of each evaluated split, in the table's order
        choices: the choices file (k and alpha) of each ablation
        cards: the card of each encoder, the fine-tuned ones among them, which says what its weights are
        paths: where to write `table`, `contrast_table`, `speaker_table`, `speaker_summary` and `enrolment_curve`
    """
    runs, scores = find_runs(calibrated), Scores()
    train_mean = read_labels(train_labels, design.targets).values.mean(axis=0)
    for split, path in labels.items():
        files = {(ablation, seed): file for (ablation, seed, name), file in runs.items() if name == split}
        found = read_labels(path, design.targets)
        score_split(design, split, *build_cells(files, found, design.methods, design.baseline, train_mean), scores)
    rows, speaker_rows, summary_rows = [], [], []
    compared = set(design.ablations) - {design.baseline}
    for facts in describe_rows(design, cards, choices):
        for split in labels:
            key = facts | {"split": split}
            score = scores.cells.get(tuple(key[name] for name in ("ablation", "calibration", "target", "split")))
            if score:
                row = key | score[0]
                rows.append(row | {"family": name_family(row, compared, design.methods)})
                speaker_rows.extend(key | row for row in score[1])
                summary_rows.append(key | score[2])
    adjust_families(rows)
    adjust_families(scores.contrasts)
    write_csv(paths["table"], TABLE_COLUMNS, rows)
    write_csv(paths["contrast_table"], CONTRAST_COLUMNS, scores.contrasts)
    write_csv(paths["speaker_table"], SPEAKER_COLUMNS, speaker_rows)
    write_csv(paths["speaker_summary"], SUMMARY_COLUMNS, summary_rows)
    write_csv(paths["enrolment_curve"], CURVE_COLUMNS, scores.curve)


def score_split(design: Design, split: str, speakers: list[str], cells: Iterable[Cell], scores: Scores) -> None:
    """Add a split's cells to the scores; a split without speakers has none."""
    targets, policy = design.targets, design.policy
    contrasted = {design.studied, *list_controls(design.studied, design.methods)} if split != "validation" else ()
    enrolling = {method.name for method in design.methods if method.enrolment}
    held, curve = [], {}
    for cell in cells:
        row = score_cell(cell, policy)
        key = cell.ablation, cell.calibration, targets[cell.target], split
        scores.cells[key] = row, list_speakers(cell, speakers, policy), summarise_speakers(cell, policy)
        if cell.calibration in contrasted:
            held.append(cell)
        if cell.calibration in enrolling:
            extend_curve(curve, cell, row, design.methods, policy)
    scores.curve += [
        {"ablation": ablation, "target": targets[t], "split": split} | row for (ablation, t, _), row in curve.items()
    ]
    for row in contrast_cells(held, design.studied, policy):
        family = "primary" if row["ablation"] == design.primary else "controls"
        scores.contrasts.append(row | {"split": split, "target": targets[row["target"]], "family": family})


def describe_rows(design: Design, cards: dict[str, str], choices: dict[str, str]) -> list[dict]:
    """What is known of each row before scoring: one dictionary per ablation, calibration and target, in order."""
    rows = []
    methods, targets = design.methods, design.targets
    for name, ablation in design.ablations.items():
        chosen = read_json(choices[name])["choices"]
        facts = {"speaker": ablation.describe_speaker(), "fusion": ablation.fusion, "head": ablation.head}
        facts |= {"ablation": name, "encoder": describe_encoder(name, ablation, cards)}
        trained_on = design.trained_on.get(ablation.encoder) or tell_labels(read_json(cards[ablation.encoder]))
        facts |= {"encoder_trained_on": trained_on}
        facts |= {"n_seeds": len({choice["seed"] for choice in chosen})}
        for calibration in [Method("none"), *methods, *map(Method, WITH_TEST_LABELS)]:
            for target in targets:
                own = [c for c in chosen if (c["calibration"], c["target"]) == (calibration.name, target)]
                rows.append(
                    facts
                    | {"calibration": calibration.name, "target": target}
                    | {"protocol": name_protocol(ablation, name in design.hearing, calibration)}
                    | {key: join_values(choice[key] for choice in own) for key in CHOSEN}
                )
    for name, protocol in {CONSTANT: "inductive", SPEAKER_MEAN: "transductive"}.items():
        rows.extend({"ablation": name, "calibration": "none", "target": t, "protocol": protocol} for t in targets)
    return rows


def describe_encoder(name: str, ablation: Ablation, cards: dict[str, str]) -> str:
    """An ablation's encoder, with how it was fine-tuned, and which seeds learned nothing of it.

    It is marked where its weights were random: such a row is no accuracy claim.
    """
    marks = ["random-init"] if read_json(cards[ablation.encoder]).get("weights") == "random-init" else []
    if ablation.finetune:
        marks.append(describe_method(ablation.finetune))
        own = [read_json(path) for encoder, path in cards.items() if encoder.startswith(name_encoder(name, ""))]
        lost = [str(card["seed"]) for card in own if not card["learned"]]
        marks += [f"seed {', '.join(lost)} learned nothing"] if lost else []
    return f"{ablation.encoder} ({'; '.join(marks)})" if marks else ablation.encoder


def name_protocol(ablation: Ablation, hears_test_speakers: bool, method: Method) -> str:
    """What a row needs of a test speaker beyond the utterance itself.

    `transductive`: all of the speaker's audio (never labels, but where a name says `(test labels)`), be it through
    calibration or because the ablation itself reads a speaker vector averaged over it, is normalised by all of it, is
    trained for the test speakers' (similar-speaker weighting), or has an encoder that is personalised or has heard it.
    `enrolment`: a few utterances, which are not scored, or, for an ablation, never by themselves; `enrolment,
    labelled`: with their labels, whatever else it needs. `inductive`: nothing.
    """
    if method.enrolment_labels:
        return "enrolment, labelled"
    if ablation.hears_all or hears_test_speakers:
        return "transductive"
    if method.name == "none":
        return "enrolment" if ablation.enrols else "inductive"
    return "enrolment" if method.enrolment else "transductive"
