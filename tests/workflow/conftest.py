"""A finished run of the workflow, made once whoever asks for it, and copies of it to be changed."""

import json
import os
import shutil
from pathlib import Path

import pytest
from filelock import FileLock
from project import Project


def make_once(made: Path) -> Project:
    """A project that was run once, with what was planned and what ran. The first of several processes makes it."""
    made.parent.mkdir(exist_ok=True)
    facts = made.parent / "facts.json"
    with FileLock(made.parent / "lock"):
        built = Project(made)
        if not facts.exists():
            shutil.rmtree(made, ignore_errors=True)  # what a process left that failed
            built.make()
            untouched = sorted(map(list, built.list_checkout()))
            plan, jobs = built.plan(), built.build()
            facts.write_text(json.dumps([untouched, sorted(plan), sorted(jobs)]), encoding="utf-8")
    untouched, plan, jobs = json.loads(facts.read_text(encoding="utf-8"))
    built.untouched, built.first_plan, built.first_jobs = set(map(tuple, untouched)), set(plan), set(jobs)
    return built


@pytest.fixture(scope="session")
def built(tmp_path_factory) -> Project:
    """A finished project. Nothing changes it: tests change copies.

    All processes of a run of the tests share it; several runs do if FINISHED_PROJECT names a folder for it.
    """
    if folder := os.environ.get("FINISHED_PROJECT"):
        return make_once(Path(folder) / "project")
    folder = tmp_path_factory.getbasetemp()
    return make_once((folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "finished" / "project")


@pytest.fixture
def project(built, tmp_path) -> Project:
    """A copy of the finished project, to be changed."""
    return built.copy(tmp_path / "project")
