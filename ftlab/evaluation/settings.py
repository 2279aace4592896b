"""How a comparison was measured: enough to do it again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ftlab.config import RunConfig
from ftlab.evaluation.asking import Asked
from ftlab.evaluation.material import Material
from ftlab.evaluation.sides import Side, identity
from ftlab.evaluation.significance import MEAN_TEST

_PACKAGES = ("torch", "transformers", "peft", "evaluate", "sacrebleu", "scipy")


def settings_of(material: Material, sides: Sequence[Side], asked: Asked, config: RunConfig) -> dict[str, Any]:
    from importlib.metadata import version

    from ftlab.evaluation.metrics import EXACT_MATCH_RULE, PROBE_RULE

    tests = {"perplexity": f"summed losses: {MEAN_TEST}"}
    if asked.pieces:
        rules = {
            "window": max(len(window.input_ids) for window in asked.pieces.windows),
            "bits_per_byte_rule": "summed loss in bits by the UTF-8 bytes of the text, end-of-text tokens counted in",
        }
    else:
        rules = {"exact_match_rule": EXACT_MATCH_RULE}
        tests |= {"exact_match": "exact McNemar", "bleu": "approximate randomisation, 9999 exchanges"}
    prompted = [side.prompting for side in sides if side.prompting]
    device, dtype, *_ = identity(sides[0])
    return {
        "decoding": "greedy",
        "max_new_tokens": material.limit.tokens,
        "longest_answer": str(material.limit),
        "batch_size": config.evaluation.batch_size,
        "rows": len(material.rows),
        "split": material.split,
        "probes": config.evaluation.probes,
        "probe_max_new_tokens": asked.probe_tokens,
        "context": material.context,
        **rules,
        "general_accuracy_rule": PROBE_RULE,
        "tests": tests | {"general_accuracy": "exact McNemar"},
        **({"prompted": {"system": prompted[0].system, "examples": prompted[0].examples}} if prompted else {}),
        "device": device,
        "dtype": dtype,
        "quantised": config.method.name == "qlora",
        "versions": {name: version(name) for name in _PACKAGES},
    }
