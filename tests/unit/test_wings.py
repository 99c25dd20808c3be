"""Where modules stand, who may import whom, and that no edit reaches further than its stage."""

import ast
from pathlib import Path

import pytest

from ser.tracing import sources

SCRIPTS = Path(__file__).parents[2] / "workflow_scripts"
LIBRARY = SCRIPTS / "ser"
# Imports run downwards: from a wing to those in later lines, never to another of its own line.
FLOORS = [
    {"bundles"},
    {"report", "tracing"},
    {"evaluation"},
    {"finetuning"},
    {"adaptation", "heads"},
    {"speakers"},
    {"encoders", "optimisation"},
    {"audio", "corpus"},
    {"formats"},
    {"config", "statistics"},
    {""},  # files, log and the like, beside the wings
]
MODULES = sorted(path for path in LIBRARY.rglob("*.py") if path.name != "__init__.py")
TRAIN = ["train_ablation.py", "tune_ablation.py", "adapt_encoder.py"]
EMBED = ["embed_shard.py", "fit_clusters.py", "label_frames.py", "place_speakers.py", "measure_audio.py"]
TABLES = ["choose_calibration.py", "calibrate.py", "check_protocol.py", "score.py", "predict_split.py"]


def find_wing(module: Path) -> str:
    return "/".join(module.relative_to(LIBRARY).parts[:-1])


def find_floor(wing: str) -> int:
    return next(number for number, wings in enumerate(FLOORS) if wing in wings)


def find_upward_imports(modules: dict[Path, set[Path]]) -> list[str]:
    """Each import that does not run downwards, as the two modules' names."""
    return [
        f"{module.relative_to(LIBRARY)} imports {other.relative_to(LIBRARY)}"
        for module, others in modules.items()
        for other in sorted(others)
        if find_wing(other) != find_wing(module) and find_floor(find_wing(other)) <= find_floor(find_wing(module))
    ]


def test_imports_run_downwards():
    assert find_upward_imports({module: sources.find_imports(module) for module in MODULES}) == []


def test_an_import_that_does_not_is_named():
    wrong = {LIBRARY / "heads/model.py": {LIBRARY / "evaluation/cells.py", LIBRARY / "adaptation/adapt.py"}}
    assert find_upward_imports(wrong) == [
        "heads/model.py imports adaptation/adapt.py",
        "heads/model.py imports evaluation/cells.py",
    ]


def test_there_is_no_import_circle():
    done: set[Path] = set()

    def visit(module: Path, path: list[Path]) -> None:
        assert module not in path, " -> ".join(step.name for step in [*path, module])
        if module not in done:
            for other in sources.find_imports(module):
                visit(other, [*path, module])
            done.add(module)

    for module in MODULES:
        visit(module, [])


@pytest.mark.parametrize("wing", sorted(set().union(*FLOORS) - {""}))
def test_a_wing_says_in_a_line_what_lives_there(wing):
    (only,) = ast.parse((LIBRARY / wing / "__init__.py").read_text()).body
    assert isinstance(only, ast.Expr) and "\n" not in ast.literal_eval(only.value)


def test_every_wing_has_its_floor():
    assert {find_wing(module) for module in MODULES} == set().union(*FLOORS)


@pytest.mark.parametrize(
    ("module", "unreached"),
    [
        ("statistics/pldc.py", [*TRAIN, *EMBED, "predict_split.py"]),
        ("formats/csv_files.py", [*TRAIN, *EMBED]),
        ("formats/parquet.py", ["embed_shard.py", "prepare_encoder.py", "measure_audio.py"]),
        ("config/ablations.py", [path.name for path in SCRIPTS.glob("*.py") if path.name != "compare.py"]),
        ("heads/training.py", [*EMBED, "predict_split.py"]),
        *((path, [*TABLES, *TRAIN, *EMBED]) for path in sorted((LIBRARY / "report").glob("*.py"))),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_an_edit_reaches_no_further_than_it_must(module, unreached):
    """Whether a rule's code digest changes with a module is whether the module is among its script's sources."""
    path = str((LIBRARY / module).resolve())
    for script in unreached:
        assert path not in map(str, map(Path.resolve, map(Path, sources.find_sources(SCRIPTS / script)))), script
