"""The page of `ser-score --serve`: in a browser with a real file, and for nobody but itself."""

import http.client
import json
import threading

import numpy as np
import pytest
import soundfile
from browser import CHROMIUM, open_browser
from made_bundle import speak

from ser_score import Scorer
from ser_score.serve import MOST_BYTES, make_server

READY = "document.documentElement?.dataset.ready === 'yes'"


@pytest.fixture
def server(small_bundle):
    server = make_server(Scorer(small_bundle))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def recording(tmp_path):
    """Twelve seconds, the last of them silent."""
    wave = np.concatenate([speak(8), np.zeros(4 * 16_000, np.float32)])
    soundfile.write(tmp_path / "speech.flac", wave, 16_000)
    return tmp_path / "speech.flac"


def ask(server, path, method="GET", body=None, **headers):
    """Status, headers and body of an answer; `headers` replace those of the page itself."""
    host = f"127.0.0.1:{server.server_port}"
    given = {"Host": host} | ({"Origin": f"http://{host}"} if method == "POST" else {})
    given |= {"Content-Length": str(len(body))} if body is not None else {}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
    connection.putrequest(method, path, skip_host=True)
    for name, value in given.items():
        if value is not None:
            connection.putheader(name, value)
    connection.endheaders(body)
    answer = connection.getresponse()
    found = answer.status, answer.headers, answer.read()
    connection.close()
    return found


def test_it_listens_on_this_machine_alone_under_a_secret_path(server):
    assert server.server_address[0] == "127.0.0.1"
    own = f"/{server.secret}/"
    assert len(server.secret) > 20 and ask(server, own)[0] == 200
    for path in (
        "/",
        "/about",
        f"/{server.secret}",
        f"/{server.secret}x/",
        f"{own}page.py",
        f"{own}../x/",
        f"{own}%2e",
    ):
        assert ask(server, path)[0] == 404, path


def test_pages_of_elsewhere_are_turned_away(server, recording):
    """By DNS rebinding another host's name leads here; a form of another page has another origin."""
    own, body = f"/{server.secret}/", recording.read_bytes()
    for host in ("evil.example", f"evil.example:{server.server_port}", "127.0.0.1", "127.0.0.1:1", None):
        assert ask(server, f"{own}about", Host=host)[0] in (400, 404), host
    for origin in ("http://evil.example", "null", None, f"https://127.0.0.1:{server.server_port}", "http://127.0.0.1"):
        assert ask(server, f"{own}score", "POST", body, Origin=origin)[0] == 403, origin
    assert ask(server, f"{own}score", "POST", body, Host=f"localhost:{server.server_port}")[0] == 200


def test_answers_let_nothing_in_or_out(server):
    for name in ("", "page.js", "page.css", "about"):
        headers = ask(server, f"/{server.secret}/{name}")[1]
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "connect-src 'self'" in policy and "unsafe" not in policy
        assert (headers["X-Content-Type-Options"], headers["Cache-Control"]) == ("nosniff", "no-store")
        assert "Access-Control-Allow-Origin" not in headers
        assert "http" not in ask(server, f"/{server.secret}/{name}")[2].decode().replace(
            "http://www.w3.org/2000/svg", ""
        )


def test_recordings_have_limits(server):
    path = f"/{server.secret}/score"
    for length in (str(MOST_BYTES + 1), "-1", "many", None):
        assert ask(server, path, "POST", Content_Length=length)[0] == 413, length
    status, _, body = ask(server, path, "POST", b"no audio")
    assert status == 422 and json.loads(body) == {"error": "cannot be decoded (is no WAV, FLAC, OGG or MP3)"}
    assert ask(server, f"/{server.secret}/enrol", "POST", b"")[0] == 422  # nobody is named


def test_windows_are_scored_before_and_after_calibration(server, recording):
    _, _, body = ask(server, f"/{server.secret}/score", "POST", recording.read_bytes())
    found = json.loads(body)
    assert [(w["start"], w["end"]) for w in found["windows"]] == [(0, 4), (4, 8), (8, 12)]
    assert found["windows"][2]["reason"] == "silent: below -80 dB" and "scores" not in found["windows"][2]
    assert found["calibration"] == "none"  # two windows, and three are needed
    assert all("than the training audio" in flag for flag in found["flags"])
    shown = json.loads(ask(server, f"/{server.secret}/about")[2])
    assert len(shown["map"]) == 60 and "train 0" not in json.dumps(shown)
    for window in found["windows"][:2]:
        for value, low, high in (pair for part in window["scores"].values() for pair in part.values()):
            assert 1 <= low <= high <= 7 and np.isfinite(value)


def test_an_enrolled_speaker_is_calibrated(server, recording):
    path = f"/{server.secret}"
    assert json.loads(ask(server, f"{path}/enrol?speaker=anna", "POST", recording.read_bytes())[2]) == {"enrolled": 1}
    found = json.loads(ask(server, f"{path}/score?speaker=anna", "POST", recording.read_bytes())[2])
    assert found["calibration"] == "enrol_1" and len(found["place"]["neighbours"]) == 5
    assert json.loads(ask(server, f"{path}/forget?speaker=anna", "POST", b"")[2]) == {"enrolled": 0}


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: install Debian's package chromium")
def test_a_real_file_is_shown_in_a_browser(server, tmp_path):
    """Dropped or chosen, it is the same; then the microphone, which a browser sends as WebM with Opus."""
    soundfile.write(tmp_path / "speech.wav", speak(14), 48_000)
    fake = f"--use-file-for-fake-audio-capture={tmp_path / 'speech.wav'}"
    soundfile.write(tmp_path / "speech.flac", speak(20), 16_000)
    with open_browser(server.url, tmp_path / "profile", fake) as page:
        page.wait(READY)
        assert page.run("document.querySelector('h1').textContent") == "small"
        assert "Made up. 900 labelled utterances of 60 speakers." in page.run("document.body.textContent")
        page.run("document.documentElement.dataset.ready = 'no'")
        page.choose_file("#file", tmp_path / "speech.flac")
        page.wait(READY)
        assert page.run("document.getElementById('heading').textContent") == "20.0 s, calibration mu_sigma"
        assert page.run("document.querySelectorAll('.chart svg').length") == 2
        assert page.run("document.querySelectorAll('.band').length") == 2 * 5
        assert page.run("document.querySelectorAll('#map circle').length") == 61
        for width in (390, 1200):
            page.shoot(tmp_path / f"{width}.png", width, 800)
            assert page.run("document.documentElement.scrollWidth <= innerWidth"), width
        page.run("document.documentElement.dataset.ready = 'no'; document.getElementById('record').click()")
        page.wait("document.getElementById('record').textContent === 'Stop'")
        page.run("new Promise((done) => setTimeout(done, 2500))")
        page.run("document.getElementById('record').click()")
        page.wait(READY)
        assert page.run("document.getElementById('status').textContent") == ""
        assert 2 < float(page.run("document.getElementById('heading').textContent").split()[0]) < 6
        assert page.console == []
