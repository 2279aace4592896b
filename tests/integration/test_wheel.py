"""The wheel: what runs at the user's is in it, and what only made the starter and the samples is not."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import ROOT

MAKERS = ("ftlab/samples/generate/", "ftlab/models/starter/families/")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = ["-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(folder), str(ROOT)]
    subprocess.run([sys.executable, *command], check=True, timeout=120)
    [built] = folder.glob("ftlab-*.whl")
    return built


@pytest.fixture(scope="module")
def unpacked(wheel: Path) -> Path:
    folder = wheel.parent / "unpacked"
    with zipfile.ZipFile(wheel) as file:
        file.extractall(folder)
    return folder


def _is_maker(file: str) -> bool:
    beside_the_weights = file.startswith("ftlab/models/starter/") and file.count("/") == 3 and file.endswith(".py")
    return file.startswith(MAKERS) or (beside_the_weights and not file.endswith("/__init__.py"))


def test_the_wheel_holds_all_of_the_package_but_what_made_the_starter_and_the_samples(unpacked: Path):
    def files(root: Path) -> set[str]:
        found = (path.relative_to(root) for path in (root / "ftlab").rglob("*") if path.is_file())
        return {path.as_posix() for path in found if "__pycache__" not in path.parts}

    ours, shipped = files(ROOT), files(unpacked)
    assert {file for file in ours if not _is_maker(file)} - shipped == set()
    assert [file for file in shipped if _is_maker(file)] == []
    assert {"ftlab/py.typed", "ftlab/docs/README.md", "ftlab/samples/house_style.py"} <= shipped


def test_nothing_in_the_wheel_imports_what_was_left_out(unpacked: Path):
    wanted = set()
    for file in unpacked.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                wanted |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                wanted |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    files = {f"{name.replace('.', '/')}{end}" for name in wanted for end in (".py", "/__init__.py")}
    ours = {file for file in files if (ROOT / file).exists() and file.startswith("ftlab/")}
    assert len(ours) > 200 and [file for file in ours if _is_maker(file)] == []


def test_commands_samples_starter_and_help_work_from_the_wheel_alone(unpacked: Path, tmp_path: Path):
    code = """
import ftlab
from pathlib import Path
from transformers import AutoModelForCausalLM
from ftlab.cli.main import main
from ftlab.models.starter import starter_path
from ftlab.samples import list_samples
from ftlab.ui.help import pages
assert Path(ftlab.__file__).is_relative_to(Path.cwd()), ftlab.__file__
assert len(list_samples()) > 10 and all(sum(one.splits.values()) for one in list_samples())
assert sum(one.numel() for one in AutoModelForCausalLM.from_pretrained(starter_path()).parameters()) > 2e6
assert len(pages()) > 25
assert main(["data", "inspect", "support_triage", "--workspace", "../home"]) == 0
main(["--help"])
"""
    environment = {**os.environ, "PYTHONPATH": str(unpacked), "HF_HUB_OFFLINE": "1"}
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=unpacked, env=environment, capture_output=True, text=True, timeout=300
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert "quickstart" in ran.stdout and "600" in ran.stdout
