"""A page in headless Chromium: scripts press and read, what went wrong is told."""

import json
import re
import shutil
import subprocess
import threading
from functools import partial
from html import unescape
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium or google-chrome on this machine")
OPTIONS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--mute-audio"),
    *("--no-first-run", "--disable-background-networking", "--enable-logging=stderr", "--force-device-scale-factor=1"),
]
#: Runs before the page's own scripts, and after them
BEFORE = "<script>window.wrong = []; window.onerror = message => { window.wrong.push(String(message)); };</script>"
AFTER = """<script>
const press = key => document.dispatchEvent(new KeyboardEvent("keydown", {{key, bubbles: true, cancelable: true}}));
const wait = time => new Promise(done => setTimeout(done, time));
window.addEventListener("load", async () => {{
  const told = document.createElement("pre");
  told.id = "told";
  try {{ told.textContent = JSON.stringify({{given: await (async () => {{ {script} }})(), wrong: window.wrong}}); }}
  catch (error) {{ told.textContent = JSON.stringify({{given: null, wrong: [...window.wrong, String(error)]}}); }}
  document.body.append(told);
  if (location.protocol === "http:") await fetch("/told", {{method: "POST", body: told.textContent}});
}});
</script>"""


def with_script(page: str, script: str) -> str:
    """
    Add a script to a page.

    :param page: HTML
    :param script: the body of an asynchronous function, which may press keys and wait; what it returns is told
    :return: HTML
    """
    page = re.sub(r"<head>", lambda found: found.group() + BEFORE, page, count=1)
    return page.replace("</body>", AFTER.format(script=script) + "</body>")


def open_in_chromium(address: str, folder: Path, width: int = 1200, time: int = 8_000) -> Any:
    """
    Open a page that :func:`with_script` made.

    :param address: of the page
    :param folder: for the browser's own files
    :param width: of the window
    :param time: milliseconds of the page's clock, which runs as fast as it can
    :return: what the script returned
    :raises AssertionError: when something went wrong in the page
    """
    assert CHROMIUM is not None
    done = subprocess.run(
        [
            *(CHROMIUM, *OPTIONS, f"--user-data-dir={folder}", f"--window-size={width},900"),
            *(f"--virtual-time-budget={time}", "--dump-dom", address),
        ],
        capture_output=True,
        text=True,
        timeout=240,
    )
    # That reading a canvas back is slow says nothing of the page: the scripts of tests do it
    complaints = [line for line in done.stderr.splitlines() if "CONSOLE" in line and "willReadFrequently" not in line]
    found = re.search(r'<pre id="told">(.*?)</pre>', done.stdout, flags=re.DOTALL)
    assert found is not None, (done.stdout[-500:], done.stderr[-2000:])
    told = json.loads(unescape(found.group(1)))
    assert told["wrong"] == [] and complaints == [], (told["wrong"], complaints)
    return told["given"]


class _Told(SimpleHTTPRequestHandler):
    """Serves a folder, its index.html with a script, and takes what that script tells."""

    extensions_map = {**SimpleHTTPRequestHandler.extensions_map, ".mjs": "text/javascript", ".wasm": "application/wasm"}  # noqa: RUF012

    def __init__(self, *args: Any, script: str, told: list[str], done: threading.Event, **kwargs: Any) -> None:
        self.script, self.told, self.done = script, told, done
        super().__init__(*args, **kwargs)

    def do_GET(self) -> None:
        if self.path != "/index.html":
            return super().do_GET()
        page = (Path(self.directory) / "index.html").read_text(encoding="utf-8")
        content = with_script(page, self.script).encode("utf-8")
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_POST(self) -> None:
        self.told.append(self.rfile.read(int(self.headers["Content-Length"])).decode("utf-8"))
        self.send_response(204)
        self.end_headers()
        self.done.set()

    def log_message(self, *args: Any) -> None:
        pass


def serve_to_chromium(pages: Path, script: str, folder: Path, width: int = 800) -> Any:
    """
    Serve a folder and open its index.html, with real time passing (WebAssembly compiles beside the page's clock). No
    name but this machine's own address is found.

    :param pages: the folder
    :param script: as for :func:`with_script`
    :param folder: for the browser's own files
    :param width: of the window
    :return: what the script returned
    :raises AssertionError: when something went wrong in the page, or nothing was told
    """
    assert CHROMIUM is not None
    told: list[str] = []
    done = threading.Event()
    handler = partial(_Told, directory=str(pages), script=script, told=told, done=done)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/index.html"
        options = [*OPTIONS, f"--user-data-dir={folder}", f"--window-size={width},900"]
        browser = subprocess.Popen(
            [CHROMIUM, *options, "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", address],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            assert done.wait(240), "the page told nothing"
        finally:
            browser.terminate()
            browser.wait()
            server.shutdown()
    found = json.loads(told[0])
    assert found["wrong"] == [], found["wrong"]
    return found["given"]
