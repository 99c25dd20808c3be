"""The report says what the tables say, lets no value become markup, and draws in a browser without a network."""

import csv
import json
import re
import shutil
import subprocess
from collections import Counter

import numpy as np
import pyarrow.parquet as pq
import pytest
import vl_convert
from made_report import make_study, report

from ser.files import read_json, write_json, write_text
from ser.report.datasets import collect_training, group_rows
from ser.report.page import dump_script, format_size, format_time
from ser.report.run import measure_costs, measure_disk
from ser.report.speaker_map import BINS, project
from ser.report.summary import (
    count_differences,
    describe_groups,
    describe_power,
    format_interval,
    format_number,
    judge,
    list_cautions,
)

KEY = ("ablation", "calibration", "target", "split")
GROUPS = {"kind": lambda number: "most" if number < 6 else "<b>few</b>"}  # 6 and 2 of the split test
HOSTILE = "<script>document.title=1</script>&amp;"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    speakers = {"train": 20, "validation": 6, "test": 8, "second": 5}
    return make_study(tmp_path_factory.mktemp("made"), speakers=speakers, groups=GROUPS)


@pytest.fixture(scope="module")
def page(made):
    return report(made, made.root / "report.html")


@pytest.fixture(scope="module")
def content(page):
    return read_content(page)


def read_content(page):
    """What the page's plots and table are made from."""
    return json.loads(re.search(r'<script type="application/json" id="content">(.*?)</script>', page, re.S)[1])


def look_up(content, name, *keys):
    """The rows of a dataset's group."""
    dataset = content["datasets"][name]
    columns = [
        [dataset["texts"][field][value] for value in column] if field in dataset["texts"] else column
        for field, column in zip(dataset["fields"], dataset["groups"].get("|".join(keys), []), strict=False)
    ]
    return [dict(zip(dataset["fields"], values, strict=True)) for values in zip(*columns, strict=True)]


def read_csv(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


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


def test_the_gaps_that_are_told_from_none_are_counted():
    sizes = {"group": "sex", "split": "test", "n_speakers": 6.0}
    rows = [sizes | {"value": value, "gap_a_ccc_p_adjusted": p} for value in "fm" for p in (0.049, 0.051, None)]
    rows.append(sizes | {"value": "x", "gap_a_ccc_p_adjusted": None, "n_speakers": 5.0})
    assert describe_groups(rows) == [{"name": "sex", "compared": 4, "told": 2, "small": ["x (5, test)"]}]


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


def test_the_plane_is_that_of_a_singular_value_decomposition():
    rng = np.random.default_rng(5)
    references, others = rng.normal(size=(30, 8)) + 2, rng.normal(size=(4, 8)) + 2
    (plane, shown), share = project(references, others)
    unit = references / np.linalg.norm(references, axis=1, keepdims=True)
    centre = unit.mean(axis=0)
    _, values, axes = np.linalg.svd(unit - centre, full_matrices=False)
    other = (others / np.linalg.norm(others, axis=1, keepdims=True) - centre) @ axes[:2].T
    # the sign of a component is arbitrary; both ways are exact to rounding
    np.testing.assert_allclose(np.abs(plane), np.abs((unit - centre) @ axes[:2].T), atol=1e-9)
    np.testing.assert_allclose(np.abs(shown), np.abs(other), atol=1e-9)
    assert share == pytest.approx(np.sum(values[:2] ** 2) / np.sum(values**2))


@pytest.mark.parametrize("shape", [(1, 4), (2, 4), (3, 1)])
def test_few_speakers_have_a_plane_too(shape):
    (plane,), share = project(np.arange(1.0, 1 + shape[0] * shape[1]).reshape(shape))
    assert plane.shape == (shape[0], 2) and np.isfinite(plane).all() and np.isfinite(share)


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


def test_a_file_with_two_names_is_on_disk_once(tmp_path):
    write_text(tmp_path / "embeddings/a", "12345")
    write_text(tmp_path / "table.csv", "123")
    write_text(tmp_path / "logs/score.log", "not counted")
    (tmp_path / ".reuse").mkdir()
    (tmp_path / ".reuse/b").hardlink_to(tmp_path / "embeddings/a")
    assert measure_disk(tmp_path) == [
        {"kind": "embeddings", "files": 1, "bytes": 5},
        {"kind": "tables", "files": 1, "bytes": 3},
    ]


def test_a_training_log_is_drawn_whatever_it_measures(tmp_path):
    lines = [f"{step},{step // 10},train,{1 / (step + 1)},0.5,,0.001" for step in range(1000)]
    lines += ["999,99,validation,0.25,,0.125,0"]
    write_text(
        tmp_path / "training.csv", "\n".join(["step,epoch,split,loss,accuracy,perplexity,learning_rate", *lines]) + "\n"
    )
    curves, measures = collect_training({"tapt": str(tmp_path / "training.csv")})
    assert measures == ["loss", "accuracy", "perplexity"]
    loss = dict(zip(curves.fields, curves.groups["loss"], strict=True))
    steps = [step for step, split in zip(loss["step"], loss["split"], strict=True) if split == "train"]
    assert len(steps) <= 402 and steps[0] == 0 and steps[-1] == 999  # thinned, with both ends
    assert curves.groups["perplexity"] == [["tapt"], ["validation"], [999], [0.125]]


def test_numbers_are_written_for_people():
    assert [format_number(v, 2, sign=True) for v in (0.126, -0.126, None)] == ["+0.13", "\u22120.13", "\u2013"]
    assert format_interval(-0.1, 0.25) == "[\u22120.100, 0.250]" and format_interval(None, None) == ""
    assert [format_size(v) for v in (0, 999, 1500, 123456789)] == ["0 B", "999 B", "1.5 kB", "123 MB"]
    assert [format_time(v) for v in (0.04, 90, 5400)] == ["0.0 s", "1.5 min", "1.5 h"]


def test_differences_are_counted():
    lines = [{"compared": 8, "above": 2, "below": 0}, {"compared": 12, "above": 1, "below": 3}]
    assert count_differences(lines) == {"compared": 20, "above": 3, "below": 3}


@pytest.mark.parametrize(
    ("p", "adjusted", "delta", "bound", "words"),
    [
        (None, None, 0.3, None, "no interval"),
        (0.001, 0.01, 0.3, 0.4, "better"),
        (0.001, 0.01, -0.3, 0.4, "worse"),
        (0.03, 0.2, 0.3, 0.4, "too few to tell"),
        (0.6, 1.0, 0.01, 0.04, "no difference larger than 0.040"),
    ],
)
def test_what_may_be_said_of_a_difference(p, adjusted, delta, bound, words):
    row = {"delta_a_ccc_p": p, "delta_a_ccc_p_adjusted": adjusted, "delta_a_ccc": delta, "delta_a_ccc_bound": bound}
    assert judge(row, margin=0.05) == words


def test_the_power_of_a_run_is_said_by_family():
    rows = [
        {"split": "test", "family": family, "detectable_delta": size, "n_speakers": 12.0}
        for family, sizes in {"ablations": (0.1, 0.2, 0.12), "calibrations": (0.06,), "": (0.5,)}.items()
        for size in sizes
    ]
    one, two = describe_power([*rows, rows[0] | {"detectable_delta": None}], seeds=3)
    assert (one["family"], one["detectable"], one["speakers"], one["wanted"]) == ("ablations", 0.12, 12, 1730)
    assert (two["family"], two["detectable"], two["wanted"]) == ("calibrations", 0.06, 430)


def test_cautions_name_what_weakens_the_figures():
    cells = [{"split": split, "n_speakers": n} for split, n in {"test": 1.0, "second": 6.0, "validation": 40.0}.items()]
    cards = {"a": {"weights": "random-init"}, "b": {"weights": "given"}}
    cautions = " ".join(list_cautions(cells, cards, [1], 2))
    few = ("Only 1 speaker counts in split test: even if", "Only 6 speakers count in split second: its intervals")
    for words in (*few, "weights of encoder a are random", "One seed", "2 audio files"):
        assert words in cautions
    assert "validation" not in cautions and "encoder b" not in cautions
    assert list_cautions(cells[2:], {"b": {}}, [1, 2], 0) == []
    trained = [cells[2] | {"encoder": "b", "encoder_trained_on": "MSP-Podcast train, labels"}] * 2
    (caution,) = list_cautions(trained, {"b": {}}, [1, 2], 0)
    assert caution.startswith("Encoder b was trained before on MSP-Podcast train, labels: on that corpus its rows")


def test_a_group_is_found_by_its_keys():
    rows = [{"a": "x", "b": 1, "c": 0.123456}, {"a": "y", "b": 1, "c": 2.0}, {"a": "x", "b": 1, "c": None}]
    dataset = group_rows(("a", "b"), ("c",), rows)
    assert dataset.groups == {"x|1": [[0.1235, None]], "y|1": [[2]]}


# ---- in a browser

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--host-resolver-rules=MAP * ~NOTFOUND"),
    *("--enable-logging=stderr", "--virtual-time-budget=60000", "--dump-dom"),
]
ODD = {
    "one seed": {"seeds": [1], "ablations": ["baseline"]},
    "no calibration": {"methods": []},
    "one speaker a split": {"speakers": {"train": 1, "validation": 1, "test": 1}, "targets": ["valence"]},
    "labels withheld": {"speakers": {"train": 6, "validation": 3, "test": 3, "second": 2}, "withheld": ("second",)},
    "no test split": {"speakers": {"train": 4, "validation": 3}},
}


def open_page(path, profile):
    """The document after its scripts ran, and what the console said."""
    if CHROMIUM is None:
        pytest.skip("no Chromium: install Debian's package chromium")
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def find_plots(document):
    """What each place of a plot holds: an SVG, or a note that there is nothing to show."""
    places = re.findall(r'<div class="chart[^"]*" data-plot="([^"]+)".*?</figure>', document, re.S)
    texts = re.findall(r'<div class="chart[^"]*" data-plot="[^"]+".*?</figure>', document, re.S)
    return {
        place: "drawn" if "<svg" in text else "empty" if 'class="empty"' in text else "missing"
        for place, text in zip(places, texts, strict=True)
    }


def test_every_plot_is_drawn_without_a_network(made, page, content, tmp_path):
    document, console = open_page(made.root / "report.html", tmp_path / "profile")
    assert console == []
    assert 'data-ready="yes"' in document
    plots = find_plots(document)
    assert plots.keys() == content["plots"].keys()
    assert {place for place, state in plots.items() if state != "drawn"} <= {"alpha"}  # mu_sigma has none
    assert document.count('class="forest"') > 2 * 2 * 2  # the table of ablations: two columns of intervals


# What a reader does: every option of every choice, every view of the table, a click on a heading, the other theme.
VISIT = """
<script>
(async () => {
  const root = document.documentElement;
  const settle = async () => { while (root.dataset.ready !== "yes") await new Promise((done) => setTimeout(done, 5)); };
  const seen = [];
  await settle();
  for (const select of document.querySelectorAll("select"))
    for (const option of select.options) {
      select.value = option.value;
      select.dispatchEvent(new Event("change", { bubbles: true }));
      await settle();
      seen.push(option.value);
    }
  const filter = document.getElementById("filter"), rows = () => document.querySelectorAll("#table tbody tr").length;
  const search = (text) => { filter.value = text; filter.dispatchEvent(new Event("input")); return rows(); };
  root.dataset.found = `${search("no such name")} ${search("BASELINE random")} of ${search("")}`;
  document.querySelector("#table button").click();
  document.getElementById("theme").click();
  await settle();
  root.dataset.visited = seen.length;
})();
</script>
"""


@pytest.mark.long
def test_every_choice_can_be_made(page, content, tmp_path):
    visited = tmp_path / "visited.html"
    write_text(visited, page + VISIT)
    document, console = open_page(visited, tmp_path / "profile")
    assert console == []
    options = sum(len(choice["values"]) for choice in content["choice"].values())
    assert f'data-visited="{options + 4 + 2}"' in document  # and 4 views of the table by 2 metrics
    rows = content["cells"]["rows"]  # the last view of the table shows all, of which 500 at once
    drawn = sum(row[:6:5] == ["baseline", "random_k"] for row in rows)
    assert f'data-found="0 {drawn} of {min(len(rows), 500)}"' in document
    assert 'data-theme="' in document and "missing" not in find_plots(document).values()


@pytest.mark.long
@pytest.mark.parametrize("options", ODD.values(), ids=ODD)
def test_odd_studies_have_a_report(options, tmp_path):
    options = {"speakers": {"train": 6, "validation": 3, "test": 3}, "utterances": 6} | options
    page = report(make_study(tmp_path, **options), tmp_path / "report.html")
    assert read_content(page)["cells"]["rows"]
    document, console = open_page(tmp_path / "report.html", tmp_path / "profile")
    assert console == [] and 'data-ready="yes"' in document
    plots = find_plots(document)
    assert set(plots.values()) <= {"drawn", "empty"} and plots["labels"] == "drawn"
