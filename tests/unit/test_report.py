"""The report says what the tables say, and lets no value become markup."""

import json
import re
from collections import Counter

import numpy as np
import pyarrow.parquet as pq
import pytest
import vl_convert
from made_report import make_grouped_study, make_study, read_content, report
from read_results import read_csv

from ser.files import read_json, write_json, write_text
from ser.report.page import dump_script
from ser.report.run import measure_costs
from ser.report.speaker_map import BINS

KEY = ("ablation", "calibration", "target", "split")
HOSTILE = "<script>document.title=1</script>&amp;"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_grouped_study(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="module")
def page(made):
    return report(made, made.root / "report.html")


@pytest.fixture(scope="module")
def content(page):
    return read_content(page)


def look_up(content, name, *keys):
    """The rows of a dataset's group."""
    dataset = content["datasets"][name]
    columns = [
        [dataset["texts"][field][value] for value in column] if field in dataset["texts"] else column
        for field, column in zip(dataset["fields"], dataset["groups"].get("|".join(keys), []), strict=False)
    ]
    return [dict(zip(dataset["fields"], values, strict=True)) for values in zip(*columns, strict=True)]


def test_the_table_is_the_ablation_table(made, content):
    expected = read_csv(made.root / "ablation_table.csv")
    texts = (
        "k",
        "alpha",
        "max_similarity",
        "encoder_trained_on",
        "ablation",
        "encoder",
        "speaker",
        "fusion",
        "head",
        "calibration",
        "protocol",
        "target",
        "family",
        "note",
    )
    assert len(content["cells"]["rows"]) == len(expected)
    for row, cells in zip(expected, content["cells"]["rows"], strict=True):
        for (name, text), value in zip(row.items(), cells, strict=True):
            if name in (*texts, "split"):
                assert value == text
            else:
                assert value == (float(text) if text else None), name


def test_speakers_are_those_of_the_speaker_table(made, content):
    rows = read_csv(made.root / "speaker_table.csv")
    expected = {
        (row["split"], row["target"], row["ablation"], row["calibration"], row["speaker_id"]): row
        for row in rows
        if row["ccc"] and row["delta_ccc"]
    }
    found = {
        (*key.split("|"), row["speaker"]): row
        for key in content["datasets"]["speakers"]["groups"]
        for row in look_up(content, "speakers", *key.split("|"))
    }
    assert found.keys() == expected.keys() and found
    for key, row in found.items():
        ccc, delta = float(expected[key]["ccc"]), float(expected[key]["delta_ccc"])
        # the page has 4 decimals, the table 6
        assert [row["ccc"], row["before"], row["delta_ccc"]] == pytest.approx([ccc, ccc - delta, delta], abs=6e-5)
        assert row["effect"] == ("helped" if delta > 1e-6 else "harmed" if delta < -1e-6 else "unchanged")


def test_shares_are_those_of_the_summary_and_of_the_speakers_shown(made, content):
    for row in read_csv(made.root / "speaker_summary.csv"):
        if not row["share_helped"] or row["calibration"] == "none":
            continue
        key = (row["split"], row["target"], row["ablation"])
        (share,) = [s for s in look_up(content, "shares", *key) if s["calibration"] == row["calibration"]]
        effects = Counter(s["effect"] for s in look_up(content, "speakers", *key, row["calibration"]))
        for name in ("helped", "harmed"):
            assert share[f"share_{name}"] == pytest.approx(float(row[f"share_{name}"]), abs=6e-5)
            assert share[f"share_{name}"] == pytest.approx(effects[name] / effects.total(), abs=6e-5)


def test_groups_are_those_of_the_group_table(made, page, content):
    rows = read_csv(made.root / "group_table.csv")
    shown = {key: look_up(content, "groups", *key.split("|")) for key in content["datasets"]["groups"]["groups"]}
    for row in rows:
        value = f"{row['value']} ({row['n_speakers']})"
        key = "|".join(row[name] for name in ("group", "split", "target", "ablation", "calibration"))
        (found,) = [each for each in shown[key] if each["value"] == value]
        for name in ("a_ccc", "a_ccc_low", "delta_a_ccc", "delta_a_ccc_high", "gap_a_ccc", "gap_a_ccc_low"):
            # the page has 4 decimals, the table 6
            assert found[name] == (pytest.approx(float(row[name]), abs=6e-5) if row[name] else None), name
        assert found["told"] == bool(row["gap_a_ccc_p_adjusted"] and float(row["gap_a_ccc_p_adjusted"]) < 0.05)
    assert sum(map(len, shown.values())) == len(rows)
    (section,) = re.findall(r'<section id="groups">.*?</section>', page, re.S)
    small = "&lt;b&gt;few&lt;/b&gt; (2, test), most (5, second)"
    assert "No gap could be tested." in section and small in section


def test_a_run_without_groups_says_nothing_of_them(tmp_path):
    made = make_study(tmp_path, speakers={"train": 6, "validation": 3, "test": 3}, utterances=6)
    page = report(made, tmp_path / "report.html")
    assert 'id="groups"' not in page and not any("gap" in name for name in read_content(page)["plots"])


def test_the_answers_are_rows_of_the_tables(made, page):
    (answers,) = re.findall(r'<section id="answers">.*?</section>', page, re.S)
    rows = {tuple(row[k] for k in KEY): row for row in read_csv(made.root / "ablation_table.csv")}
    shares = {tuple(row[k] for k in KEY): row for row in read_csv(made.root / "speaker_summary.csv")}
    shown = [
        re.sub(r"<[^>]+>|\s+", " ", row).split()
        for row in re.findall(r"<tr><th scope.*?</tr>", answers.split('id="contrasts"')[0], re.S)
    ]
    assert [row[:2] for row in shown] == [[t, s] for t in made.targets for s in ("test", "second")]
    for target, split, *words in shown:
        base, moved = (rows["baseline", method, target, split] for method in ("none", "mu_sigma"))
        names = [(base, name) for name in ("a_ccc", "a_ccc_low", "a_ccc_high", "o_ccc", "o_ccc_low", "o_ccc_high")]
        names += [(moved, f"delta_{m}_ccc{end}") for m in "ao" for end in ("", "_low", "_high")]
        numbers = [word.strip("[],").replace("\u2212", "-") for word in words if re.search(r"\d\.\d", word)]
        assert [float(n) for n in numbers] == pytest.approx([float(r[n]) for r, n in names if r[n]], abs=5.1e-4)
        other = rows["other", "none", target, split]
        told = other["delta_a_ccc_p_adjusted"] and float(other["delta_a_ccc_p_adjusted"]) < 0.05
        better, worse = (told and sign * float(other["delta_a_ccc"]) > 0 for sign in (1, -1))
        # five speakers of the split `second` have no interval
        assert (f"{better:d} : {worse:d} of 1" if split == "test" else " \u2013 ") in " ".join(words)
        share = shares["baseline", "mu_sigma", target, split]
        helped, harmed = (f"{100 * float(share[f'share_{name}']):.0f}&nbsp;%" for name in ("helped", "harmed"))
        assert " ".join(words).endswith(f"{helped} : {harmed}")


def test_curves_of_k_and_alpha_are_those_that_were_chosen_from(made, content):
    for choice in read_json(made.choices("other"))["choices"]:
        key = (choice["target"], "other", choice["calibration"])
        shown = [row for row in look_up(content, "k_curve", *key) if row["seed"] == choice["seed"]]
        assert [row["value"] for row in shown if row["chosen"]] == ([] if choice["k"] is None else [choice["k"]])
        best = {k: max(p["a_ccc"] for p in choice["curve"] if p["k"] == k) for k in {p["k"] for p in choice["curve"]}}
        assert {row["value"]: row["a_ccc"] for row in shown} == pytest.approx(best, abs=6e-5)
        alphas = [row for row in look_up(content, "alpha_curve", *key) if row["seed"] == choice["seed"]]
        assert [row["value"] for row in alphas if row["chosen"]] == (
            [] if choice["alpha"] is None else [choice["alpha"]]
        )
        # alpha 1 of a speaker's own predictions is no calibration: the independent way to the dashed line
        for row in look_up(content, "uncalibrated", choice["target"], "other"):
            for point in alphas:
                if point["value"] == 1 and row["seed"] == choice["seed"] and choice["calibration"] == "pldc_shrunk":
                    assert point["a_ccc"] == pytest.approx(row["a_ccc"], abs=1.1e-4)


def test_the_curve_of_enrolment_is_that_of_its_table_in_order(made, content):
    key = ("test", "arousal", "other")
    rows = [
        row
        for row in read_csv(made.root / "enrolment_curve.csv")
        if (row["split"], row["target"], row["ablation"]) == key
    ]
    shown = look_up(content, "enrolment", *key)
    assert [(row["utterances"], row["series"]) for row in shown] == [
        ("1", "without labels"),
        ("5", "without labels"),
        ("5", "with labels"),
        ("10", "without labels"),
        ("all", "without labels"),
    ]
    assert [row["place"] for row in shown] == [0, 1, 1, 2, 3]
    by_name = {row["calibration"]: row for row in rows}
    for row in shown:
        known = by_name[row["calibration"]]
        for name, column in {"gain": "delta_a_ccc", "gain_low": "delta_a_ccc_low", "beyond": "beyond_a_ccc"}.items():
            assert row[name] == (pytest.approx(float(known[column]), abs=6e-5) if known[column] else None)


def test_who_is_left_out_is_counted(tmp_path):
    made = make_study(tmp_path, speakers={"train": 6, "validation": 3, "test": 3}, utterances=6, seeds=[1])
    choices = read_json(made.choices("baseline"))
    write_json(made.choices("baseline"), choices | {"references": {"used": 5, "few_utterances": 1}})
    page = re.sub(r"\s+", " ", report(made, tmp_path / "report.html"))
    assert "5 training speakers can be neighbours; 1 cannot, with fewer than 1 labelled utterances." in page
    assert "with 2 utterances or more: 0 of validation have fewer, 0 of test have fewer." in page


def test_densities_count_every_utterance_in_its_bin(made, content):
    labels = pq.read_table(made.labels("test"))["valence"].to_numpy()
    counts = np.zeros((BINS, BINS))
    for path in made.seed_files("predictions", "other", "test"):
        predicted = pq.read_table(path)["valence"].to_numpy()
        for x, y in zip(labels, predicted, strict=True):
            cell = [min(max(int((value - 1) / 6 * BINS), 0), BINS - 1) for value in (float(x), float(y))]
            counts[*cell] += 1 / len(made.seeds)
    shown = np.zeros((BINS, BINS))
    for row in look_up(content, "densities", "test", "valence", "other"):
        shown[row["true"], row["predicted"]] = row["count"]
    np.testing.assert_array_equal(shown, counts)
    calibrated = look_up(content, "densities_calibrated", "test", "valence", "other")
    assert sum(row["count"] for row in calibrated) == pytest.approx(len(labels))


def test_neighbours_are_the_most_similar_training_speakers(made, content):
    read = {
        split: pq.read_table(made.seed_files("speaker_vectors", "baseline", split)[0]).to_pylist()
        for split in ("train", "test")
    }
    vectors = {
        split: {row["speaker_id"]: np.array(row["vector"]) / np.linalg.norm(row["vector"]) for row in rows}
        for split, rows in read.items()
    }
    links = look_up(content, "links", "test", "baseline")
    for speaker, vector in vectors["test"].items():
        cosines = {other: float(vector @ reference) for other, reference in vectors["train"].items()}
        expected = sorted(cosines, key=lambda other: -cosines[other])[:5]
        own = [row for row in links if row["speaker"] == speaker]
        assert [row["neighbour"] for row in own] == expected
        assert [row["cosine"] for row in own] == pytest.approx([cosines[other] for other in expected], abs=6e-5)


def test_the_corpus_is_counted(made, page, content):
    text = re.sub(r"\s+", " ", page)
    # 20 speakers with 15 utterances of 2.5 s each; the first utterance is set aside
    assert '<th scope="row">train</th><td>20</td><td>299</td><td>0.21</td><td>15</td><td>15</td><td>1</td>' in text
    assert "4 files could not be used: silent (4)." in text
    assert sum(row["count"] for row in look_up(content, "labels", "valence") if row["split"] == "train") == 299
    assert sum(row["speakers"] for row in look_up(content, "per_speaker", "train")) == 20


def test_values_are_never_markup(tmp_path):
    made = make_study(tmp_path, ablations=["baseline"], seeds=[1], speakers={"train": 5, "validation": 3, "test": 3})
    for name in ("speaker_table.csv", "label_shift.csv", "metadata/rejected.csv"):
        path = made.root / name
        text = path.read_text().replace("test 000", HOSTILE).replace("silent:", f"{HOSTILE}:")
        assert HOSTILE in text
        write_text(path, text)
    write_json(made.root / "tuning/other.json", {"settings": {"dropout": 0.1}, "ccc": 0.5, "points": 4})
    page = report(made, tmp_path / "report.html", winners={HOSTILE: str(made.root / "tuning/other.json")})
    assert "the best of 4 that were tried with <em>other</em>" in page and "dropout 0.1." in page
    assert HOSTILE not in page and "&lt;script&gt;document.title=1&lt;/script&gt;&amp;amp;" in page
    assert any(
        row["speaker"] == HOSTILE for row in look_up(read_content(page), "shifts", "test", "valence", "baseline")
    )
    assert page.count("</script>") == 3  # the page's own: data, Vega, page


def test_the_page_has_the_licences_of_what_it_bundles(page):
    """With another release of what is bundled, look at what it holds: page.licences.txt is kept by hand."""
    assert vl_convert.get_vega_version().startswith("6.") and vl_convert.get_vega_embed_version().startswith("7.")
    for text in (
        "Interactive Data Lab",
        "BSD 3-Clause",
        "Mike Bostock",
        "ISC License",
        "Cynthia Brewer",
        "MIT License",
    ):
        assert text in page


def test_script_data_cannot_end_its_element():
    value = {"a": "</script><!--<script>\u2028", "b": [1.5, None]}
    text = dump_script(value)
    assert not set("<>&\u2028") & set(text) and json.loads(text) == value
    with pytest.raises(ValueError):
        dump_script(float("nan"))


def test_the_same_results_give_the_same_bytes_and_nothing_is_loaded(made, page, tmp_path):
    assert report(made, tmp_path / "again.html") == page
    without_libraries = re.sub(r"<script>.*?</script>", "", page, flags=re.S)
    assert not re.search(r"(src|href)\s*=\s*[\"']?(https?:)?//|@import|url\(", without_libraries)


def test_costs_are_sums_of_a_rules_jobs_and_leave_out_what_is_gone(made):
    write_text(made.root / "benchmarks/train_ablation/gone.tsv", "s\n999\n")
    train, score = measure_costs(made.root / "benchmarks", ["baseline", "other"])
    assert train == {
        **{"rule": "train_ablation", "jobs": 2, "seconds": 21.0, "longest": 10.5, "cpu": 16.0},
        **{"memory": 100 * 2**20, "read": 2**20, "written": 4 * 2**20},
    }
    assert (score["rule"], score["seconds"], score["memory"]) == ("score", 0.4, 0)
    (made.root / "benchmarks/train_ablation/gone.tsv").unlink()
