"""How much a run does: quick, balanced (the defaults) or thorough. For the form, the command line and Python."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ftlab.config import RunConfig, usual_learning_rate, with_settings
from ftlab.config.methods import BaseShape, fields_of
from ftlab.config.stages import SUPERVISED_STAGES
from ftlab.errors import InputError


@dataclass(frozen=True)
class Preset:
    """`epochs` on a real base and `starter_epochs` on the starter, None for the usual number; `rate` times the usual
    learning rate; `rank` of low-rank methods; `rows`: the most test rows; `prompted`: also compare with the prompted
    base."""

    title: str
    epochs: float | None = None
    starter_epochs: float | None = None
    rate: float = 1.0
    rank: int = 16
    rows: int = 200
    prompted: bool = False


# A short run takes a higher rate: some 15 times that of full tuning against 10 times for a long one (Schulman et al.,
# LoRA Without Regret, 2025). Early stopping keeps the best checkpoint of a long one.
PRESETS = {
    "quick": Preset("Quick", epochs=1, starter_epochs=3, rate=1.5, rank=8, rows=50),
    "balanced": Preset("Balanced"),
    "thorough": Preset("Thorough", epochs=5, starter_epochs=10, rank=32, rows=500, prompted=True),
}
PRESET = "balanced"
_HIGHEST_RATE = 0.1  # that optimisation.learning_rate takes


def preset_settings(name: str, config: RunConfig, shape: BaseShape | None = None) -> dict[str, Any]:
    """The settings of the preset `name` for the stage, base (of `shape`) and method of `config`, by path; None is the
    usual value. Raises InputError for an unknown name and for stages that learn from preferences."""
    if name not in PRESETS:
        raise InputError("There is no such preset", given=name, allowed=", ".join(PRESETS))
    if config.stage not in SUPERVISED_STAGES and name != PRESET:
        raise InputError(
            f"The preset {name} is for training on examples or text",
            given=f"the stage {config.stage}",
            allowed=", ".join(SUPERVISED_STAGES),
            try_="set the epochs instead",
        )
    preset = PRESETS[name]
    rate = None
    if preset.rate != 1:
        rate = min(_HIGHEST_RATE, float(f"{preset.rate * usual_learning_rate(config, shape):.2g}"))
    low_rank = "rank" in fields_of(config.method.name)
    return {
        "optimisation.epochs": preset.starter_epochs if config.is_starter else preset.epochs,
        "optimisation.learning_rate": rate,
        "method.rank": preset.rank if low_rank else PRESETS[PRESET].rank,
        "evaluation.max_rows": preset.rows,
        "evaluation.prompted": preset.prompted,
    }


def with_preset(config: RunConfig, name: str, shape: BaseShape | None = None) -> RunConfig:
    """`config` with the preset `name` for a base of `shape`, where it leaves a setting at its default. Raises
    InputError as `preset_settings` does."""
    usual, wanted = preset_settings(PRESET, config), preset_settings(name, config, shape)
    return with_settings(config, {path: value for path, value in wanted.items() if _get(config, path) == usual[path]})


def preset_of(config: RunConfig, shape: BaseShape | None = None) -> str | None:
    """The preset whose settings `config` has; None for settings of one's own."""
    if config.stage not in SUPERVISED_STAGES:
        return None
    for name in PRESETS:
        wanted = preset_settings(name, config, shape)
        if all(_get(config, path) == value for path, value in wanted.items()):
            return name
    return None


def _get(config: RunConfig, path: str) -> Any:
    section, _, name = path.partition(".")
    return getattr(getattr(config, section), name)
