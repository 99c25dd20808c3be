"""The tables, on made-up results with a planted shift: against other libraries, and row by row in what they promise."""

from types import SimpleNamespace

import audmetric
import numpy as np
import pytest
from made_results import DRAWS, METHODS, TARGETS, MadeResults
from read_results import read_csv

from ser.config.ablation import Ablation
from ser.evaluation.cells import (
    CEILING_A,
    CEILING_O,
    CONSTANT,
    ORACLE,
    SPEAKER_MEAN,
    WITH_TEST_LABELS,
)
from ser.evaluation.tables import describe_rows
from ser.files import read_json, write_json
from ser.formats.parquet import read_parquet

# The contract, from the design.
COLUMNS = (
    "ablation, encoder, speaker, fusion, head, calibration, protocol, target, split, n_speakers, n_utterances, "
    "n_seeds, o_ccc, o_ccc_low, o_ccc_high, a_ccc, a_ccc_low, a_ccc_high, a_ccc_sd, delta_a_ccc, delta_a_ccc_low, "
    "delta_a_ccc_high, delta_o_ccc, delta_o_ccc_low, delta_o_ccc_high, pearson, rmse, k, alpha, "
    "a_ccc_seed_sd, o_ccc_seed_sd, detectable_delta, delta_a_ccc_p, delta_o_ccc_p, family, "
    "delta_a_ccc_p_adjusted, delta_o_ccc_p_adjusted, delta_a_ccc_bound, delta_o_ccc_bound, note, max_similarity, "
    "encoder_trained_on"
)
CALIBRATIONS = ["none", *(method["name"] for method in METHODS), *WITH_TEST_LABELS]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    results = MadeResults(tmp_path_factory.mktemp("made"))
    results.evaluate()
    return results


@pytest.fixture(scope="module")
def table(made):
    rows = read_csv(made.root / "ablation_table.csv")
    return {(r["ablation"], r["calibration"], r["target"], r["split"]): r for r in rows}


def test_a_row_says_what_its_encoder_has_seen_before(table):
    for (ablation, *_), row in table.items():
        assert row["encoder_trained_on"] == ("made-up labels" if row["encoder"] else ""), ablation


@pytest.mark.parametrize(("said", "told"), [({"demo": "the config's"}, "the config's"), ({}, "the card's")])
def test_what_the_config_does_not_say_the_encoders_card_may(made, tmp_path, said, told):
    write_json(tmp_path / "card.json", {"trained_on": "the card's"})
    design = SimpleNamespace(
        ablations={"baseline": Ablation("demo")}, hearing=[], methods=[], targets=["arousal"], trained_on=said
    )
    rows = describe_rows(design, {"demo": tmp_path / "card.json"}, {"baseline": made.choices("baseline")})
    assert {row.get("encoder_trained_on") for row in rows if row["ablation"] == "baseline"} == {told}


def number(row, column):
    return float(row[column])


def read_run(made, ablation, calibration, split, target, seed_number):
    """{speaker: (labels, predictions)} of one run, joined by utterance."""
    labels = {row["utterance_id"]: row for row in read_parquet(made.labels(split)).to_pylist()}
    found = {}
    for row in read_parquet(made.seed_files("calibrated", ablation, split)[seed_number]).to_pylist():
        if row["calibration"] == calibration:
            pair = labels[row["utterance_id"]][target], row[target]
            found.setdefault(row["speaker_id"], []).append(pair)
    return {speaker: np.array(pairs).T for speaker, pairs in found.items()}


def test_columns_and_order(made, table):
    assert (made.root / "ablation_table.csv").read_text().splitlines()[0] == COLUMNS.replace(" ", "")
    names = [(a, c) for a in ("baseline", "other") for c in CALIBRATIONS]
    names += [(CONSTANT, "none"), (SPEAKER_MEAN, "none")]
    assert list(table) == [(*name, target, split) for name in names for target in TARGETS for split in made.evaluated]


@pytest.mark.parametrize("calibration", ["none", "mu_sigma"])
def test_metrics_against_audmetric(made, table, calibration):
    """Metrics per seed, then their mean; files hold float32 and tables 6 decimals."""
    row = table["other", calibration, "arousal", "test"]
    metrics = {"o_ccc": [], "a_ccc": [], "pearson": [], "rmse": []}
    for seed_number in range(2):
        run = read_run(made, "other", calibration, "test", "arousal", seed_number)
        truth, prediction = np.concatenate(list(run.values()), axis=1)
        metrics["o_ccc"].append(audmetric.concordance_cc(truth, prediction))
        metrics["pearson"].append(audmetric.pearson_cc(truth, prediction))
        metrics["rmse"].append(np.sqrt(audmetric.mean_squared_error(truth, prediction)))
        metrics["a_ccc"].append(np.mean([audmetric.concordance_cc(*pair) for pair in run.values()]))
    for name, values in metrics.items():
        assert number(row, name) == pytest.approx(np.mean(values), abs=1e-6)
    assert (int(row["n_speakers"]), int(row["n_utterances"]), int(row["n_seeds"])) == (24, truth.size, 2)


@pytest.mark.parametrize("calibration, draws", [("random_k", 10), ("enrol_5", DRAWS), ("labels_5", DRAWS)])
def test_draws_are_averaged_over(made, table, calibration, draws):
    row, scores = table["baseline", calibration, "valence", "test"], {"o_ccc": [], "a_ccc": [], "rmse": []}
    for seed_number in range(2):
        for draw in range(draws):
            run = read_run(made, "baseline", f"{calibration}/{draw:02d}", "test", "valence", seed_number)
            truth, prediction = np.concatenate(list(run.values()), axis=1)
            scores["o_ccc"].append(audmetric.concordance_cc(truth, prediction))
            scores["rmse"].append(np.sqrt(audmetric.mean_squared_error(truth, prediction)))
            scores["a_ccc"].append(np.mean([audmetric.concordance_cc(*pair) for pair in run.values()]))
    for name, values in scores.items():
        assert number(row, name) == pytest.approx(np.mean(values), abs=1e-6)
    assert (int(row["n_speakers"]), int(row["n_utterances"])) == (24, truth.size)


def test_deltas_are_against_the_baseline_or_the_uncalibrated_on_the_same_utterances(made, table):
    for key, row in table.items():
        ablation, calibration, target, split = key
        if key[:2] == ("baseline", "none"):
            assert all(row[name] == "" for name in COLUMNS.split(", ") if name.startswith("delta"))
            continue
        if calibration.startswith(("enrol", "labels")):
            continue
        reference = table["baseline" if calibration == "none" else ablation, "none", target, split]
        for metric in ("a_ccc", "o_ccc"):
            difference = number(row, metric) - number(reference, metric)
            assert number(row, f"delta_{metric}") == pytest.approx(difference, abs=2e-6)  # three rounded numbers
    row = table["baseline", "enrol_5", "valence", "test"]
    delta = compare_enrolled(made, "enrol_5", "none", "valence")
    assert number(row, "delta_a_ccc") == pytest.approx(delta, abs=1e-6)


def compare_enrolled(made, calibration, other, target):
    """The mean difference of the speakers' CCCs on the utterances that each draw leaves."""
    deltas = []
    for seed_number in range(2):
        known = read_run(made, "baseline", other, "test", target, seed_number)
        for draw in range(DRAWS):
            run = read_run(made, "baseline", f"{calibration}/{draw:02d}", "test", target, seed_number)
            for speaker, (truth, prediction) in run.items():
                kept = np.isin(known[speaker][0], truth)  # labels are real numbers: they name the utterances
                assert kept.sum() == 5
                deltas.append(
                    audmetric.concordance_cc(truth, prediction) - audmetric.concordance_cc(*known[speaker][:, kept])
                )
    return np.mean(deltas)


def test_the_curve_of_enrolment_is_of_the_same_utterances(made, table):
    """Each number of utterances, without and with labels, and last all of the speaker's audio."""
    rows = [
        row
        for row in read_csv(made.root / "enrolment_curve.csv")
        if (row["ablation"], row["target"], row["split"]) == ("baseline", "arousal", "test")
    ]
    assert {(row["calibration"], row["labels"], row["utterances"]) for row in rows} == {
        ("enrol_1", "none", "1"),
        ("enrol_5", "none", "5"),
        ("enrol_10", "none", "10"),
        ("labels_5", "enrolled", "5"),
        ("mu_sigma", "none", "all"),
    }
    by_name = {row["calibration"]: row for row in rows}
    assert {(row["n_speakers"], row["n_utterances"]) for row in rows} == {("24", "120")}
    for name in ("enrol_1", "labels_5"):
        row, known = by_name[name], table["baseline", name, "arousal", "test"]
        for column in ("a_ccc", "delta_a_ccc", "delta_a_ccc_low", "delta_a_ccc_high"):
            assert row[column] == known[column]
        assert row["counterpart"] == "mu_sigma"
        beyond = compare_enrolled(made, name, "mu_sigma", "arousal")
        assert number(row, "beyond_a_ccc") == pytest.approx(beyond, abs=1e-6)
        assert number(row, "beyond_a_ccc_low") < beyond < number(row, "beyond_a_ccc_high")
        gain = number(row, "delta_a_ccc") - number(by_name["mu_sigma"], "delta_a_ccc")
        assert number(row, "beyond_a_ccc") == pytest.approx(gain, abs=3e-6)
    assert by_name["mu_sigma"]["beyond_a_ccc"] == ""


def test_the_true_statistics_are_the_speakers_own_label_statistics(made, table):
    scores = []
    for seed_number in range(2):
        for truth, y in read_run(made, "baseline", "none", "test", "valence", seed_number).values():
            scores.append(audmetric.concordance_cc(truth, (y - y.mean()) / y.std() * truth.std() + truth.mean()))
    assert number(table["baseline", ORACLE, "valence", "test"], "a_ccc") == pytest.approx(np.mean(scores), abs=1e-6)


def test_no_mean_and_spread_is_above_the_ceilings(made, table):
    for name in ("none", *(method["name"] for method in METHODS if "enrolment" not in method), ORACLE):
        for metric, ceiling in {"a_ccc": CEILING_A, "o_ccc": CEILING_O}.items():
            rows = [table["other", calibration, "arousal", "test"] for calibration in (name, ceiling)]
            assert number(rows[0], metric) <= number(rows[1], metric) + 1e-6


@pytest.mark.parametrize("target", TARGETS)
def test_the_planted_shift_is_found(table, target):
    """PLDC gains beyond doubt, random neighbours do not, and the true statistics are above both."""
    rows = {c: table["baseline", c, target, "test"] for c in ("none", "mu_sigma", "random_k", ORACLE)}
    assert number(rows["mu_sigma"], "delta_a_ccc_low") > 0
    assert number(rows["random_k"], "delta_a_ccc_low") < 0
    assert number(rows[ORACLE], "a_ccc") > number(rows["mu_sigma"], "a_ccc") > number(rows["random_k"], "a_ccc")


def test_families_are_corrected_for_their_number(table):
    """Holm and Benjamini-Hochberg written out, within a test split; not for validation, nor with test labels."""
    families = {}
    for (ablation, calibration, _, split), row in table.items():
        expected = "ablations" if calibration == "none" else "calibrations"
        if split == "validation" or "(test labels)" in ablation + calibration or ablation == CONSTANT:
            expected = ""
        if (ablation, calibration) == ("baseline", "none"):
            expected = ""
        assert row["family"] == expected
        if row["family"] and row["delta_a_ccc_p"]:
            families.setdefault((expected, split), []).append(row)
        else:
            assert row["delta_a_ccc_p_adjusted"] == ""
    assert {family for family, _ in families} == {"ablations", "calibrations"}
    for (family, _), rows in families.items():
        rows, n = sorted(rows, key=lambda row: number(row, "delta_a_ccc_p")), len(rows)
        p = [number(row, "delta_a_ccc_p") for row in rows]
        if family == "ablations":
            expected = [min(1, max((n - j) * p[j] for j in range(i + 1))) for i in range(n)]
        else:
            expected = [min(1, min(n / (j + 1) * p[j] for j in range(i, n))) for i in range(n)]
        assert [number(row, "delta_a_ccc_p_adjusted") for row in rows] == pytest.approx(expected, abs=1e-4)


def test_the_studied_calibration_is_held_against_its_controls(made, table):
    rows = read_csv(made.root / "contrast_table.csv")
    keys = {(r["ablation"], r["calibration"], r["against"], r["target"], r["split"]) for r in rows}
    tests = [split for split in made.evaluated if split != "validation"]
    controls = ["random_k", "global"]
    assert keys == {(a, "mu_sigma", c, t, s) for a in made.ablations for c in controls for t in TARGETS for s in tests}
    for row in rows:
        assert row["family"] == ("primary" if row["ablation"] == "baseline" else "controls")
        for metric in ("a_ccc", "o_ccc"):
            cells = (table[row["ablation"], c, row["target"], row["split"]] for c in ("mu_sigma", row["against"]))
            one, other = (number(cell, metric) for cell in cells)
            assert number(row, f"delta_{metric}") == pytest.approx(one - other, abs=2e-6)


def test_predictors_that_hear_nothing(made, table):
    """A constant scores 0; who speaks, known perfectly, is worth a high O-CCC and no A-CCC."""
    constant, mean = (table[name, "none", "valence", "test"] for name in (CONSTANT, SPEAKER_MEAN))
    assert [number(constant, m) for m in ("o_ccc", "a_ccc", "pearson")] == [0, 0, 0]
    train = np.mean(read_parquet(made.labels("train"))["valence"].to_pylist())
    labels = np.array(read_parquet(made.labels("test"))["valence"].to_pylist())
    assert number(constant, "rmse") == pytest.approx(np.sqrt(np.mean((labels - train) ** 2)), abs=1e-6)
    assert number(mean, "o_ccc") > 0.5 and number(mean, "a_ccc") == 0
    assert constant["encoder"] == constant["n_seeds"] == ""


def test_facts_of_a_row(made, table):
    row = table["baseline", "mu_sigma", "valence", "test"]
    assert [row[c] for c in ("encoder", "speaker", "fusion", "head")] == ["demo (random-init)", "none", "none", "mlp"]
    chosen = [
        choice["k"]
        for choice in read_json(made.choices("baseline"))["choices"]
        if (choice["calibration"], choice["target"]) == ("mu_sigma", "valence")
    ]
    assert row["k"] == (f"{chosen[0]};{chosen[1]}" if chosen[0] != chosen[1] else str(chosen[0]))
    assert row["alpha"] == "" and table["baseline", "pldc_shrunk", "valence", "test"]["alpha"] != ""
    assert table["baseline", "none", "valence", "test"]["k"] == ""
    names = ("none", "mu", "enrol_5", "labels_5", ORACLE)
    protocols = [table["baseline", name, "valence", "test"]["protocol"] for name in names]
    assert protocols == ["inductive", "transductive", "enrolment", "enrolment, labelled", "transductive"]
    assert table["baseline", "mu_sigma_gated", "valence", "test"]["alpha"] == ""
    assert table["other", "labels_5", "valence", "test"]["protocol"] == "enrolment, labelled"
    assert table["other", "none", "valence", "test"]["protocol"] == "transductive"  # it reads a speaker vector


def test_never_nan_and_the_same_bytes_again(made):
    names = ["ablation_table.csv", "contrast_table.csv", "speaker_table.csv", "speaker_summary.csv"]
    before = [(made.root / name).read_bytes() for name in names]
    assert not any(word in text.lower().split(b",") for text in before for word in (b"nan", b"inf", b"-0.000000"))
    made.score()
    assert before == [(made.root / name).read_bytes() for name in names]


def test_speaker_table(made):
    rows = read_csv(made.root / "speaker_table.csv")
    header = "speaker_id,ablation,calibration,target,split,n,ccc,delta_ccc,mean_true,mean_pred,sd_true,sd_pred"
    assert ",".join(rows[0]) == header
    key = {"ablation": "other", "calibration": "mu", "target": "valence", "split": "test", "speaker_id": "test 007"}
    (row,) = (row for row in rows if key.items() <= row.items())
    runs = [read_run(made, "other", "mu", "test", "valence", n)["test 007"] for n in range(2)]
    none = [read_run(made, "other", "none", "test", "valence", n)["test 007"] for n in range(2)]
    ccc, before = (np.mean([audmetric.concordance_cc(*pair) for pair in both]) for both in (runs, none))
    expected = {
        "n": 15,
        "ccc": ccc,
        "delta_ccc": ccc - before,
        "mean_true": runs[0][0].mean(),
        "mean_pred": np.mean([p.mean() for _, p in runs]),
        "sd_true": runs[0][0].std(),
        "sd_pred": np.mean([p.std() for _, p in runs]),
    }
    for name, value in expected.items():
        assert number(row, name) == pytest.approx(value, abs=1e-6)


def test_speaker_summary_agrees_with_the_speaker_table(made):
    speakers = read_csv(made.root / "speaker_table.csv")
    for row in read_csv(made.root / "speaker_summary.csv"):
        own = [s for s in speakers if all(s[c] == row[c] for c in ("ablation", "calibration", "target", "split"))]
        ccc = np.array([number(s, "ccc") for s in own])
        assert int(row["n_speakers"]) == len(own)
        assert number(row, "worst_decile_ccc") == pytest.approx(
            np.sort(ccc)[: int(np.ceil(len(ccc) / 10))].mean(), abs=2e-6
        )
        if row["share_helped"]:
            delta = np.array([number(s, "delta_ccc") for s in own])
            assert number(row, "share_helped") == pytest.approx(np.mean(delta > 1e-6), abs=1e-6)
            assert number(row, "share_harmed") == pytest.approx(np.mean(delta < -1e-6), abs=1e-6)
