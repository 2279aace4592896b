"""What a run ran on: package versions, hardware, seeds."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from typing import Any

from ftlab.config import RunConfig
from ftlab.files import read_json, write_json
from ftlab.run_directory import RunDirectory
from ftlab.training.launching import together

_PACKAGES = ("torch", "transformers", "trl", "peft", "datasets", "accelerate", "bitsandbytes", "ftlab")


def record_environment(run: RunDirectory, config: RunConfig, device: str, *, resumed_at: int | None) -> None:
    """Write environment.json: versions, hardware, threads and seeds; an earlier attempt's stays under `resumed`."""
    import torch

    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    earlier = read_json(run.environment_file, None) if resumed_at is not None else None
    resumed = (
        [*earlier.pop("resumed", []), {"step": resumed_at, "time": time.time(), "before": earlier}] if earlier else []
    )
    write_json(
        run.environment_file,
        {
            "python": platform.python_version(),
            "platform": platform.platform(),
            "packages": versions,
            "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
            "cpus": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "processes": together.processes(),
            "seeds": {"training": config.optimisation.seed, "split": config.data.seed},
            "parent_run": config.model.start,
            "resumed": resumed,
        },
    )


def note_environment(run: RunDirectory, **values: Any) -> None:
    """Add what became known later to environment.json."""
    write_json(run.environment_file, read_json(run.environment_file, {}) | values)
