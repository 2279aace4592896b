"""A comparison of three sides as it lies on disk, written by hand: figures one can work out on paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ftlab.config import build_config
from ftlab.core.files import append_jsonl, write_json, write_jsonl, write_text
from ftlab.core.jobs import write_status
from ftlab.core.run_directory import RunDirectory
from ftlab.core.workspace import Workspace
from ftlab.evaluation.forgetting import General, forgetting_of
from ftlab.training.status import RunStatus

SIDES = ("base", "prompted", "adapted")
CREATED = 1795252159.0


def a_measure(
    name: str, title: str, values: list[float | None], *, p: float = 0.0001, intervals: Any = None, **more: Any
) -> dict[str, Any]:
    """One entry of `measures`. `intervals` are those of the differences of the later sides."""
    first = values[0]
    differences = {
        side: {"value": value - first, "interval": (intervals or {}).get(side), "p": p, "test": "exact McNemar"}
        for side, value in zip(SIDES[1:], values[1:], strict=True)
        if value is not None and first is not None
    }
    return {
        "name": name,
        "title": title,
        "unit": "%",
        "better": "higher",
        "help": f"What {title} says.",
        "rule": f"the rule of {title}",
        "group": "task",
        "kind": "share",
        "values": dict(zip(SIDES, values, strict=True)),
        "intervals": {
            side: None if value is None else [value, value] for side, value in zip(SIDES, values, strict=True)
        },
        "rows": 20,
        "differences": differences,
        "detail": None,
    } | more


MEMORISATION = {
    "rows": {"train": 60, "held_out": 20},
    "split": "test",
    "rule": "continued greedily",
    "examples": [],
    "leaks": {"same": 0, "near": 0, "answer": 0, "held_out": 20, "pairs": [], "text": "None has a copy."},
    "losses": {"base": {"train": 2.1, "held_out": 2.0}, "adapted": {"train": 0.9, "held_out": 1.0}},
    "gap": 0.1,
    "gap_interval": [-0.1, 0.3],
    "carried_over": 0.83,
    "carried_over_interval": [0.6, 1.0],
    "continuation": None,
    "continuation_p": None,
    "memorised": False,
    "overfitted": False,
    "text": "No sign that it memorized rows.",
}


def three_sides(**values: Any) -> dict[str, Any]:
    """Base, prompted base and adapted model on 20 rows: the task is learned, a fifth of the general answers is lost."""
    classes = [
        {"label": label, "precision": 0.8, "recall": 0.5, "f1": 8 / 13, "rows": 10} for label in ("billing", "shipping")
    ]
    detail = {"labels": ["billing", "shipping"]}
    detail |= {side: {"per_class": classes, "confusion": [[5, 5], [1, 9]]} for side in SIDES}
    measures = [
        a_measure("exact_match", "Exact match", [0.1, 0.3, 0.8], intervals={"adapted": [0.5, 0.85]}),
        a_measure("accuracy", "Accuracy", [0.2, 0.3, 0.9], detail=detail),
        a_measure("perplexity", "Perplexity", [50.0, 40.0, 2.0], unit="", better="lower", kind="loss"),
        a_measure("bleu", "BLEU", [4.0, 5.0, 3.0], p=0.4, unit="points", kind="score"),
        a_measure("general_accuracy", "General accuracy", [0.9, None, 0.7], group="general"),
        a_measure("answer_words", "Words per answer", [3.0, 9.0, 4.0], unit="words", better=None, group="style")
        | {"kind": "score"},
    ]
    side = {"rows": 20, "tokens": 300, "truncated_answers": 0, "general_rows": 50, "exact_match": 0.1, "perplexity": 50}
    side |= {"general_accuracy": 0.9, "bleu": 4.0}
    text = "The adapted model is better: exact match 80% against 10% (p < .001, 20 rows); what the base knew: lost."
    verdict = {"text": text, "better": True, "p": 0.0001, "measure": "exact_match", "forgot": True}
    verdict["why"] = "Exact match decides, because answers here are right or wrong."
    against = verdict | {"text": "The adapted model is better than the prompted base: exact match 80% against 30%."}
    return {
        "run": "x",
        "created": CREATED,
        "split": "test",
        "suite": None,
        "seconds": 60.0,
        "base": side,
        "prompted": side,
        "adapted": side | {"exact_match": 0.8, "perplexity": 2.0, "general_accuracy": 0.7, "bleu": 3.0},
        "tests": {},
        "sides": [
            {"name": "base", "title": "Base", "what": "starter"},
            {"name": "prompted", "title": "Base, prompted", "what": "3 examples"},
            {"name": "adapted", "title": "Adapted", "what": "LoRA rank 16"},
        ],
        "measures": measures,
        "forgetting": {"text": "The adapted model lost 9 of 45 general questions.", "forgot": True},
        "gain_loss": {"gained": [], "lost": [], "looks": [], "text": "Gained exact match; lost general accuracy."},
        "memorisation": MEMORISATION,
        "verdicts": {
            "prompted": verdict | {"text": "The prompted base is better.", "forgot": False},
            "adapted": verdict,
            "adapted_vs_prompted": against,
        },
        "verdict": verdict,
        "settings": {
            "decoding": "greedy",
            "max_new_tokens": 128,
            "probes": "general_probes",
            "general_accuracy_rule": "case ignored",
            "tests": {},
            "device": "cpu",
            "dtype": "float32",
            "quantised": False,
            "versions": {"torch": "2.13.0"},
        },
        "notes": [],
    } | values


def a_row(row: int, base: bool, adapted: bool, **more: Any) -> dict[str, Any]:
    """One row of predictions.jsonl: right is the reference, wrong another text."""
    right = dict(zip(SIDES, (base, False, adapted), strict=True))
    answers = {side: "the red parcel" if right[side] else "the blue parcel" for side in SIDES}
    losses = {f"{side}_loss": 0.5 if right[side] else 2.0 + row / 100 for side in SIDES}
    return {
        "row": row,
        "prompt": f"question {row}",
        "messages": [{"role": "user", "content": f"question {row}"}],
        "reference": "the red parcel",
        **answers,
        **losses,
        **{f"{side}_correct": right[side] for side in SIDES},
        **{f"{side}_tokens": 3 for side in SIDES},
        **{f"{side}_cut": False for side in SIDES},
        "scores": {"exact_match": {side: float(right[side]) for side in SIDES}},
        "columns": {"channel": "mail" if row % 2 else "phone"},
    } | more


def twenty_rows() -> list[dict[str, Any]]:
    """The rows of `three_sides`: of 20, two right before, 16 after, one of them lost."""
    return [a_row(row, row in (3, 7), row not in (3, 5, 9, 11)) for row in range(20)]


def evaluated_run(workspace: Workspace, label: str = "toy", **comparison: Any) -> RunDirectory:
    """A run that has ended and was compared: what training and evaluation leave on disk, but for the weights."""
    run = workspace.create_run(label)
    write_text(run.config_file, build_config({"name": label}).resolved().to_yaml())
    write_status(run.status_file, RunStatus(state="completed", created=CREATED, started=CREATED, finished=CREATED + 75))
    append_jsonl(run.metrics_file, {"step": 1, "epoch": 1.0, "time": 1000.0, "loss": 1.0})
    append_jsonl(run.metrics_file, {"step": 2, "epoch": 2.0, "time": 1000.0 + 3540, "loss": 0.5})
    write_json(run.adapter / "adapter_config.json", {})
    write_jsonl(run.predictions_file, twenty_rows())
    write_json(run.comparison_file, three_sides(run=run.id, **comparison))
    return run


def score_forgetting(
    known: Mapping[str, Sequence[bool]] | None,
    losses: Mapping[str, Sequence[float]] | None = None,
    sizes: Sequence[int] | None = None,
    *,
    limit: float = 0.05,
) -> Any:
    """`forgetting_of` questions of one kind, and of texts of one kind."""
    every = []
    if known:
        every.append(General("general_accuracy", "general questions", known))
    if losses and sizes:
        every.append(General("general_bits_per_byte", "general text", losses=losses, sizes=sizes))
    return forgetting_of(every, limit=limit)
