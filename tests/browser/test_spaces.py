"""Each flavour of a Space, staged and started as a Space starts it, gone through by its visitors and its owner."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import venv
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import pytest

from ftlab.core.run_directory import RunDirectory
from ftlab.core.workspace import Workspace
from ftlab.report.findings import choose_examples
from tests.blind import open_blind_test
from tests.browser.conftest import PHONE, WIDE, watch
from tests.conftest import NO_NETWORK, ROOT, absent_modules
from tests.fake_hub import FakeHub
from tests.fake_login import FakeLogin

pytestmark = pytest.mark.browser
# What a Space has not installed is not to be found there.
_HIDE = """
import sys
for name in {names!r}:
    sys.modules[name] = None
exec(open({no_network!r}).read())
"""
# The tests' ftlab is installed from the repository, whose folder spaces/ is not ZeroGPU's package.
_AS_A_SPACE = f"""
import runpy, sys
sys.path[:] = [path for path in sys.path if path != {str(ROOT)!r}]
runpy.run_path("app.py", run_name="__main__")
"""
Start = Callable[..., "Space"]


class Space:
    """A staged folder whose app.py runs, with nothing of this repository on its path."""

    def __init__(self, folder: Path, variables: dict[str, str], python: str, hidden: Sequence[str]):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.folder, self.url, self.log = folder, f"http://127.0.0.1:{port}", folder.parent / f"{folder.name}.log"
        custom = folder.parent / f"{folder.name}-custom"
        custom.mkdir(exist_ok=True)
        (custom / "sitecustomize.py").write_text(
            _HIDE.format(names=hidden, no_network=str(NO_NETWORK / "sitecustomize.py"))
        )
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder.parent),
            "SPACE_ID": f"me/{folder.name}",
            "SYSTEM": "spaces",
            "GRADIO_SERVER_NAME": "127.0.0.1",
            "GRADIO_SERVER_PORT": str(port),
            "PYTHONPATH": os.pathsep.join([str(custom), str(folder)]),
            "OMP_NUM_THREADS": "1",
        }
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [python, "-c", _AS_A_SPACE], cwd=folder, env=environment | variables, stdout=log, stderr=log
            )
        end = time.monotonic() + 120
        while time.monotonic() < end:
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            try:
                urllib.request.urlopen(self.url, timeout=5).read()
                return
            except OSError:
                time.sleep(0.2)
        raise AssertionError(self.log.read_text()[-3000:])

    def end(self) -> int:
        """Ask it to end, as the Hub does, and wait."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(40)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise


def stage(flavour: str, folder: Path, *arguments: str) -> None:
    """What `deploy.py` would upload, in `folder`."""
    command = [sys.executable, "spaces/deploy.py", "me/x", "--flavour", flavour, "--dry-run", "--to", str(folder)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([*command, *arguments], cwd=ROOT, check=True, capture_output=True, env=environment)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Stage a flavour and start it."""
    spaces: list[Space] = []

    def go(flavour: str, *arguments: str, python: str = sys.executable, hides: bool = False, **variables: str):
        folder = tmp_path / flavour
        if not folder.exists():
            stage(flavour, folder, *arguments)
        hidden = [name for name in absent_modules(folder / "requirements.txt") if name != "ftlab"] if hides else []
        spaces.append(Space(folder, variables, python, hidden))
        return spaces[-1]

    yield go
    for one in spaces:
        one.process.kill()
        one.process.wait()


class Page:
    """A page in a browser of its own, the hosts that it asked and the errors that it raised."""

    def __init__(self, chromium: Any, url: str, viewport: dict[str, int] = WIDE):
        self.page = chromium.new_context(viewport=viewport).new_page()
        self.hosts, self.errors = watch(self.page)
        self.page.goto(url)

    def close(self) -> None:
        self.page.context.close()

    def fits(self) -> bool:
        return self.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def first_example(quickstart: Any) -> dict[str, Any]:
    """The evaluated row that the page offers first, as the report does."""
    return choose_examples(RunDirectory(quickstart.run.path).predictions())[0][0]


def chat(page: Any) -> str:
    """Ask the first example, and give the adapted model's answer."""
    page.locator("#show_prompt_0").click()
    page.locator("#show_send").click()
    page.locator("#show_log .ft-chat[aria-busy=false] [data-side=adapted] .ft-text").wait_for()
    return page.locator("#show_log [data-side=adapted] .ft-text").inner_text()


def test_a_visitor_of_the_demo_chats_and_reads_the_report_and_finds_no_data(start, chromium, quickstart):
    run = quickstart.run
    demo = start("demo", "--run", run.id, "--workspace", str(quickstart.workspace.root))
    files = {path.relative_to(demo.folder / "run").as_posix() for path in (demo.folder / "run").rglob("*")}
    assert "adapter/adapter_model.safetensors" in files and "evaluation/report.html" in files
    assert not [path for path in files if "predictions" in path or "data" in path or "checkpoint" in path]
    assert str(ROOT) not in (demo.folder / "run/adapter/adapter_config.json").read_text()
    first = first_example(quickstart)
    for viewport in (WIDE, PHONE):
        visit = Page(chromium, demo.url, viewport)
        page = visit.page
        page.locator("#show_head").get_by_text(run.comparison()["verdict"]["text"][:40]).wait_for()
        assert page.locator("#show_prompt_0").inner_text() == first["prompt"]
        assert chat(page) == first["adapted"], "the same words as in the evaluation"
        page.locator("#tab_show_report-button").click()
        page.frame_locator("iframe.ft-report").get_by_text("Model and data").wait_for()
        assert visit.fits() and visit.hosts == {urlparse(demo.url).netloc} and visit.errors == []
        visit.close()


def test_a_rater_votes_in_a_vote_space_without_torch_and_the_vote_is_on_the_hub_when_it_ends(start, chromium, tmp_path):
    hub, blind = FakeHub(), open_blind_test(Workspace.open(tmp_path / "workspace"))
    kept = {name: value for name, value in hub.environment(tmp_path / "home").items() if name.startswith("HF_")}
    variables = kept | {"FTLAB_HOME": str(tmp_path / "workspace"), "FTLAB_SPACE_STORE": "me/store"}
    vote = start("vote", hides=True, **variables)
    stranger = Page(chromium, vote.url)
    stranger.page.get_by_role("heading", name="This page needs a link.").wait_for()
    stranger.close()
    for number, viewport in enumerate((WIDE, PHONE), 1):
        rater = Page(chromium, f"{vote.url}/#key={blind.keys[number - 1]}", viewport)
        rater.page.get_by_role("button", name=re.compile("A is better")).click()
        rater.page.get_by_text("Comparison 2 of").first.wait_for()
        assert rater.fits() and rater.hosts == {urlparse(vote.url).netloc} and rater.errors == []
        rater.close()
    vote.end()
    repo = hub.repo("me/store", "dataset")
    assert repo.private and repo.files["arena/votes.jsonl"].count(b"\n") == 2
    hub.close()


@pytest.mark.long
def test_only_the_owner_gets_into_the_lab_and_everybody_may_see_what_is_shown(start, chromium, tmp_path):
    login, hub = FakeLogin(), FakeHub()
    kept = {name: value for name, value in hub.environment(tmp_path / "home").items() if name.startswith("HF_")}
    variables = kept | login.environment | {"FTLAB_OWNER": "Me", "FTLAB_SPACE_STORE": "me/store"}
    lab = start("lab", **variables)
    for user, viewport in (("stranger", WIDE), ("me", PHONE)):
        login.user = user
        visit = Page(chromium, lab.url, viewport)
        visit.page.get_by_text("Nothing to show yet.").wait_for()
        assert visit.fits()
        visit.page.goto(f"{lab.url}/lab")
        with visit.page.expect_popup() as popup:
            visit.page.get_by_role("link", name="Log in with Hugging Face").click()
        popup.value.wait_for_url(f"{lab.url}/owner*")
        if user == "stranger":
            popup.value.get_by_text("stranger, who is not the owner").wait_for()
            visit.page.goto(f"{lab.url}/lab/")
            assert urlparse(visit.page.url).path == "/owner"
        else:
            visit.page.goto(f"{lab.url}/lab/")
            visit.page.locator("#tab_train-button").click()
            visit.page.locator("#train_start").wait_for()
            visit.page.get_by_text("are kept in me/store").wait_for()
            assert visit.fits()
            visit.page.get_by_role("link", name="Log out").click()
            visit.page.get_by_role("button", name="Log out").click()
            visit.page.get_by_role("link", name="Log in with Hugging Face").wait_for()
            assert visit.page.request.get(f"{lab.url}/lab/config").status == 401
        assert visit.hosts <= {urlparse(lab.url).netloc, urlparse(login.url).netloc} and visit.errors == []
        visit.close()
    lab.end()
    login.close()
    hub.close()


@pytest.mark.long
@pytest.mark.parametrize("flavour", ["vote", "demo", "lab"])
def test_a_fresh_environment_with_the_requirements_alone_serves_the_page(
    start, chromium, tmp_path, quickstart, flavour
):
    """Minutes and, for demo and lab, gigabytes: by hand."""
    venv.create(tmp_path / "venv", with_pip=True)
    python = str(tmp_path / "venv" / "bin" / "python")
    arguments = ("--run", quickstart.run.id, "--workspace", str(quickstart.workspace.root)) if flavour == "demo" else ()
    folder = tmp_path / flavour
    stage(flavour, folder, *arguments)
    sdk = re.search(r"sdk_version: (\S+)", (folder / "README.md").read_text())
    assert sdk is not None
    packages = ["-r", str(folder / "requirements.txt"), f"gradio[oauth]=={sdk[1]}"]
    subprocess.run([python, "-m", "pip", "install", "-q", *packages], check=True)
    space = start(flavour, python=python, FTLAB_HOME=str(tmp_path / "workspace"))
    words = {"vote": "This page needs a link.", "demo": "The adapted model", "lab": "Nothing to show yet."}
    visit = Page(chromium, space.url)
    visit.page.get_by_text(words[flavour]).first.wait_for()
    if flavour == "demo":
        assert chat(visit.page) == first_example(quickstart)["adapted"]
