"""The report draws in a browser without a network, whatever its reader chooses and whatever the study lacks."""

import re
import shutil
import subprocess

import pytest
from made_report import make_grouped_study, make_study, read_content, report

from ser.files import write_text

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


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_grouped_study(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="module")
def page(made):
    return report(made, made.root / "report.html")


@pytest.fixture(scope="module")
def content(page):
    return read_content(page)


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
