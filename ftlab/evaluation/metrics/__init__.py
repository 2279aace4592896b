"""Measures of answers: rules for one row, for a whole corpus, for classes, and all of them as `evaluate.Metric`s.

The submodules are light. `load` and `score` belong to `modules` and are loaded on first use, because importing
`evaluate` takes seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ftlab.evaluation.metrics.text import EXACT_MATCH_RULE, PROBE_RULE, is_exact, is_general_match

if TYPE_CHECKING:
    from ftlab.evaluation.metrics.modules import load, score

__all__ = ["EXACT_MATCH_RULE", "PROBE_RULE", "is_exact", "is_general_match", "load", "score"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ftlab.evaluation.metrics import modules

    return getattr(modules, name)
