"""What goes into a Space of each flavour, and what never does."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from ftlab.errors import FtlabError, InputError
from tests.conftest import ROOT, absent_modules, offline_environment
from tests.fake_hub import FakeHub

FLAVOURS = ("lab", "demo", "vote")
HARDWARE = {"lab": "t4-small", "demo": "zero-a10g", "vote": "cpu-basic"}


def _staging() -> ModuleType:
    # A script's folder, which bears the name of a package of the Hub: not a package here.
    found = importlib.util.spec_from_file_location("ftlab_staging", ROOT / "spaces" / "staging.py")
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules[found.name] = module
    found.loader.exec_module(module)
    return module


staging = _staging()


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folder of each flavour; the demo without a run."""
    root = tmp_path_factory.mktemp("staged")
    for flavour in FLAVOURS:
        staging.stage(flavour, root / flavour)
    return {flavour: root / flavour for flavour in FLAVOURS}


def deploy(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "spaces/deploy.py", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
        env=offline_environment() | environment,
    )


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_the_front_matter_is_what_the_hub_reads(staged, flavour):
    from huggingface_hub import SpaceHardware

    text = (staged[flavour] / "README.md").read_text()
    head = yaml.safe_load(text.split("---")[1])
    pins = dict(line.split("==") for line in (ROOT / "requirements.txt").read_text().splitlines() if "==" in line)
    assert head["sdk"] == "gradio" and head["sdk_version"] == pins["gradio"] and head["app_file"] == "app.py"
    assert head["suggested_hardware"] == HARDWARE[flavour] in [one.value for one in SpaceHardware]
    assert head["python_version"] == "3.12" and head["license"] == "apache-2.0" and head["pinned"] is False
    assert head["hf_oauth"] is (flavour == "lab")
    assert {head["colorFrom"], head["colorTo"]} <= {
        "red",
        "yellow",
        "green",
        "blue",
        "indigo",
        "purple",
        "pink",
        "gray",
    }
    assert len(head["title"]) > 3 and not head["emoji"].isascii()
    assert "FTLAB_OWNER" in text or flavour != "lab"
    required = (staged[flavour] / "requirements.txt").read_text().splitlines()
    assert all(line.split("==")[1] == pins[line.split("==")[0]] for line in required if "==" in line)
    assert ("torch==2.13.0" in required) is (flavour != "vote") and not [one for one in required if "gradio" in one]


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_only_the_package_and_four_files_beside_it_are_staged(staged, flavour):
    files = {path.relative_to(staged[flavour]).as_posix() for path in staged[flavour].rglob("*") if path.is_file()}
    beside = {path for path in files if not path.startswith("ftlab/")}
    assert beside == {"app.py", "README.md", "requirements.txt", "LICENSE"}
    assert not [path for path in files if "test" in Path(path).parts[0] or "__pycache__" in path or "/." in path]
    size = sum((staged[flavour] / path).stat().st_size for path in files)
    most_files, most_bytes = {"lab": (600, 2e7), "demo": (240, 2e7), "vote": (125, 1.5e6)}[flavour]
    assert len(files) <= most_files and size <= most_bytes, (len(files), size)


@pytest.mark.parametrize("flavour", ["demo", "vote"])
def test_what_is_staged_needs_only_its_own_requirements_and_not_this_repository(staged, flavour, tmp_path):
    absent = absent_modules(staged[flavour] / "requirements.txt")
    assert {"torch", "sklearn", "evalica", "ftlab"} & set(absent) >= {"sklearn", "evalica"}
    code = f"import sys\nfor name in {absent!r}:\n    if name != 'ftlab': sys.modules[name] = None\n"
    if flavour == "demo":
        code += "from ftlab.ui.space import demo\n"
    else:
        code += (
            "from ftlab.arena.live import ask_endpoints\n"
            "from ftlab.ui.space import vote\nfrom ftlab.ui.rater import page\n"
            "from ftlab.core.workspace import Workspace\n"
            f"page.build_rater_app(Workspace.open({str(tmp_path)!r}), ask_endpoints)\n"
        )
    code += "print(sys.modules['ftlab'].__file__)\n"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"PYTHONPATH": str(staged[flavour]), "PYTHONSAFEPATH": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=tmp_path, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(staged[flavour] / "ftlab" / "__init__.py")]


@pytest.mark.parametrize(
    "secret",
    [
        "hf_" + "aB3" * 12,
        "sk-" + "proj1" * 8,
        "postgresql://user:" + "s3cretword" + "@db.example/x",
        "-----BEGIN " + "PRIVATE KEY-----",
    ],
)
def test_a_file_with_a_secret_in_it_is_never_uploaded(tmp_path, secret):
    (tmp_path / "ftlab").mkdir()
    (tmp_path / "ftlab" / "notes.json").write_text(f'{{"token": "{secret}"}}')
    with pytest.raises(FtlabError, match=r"ftlab/notes\.json holds what looks like a secret") as told:
        staging.refuse_secrets(tmp_path)
    assert secret not in str(told.value)


def test_what_lies_about_in_the_package_is_not_on_the_list(tmp_path, monkeypatch):
    about = (
        ".env",
        "arena.sqlite",
        "arena.secret",
        "token",
        "notes.txt",
        ".cache/token.json",
        "__pycache__/x.py",
        "x.yaml",
    )
    for name in ("config.py", "ui/style.css", *about):
        (tmp_path / "ftlab" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "ftlab" / name).write_text("")
    monkeypatch.setattr(staging, "ROOT", tmp_path)
    assert staging.package_files("lab", starter=True) == [Path("ftlab/config.py"), Path("ftlab/ui/style.css")]


def test_a_dry_run_lists_every_file_and_asks_nobody(tmp_path):
    attempts = tmp_path / "attempts"
    done = deploy(
        *("me/votes", "--flavour", "vote", "--dry-run", "--to", str(tmp_path / "out")),
        FTLAB_TEST_NETWORK_ATTEMPTS=str(attempts),
    )
    assert done.returncode == 0 and not attempts.exists()
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    for path in files:
        assert f"{path.stat().st_size:>12,}  {path.relative_to(tmp_path / 'out').as_posix()}\n" in done.stdout
    assert "Nothing was uploaded" in done.stdout and "FTLAB_SECRET" in done.stdout and "HF_TOKEN" in done.stdout


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    hub = FakeHub()
    yield hub
    hub.close()


def test_what_is_uploaded_is_what_was_listed_to_a_private_space(hub, staged, tmp_path):
    hub.add("me/votes", "space", files={"ftlab/old.py": b"", "mine.txt": b"kept"})
    done = deploy("me/votes", "--flavour", "vote", **hub.environment(tmp_path))
    assert done.returncode == 0, done.stderr
    repo = hub.repo("me/votes", "space")
    listed = {path.relative_to(staged["vote"]).as_posix() for path in staged["vote"].rglob("*") if path.is_file()}
    assert set(repo.files) == listed | {"mine.txt"}, "what an older ftlab left is gone, what is not ftlab's stays"
    assert repo.files["app.py"] == (ROOT / "spaces" / "vote" / "app.py").read_bytes() and len(repo.commits) == 1

    done = deploy("me/fresh", "--flavour", "vote", **hub.environment(tmp_path))
    fresh = hub.repo("me/fresh", "space")
    assert done.returncode == 0 and fresh.private and fresh.settings["sdk"] == "gradio" and not fresh.secrets
    hub.add("me/open", "space", private=False)
    done = deploy("me/open", "--flavour", "vote", **hub.environment(tmp_path))
    assert done.returncode == 2 and "exists on the Hub and is public" in done.stderr
    assert not hub.repo("me/open", "space").files


def test_wrong_input_is_one_clear_message(tmp_path):
    assert "owner/name" in deploy("votes", "--flavour", "vote", "--dry-run").stderr
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("")
    assert "not empty" in deploy("me/x", "--flavour", "vote", "--dry-run", "--to", str(tmp_path / "full")).stderr
    with pytest.raises(InputError, match="Only a demo"):
        staging.stage("vote", tmp_path / "out", run="last")
