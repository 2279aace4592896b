"""Experiment trackers beside ftlab's own files: only those that the configuration names, local where they can be."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from ftlab.config import RunConfig
from ftlab.errors import InputError, nearest
from ftlab.processes import HUB_VARIABLES
from ftlab.run_directory import RunDirectory

# What to install for a tracker whose package is called otherwise.
_PACKAGES = {"azure_ml": "azureml-core mlflow azureml-mlflow", "comet_ml": "comet-ml", "flyte": "flytekit"}
# Where each is told to write; a person's own setting is left alone.
_FOLDERS = {
    "trackio": "TRACKIO_DIR",
    "tensorboard": "TENSORBOARD_LOGGING_DIR",
    "wandb": "WANDB_DIR",
    "swanlab": "SWANLAB_LOG_DIR",
}
# What the secrets of a tracker begin with, where that is not its name.
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
    return [one for name in config.tracking.report_to for one in _SECRETS.get(name, (f"{name.upper()}_",))]


def check_tracking(config: RunConfig) -> None:
    """Raise InputError when `tracking.report_to` names a tracker that transformers does not know or that is not
    installed, with the line that installs it."""
    from transformers.integrations import get_available_reporting_integrations
    from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

    known, installed = sorted(INTEGRATION_TO_CALLBACK), get_available_reporting_integrations()
    if importlib.util.find_spec("flytekit") is not None:
        installed.append("flyte")
    for name in config.tracking.report_to:
        if name not in known:
            close = nearest(name, known)
            raise InputError(
                "There is no such tracker",
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
    """Where trackers that write to this machine leave their logs."""
    return Path(config.tracking.folder).expanduser().absolute() if config.tracking.folder else run.tracking


def begin_tracking(run: RunDirectory, config: RunConfig) -> None:
    """Tell the trackers of `config`, in this process, where to write. They read it when the trainer is built."""
    folder = tracking_folder(run, config)
    for name in config.tracking.report_to:
        if variable := _FOLDERS.get(name):
            folder.mkdir(parents=True, exist_ok=True)
            os.environ.setdefault(variable, str(folder))
