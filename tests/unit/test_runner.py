"""The command and the class: who speaks, what is written where, how a run ends."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from made_bundle import make_small_bundle, speak

from ser_score import BundleError, Rejected, Scorer, UsageError
from ser_score.calibration import average_seeds
from ser_score.main import BAD_BUNDLE, DONE, NOTHING_SCORED, USAGE, main
from ser_score.recordings import find_recordings

RUNNER = Path(__file__).parents[2] / "runner"


@pytest.fixture
def path(small_bundle):
    return small_bundle


@pytest.fixture
def scorer(path):
    return Scorer(path)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Two speakers' folders, of four recordings and of one, and a file that is none."""
    folder = tmp_path_factory.mktemp("recordings")
    for name in ("anna/1.wav", "anna/2.wav", "anna/3.wav", "anna/deep/4.wav", "=ben/1.wav"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / name, speak(1, seed=len(name) + ord(name[-5])), 16_000)
    (folder / "anna/note.txt").write_text("no audio")
    (folder / "anna/.hidden").write_text("")
    return folder


def read(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_folder_becomes_tables(path, recordings, tmp_path, capsys):
    assert main([str(path), str(recordings), "--out", str(tmp_path / "scores.csv"), "--threads", "2"]) == DONE
    rows = {row["file"]: row for row in read(tmp_path / "scores.csv")}
    assert sorted(rows) == ["'=ben/1.wav", "anna/1.wav", "anna/2.wav", "anna/3.wav", "anna/deep/4.wav"]
    anna, ben = rows["anna/1.wav"], rows["'=ben/1.wav"]
    assert (anna["calibration"], anna["n_utterances"], anna["enough_utterances"], anna["note"]) == (
        "mu_sigma", "4", "yes", "",
    )  # fmt: skip
    assert (ben["speaker"], ben["calibration"], ben["enough_utterances"]) == ("'=ben", "none", "no")
    assert ben["note"] == "uncalibrated: 1 recordings of the speaker, and a calibration needs 3"
    assert float(anna["valence_low"]) <= float(anna["valence"]) <= float(anna["valence_high"])
    assert set(anna["neighbours"].split(";")) <= {f"reference-{n:04d}" for n in range(1, 61)}
    moves = read(tmp_path / "scores.speakers.csv")
    assert [(m["speaker"], m["target"], m["seed"]) for m in moves if m["speaker"] == "anna"] == [
        ("anna", target, seed) for seed in "12" for target in ("valence", "arousal")
    ]
    (rejected,) = read(tmp_path / "scores.rejected.csv")
    assert rejected["reason"] == "cannot be decoded (is no WAV, FLAC, OGG or MP3)"
    assert capsys.readouterr().err.splitlines()[-1] == "5 recordings scored, 1 not"


def test_one_file_in_json(path, recordings, capsys):
    assert main([str(path), str(recordings / "anna/1.wav"), "--json", "--quiet"]) == DONE
    said = capsys.readouterr()
    (score,) = json.loads(said.out)["scores"]
    assert (score["file"], score["speaker"], score["calibration"], said.err) == ("1.wav", "1", "none", "")
    assert score["scores"]["valence"].keys() == {"score", "low", "high", "uncalibrated", "seed_sd"}


def test_enrolled_speakers_are_calibrated_one_recording_at_a_time(path, recordings, tmp_path, capsys):
    command = [str(path), str(recordings / "anna/1.wav"), "--speaker", "anna", "--json"]
    assert main([*command, "--enrol", str(recordings / "anna")]) == DONE
    (score,) = json.loads(capsys.readouterr().out)["scores"]
    assert score["calibration"] == "enrol_1" and score["note"] == ""  # three in the folder itself


def test_a_sheet_says_who_speaks(path, recordings, tmp_path, capsys):
    sheet = tmp_path / "who.csv"
    sheet.write_text("speaker;file\nx;anna/1.wav\nx;anna/deep/../2.wav\ny;anna/3.wav\n")
    assert main([str(path), str(recordings), "--sheet", str(sheet)]) == DONE
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert [(r["file"], r["speaker"]) for r in rows] == [("anna/1.wav", "x"), ("anna/2.wav", "x"), ("anna/3.wav", "y")]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("file,speaker\n/etc/passwd,x\n", "row 2: file '/etc/passwd' is not inside"),
        ("file,speaker\n../a.wav,x\n", "is not inside"),
        ("file,speaker\na.wav,x\na.wav,y\n", "row 3: file 'a.wav' is not inside .* or listed already"),
        ("file,speaker\na.wav,\n", "row 2: expected the columns file and speaker"),
        ("name\na.wav\n", "expected the columns file and speaker"),
        ("file,speaker\n", "there are no recordings"),
        ("file,speaker\na.wav,\x1b[2J\n", r"has the character U\+001B"),
    ],
)
def test_sheets_that_cannot_be_used_are_refused(tmp_path, text, match):
    (tmp_path / "who.csv").write_text(text)
    with pytest.raises(UsageError, match=match):
        find_recordings(tmp_path, None, tmp_path / "who.csv")


def test_a_file_in_no_speakers_folder_is_refused(tmp_path):
    (tmp_path / "a.wav").write_text("")
    with pytest.raises(UsageError, match="lies in no speaker's folder: expected .*/SPEAKER/a.wav"):
        find_recordings(tmp_path, None, None)
    assert find_recordings(tmp_path, "x", None) == {"x": {"a.wav": tmp_path / "a.wav"}}


def test_a_run_ends_with_a_code_that_says_how(path, recordings, tmp_path, capsys):
    (tmp_path / "no.zip").write_text("no bundle")
    (tmp_path / "none").mkdir()
    (tmp_path / "none/a.txt").write_text("no audio")
    for arguments, code, said in [
        ([path, tmp_path / "absent"], USAGE, "there is no such file or folder"),
        ([tmp_path / "no.zip", recordings], BAD_BUNDLE, "is no bundle"),
        ([tmp_path / "absent.zip", recordings], BAD_BUNDLE, "cannot be read"),
        ([path, tmp_path / "none", "--speaker", "x"], NOTHING_SCORED, "0 recordings scored, 1 not"),
        ([path, recordings, "--out", tmp_path / "absent/scores.csv"], USAGE, "No such file"),
    ]:
        assert main(list(map(str, arguments))) == code
        assert said in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main([str(path)])
    assert "name recordings to score, or --serve" in capsys.readouterr().err


def test_it_imports_nothing_of_the_workflow(path, recordings):
    """Nor what makes the workflow heavy."""
    script = (
        "import sys; from ser_score.main import main; main(sys.argv[1:]);"
        "print(sorted({name.split('.')[0] for name in sys.modules} & {'ser', 'torch', 'tensorflow', 'scipy', 'librosa',"
        "'keras', 'snakemake', 'pandas', 'pyarrow', 'onnx', 'transformers'}))"
    )
    command = [sys.executable, "-c", script, str(path), str(recordings / "anna/1.wav"), "--quiet"]
    done = subprocess.run(command, cwd=RUNNER, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "[]", done.stderr


# As it comes


def test_a_speaker_without_enrolment_is_left_uncalibrated_and_it_says_so(scorer):
    score = scorer.score(speak(1), speaker="anna")
    assert score.calibration == "none" and np.array_equal(score.values, score.raw)
    assert score.note == "uncalibrated: 0 utterances of the speaker are enrolled, and a calibration needs 1"
    assert scorer.score(speak(1)).note == "uncalibrated: no speaker is named, and a calibration needs 1"


def test_the_largest_enrolment_that_there_are_utterances_for_is_used(scorer):
    used = []
    for number in range(11):
        scorer.enrol("anna", speak(1, seed=number))
        used.append(scorer.score(speak(1, seed=99), speaker="anna").calibration)
    assert used == ["enrol_1"] * 4 + ["enrol_5"] * 5 + ["enrol_10"] * 2
    assert scorer.score(speak(1), speaker="ben").calibration == "none"
    scorer.forget("anna")
    assert scorer.score(speak(1), speaker="anna").calibration == "none"


def test_labels_of_enrolled_utterances_are_used_where_there_are_enough(scorer):
    for number in range(5):
        scorer.enrol("anna", speak(1, seed=number), labels=[6.5, 1.5])
    score = scorer.score(speak(1, seed=9), speaker="anna")
    assert score.calibration == "labels_5"
    with pytest.raises(UsageError, match="a label for each of valence, arousal"):
        scorer.enrol("anna", speak(1), labels=[1])


def test_any_rate_and_channels_are_taken(scorer):
    wave = speak(1, rate=48_000)
    stereo = scorer.score(np.stack([wave, wave], 1), 48_000)
    np.testing.assert_allclose(stereo.values, scorer.score(wave, 48_000).values, atol=1e-6)
    with pytest.raises(Rejected, match="too short"):
        scorer.score(speak(0.05))


def test_the_whole_of_a_speaker_is_averaged_over_seeds_as_the_workflow_does(scorer):
    found = scorer.score_speaker({str(n): speak(1, seed=n) for n in range(4)})
    runs = np.stack([scorer._hear(speak(1, seed=n), None, None).labels for n in range(4)], axis=1)
    np.testing.assert_allclose([s.raw for s in found.scores.values()], average_seeds(runs), atol=1e-6)


def test_audio_unlike_the_training_audio_is_flagged(scorer):
    usual = speak(5) * 0.8
    (level,) = scorer.score(usual * 0.01).flags
    assert level.startswith("quieter than the training audio: -") and level.endswith("dB; that has -29.9 to -15.1")
    assert [flag.split()[0] for flag in scorer.score(usual[32_000:40_000]).flags] == ["shorter"]
    assert [flag.split()[0] for flag in scorer.score(usual * 9).flags] == ["louder"]
    narrow = soxr.resample(soxr.resample(usual, 16_000, 7000), 7000, 16_000)  # by a telephone, whatever the rate is now
    (treble,) = scorer.score(narrow).flags
    assert treble.startswith("duller (less above 4 kHz) than the training audio")


def test_a_bundle_without_calibration_says_so(tmp_path):
    scorer = Scorer(make_small_bundle(tmp_path, "none"))
    score = scorer.score_speaker({str(n): speak(1, seed=n) for n in range(4)}).scores["0"]
    assert (score.calibration, score.note) == ("none", "uncalibrated: the bundle has no calibration")
    with pytest.raises(UsageError, match="has no calibration with enrolled utterances"):
        scorer.enrol("anna", speak(1))


def test_a_file_that_is_no_bundle(tmp_path):
    with pytest.raises(BundleError, match="cannot be read"):
        Scorer(tmp_path / "absent.zip")
