"""ftlab: adapt a pretrained language model with a few hundred examples, and prove that it got better.

    import ftlab
    ftlab.inspect("support_triage")
    run = ftlab.train(data={"source": "support_triage"})
    run.wait()
    run.comparison()

The names are loaded on first use, so that `import ftlab` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ftlab.api import (
        BlindTest,
        Run,
        accept,
        as_read,
        blind_test,
        blind_verdict,
        chat,
        check,
        compare,
        compare_metrics,
        evaluate,
        expect,
        find_rate,
        fix,
        get_base,
        inspect,
        launch,
        preflight,
        rater_links,
        resume_interrupted,
        same_data,
        same_versions,
        show,
        train,
        trained,
        workspace_folder,
        write,
    )
    from ftlab.config import RunConfig

__version__ = "0.1.0"
__all__ = [
    "BlindTest",
    "Run",
    "RunConfig",
    "accept",
    "as_read",
    "blind_test",
    "blind_verdict",
    "chat",
    "check",
    "compare",
    "compare_metrics",
    "evaluate",
    "expect",
    "find_rate",
    "fix",
    "get_base",
    "inspect",
    "launch",
    "preflight",
    "rater_links",
    "resume_interrupted",
    "same_data",
    "same_versions",
    "show",
    "train",
    "trained",
    "workspace_folder",
    "write",
]


def __getattr__(name: str) -> Any:
    import importlib

    if name not in __all__:
        raise AttributeError(f"module 'ftlab' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module("ftlab.config" if name == "RunConfig" else "ftlab.api"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
