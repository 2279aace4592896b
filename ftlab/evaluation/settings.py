"""How a comparison was measured: enough to do it again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ftlab.config import RunConfig
from ftlab.evaluation.asking import Asked
from ftlab.evaluation.drift import RULE
from ftlab.evaluation.material import Material
from ftlab.evaluation.probes import HELD_RULE
from ftlab.evaluation.sides import Side, identity
from ftlab.evaluation.significance import MEAN_TEST

_PACKAGES = ("torch", "transformers", "peft", "evaluate", "sacrebleu", "scipy")


def _decoding(config: RunConfig) -> dict[str, Any]:
    samples, temperature = config.evaluation.samples, config.evaluation.temperature
    if not temperature:
        return {"decoding": "greedy"}
    return {"decoding": f"sampled (temperature {temperature:g})", "samples": samples, "temperature": temperature}


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
        if config.evaluation.samples > 1:
            tests["exact_match"] = MEAN_TEST
    prompted = [side.prompting for side in sides if side.prompting]
    device, dtype, *_ = identity(sides[0])
    return {
        **_decoding(config),
        "max_new_tokens": material.limit.tokens,
        "longest_answer": str(material.limit),
        "batch_size": config.evaluation.batch_size,
        "rows": len(material.rows),
        "split": material.split,
        "probes": config.evaluation.probes,
        "replayed_kinds": None if material.replayed is None else sorted(material.replayed),
        "probe_max_new_tokens": asked.probe_tokens,
        "context": material.context,
        **rules,
        "general_accuracy_rule": HELD_RULE if any(probe.held for probe in material.probes) else PROBE_RULE,
        **({"neutral_prompts": len(material.neutral), "drift_rule": RULE} if material.neutral else {}),
        "tests": tests | {"general_accuracy": "exact McNemar"},
        **({"prompted": {"system": prompted[0].system, "examples": prompted[0].examples}} if prompted else {}),
        "device": device,
        "dtype": dtype,
        "quantised": config.method.name == "qlora",
        "versions": {name: version(name) for name in _PACKAGES},
    }
