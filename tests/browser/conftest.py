"""A real Chromium and a real app, started as a person starts it."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import pytest

from ftlab.core.workspace import Workspace
from tests.conftest import ROOT, end_runs, find_chromium, offline_environment

WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


class App:
    """`python app.py` over a workspace, which can be killed and started again on the same port."""

    def __init__(self, workspace: Path, **environment: str):
        self.workspace, self._environment = workspace, offline_environment() | environment
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = workspace.parent / f"app-{self.port}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> App:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "app.py", "--workspace", str(self.workspace), "--port", str(self.port)],
                cwd=ROOT,
                env=self._environment,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        end = time.monotonic() + 180
        while time.monotonic() < end:
            assert self._process.poll() is None, self.log.read_text()[-3000:]
            try:
                # Patient: on a busy machine the page takes seconds, and the server goes on with each that is given up.
                urllib.request.urlopen(self.url, timeout=60).read()
                return self
            except OSError:
                time.sleep(0.2)
        raise AssertionError(f"the app did not come up: {self.log.read_text()[-3000:]}")

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    executable = find_chromium()
    from playwright.sync_api import expect, sync_playwright

    # A loaded machine may take its time; what counts is that it happens.
    expect.set_options(timeout=60_000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=executable,
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
            ],
        )
        yield browser
        browser.close()


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    """An app over an empty workspace; its runs are killed with it."""
    app = App(tmp_path / "workspace").start()
    yield app
    app.kill()
    end_runs(Workspace.open(app.workspace))


@pytest.fixture(scope="session")
def finished(quickstart: Any) -> Iterator[App]:
    """An app over the workspace in which the quickstart has been run."""
    app = App(quickstart.workspace.root).start()
    yield app
    app.kill()
    end_runs(Workspace.open(app.workspace))


def watch(page: Any) -> tuple[set[str], list[str]]:
    """The hosts that `page` asks and the errors that it raises, as they come; with the patience of a loaded machine."""
    page.set_default_timeout(60_000)
    hosts: set[str] = set()
    errors: list[str] = []
    page.on("request", lambda request: hosts.add(urlparse(request.url).netloc))
    page.on("pageerror", lambda error: errors.append(str(error)))
    return hosts, errors


def violations(page: Any) -> list[str]:
    """What axe-core finds on `page`, and where."""
    from axe_playwright_python.sync_playwright import Axe

    page.emulate_media(reduced_motion="reduce")  # a button that fades in has no contrast yet
    found = Axe().run(page).response["violations"]
    return [f"{one['id']}: {[node['target'] for node in one['nodes']][:5]}" for one in found]


def open_panel(page: Any, name: str) -> None:
    """Open rows, checks, curate or versions of the Data tab, which are folded at first."""
    if not page.locator("#data_panels").is_visible():
        page.locator("#data_details").click()
    page.locator(f"#data_panel_{name}-button").click()


def uncovered(page: Any) -> None:
    """Wait until the page has come back to what was chosen before."""
    page.wait_for_function("document.querySelectorAll('.ft-cover').length === 0")


class Visit:
    """A page with what a person would not see: the hosts it asked and the errors it raised."""

    def __init__(self, browser: Any, url: str, viewport: dict[str, int], scheme: str = "light"):
        self.context = browser.new_context(viewport=viewport, accept_downloads=True, color_scheme=scheme)
        self.page = self.context.new_page()
        self.hosts, self.errors = watch(self.page)
        self.page.goto(url)
        self.page.locator("#tab_data-button").wait_for()
        uncovered(self.page)

    def tab(self, name: str) -> None:
        self.page.locator(f"#tab_{name}-button").click()

    def panel(self, name: str) -> None:
        """Open rows, checks, curate or versions of the Data tab."""
        open_panel(self.page, name)


@pytest.fixture
def visit(chromium: Any) -> Iterator[Any]:
    visits: list[Visit] = []

    def open_page(url: str, viewport: dict[str, int] = WIDE, scheme: str = "light") -> Visit:
        visits.append(Visit(chromium, url, viewport, scheme))
        return visits[-1]

    yield open_page
    for one in visits:
        one.context.close()
