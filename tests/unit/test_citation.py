"""What stands at the root for people and machines that cite the project agrees."""

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]


def test_version_and_licence_agree():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    versions = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    assert citation["version"] == versions[0]
    assert (ROOT / "LICENSE").read_text(encoding="utf-8").startswith(f"{citation['license']} License\n")


def test_the_paper_is_named():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    (paper,) = citation["references"]
    assert "2309.02418" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert paper["identifiers"][0]["value"].endswith("2309.02418")
    assert [author["family-names"] for author in paper["authors"]] == ["Tran", "Yin", "Soleymani"]
