"""The configuration of a run: one validated model behind Python, YAML and forms.

The form in the Train tab, the command-line help and the notebook cells are generated from its fields.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, PrivateAttr, ValidationError

from ftlab.config.errors import explain
from ftlab.config.evaluation import EvaluationConfig
from ftlab.config.methods import METHODS, BaseShape, real_rate
from ftlab.config.preferences import PreferenceConfig, ReinforcementConfig, Reward
from ftlab.config.sections import (
    AUTO,
    SELF,
    STARTER,
    STARTER_REPLAY,
    DataConfig,
    LauncherConfig,
    MethodConfig,
    ModelConfig,
    OptimisationConfig,
    Section,
    TrackingConfig,
    explained,
    field,
    filled,
)
from ftlab.config.stages import EXPERIMENTAL, LOSSES, SFT, STAGES, SUPERVISED_STAGES, StageName
from ftlab.core.files import anywhere, check_reach
from ftlab.core.parsing import check_depth, parse_yaml, read_yaml, whole
from ftlab.errors import InputError, shorten

__all__ = [
    "AUTO",
    "CODE",
    "PROSE",
    "SELF",
    "STARTER",
    "STARTER_REPLAY",
    "DataConfig",
    "EvaluationConfig",
    "LauncherConfig",
    "MethodConfig",
    "ModelConfig",
    "OptimisationConfig",
    "PreferenceConfig",
    "ReinforcementConfig",
    "Reward",
    "RunConfig",
    "TrackingConfig",
    "build_config",
    "filled",
    "load_config",
    "read_value",
    "usual_learning_rate",
    "why_not_held",
    "with_settings",
]


CODE = "evaluation.own_metrics"  # the setting that names Python files to run


class RunConfig(Section):
    """Everything that defines a run: its `config.yaml` alone reproduces it."""

    name: str | None = field(None, "Name", "A label of your choice. It becomes part of the run's id.", max_length=80)
    stage: StageName = field(
        SFT,
        "Stage",
        explained(
            {name: stage.about for name, stage in STAGES.items()} | {" and ".join(EXPERIMENTAL): "experimental in TRL"}
        ),
    )
    model: ModelConfig = Field(default_factory=ModelConfig, title="Model")
    data: DataConfig = Field(default_factory=DataConfig, title="Data")
    method: MethodConfig = Field(default_factory=MethodConfig, title="Method")
    optimisation: OptimisationConfig = Field(default_factory=OptimisationConfig, title="Optimization")
    preference: PreferenceConfig = Field(default_factory=PreferenceConfig, title="Preferences")
    reinforcement: ReinforcementConfig = Field(default_factory=ReinforcementConfig, title="Reinforcement")
    evaluation: EvaluationConfig = Field(default_factory=EvaluationConfig, title="Evaluation")
    tracking: TrackingConfig = Field(default_factory=TrackingConfig, title="Tracking")
    launcher: LauncherConfig = Field(default_factory=LauncherConfig, title="Launcher")
    trainer: dict[str, Any] = field(
        {},
        "Other TRL settings",
        "Any argument of TRL's trainer configuration that ftlab has no setting for.",
        advanced=True,
    )

    # Custom metrics are code. A path to code in a YAML file is no consent to run it.
    _code_is_stored: bool = PrivateAttr(False)

    @property
    def code_is_stored(self) -> bool:
        """Whether its paths to code came from a file and nobody has named them since."""
        return self._code_is_stored

    @property
    def is_starter(self) -> bool:
        return self.model.base == STARTER

    @property
    def is_reward_model(self) -> bool:
        """Whether the trained model scores answers and writes none."""
        return not STAGES[self.stage].answers

    def resolved(self, shape: BaseShape | None = None) -> RunConfig:
        """A copy with every empty setting filled in. `shape` is that of the base; without it, the learning rate is the
        default for an unknown base."""
        config = self.model_copy(deep=True)
        settings = config.optimisation
        if settings.learning_rate is None:
            settings.learning_rate = usual_learning_rate(config, shape)
        usual = STAGES[self.stage].usual
        if settings.batch_size is None:
            # Small batches give more steps on a few hundred rows, and LoRA learns less from large ones (Schulman et al.
            # 2025). The starter was tuned at 16.
            settings.batch_size = 16 if self.is_starter else usual.batch if usual else 8
            if settings.gradient_accumulation is None and usual and not self.is_starter:
                settings.gradient_accumulation = usual.accumulation
        settings.gradient_accumulation = settings.gradient_accumulation or 1
        if settings.epochs is None and usual:
            settings.epochs = usual.starter_epochs if self.is_starter else usual.epochs
        if settings.epochs is None:
            # Three epochs do not teach a new format to a model as small as the starter.
            settings.epochs = 6 if self.is_starter else 3
        preference = config.preference
        if preference.loss is None and self.stage in LOSSES:
            preference.loss = LOSSES[self.stage][0]
        if preference.beta is None:
            preference.beta = STAGES[self.stage].betas.get(preference.loss or "", 0.1)
        if config.data.replay == AUTO:
            config.data.replay = SELF if why_not_held(self) is None else None
        if config.evaluation.probes == "auto":
            config.evaluation.probes = "self, general_probes" if self.is_starter else "self"
        if config.evaluation.general_text == "auto":
            config.evaluation.general_text = "general_text, general_chat" if self.is_starter else "general_reading"
        return config

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def why_not_held(config: RunConfig) -> str | None:
    """Why a run of this stage and base does not replay the base's own answers by default; None if it does."""
    if config.stage not in SUPERVISED_STAGES:
        return f"the stage {config.stage} has no rows of answers to mix replay into"
    if config.is_starter:
        return "the starter is too small to replay its own answers; use general_replay and general_documents"
    return None


def usual_learning_rate(config: RunConfig, shape: BaseShape | None = None) -> float:
    """The learning rate that usually works for the stage, method and base (of `shape`); higher for the starter. See
    config.methods and config.stages."""
    usual = STAGES[config.stage].usual
    if usual and config.method.is_full:
        return usual.starter_full if config.is_starter else usual.full
    if usual:
        return usual.starter_adapter if config.is_starter else usual.adapter
    if not config.is_starter:
        return real_rate(config.method.name, shape)
    facts = METHODS[config.method.name]
    # Measured with LoRA (docs/replay.md): with replay text, half the rate learns the task and forgets less.
    halved = config.data.replay_text and "rank" in METHODS[config.method.name].fields
    return facts.starter_rate / 2 if halved else facts.starter_rate


def build_config(values: dict[str, Any] | None = None, overrides: list[str] | None = None) -> RunConfig:
    """A validated RunConfig from nested `values` and `section.field=value` overrides.

    Raises InputError naming the field, its value and what is allowed.
    """
    try:
        check_depth(values)
    except ValueError as error:
        raise InputError(f"The settings are {error}", try_="nest them less deeply") from None
    values = whole(_copied(values or {}))
    for override in overrides or []:
        _apply_override(values, override)
    _check_values(values)
    check_reach({section: _paths(settings) for section, settings in values.items()})
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        raise explain(error, RunConfig) from None


def _paths(section: Any) -> Any:
    """The values of a section that may name a file: all but prose and column names."""
    if not isinstance(section, dict):
        return section
    values = {name: value for name, value in section.items() if name not in (*PROSE, "columns")}
    if isinstance(replay := values.get("replay"), str):  # self:FILE names a file too
        values["replay"] = [replay, replay.strip().removeprefix(f"{SELF}:")]
    return values


# Settings of the sections data, evaluation and method that hold prose, never paths.
PROSE = ("system_prompt", "prompt_template", "pattern", "labels", "initial_text")


def with_settings(config: RunConfig, settings: dict[str, Any]) -> RunConfig:
    """`config` with some settings changed ({"method.rank": 8}). Raises InputError like `build_config`."""
    values = config.model_dump()
    for path, value in settings.items():
        section, _, name = path.partition(".")
        values[section][name] = value
        check_reach(_paths({name: value}))
    with anywhere():  # the other settings are stored already
        changed = build_config(values)
    changed._code_is_stored = config.code_is_stored and CODE not in settings
    return changed


def load_config(path: str | Path | None, overrides: list[str] | None = None) -> RunConfig:
    """A validated RunConfig from a YAML file; without a file, the defaults. Raises InputError like `build_config`."""
    if path is None:
        return build_config({}, overrides)
    if not str(path).strip():  # such as an unset shell variable
        raise InputError("The name of the YAML file is empty", try_="leave it out to use the defaults")
    path = Path(path)
    try:
        values = read_yaml(path)
    except FileNotFoundError:
        raise InputError("There is no such file", given=path, try_="check the path of the YAML file") from None
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise InputError(
            f"{path.name} contains no settings",
            given=type(values).__name__,
            allowed=f"a mapping with {', '.join(RunConfig.model_fields)}",
        )
    config = build_config(values, overrides)
    named = any(override.partition("=")[0].strip() == CODE for override in overrides or [])
    config._code_is_stored = bool(config.evaluation.own_metrics) and not named
    return config


def _apply_override(values: dict[str, Any], override: str) -> None:
    key, sign, text = override.partition("=")
    if not sign or not key.strip():
        raise InputError(
            "A setting takes the form section.field=value", given=override, try_="such as --set optimisation.epochs=3"
        )
    value = read_value(text, f"The value of {key}")
    *sections, last = key.strip().split(".")
    target = values
    for section in sections:
        target = target.setdefault(section, {})
        if not isinstance(target, dict):
            raise InputError(f"{section!r} in {key!r} is not a group of settings", given=override)
    target[last] = value


def read_value(text: str, name: str = "The value") -> Any:
    """The value of `text`, read as YAML. Raises InputError if it is not valid YAML."""
    value = parse_yaml(text, name)
    if isinstance(value, str):
        # YAML 1.1 reads 1e-4 (without a dot) as text; people mean the number.
        try:
            return float(value)
        except ValueError:
            pass
    return value


def _check_values(value: Any) -> None:
    """Reject integers that overflow 64 bits, which libraries cannot take (nor Python print, if long enough), and text
    with NUL, which no file system takes."""
    if isinstance(value, int) and value.bit_length() > 63:
        raise InputError("A setting is too large a number", given=f"about 2 to the power {value.bit_length() - 1}")
    if isinstance(value, str) and "\0" in value:
        raise InputError("A setting contains a NUL character", given=repr(shorten(value, 60)))
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ():
        _check_values(item)


def _copied(values: dict[str, Any]) -> dict[str, Any]:
    return {key: _copied(value) if isinstance(value, dict) else value for key, value in values.items()}
