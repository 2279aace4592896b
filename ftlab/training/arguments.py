"""TRL's trainer arguments, built from a run's configuration. Experiment trackers run only where it names them."""

from __future__ import annotations

import importlib
import importlib.util
import os
from pathlib import Path
from typing import Any

from ftlab.config import RunConfig
from ftlab.config.errors import allowed_by
from ftlab.config.stages import REWARD_STAGES, SFT, STAGES, SUPERVISED_STAGES
from ftlab.core.processes import HUB_VARIABLES
from ftlab.core.run_directory import RunDirectory
from ftlab.errors import InputError, nearest, shorten
from ftlab.training.sizes import planned_steps

# The packages of trackers with another name.
_PACKAGES = {"azure_ml": "azureml-core mlflow azureml-mlflow", "comet_ml": "comet-ml", "flyte": "flytekit"}
# The variable that sets where each one writes. A value that is already set stays.
_FOLDERS = {
    "trackio": "TRACKIO_DIR",
    "tensorboard": "TENSORBOARD_LOGGING_DIR",
    "wandb": "WANDB_DIR",
    "swanlab": "SWANLAB_LOG_DIR",
}
# Prefixes of the secrets of trackers that do not start with their name.
_SECRETS = {
    "azure_ml": ("AZURE_", "AZUREML_", "MLFLOW_"),
    "comet_ml": ("COMET_",),
    "dvclive": ("DVC_", "AWS_", "AZURE_"),
    "mlflow": ("MLFLOW_", "DATABRICKS_", "AWS_", "AZURE_"),
    "trackio": ("TRACKIO_", *HUB_VARIABLES),
}
PROJECT = "ftlab"


def tracker_variables(config: RunConfig) -> list[str]:
    """The secrets in the environment that the trackers of `config` need, for `processes.child_environment`."""
    return [variable for name in config.tracking.report_to for variable in _SECRETS.get(name, (f"{name.upper()}_",))]


def check_tracking(config: RunConfig) -> None:
    """Raise InputError when `tracking.report_to` names a tracker that transformers does not know or that is not
    installed, with the command that installs it."""
    from transformers.integrations import get_available_reporting_integrations
    from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

    known, installed = sorted(INTEGRATION_TO_CALLBACK), get_available_reporting_integrations()
    if importlib.util.find_spec("flytekit") is not None:
        installed.append("flyte")
    for name in config.tracking.report_to:
        if name not in known:
            close = nearest(name, known)
            raise InputError(
                "Unknown tracker",
                given=f"tracking.report_to: {name}",
                allowed=", ".join(known),
                try_=f"did you mean {close}?" if close else None,
            )
        if name not in installed:
            raise InputError(
                f"The tracker {name} is not installed",
                given=f"tracking.report_to: {name}",
                try_=f"pip install {_PACKAGES.get(name, name)}",
            )


def tracking_folder(run: RunDirectory, config: RunConfig) -> Path:
    """The folder for the logs of trackers that write to this machine."""
    return Path(config.tracking.folder).expanduser().absolute() if config.tracking.folder else run.tracking


def begin_tracking(run: RunDirectory, config: RunConfig) -> None:
    """Set where the trackers of `config` write. They read these variables when the trainer is built."""
    folder = tracking_folder(run, config)
    for name in config.tracking.report_to:
        if variable := _FOLDERS.get(name):
            folder.mkdir(parents=True, exist_ok=True)
            os.environ.setdefault(variable, str(folder))


# Arguments that ftlab sets; `trainer:` may set any other.
_OURS = {
    "output_dir", "num_train_epochs", "max_steps", "learning_rate", "per_device_train_batch_size",
    "gradient_accumulation_steps", "max_length", "warmup_steps", "lr_scheduler_type", "weight_decay", "max_grad_norm",
    "gradient_checkpointing", "seed", "bf16", "fp16", "use_cpu", "eval_strategy", "save_strategy", "eval_steps",
    "save_steps", "load_best_model_at_end", "metric_for_best_model", "greater_is_better", "disable_tqdm",
    "padding_free", "dataset_kwargs", "trust_remote_code", "push_to_hub", "hub_token", "push_to_hub_token",
    "per_device_eval_batch_size", "remove_unused_columns", "model_init_kwargs", "eval_on_start", "save_total_limit",
    "save_only_model", "report_to", "run_name", "project", "resume_from_checkpoint", "chat_template_path",
    "trackio_space_id", "trackio_static_space_id", "trackio_bucket_id",
    "log_completions_hub_repo",
}  # fmt: skip
_OURS_OF_TEXT = {"loss_type"}
_OURS_OF_PREFERENCES = {
    "beta", "loss_type", "loss_weights", "label_smoothing", "precompute_ref_log_probs", "simpo_gamma",
    "desirable_weight", "undesirable_weight", "sync_ref_model", "generate_during_eval",
}  # fmt: skip
_OURS_OF_REWARDS = {
    "beta", "num_generations", "num_generations_eval", "max_completion_length", "temperature", "reward_weights",
    "generation_batch_size", "steps_per_generation", "generation_kwargs", "chat_template_kwargs", "log_completions",
}  # fmt: skip


def config_class(stage: str) -> Any:
    """TRL's configuration class of the trainer for `stage`."""
    row = STAGES[stage]
    module = importlib.import_module(f"trl.experimental.{stage}" if row.experimental else "trl")
    return getattr(module, f"{row.trl}Config")


def stage_arguments(
    run: RunDirectory, config: RunConfig, device: str, *, rows: int, validation: bool, more: dict[str, Any]
) -> Any:
    """The configuration of TRL's trainer for the stage of `config`; `more` are arguments of this stage alone.

    Raises InputError for an unknown or reserved name under `trainer:`.
    """
    from ftlab.models.load import pick_dtype

    settings = config.optimisation
    check_trainer_settings(config.trainer, config.stage)
    steps = planned_steps(settings, rows, validation=validation, processes=config.launcher.processes)
    between = steps.between_evaluations
    dtype = str(pick_dtype(config.model, device)).removeprefix("torch.")
    values: dict[str, Any] = {
        "output_dir": str(run.checkpoints),
        "num_train_epochs": settings.epochs,
        "max_steps": settings.max_steps or -1,
        "learning_rate": settings.learning_rate,
        "per_device_train_batch_size": settings.batch_size,
        "per_device_eval_batch_size": settings.batch_size,
        "gradient_accumulation_steps": settings.gradient_accumulation,
        "warmup_steps": steps.warmup,
        "lr_scheduler_type": settings.schedule,
        "weight_decay": settings.weight_decay,
        "max_grad_norm": settings.max_grad_norm,
        "gradient_checkpointing": settings.gradient_checkpointing,
        # Not group_by_length, although it saves padding: it fills whole batches with replay rows, which are short, and
        # the quickstart then reaches 60% exact match instead of 85% (measured).
        "train_sampling_strategy": "random",
        "seed": settings.seed,
        "use_cpu": device == "cpu",
        "bf16": dtype == "bfloat16",
        "fp16": dtype == "float16" and device != "cpu",
        "logging_steps": steps.between_logs,
        "logging_first_step": True,
        # A NaN must be reported, not averaged away.
        "logging_nan_inf_filter": False,
        "report_to": config.tracking.report_to or "none",
        "run_name": run.id,
        "project": PROJECT,
        "disable_tqdm": True,
        "dataloader_pin_memory": device != "cpu",
        # Every trained weight takes part in every step; searching for unused ones costs time.
        "ddp_find_unused_parameters": False,
        "save_strategy": "steps",
        "save_steps": between,
        "save_total_limit": 2,
        "eval_strategy": "no",
    }
    if validation:
        values |= {
            "eval_strategy": "steps",
            "eval_steps": between,
            "eval_on_start": True,
            "load_best_model_at_end": True,
            "metric_for_best_model": "eval_loss",
            "greater_is_better": False,
        }
    try:
        return config_class(config.stage)(**(values | more | config.trainer))
    except (TypeError, ValueError) as error:
        raise InputError(f"TRL rejects a setting under `trainer`: {error}", given=config.trainer) from None


def check_trainer_settings(trainer: dict[str, Any], stage: str = SFT) -> None:
    """Raise InputError when `trainer` names an argument that TRL does not have or that ftlab sets itself, or gives one
    a value of another type."""
    if not trainer:
        return
    from dataclasses import fields
    from typing import get_type_hints

    kind = config_class(stage)
    hints = get_type_hints(kind)
    known = {item.name for item in fields(kind)}
    # GRPO's loss_type sets how its loss is averaged, which preference.loss does not.
    of_stage = dict.fromkeys(SUPERVISED_STAGES, _OURS_OF_TEXT) | dict.fromkeys(REWARD_STAGES, _OURS_OF_REWARDS)
    ours = _OURS | of_stage.get(stage, _OURS_OF_PREFERENCES)
    for name in trainer:
        if name not in known:
            close = nearest(name, known - ours)
            raise InputError(
                f"TRL's {kind.__name__} has no argument {name!r}",
                given=f"trainer.{name}: {trainer[name]!r}",
                try_=f"did you mean {close!r}?" if close else f"see the documentation of TRL's {kind.__name__}",
            )
        if name in ours:
            raise InputError(
                f"trainer.{name} is set by ftlab's own settings",
                given=f"trainer.{name}: {trainer[name]!r}",
                try_="use the sections model, optimisation, preference, reinforcement, tracking and launcher for it",
            )
        _check_type(f"trainer.{name}", trainer[name], hints[name])


def _check_type(name: str, value: Any, wanted: Any) -> None:
    from pydantic import TypeAdapter, ValidationError

    try:
        TypeAdapter(wanted).validate_python(value, strict=True)
    except ValidationError as error:
        allowed = dict.fromkeys(allowed_by(detail) for detail in error.errors() if detail["type"] != "is_instance_of")
        raise InputError(
            f"{name} cannot take this value", given=shorten(repr(value)), allowed=" or ".join(allowed)
        ) from None
