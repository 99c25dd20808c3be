"""A page on this machine to try a bundle: audio goes from the browser to this process and nowhere else.

It listens on the loopback address alone, under a path that nobody can guess. A page of elsewhere that found it all the
same (by DNS rebinding, or a form) is turned away by the Host and the Origin that its browser says.
"""

import json
import secrets
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from urllib.parse import parse_qs, urlsplit

from ser_score.audio import load
from ser_score.errors import BundleError, Rejected, UsageError
from ser_score.scorer import Scorer
from ser_score.windows import describe_map, score_windows

ADDRESS = "127.0.0.1"
MOST_BYTES = 200_000_000  # of a recording
PAGES = {"": "text/html", "page.css": "text/css", "page.js": "text/javascript"}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; media-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def serve(scorer: Scorer, port: int) -> None:
    """Serve the page until the process is interrupted."""
    server = make_server(scorer, port)
    print(f"Open {server.url} in a browser on this machine; Ctrl-C ends it.", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()


def make_server(scorer: Scorer, port: int = 0) -> "Server":
    return Server(scorer, port)


class Server(ThreadingHTTPServer):
    """`url` is the page's address."""

    daemon_threads = True

    def __init__(self, scorer: Scorer, port: int):
        super().__init__((ADDRESS, port), Handler)
        self.scorer, self.lock, self.secret = scorer, threading.Lock(), secrets.token_urlsafe(16)
        self.hosts = {f"{name}:{self.server_port}" for name in (ADDRESS, "localhost")}
        self.url = f"http://{ADDRESS}:{self.server_port}/{self.secret}/"

    def handle_error(self, request, client_address) -> None:
        """A browser that goes away is no error."""


class Handler(BaseHTTPRequestHandler):
    server: Server
    server_version, sys_version = "ser-score", ""
    timeout = 60  # s without a byte

    def do_GET(self) -> None:
        name = self._find_name()
        if name in PAGES:
            text = files("ser_score").joinpath(name or "page.html").read_bytes()
            self._send(200, text, PAGES[name])
        elif name == "about":
            self._send_json(200, describe_bundle(self.server.scorer))
        else:
            self._refuse(404, "there is no such page")

    def do_POST(self) -> None:
        name = self._find_name()
        origin = self.headers.get("Origin", "")
        if name not in ("score", "enrol", "forget") or origin.removeprefix("http://") not in self.server.hosts:
            return self._refuse(403, "this is for the page itself alone")
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()) or int(length) > MOST_BYTES:
            return self._refuse(413, f"expected a recording of at most {MOST_BYTES // 1_000_000} MB")
        content = self.rfile.read(int(length))
        speaker = parse_qs(urlsplit(self.path).query).get("speaker", [""])[0][:100] or None
        try:
            with self.server.lock:
                answer = self._answer(name, content, speaker)
        except (Rejected, UsageError) as reason:
            return self._refuse(422, str(reason))
        except BundleError as error:
            return self._refuse(500, str(error))
        self._send_json(200, answer)

    def _answer(self, name: str, content: bytes, speaker: str | None) -> dict:
        scorer = self.server.scorer
        if name == "score":
            return score_windows(scorer, content, speaker)
        if speaker is None:
            raise UsageError("name the speaker first")
        if name == "enrol":
            scorer.enrol(speaker, load(content, scorer.bundle.limits))
        else:
            scorer.forget(speaker)
        return {"enrolled": scorer.count_enrolled(speaker)}

    def _find_name(self) -> str | None:
        """What is asked for, if the address and the host are this server's own."""
        path = urlsplit(self.path).path.split("/")
        known = len(path) == 3 and secrets.compare_digest(path[1].encode(), self.server.secret.encode())
        return path[2] if known and self.headers.get("Host") in self.server.hosts else None

    def _refuse(self, status: int, reason: str) -> None:
        self.close_connection = True
        self._send_json(status, {"error": reason})

    def _send_json(self, status: int, value) -> None:
        self._send(status, json.dumps(value, ensure_ascii=False, allow_nan=False).encode(), "application/json")

    def _send(self, status: int, content: bytes, kind: str) -> None:
        self.send_response(status)
        for key, value in (HEADERS | {"Content-Type": f"{kind}; charset=utf-8"}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments) -> None:
        """Nothing is kept of what was asked."""


def describe_bundle(scorer: Scorer) -> dict:
    """What the page says of the bundle."""
    bundle = scorer.bundle
    training, notes = bundle.manifest["training"]["labels"], bundle.manifest["notes"]
    return {
        "name": bundle.name,
        "targets": bundle.targets,
        "range": list(bundle.label_range),
        "coverage": bundle.coverage,
        "ablation": bundle.ablation,
        "calibration": bundle.calibration.name if bundle.calibration else "none",
        "enrolment": [method.enrolment for method in bundle.enrolling if not method.enrolment_labels],
        "least": bundle.least,
        "training": training,
        "labels": str(notes.get("labels", "")),
        "licence": str(notes.get("licence", "")),
        "map": describe_map(bundle),
    }
