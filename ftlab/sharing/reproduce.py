"""Is this run like that one? The versions, the data and the figures of a run against what was written down of it."""

from __future__ import annotations

import importlib.metadata
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from ftlab.config import DataConfig, RunConfig
from ftlab.errors import FtlabError, InputError
from ftlab.run_directory import RunDirectory
from ftlab.workspace import Workspace

# {package: (version recorded, version here)}
Differing = dict[str, tuple[str | None, str | None]]


@dataclass(frozen=True)
class Figure:
    """One figure as it was `recorded` and as it is `now` (None: it was not measured)."""

    name: str
    recorded: float
    now: float | None
    same: bool


@dataclass(frozen=True)
class Figures:
    """All figures of a run against those recorded; `tolerance` is relative, 0 means to the last digit."""

    figures: tuple[Figure, ...]
    tolerance: float

    @property
    def same(self) -> bool:
        return all(figure.same for figure in self.figures)

    @property
    def differing(self) -> list[str]:
        return [f"{one.name}: {one.now} instead of {one.recorded}" for one in self.figures if not one.same]

    def _repr_html_(self) -> str:
        rows = Markup("").join(
            Markup("<tr><td>{}</td><td>{:.6g}</td><td>{}</td><td>{}</td></tr>").format(
                one.name, one.recorded, "–" if one.now is None else f"{one.now:.6g}", "same" if one.same else "differs"
            )
            for one in self.figures
        )
        return Markup(
            "<table><thead><tr><th>figure</th><th>recorded</th><th>now</th><th></th></tr></thead>"
            "<tbody>{}</tbody></table>"
        ).format(rows)


def same_versions(recorded: Mapping[str, str | None], *, strict: bool = True) -> Differing:
    """The packages whose version here is not the one recorded: {name: (recorded, here)}.

    Raises FtlabError naming all of them with the line that installs the recorded ones, unless `strict` is off.
    """
    found = {name: (wanted, installed(name)) for name, wanted in recorded.items()}
    differing = {name: versions for name, versions in found.items() if versions[0] != versions[1]}
    if differing and strict:
        said = ", ".join(f"{name} {here or 'none'} instead of {wanted}" for name, (wanted, here) in differing.items())
        pins = " ".join(f'"{name}=={wanted}"' for name, (wanted, _) in differing.items() if wanted and name != "ftlab")
        raise FtlabError(
            f"The versions are not those of the run: {said}",
            why="Other versions may give other figures.",
            try_=(f"pip install {pins}, then restart the kernel; " if pins else "")
            + "or set strict_versions = False and see whether the figures agree all the same",
        )
    return differing


def same_data(config: RunConfig, recorded: Sequence[Mapping[str, Any]], workspace: Workspace) -> None:
    """Raise InputError when the sources of `config` are not, byte by byte, those `recorded` in a manifest."""
    from ftlab.data.load import load_rows

    files = list(load_rows(config.data, workspace).files)
    for replayed in config.data.replayed:
        files += load_rows(DataConfig(source=replayed), workspace).files
    here = [_stamp(file.as_dict()) for file in files]
    wanted = [_stamp(source) for source in recorded]
    missing = [one for one in wanted if one not in here]
    if missing or len(here) != len(wanted):
        names = ", ".join(dict.fromkeys(name for name, _ in missing)) or "more files than then"
        raise InputError(
            f"The data are not those of the run: {names} has changed since",
            given=", ".join(f"{name} {(stamp or 'unknown')[:12]}" for name, stamp in here),
            allowed=", ".join(f"{name} {(stamp or 'unknown')[:12]}" for name, stamp in wanted) + " (sha256 or commit)",
            try_="bring the old file back, or name the version of the data that the run was trained on",
        )


def recorded_figures(run: RunDirectory) -> dict[str, float]:
    """The figures of a run that a repetition must reach: losses, measures of all sides, preferences and rewards."""
    found: dict[str, float] = {}
    metrics = run.metrics()
    for key, name in (("loss", "last training loss"), ("eval_loss", "last validation loss")):
        values = [row[key] for row in metrics if isinstance(row.get(key), int | float)]
        if values:
            found[name] = values[-1]
    for measure in (run.comparison() or {}).get("measures", []):
        for side in ("base", "adapted"):
            value = measure["values"].get(side)
            if value is not None:
                found[f"{measure['name']}, {side}"] = value
    if preferences := run.preferences():
        found |= {"chosen answer wins": preferences["accuracy"], "margin": preferences["margin"]}
    if rewards := run.rewards():
        found |= {f"reward, {side}": rewards[side]["reward"] for side in ("start", "adapted")}
    return {name: float(value) for name, value in found.items() if math.isfinite(value)}


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
    """The version of `package` that is installed; None when it is not."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _stamp(source: Mapping[str, Any]) -> tuple[str, str | None]:
    return source["name"], source.get("sha256") or source.get("revision") or source.get("version")
