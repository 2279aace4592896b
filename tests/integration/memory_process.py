"""`python -m tests.integration.memory_process BASE ROWS WORKSPACE`: resident memory of a process that does as the app.

It starts a run on BASE, waits for its end, and answers with its models three times, giving them back in between. The
last line of its output is a JSON object: bytes at rest, after the run, and for each time with the models and after
them.
"""

from __future__ import annotations

import gc
import json
import sys

import psutil

from ftlab.config import ModelConfig, build_config
from ftlab.core.run_directory import RunDirectory
from ftlab.core.workspace import Workspace
from ftlab.data.splits import prepare
from ftlab.evaluation.duet import load_duet
from ftlab.evaluation.loaded import release
from ftlab.models.load import load_base
from ftlab.training import supervisor


def resident() -> int:
    gc.collect()
    return psutil.Process().memory_info().rss


def answered(run: RunDirectory) -> int:
    for _ in load_duet(run).stream("What comes after 7?", max_new_tokens=4):
        pass
    return resident()


def main(base: str, rows: str, root: str) -> None:
    config = build_config(
        {
            # Stored as bfloat16: the weights become memory of this process, and are no pages of the file.
            "model": {"base": base, "dtype": "float32"},
            "data": {"source": rows},
            "optimisation": {"max_steps": 1, "batch_size": 2},
            "evaluation": {"after_training": False},
            "launcher": {"threads": 1, "device": "cpu"},
        }
    )
    workspace = Workspace.open(root)
    # What the libraries take is not what models take.
    prepare(config.data, workspace=workspace)
    import peft  # noqa: F401

    load_base(ModelConfig(), device="cpu")
    found = {"rest": resident()}
    run = supervisor.submit(config, workspace)
    found["state"] = supervisor.wait(run).state
    found["after_run"] = resident()
    found["loaded"], found["released"] = [], []
    for _ in range(3):
        found["loaded"].append(answered(run))
        release()
        found["released"].append(resident())
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
