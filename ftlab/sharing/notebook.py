"""A run as a notebook that repeats it exactly: versions, data, configuration, training, verdict, and a comparison."""

from __future__ import annotations

import json
import pprint
from pathlib import Path
from typing import Any

from ftlab.config import SELF, RunConfig, load_config
from ftlab.errors import FtlabError
from ftlab.files import disk_full, read_json, write_text
from ftlab.run_directory import RunDirectory
from ftlab.sharing.measures import verdict_text
from ftlab.sharing.reproduce import recorded_figures
from ftlab.workspace import Workspace

# The first code cell of every notebook, here and in notebooks/.
INSTALL = """\
import importlib.metadata
import importlib.util
import sys
from pathlib import Path

repository = "https://github.com/OWNER/ftlab"  # Colab only: fill in where your copy of ftlab lives
if importlib.util.find_spec("ftlab") is None or importlib.util.find_spec("trl") is None:
    places = [Path.cwd(), Path.cwd().parent, Path("/content/ftlab")]
    clone = next((place for place in places if (place / "ftlab" / "config.py").exists()), places[-1])
    if not clone.exists():
        !git clone -q {repository} {clone}
    assert (clone / "ftlab").is_dir(), "fill in `repository` above, or upload ftlab to /content/ftlab"
    if importlib.util.find_spec("trl") is None:
        kept = filter(importlib.util.find_spec, ("torch", "torchvision", "torchaudio"))
        pins = [f"{name}=={importlib.metadata.version(name)}" for name in kept]
        Path("/tmp/keep.txt").write_text("\\n".join(pins))  # what Colab brings stays as it is
        %pip install -q -e {clone} -c /tmp/keep.txt
    sys.path.insert(0, str(clone))"""
ON_GPU_TOLERANCE = 0.05


def write_notebook(run: RunDirectory, workspace: Workspace, path: Path | None = None) -> Path:
    """Write the notebook of `run` to `path` (default: its own folder; a folder takes it under the run's id).

    Raises FtlabError before the run has ended well, or when the file cannot be written.
    """
    path = run.notebook_file if path is None else path.expanduser()
    path = path / f"{run.id}.ipynb" if path.is_dir() else path
    text = json.dumps(notebook_of(run, workspace), ensure_ascii=False, indent=1) + "\n"
    try:
        write_text(path, text)
    except OSError as error:
        raise disk_full(error, path) or FtlabError(
            f"The notebook cannot be written: {error.strerror}", why=str(path)
        ) from error
    return path


def notebook_of(run: RunDirectory, workspace: Workspace) -> dict[str, Any]:
    """The notebook of `run` in nbformat 4.5, without outputs. Raises FtlabError before the run has ended well."""
    environment, figures = read_json(run.environment_file), recorded_figures(run)
    if not run.has_result or environment is None or not figures:
        raise FtlabError(f"The run {run.id} has no result to repeat", try_="train it to an end first")
    config = _pinned(load_config(run.config_file), environment)
    comparison = run.comparison()
    verdict = verdict_text(comparison) if comparison else "It was not compared with its base."
    on_cpu = environment["device"] == "cpu"
    cells = [
        _text(
            f"# The run {run.id}, repeated",
            "",
            f"{_plain(verdict)}",
            "",
            "This notebook trains that run again from its data and compares every figure with those recorded. It was "
            f"written by `python -m ftlab notebook {run.id}` and needs nothing of the run itself.",
        ),
        _text("## Install", "", "Does nothing where ftlab can be imported, and leaves the torch of Colab alone."),
        _code(INSTALL),
        _text(
            "## Parameters",
            "",
            f"The run was made on {_plain(environment['device'])} with {environment['threads']} CPU threads, Python "
            f"{environment['python']}, {_plain(environment['platform'])}. "
            + (
                "On the same machine every figure comes out to the last digit; another processor adds in another "
                "order, so allow 0.05 there."
                if on_cpu
                else "A GPU adds in an order that changes, so figures may differ by some percent."
            ),
        ),
        _code(
            f"workspace = {str(workspace.root)!r}",
            "strict_versions = True  # False goes on with other versions of the packages",
            f"tolerance = {0.0 if on_cpu else ON_GPU_TOLERANCE}  # relative; 0: to the last digit",
            tags=["parameters"],
        ),
        _text("## 1. The same versions", "", "Other versions may give other figures."),
        _code(
            "import ftlab",
            "",
            f"packages = {_literal(environment['packages'])}",
            "ftlab.same_versions(packages, strict=strict_versions)",
        ),
        _text("## 2. The same configuration", "", "Complete: nothing is left to defaults that may change."),
        _code(f"config = ftlab.RunConfig(**{_literal(config.model_dump(mode='json'))})"),
        _text("## 3. The same data", "", "By their sha256; a file that has changed is refused before anything starts."),
        _code(
            f"sources = {_literal(run.manifest()['sources'])}",
            "ftlab.same_data(config, sources, workspace=workspace)",
        ),
        _text("## 4. Train", "", "In a process of its own, as the first time."),
        _code("run = ftlab.train(config, workspace=workspace)", "run.wait()"),
        *_evaluation(config, comparison),
        _text("## 6. The same figures?", "", "Each against what was recorded."),
        _code(
            f"recorded = {_literal(figures)}",
            "figures = ftlab.compare_metrics(run, recorded, tolerance=tolerance)",
            "assert figures.same, figures.differing",
            "figures",
        ),
    ]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {
        "cells": [cell | {"id": f"cell-{number}"} for number, cell in enumerate(cells)],
        "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}, "ftlab": {"run": run.id}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def _pinned(config: RunConfig, environment: dict[str, Any]) -> RunConfig:
    """`config` with what the machine decided the first time: the number of threads, and where a file lies."""
    config = config.model_copy(deep=True)
    if environment["device"] == "cpu" and config.launcher.threads is None:
        config.launcher.threads = environment["threads"]
    for name in ("source", "replay"):
        before, given = "", getattr(config.data, name)
        if name == "replay" and given and given.startswith(f"{SELF}:"):
            before, given = f"{SELF}:", config.data.replay_prompts
        if given and not given.startswith("version:") and Path(given).expanduser().exists():
            setattr(config.data, name, before + str(Path(given).expanduser().absolute()))
    return config


def _evaluation(config: RunConfig, comparison: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The cells that evaluate where training did not, and show the verdict."""
    if comparison is None:
        return []
    lines, settings = [], comparison["settings"]
    prompted = settings.get("prompted")
    if prompted:
        lines.append(
            f"run.evaluate(prompted=True, system_prompt={prompted['system']!r}, examples={prompted['examples']!r})"
        )
    elif not config.evaluation.after_training:
        lines.append(f"run.evaluate(max_rows={settings.get('rows')!r})")
    return [
        _text("## 5. The verdict", "", "On the same held-out rows."),
        _code(*lines, "run.comparison()"),
    ]


def _literal(value: Any) -> str:
    """`value` as Python that gives it back: text is quoted, whatever it holds."""
    return pprint.pformat(value, width=110, sort_dicts=False)


def _plain(text: str) -> str:
    """`text` from a run as Markdown that means nothing but itself."""
    return "".join(f"\\{letter}" if letter in "\\`*_{}[]<>#|!$" else letter for letter in text.replace("\n", " "))


def _text(*lines: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "metadata": {}, "source": "\n".join(lines)}


def _code(*lines: str, tags: list[str] | None = None) -> dict[str, Any]:
    metadata = {"tags": tags} if tags else {}
    source = "\n".join(lines)
    return {"cell_type": "code", "metadata": metadata, "source": source, "outputs": [], "execution_count": None}
