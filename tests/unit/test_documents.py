"""What README, docs/ and results/README.md say agrees with the rules, the code and the schema.

Links lead somewhere, commands name what is there, configs are valid, artefacts belong to the rules that are named
beside them, and tables of keys and columns are complete.
"""

import json
import re
import shlex
import subprocess
import sys
from itertools import chain
from pathlib import Path

import pytest
import yaml

from ser.config.ablations import resolve_ablations
from ser.config.encoders import resolve_encoders
from ser.config.schema import check
from ser.evaluation.groups import GROUP_COLUMNS
from ser.evaluation.label_shift import CORRELATION_COLUMNS, SHIFT_COLUMNS
from ser.evaluation.recording_scores import SPEAKER_COLUMNS as RECORDINGS_SPEAKER_COLUMNS
from ser.evaluation.tables import CONTRAST_COLUMNS, SPEAKER_COLUMNS, SUMMARY_COLUMNS, TABLE_COLUMNS

ROOT = Path(__file__).parents[2]
LIBRARY = ROOT / "workflow_scripts" / "ser"
SCHEMA = ROOT / "rules" / "config.schema.yaml"
RESULTS = ROOT / "results" / "README.md"
ARCHITECTURE = ROOT / "docs" / "architecture.md"
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), RESULTS]

COLUMNS = {
    "ablation_table.csv": TABLE_COLUMNS,
    "contrast_table.csv": CONTRAST_COLUMNS,
    "speaker_table.csv": SPEAKER_COLUMNS,
    "speaker_summary.csv": SUMMARY_COLUMNS,
    "group_table.csv": GROUP_COLUMNS,
    "label_shift.csv": SHIFT_COLUMNS,
    "label_shift_correlations.csv": CORRELATION_COLUMNS,
    "scored/{name}.speakers.csv": RECORDINGS_SPEAKER_COLUMNS,
}
# Tables that describe every key of a part of the config: page, and where the part is in the schema.
KEYS = {
    "speaker-information.md": ("ablations",),
    "calibration.md": ("calibration", "methods"),
}
# What the config of an example needs beside the keys that it shows.
CONFIG = {
    "corpus": {"folder": "corpus"},
    "encoders": {"e": {"base": "e"}},
    "ablations": [{"name": "a"}],
    "baseline": "a",
}

# The rules as Snakemake reads them, and its opinion of command lines; in a process of its own, as in a working folder.
ASK_SNAKEMAKE = """
import contextlib, io, json, re, sys
from pathlib import Path
from snakemake.api import SnakemakeApi
from snakemake.cli import parse_args
from snakemake.settings.types import ConfigSettings, OutputSettings, Quietness, ResourceSettings, StorageSettings
from snakemake.settings.types import WorkflowSettings

snakefile, folder, commands = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
parsed = []
for arguments in commands:
    with contextlib.redirect_stderr(io.StringIO()) as said:
        try:
            parsed.append({"targets": sorted(parse_args(arguments)[1].targets)})
        except SystemExit:
            parsed.append({"error": said.getvalue().strip().splitlines()[-1]})
with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
    settings = {"resource_settings": ResourceSettings(cores=1), "config_settings": ConfigSettings()}
    settings |= {"storage_settings": StorageSettings(), "workflow_settings": WorkflowSettings()}
    workflow = api.workflow(**settings, snakefile=snakefile, workdir=folder)._workflow
    rules = {
        rule.name: {
            "file": Path(rule.snakefile).name,
            "script": rule.script and Path(rule.script).name,
            "outputs": [re.sub(r"\\{(\\w+),.*?\\}(?=[/.]|$)", r"{\\1}", str(path)) for path in rule.output],
        }
        for rule in workflow.rules
    }
print(json.dumps({"rules": rules, "parsed": parsed}))
"""


def name_document(path):
    return path.relative_to(ROOT).as_posix()


each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=name_document)


def read_fences(document, language):
    text = document.read_text(encoding="utf-8")
    blocks = re.findall(rf"^( *)```{language}\n(.*?)^ *```", text, re.M | re.S)
    return ["\n".join(line.removeprefix(indent) for line in block.splitlines()) for indent, block in blocks]


def read_prose(document):
    """A document without its fences."""
    return re.sub(r"^ *```.*?^ *```", "", document.read_text(encoding="utf-8"), flags=re.M | re.S)


def read_spans(text):
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", text)]


def read_table(document, header, heading=None):
    """The rows, lists of cells, of the first table with this header (its first cells) under a heading."""
    text = document.read_text(encoding="utf-8")
    if heading:
        (text,) = re.findall(rf"^#+ {re.escape(heading)}$(.*?)(?=^#|\Z)", text, re.M | re.S)
    tables = re.findall(r"(?:^\|.*\n)+", text, re.M)
    for table in tables:
        head, _, *rows = ([cell.strip() for cell in line.strip("|\n").split("|")] for line in table.splitlines())
        if head[: len(header)] == header:
            return rows
    raise AssertionError(f"{name_document(document)}: there is no table with the header {header}")


# Links


def name_anchors(document):
    """The anchors of a document's headings, as GitHub names them."""
    headings = re.findall(r"^#+ (.+)$", read_prose(document), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def list_links(document):
    """The files, with anchors, that a document leads to: `(path, anchor)`."""
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", read_prose(document))):
        if not re.match(r"https?://", target):
            path, _, anchor = target.partition("#")
            yield (document.parent / path).resolve() if path else document, anchor


@each_document
def test_links_lead_somewhere(document):
    for path, anchor in list_links(document):
        assert path.exists(), f"{name_document(document)} links to {path}"
        assert not anchor or anchor in name_anchors(path), f"{name_document(document)} links to #{anchor} of {path}"


def test_readme_leads_to_every_document():
    reached, ends = set(), {ROOT / "README.md"}
    while ends:
        reached |= ends
        ends = {path for page in ends if page.suffix == ".md" for path, _ in list_links(page)} - reached
    assert sorted(path for path in (ROOT / "docs").rglob("*") if path.is_file() and path not in reached) == []
    assert RESULTS in reached


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 170


# Commands


def list_commands(document):
    """The command lines of a document, `[program, argument, ...]`, with PATH as this repository."""
    lines = chain.from_iterable(fence.splitlines() for fence in read_fences(document, "sh"))
    spans = [span for span in read_spans(read_prose(document)) if re.match(r"(snakemake|python3?|pip) \S", span)]
    for line in [*lines, *spans]:
        for command in " ".join(shlex.quote(word) for word in shlex.split(line, comments=True)).split(" '&&' "):
            words = [word.replace("PATH/", f"{ROOT}/") for word in shlex.split(command)]
            while words and re.match(r"[A-Z_]+=", words[0]):
                words.pop(0)
            if words:
                yield [words[0].removeprefix(".venv/bin/"), *words[1:]]


SNAKEMAKE = [(d, words[1:]) for d in DOCUMENTS for words in list_commands(d) if words[0] == "snakemake"]


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("documents")
    for name in ("config.yaml", "demo"):
        (folder / name).symlink_to(ROOT / name)
    arguments = [ROOT / "Snakefile", folder, json.dumps([words for _, words in SNAKEMAKE])]
    command = [sys.executable, "-c", ASK_SNAKEMAKE, *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def rules(asked):
    return asked["rules"]


def test_snakemake_understands_its_commands_and_makes_their_targets(asked, rules):
    patterns = [pattern for rule in rules.values() for pattern in rule["outputs"]]
    makes = [re.compile(re.sub(r"\\\{\w+\\\}", r"[^/]+", re.escape(pattern))) for pattern in patterns]
    for (document, words), said in zip(SNAKEMAKE, asked["parsed"], strict=True):
        where = f"{name_document(document)}: snakemake {shlex.join(words)}"
        assert "error" not in said, f"{where}: {said['error']}"
        for target in said["targets"]:
            assert target in rules or any(made.fullmatch(target) for made in makes), f"{where}: nothing makes {target}"


@each_document
def test_other_commands_name_what_is_there(document):
    for program, *words in list_commands(document):
        command = f"{name_document(document)}: {program} {shlex.join(words)}"
        assert program in ("snakemake", "python", "python3", "pip", "tensorboard", "ser-score"), command
        files = [ROOT / word for word in words if word.endswith((".py", ".txt"))]
        assert [file for file in files if not file.is_file()] == [], command
        if words[0].endswith(".py"):
            options = [word for word in words if word.startswith("--")]
            text = files[0].read_text(encoding="utf-8")
            if options and files[0].parent.name == "workflow_scripts":  # which import little
                text = subprocess.run([sys.executable, files[0], "--help"], capture_output=True, text=True).stdout
            assert [option for option in options if option not in text] == [], command


def test_the_second_command_is_the_first_line_that_ends_with_pytest():
    """It is what a continuous integration runs."""
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    command = next(line for line in lines if line.endswith("pytest"))
    assert command.startswith("python3 -m venv .venv && ") and "envs/requirements-dev.txt" in command


def test_the_torch_that_is_installed_by_itself_is_the_lock_s():
    pins = re.findall(r"torch==\S+", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert pins and set(pins) <= set((ROOT / "envs" / "requirements.txt").read_text(encoding="utf-8").split())


# The config


@each_document
def test_configs_are_valid(document):
    for fence in read_fences(document, "yaml"):
        shown = yaml.safe_load(fence)
        config = check(CONFIG | shown, SCHEMA)
        if "baseline" in shown:
            assert resolve_encoders(config) and resolve_ablations(config)


@pytest.mark.parametrize("page", KEYS)
def test_every_key_and_value_is_described(page):
    schema = yaml.safe_load(SCHEMA.read_text(encoding="utf-8"))
    for part in KEYS[page]:
        schema = schema["properties"][part]
    keys = {key: part for key, part in schema["items"]["properties"].items() if key != "name"}
    rows = {name: text for first, text in read_table(ROOT / "docs" / page, ["key"]) for name in read_spans(first)}
    assert sorted(rows) == sorted(keys)
    for key, part in keys.items():
        missing = set(map(str, part.get("enum", []))) - set(read_spans(rows[key]))
        assert not missing, f"{page}: the row of {key} lacks {missing}"


# Results


@pytest.mark.parametrize("table", COLUMNS)
def test_every_column_is_described(table):
    rows = read_table(RESULTS, ["column", "what"], heading=table)
    assert all(what for _, what in rows)
    named = [name for first, _ in rows for name in read_spans(first)]
    assert len(named) == len(set(named))
    assert set(named) == set(COLUMNS[table])


def match_outputs(path, outputs):
    """The outputs that a described path stands for: `{split}` is a wildcard, or one of the splits."""
    pattern = re.compile(re.sub(r"\\\{\w+\\\}", r"[^/.]+", re.escape(f"results/{path}")))
    return [output for output in outputs if pattern.fullmatch(output)]


def test_artefacts_are_made_by_the_rules_that_are_named_and_none_is_missing(rules):
    left = {(name, output) for name, rule in rules.items() for output in rule["outputs"]}
    for first, second, _ in read_table(RESULTS, ["path", "rule", "what"]):
        for path in read_spans(first):
            makers = {name for name, rule in rules.items() if match_outputs(path, rule["outputs"])}
            assert makers == set(read_spans(second)), path
            left -= {(name, output) for name in makers for output in match_outputs(path, rules[name]["outputs"])}
    assert sorted(left) == []


# Architecture

ARCHITECTURE_ROWS = read_table(ARCHITECTURE, ["stage", "rules file", "script", "library", "artefact"])


def test_stages_name_their_files_and_none_is_missing(rules):
    described = set()
    for stage, *cells in ARCHITECTURE_ROWS:
        (file,), scripts, _, artefacts = map(read_spans, cells)
        assert (ROOT / "rules" / file).is_file(), stage
        for script in scripts:
            found = [rule for rule in rules.values() if (rule["file"], rule["script"]) == (file, script)]
            assert found, f"{stage}: no rule in {file} runs {script}"
            outputs = [output for rule in found for output in rule["outputs"]]
            assert all(match_outputs(path, outputs) for path in artefacts), stage
            described.add((file, script))
    run_elsewhere = {"predict_recordings", "calibrate_recordings"}  # the scripts of two rules that are described
    assert described == {
        (rule["file"], rule["script"]) for name, rule in rules.items() if rule["script"] and name not in run_elsewhere
    }


def list_folders(source):
    """The folders of the library that a file imports from, at once or within a function."""
    return set(re.findall(r"^ *(?:from|import) ser\.(\w+)\b", source.read_text(encoding="utf-8"), re.M))


def test_stages_name_the_folder_of_the_library_that_their_script_uses():
    for stage, _, script, folder, _ in ARCHITECTURE_ROWS:
        for name in read_spans(script):
            assert read_spans(folder)[0].strip("/") in list_folders(ROOT / "workflow_scripts" / name), stage


def test_folders_of_the_library_import_only_from_those_above_them_in_the_table():
    folders = [read_spans(first)[0].strip("/") for first, _ in read_table(ARCHITECTURE, ["folder"])]
    assert sorted(folders) == sorted(path.parent.name for path in LIBRARY.glob("*/__init__.py"))
    for place, folder in enumerate(folders):
        for source in (LIBRARY / folder).glob("*.py"):
            assert not list_folders(source) & set(folders[place + 1 :]), f"{source} imports from a folder below its own"


# English


OTHER_TEXTS = ["config.yaml", "rules/config.schema.yaml", "workflow_scripts/ser/report/page.html"]
OTHER_TEXTS += sorted(f"rules/report/{path.name}" for path in (ROOT / "rules/report").glob("*.rst"))


def find_old_english(text: str) -> list[str]:
    """ "One row for each recording", not "a row a recording"."""
    things = "row|file|column|shard|score|line|folder|slice|vector|model|job|record|value|second|one"
    return re.findall(rf"\b(?:(?:an?|one) (?:{things})|one) an? \w+", text)


@each_document
def test_english_is_plain(document):
    assert find_old_english(read_prose(document)) == []


@pytest.mark.parametrize("name", OTHER_TEXTS)
def test_english_is_plain_in_what_users_read_elsewhere(name):
    assert find_old_english((ROOT / name).read_text(encoding="utf-8")) == []
