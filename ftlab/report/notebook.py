"""A run as a notebook or a script that reproduces it."""

from __future__ import annotations

import importlib.metadata
import json
import math
import pprint
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from ftlab.config import SELF, DataConfig, RunConfig, load_config
from ftlab.core.comparison import ComparisonJson
from ftlab.core.files import disk_full, read_json, write_text
from ftlab.core.run_directory import RunDirectory
from ftlab.core.workspace import Workspace
from ftlab.errors import FtlabError, InputError
from ftlab.report.measures import verdict_text

# {package: (version recorded, version here)}
Differing = dict[str, tuple[str | None, str | None]]


@dataclass(frozen=True)
class Figure:
    """One figure as `recorded` and as it is `now` (None: not measured)."""

    name: str
    recorded: float
    now: float | None
    same: bool


@dataclass(frozen=True)
class Figures:
    """All figures of a run compared with the recorded ones. `tolerance` is relative; 0 requires exact equality."""

    figures: tuple[Figure, ...]
    tolerance: float

    @property
    def same(self) -> bool:
        return all(figure.same for figure in self.figures)

    @property
    def differing(self) -> list[str]:
        return [
            f"{figure.name}: {figure.now} instead of {figure.recorded}" for figure in self.figures if not figure.same
        ]

    def _repr_html_(self) -> str:
        rows = Markup("").join(
            Markup("<tr><td>{}</td><td>{:.6g}</td><td>{}</td><td>{}</td></tr>").format(
                figure.name,
                figure.recorded,
                "–" if figure.now is None else f"{figure.now:.6g}",
                "same" if figure.same else "differs",
            )
            for figure in self.figures
        )
        return Markup(
            "<table><thead><tr><th>figure</th><th>recorded</th><th>now</th><th></th></tr></thead>"
            "<tbody>{}</tbody></table>"
        ).format(rows)


def same_versions(recorded: Mapping[str, str | None], *, strict: bool = True) -> Differing:
    """The packages whose version here differs from the recorded one: {name: (recorded, here)}.

    Raises FtlabError naming all of them with the command that installs the recorded ones, unless `strict` is off.
    """
    versions_of = {name: (wanted, installed(name)) for name, wanted in recorded.items()}
    differing = {name: versions for name, versions in versions_of.items() if versions[0] != versions[1]}
    if differing and strict:
        differences = ", ".join(
            f"{name} {here or 'none'} instead of {wanted}" for name, (wanted, here) in differing.items()
        )
        pins = " ".join(f'"{name}=={wanted}"' for name, (wanted, _) in differing.items() if wanted and name != "ftlab")
        raise FtlabError(
            f"Package versions differ from those of the run: {differences}",
            why="Other versions may give different figures.",
            try_=(f"pip install {pins}, then restart the kernel; " if pins else "")
            + "or set strict_versions = False and check whether the figures still agree",
        )
    return differing


def same_data(config: RunConfig, recorded: Sequence[Mapping[str, Any]], workspace: Workspace) -> None:
    """Raise InputError unless the sources of `config` are byte for byte those `recorded` in a manifest."""
    from ftlab.data.load import load_rows

    files = list(load_rows(config.data, workspace).files)
    for replayed in config.data.replayed:
        files += load_rows(DataConfig(source=replayed), workspace).files
    here = [_stamp(file.as_dict()) for file in files]
    wanted = [_stamp(source) for source in recorded]
    missing = [query for query in wanted if query not in here]
    if missing or len(here) != len(wanted):
        names = ", ".join(dict.fromkeys(name for name, _ in missing)) or "additional files"
        raise InputError(
            f"The data differs from that of the run: {names} has changed since",
            given=", ".join(f"{name} {(stamp or 'unknown')[:12]}" for name, stamp in here),
            allowed=", ".join(f"{name} {(stamp or 'unknown')[:12]}" for name, stamp in wanted) + " (sha256 or commit)",
            try_="restore the old file, or name the data version that the run was trained on",
        )


def recorded_figures(run: RunDirectory) -> dict[str, float]:
    """The figures of a run that a reproduction must match: losses, measures of all sides, preferences and rewards."""
    figures: dict[str, float] = {}
    metrics = run.metrics()
    for key, name in (("loss", "last training loss"), ("eval_loss", "last validation loss")):
        values = [row[key] for row in metrics if isinstance(row.get(key), int | float)]
        if values:
            figures[name] = values[-1]
    comparison = run.comparison()
    for measure in comparison.get("measures", []) if comparison else []:
        for side in ("base", "adapted"):
            value = measure["values"].get(side)
            if value is not None:
                figures[f"{measure['name']}, {side}"] = value
    if preferences := run.preferences():
        figures |= {"chosen answer wins": preferences["accuracy"], "margin": preferences["margin"]}
    if rewards := run.rewards():
        figures |= {f"reward, {side}": rewards[side]["reward"] for side in ("start", "adapted")}
    return {name: float(value) for name, value in figures.items() if math.isfinite(value)}


def compare_figures(run: RunDirectory, recorded: Mapping[str, float], tolerance: float = 0.0) -> Figures:
    """The figures of `run` against those `recorded`. `tolerance` is a share of the recorded value."""
    now = recorded_figures(run)
    return Figures(
        tuple(
            Figure(
                name,
                value,
                now.get(name),
                name in now and math.isclose(now[name], value, rel_tol=tolerance, abs_tol=tolerance / 10),
            )
            for name, value in recorded.items()
        ),
        tolerance,
    )


def installed(package: str) -> str | None:
    """The installed version of `package`. None if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _stamp(source: Mapping[str, Any]) -> tuple[str, str | None]:
    return source["name"], source.get("sha256") or source.get("revision") or source.get("version")


# The first code cell of every notebook, here and in notebooks/. `.ci/reference.py` sets the address.
INSTALL = """\
try:
    import ftlab
except ImportError:
    %pip install -q "ftlab @ git+https://github.com/OWNER/ftlab"
""".rstrip()
ON_GPU_TOLERANCE = 0.05


def write_notebook(run: RunDirectory, workspace: Workspace, path: Path | None = None) -> Path:
    """Write the notebook of `run` to `path` (default: its own folder; in a folder, it is named after the run's id).

    Raises FtlabError if the run has not finished successfully, or the file cannot be written.
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
    """The notebook of `run` in nbformat 4.5, without outputs. Raises FtlabError if the run has not finished
    successfully."""
    environment, figures = read_json(run.environment_file), recorded_figures(run)
    if not run.has_result or environment is None or not figures:
        raise FtlabError(f"The run {run.id} has no result to repeat", try_="finish its training first")
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
            f"written by `python -m ftlab notebook {run.id}` and does not need the run itself.",
        ),
        _text("## Install", "", "Does nothing if ftlab is installed."),
        _code(INSTALL),
        _text(
            "## Parameters",
            "",
            f"The run was made on {_plain(environment['device'])} with {environment['threads']} CPU threads, Python "
            f"{environment['python']}, {_plain(environment['platform'])}. "
            + (
                "On the same machine, every figure matches to the last digit. Another processor adds in another "
                "order: allow 0.05 there."
                if on_cpu
                else "A GPU adds in a varying order, so figures may differ by a few percent."
            ),
        ),
        _code(
            f"workspace = {str(workspace.root)!r}",
            "strict_versions = True  # False: continue with other package versions",
            f"tolerance = {0.0 if on_cpu else ON_GPU_TOLERANCE}  # relative; 0: to the last digit",
            tags=["parameters"],
        ),
        _text("## 1. The same versions", "", "Other versions may give different figures."),
        _code(
            "import ftlab",
            "",
            f"packages = {_literal(environment['packages'])}",
            "ftlab.same_versions(packages, strict=strict_versions)",
        ),
        _text("## 2. The same configuration", "", "Complete: nothing is left to defaults that may change."),
        _code(f"config = ftlab.RunConfig(**{_literal(config.model_dump(mode='json'))})"),
        _text("## 3. The same data", "", "Checked by sha256: a changed file is refused before anything starts."),
        _code(
            f"sources = {_literal(run.manifest()['sources'])}",
            "ftlab.same_data(config, sources, workspace=workspace)",
        ),
        _text("## 4. Train", "", "In its own process, like the first time."),
        _code("run = ftlab.train(config, workspace=workspace)", "run.wait()"),
        *_evaluation(config, comparison),
        _text("## 6. The same figures?", "", "Each against its recorded value."),
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
    """`config` with what the machine decided the first time: the number of threads, and the location of a file."""
    config = config.model_copy(deep=True)
    if environment["device"] == "cpu" and config.launcher.threads is None:
        config.launcher.threads = environment["threads"]
    for name in ("source", "replay"):
        before, value = "", getattr(config.data, name)
        if name == "replay" and value and value.startswith(f"{SELF}:"):
            before, value = f"{SELF}:", config.data.replay_prompts
        if value and not value.startswith("version:") and Path(value).expanduser().exists():
            setattr(config.data, name, before + str(Path(value).expanduser().absolute()))
    return config


def _evaluation(config: RunConfig, comparison: ComparisonJson | None) -> list[dict[str, Any]]:
    """The cells that evaluate if training did not, and show the verdict."""
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
    """`value` as a Python literal; text is quoted, whatever it contains."""
    return pprint.pformat(value, width=110, sort_dicts=False)


def _plain(text: str) -> str:
    """`text` from a run as Markdown without any markup."""
    return "".join(f"\\{letter}" if letter in "\\`*_{}[]<>#|!$" else letter for letter in text.replace("\n", " "))


def _text(*lines: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "metadata": {}, "source": "\n".join(lines)}


def _code(*lines: str, tags: list[str] | None = None) -> dict[str, Any]:
    metadata = {"tags": tags} if tags else {}
    source = "\n".join(lines)
    return {"cell_type": "code", "metadata": metadata, "source": source, "outputs": [], "execution_count": None}
