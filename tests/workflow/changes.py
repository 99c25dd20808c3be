"""What a user may do to a finished project: changes of audio, sheet, config and code."""

import os
from zlib import crc32

from made_corpus import read_sheet, write_sheet, write_utterance

OTHER_LABELS = (2.0, 3.0, 4.0)


def write_other(path, file):
    """Other content for each file: no recording may be of two speakers."""
    write_utterance(path, OTHER_LABELS, voice=0.5, seed=crc32(file.encode()))


def replace(project, file):
    """Give an audio file other content of the same size, with an older modification time."""
    path = project.corpus / "audio" / file
    before = path.stat()
    write_other(path, file)
    assert path.stat().st_size == before.st_size
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns - 10**12))


def add_utterance(project, file, speaker, split):
    write_other(project.corpus / "audio" / file, file)
    row = {"file": file, "speaker": speaker, "split": split, "valence": 2, "arousal": 3, "dominance": 4}
    write_sheet(project.corpus, [*read_sheet(project.corpus), row])


def remove_utterances(project, speaker, *files):
    """Remove files, or all of a speaker."""
    rows = read_sheet(project.corpus)
    gone = [row for row in rows if row["speaker"] == speaker and (not files or row["file"] in files)]
    for row in gone:
        (project.corpus / "audio" / row["file"]).unlink()
    write_sheet(project.corpus, [row for row in rows if row not in gone])


def swap(project, one, other):
    """Exchange the contents of two audio files."""
    paths = [project.corpus / "audio" / name for name in (one, other)]
    contents = [path.read_bytes() for path in paths]
    for path, content in zip(paths, reversed(contents), strict=True):
        path.write_bytes(content)


def move_speaker(project, speaker, split):
    rows = read_sheet(project.corpus)
    write_sheet(project.corpus, [row | {"split": split} if row["speaker"] == speaker else row for row in rows])


def rewrite_sheet(project):
    """As another program might: rows in another order, one column more, a byte order mark, no carriage returns."""
    write_sheet(project.corpus, [row | {"mood": "good"} for row in reversed(read_sheet(project.corpus))])
    path = project.corpus / "labels.csv"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\r", b""))


def change_label(project, file):
    rows = read_sheet(project.corpus)
    row = next(row for row in rows if row["file"] == file)
    row["valence"] = "1.5" if row["valence"] != "1.5" else "6.5"
    write_sheet(project.corpus, rows)


def change_gender(project, speaker):
    rows = read_sheet(project.corpus)
    write_sheet(project.corpus, [row | {"gender": "x"} if row["speaker"] == speaker else row for row in rows])


def change_ablation(project, name, **options):
    with project.configure() as config:
        next(ablation for ablation in config["ablations"] if ablation["name"] == name).update(options)


def add_ablation(project, **ablation):
    with project.configure() as config:
        config["ablations"].append(ablation)


def remove_ablation(project, name):
    with project.configure() as config:
        config["ablations"] = [ablation for ablation in config["ablations"] if ablation["name"] != name]


def change_config(project, section, **options):
    with project.configure() as config:
        config[section].update(options)


def change_encoder(project, name, **options):
    with project.configure() as config:
        config["encoders"][name].update(options)


def change_top_level(project, **options):
    with project.configure() as config:
        config.update(options)


def add_split(project):
    with project.configure() as config:
        config["corpus"]["test_splits"] = ["test", "second"]
    add_utterance(project, "other/a.wav", "other 0", "second")  # in shard 001
    add_utterance(project, "other/b.wav", "other 0", "second")


def edit(project, source):
    path = project.checkout / "workflow_scripts" / source
    path.write_text(path.read_text(encoding="utf-8") + "\n# An edit.\n", encoding="utf-8")


def touch(project, moment):
    for folder in (project.corpus, project.work / "encoders", project.checkout):
        for path in folder.rglob("*"):
            os.utime(path, moment)
    project.config = reverse_keys(project.config)
    os.utime(project.work / "config.yaml", moment)


def reverse_keys(value):
    """A config with the keys in another order, at every depth."""
    if isinstance(value, dict):
        return {key: reverse_keys(item) for key, item in reversed(value.items())}
    return [reverse_keys(item) for item in value] if isinstance(value, list) else value


def move_checkout(project):
    project.checkout = project.checkout.rename(project.folder / "elsewhere")
