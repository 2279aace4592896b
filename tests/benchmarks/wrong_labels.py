"""How well wrong answers are found: `python -m tests.benchmarks.wrong_labels [--seeds 5] [--tasks "intents"]`.

In 5% and 10% of the rows of a task, drawn at random, the answer is replaced by that of another row. Reported for each
task and share, summed over seeds: rows that the checks report, and those of them that were planted; and for each seed
the planted rows among the first 20 of Curate. With nothing planted, every reported row is a false alarm. A seed draws
the rows, too, and the intents.

Tasks: samples of ours, on which the thresholds of `data/checks/labels.py` were chosen (support_triage, JSON;
brand_voice and shop_tools, sentences), and others from shared/data: ten intents of banking77, Alpaca, GSM8K, the chosen
answers of dpo_en_demo, the first answers of glaive_toolcall_en_demo.

With --ways, other ways to rank the rows are compared, as means over seeds: the share of planted rows among the first
10 and 20 (chance gives the share that was planted) and the area under the ROC curve (chance gives 0.5). Ways: the
classifier of the checks (labels only); the nearest neighbors by words; words shared with the prompt; the loss of --base
on the answer; how much the row's own prompt lowers that loss, against the prompts of other rows (`fit`); and, with
--runs, the loss of a run that was trained on the rows with the planted errors, how far it fell, and the loss of two
runs that were each trained on the other half (`halves`).

Prints a Markdown table as it grows; --ways prints a JSON object as the last line.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from ftlab.config import STARTER, ModelConfig, build_config
from ftlab.core.workspace import Workspace
from ftlab.data.checks.finding import Examples
from ftlab.data.checks.labels import suspicious
from ftlab.data.checks.run import find_classes
from ftlab.data.normal import Watch
from ftlab.data.shapes import Message
from ftlab.models.load import load_tokenizer

_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
_SAMPLES = Path(__file__).resolve().parents[2] / "ftlab" / "samples"
Pairs = list[tuple[str, str]]


SAMPLES = ("support_triage", "brand_voice", "shop_tools")
SHARED = ("intents", "alpaca", "gsm8k", "dpo", "glaive")


def pairs_of(task: str, rows: int, seed: int) -> Pairs:
    """Prompts and answers of `rows` rows that `seed` draws."""
    rng = random.Random(seed)
    if task in SAMPLES:
        lines = (_SAMPLES / task / "train.jsonl").read_text(encoding="utf-8").splitlines()
        pairs = [_ends(row) for row in map(json.loads, lines)]
    elif task == "intents":
        with (_DATA / "banking77_train.csv").open(encoding="utf-8", newline="") as file:
            bank = list(csv.DictReader(file))
        names = rng.sample(sorted({row["category"] for row in bank}), 10)
        pairs = [(row["text"], row["category"]) for row in bank if row["category"] in names]
    elif task == "gsm8k":
        lines = (_DATA / "gsm8k_test.jsonl").read_text(encoding="utf-8").splitlines()
        pairs = [(row["question"], row["answer"]) for row in map(json.loads, lines)]
    else:
        name = {"alpaca": "alpaca_en_demo", "dpo": "dpo_en_demo", "glaive": "glaive_toolcall_en_demo"}[task]
        pairs = [_ends(row) for row in json.loads((_DATA / f"{name}.json").read_text(encoding="utf-8"))]
    return rng.sample(pairs, min(rows, len(pairs)))


def _ends(row: dict[str, Any]) -> tuple[str, str]:
    """The prompt and the answer of a row of these files."""
    if "completion" in row:
        return row["prompt"], row["completion"]
    if "messages" in row:
        turns = row["messages"]
        return "\n".join(turn["content"] for turn in turns if turn["role"] == "user"), turns[-1]["content"]
    if "chosen" in row:
        return row["conversations"][-1]["value"], row["chosen"]["value"]
    if "conversations" in row:
        turns = row["conversations"]
        sides = {side: next(turn["value"] for turn in turns if turn["from"] == side) for side in ("human", "gpt")}
        return sides["human"], sides["gpt"]
    return f"{row['instruction']}\n{row['input']}".strip(), row["output"]


def plant(pairs: Pairs, share: float, seed: int) -> tuple[Pairs, set[int]]:
    """`pairs` with the answers of a share of them exchanged for another answer that stands in the data."""
    rng = random.Random(seed)
    wrong = set(rng.sample(range(len(pairs)), round(share * len(pairs))))
    answers = [answer for _, answer in pairs]
    planted = [
        (prompt, rng.choice([other for other in answers if other != answer]) if at in wrong else answer)
        for at, (prompt, answer) in enumerate(pairs)
    ]
    return planted, wrong


def by_classifier(pairs: Pairs) -> np.ndarray | None:
    from ftlab.data.checks.labels import _out_of_sample

    names = sorted({answer for _, answer in pairs})
    if len(names) > 100:
        return None
    known = np.array([names.index(answer) for _, answer in pairs])
    chances = _out_of_sample([prompt for prompt, _ in pairs], known, Watch())
    own = chances[np.arange(len(known)), known]
    others = chances.copy()
    others[np.arange(len(known)), known] = 0
    return others.max(axis=1) - own


def by_neighbors(pairs: Pairs, nearest: int = 8) -> np.ndarray:
    """How unlike the answer is to the answers of the nearest prompts, by words."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    prompts = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2)).fit_transform(prompt for prompt, _ in pairs)
    answers = TfidfVectorizer(sublinear_tf=True, token_pattern=r"\w+").fit_transform(answer for _, answer in pairs)
    near = (prompts @ prompts.T).toarray()
    alike = (answers @ answers.T).toarray()
    np.fill_diagonal(near, -1)
    order = np.argsort(-near, axis=1)[:, :nearest]
    weights = np.take_along_axis(near, order, axis=1) + 1e-6
    return -(np.take_along_axis(alike, order, axis=1) * weights).sum(axis=1) / weights.sum(axis=1)


def by_words_shared(pairs: Pairs) -> np.ndarray:
    """How few of the rarer words of the prompt stand in the answer."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    words = TfidfVectorizer(sublinear_tf=True, stop_words="english").fit([text for pair in pairs for text in pair])
    prompts, answers = (words.transform([pair[side] for pair in pairs]) for side in (0, 1))
    return -np.asarray(prompts.multiply(answers).sum(axis=1)).ravel()


class Scorer:
    """Losses of answers under one model, in nats per token."""

    def __init__(self, model: Any, tokenizer: Any):
        self.model, self.tokenizer = model, tokenizer

    def losses(self, pairs: Pairs) -> np.ndarray:
        from ftlab.data.rendering import encode
        from ftlab.evaluation.losses import score_losses

        turns = [
            [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}] for prompt, answer in pairs
        ]
        encoded = [encode(messages, self.tokenizer).cut(512) for messages in turns]
        fill = self.tokenizer.pad_token_id or 0
        return np.array(score_losses(self.model, encoded, pad_token_id=fill, batch_rows=16).per_token)

    def fit(self, pairs: Pairs, others: int = 2) -> tuple[np.ndarray, np.ndarray]:
        """The losses, and by how much they exceed those of the same answers after the prompts of other rows."""
        own = self.losses(pairs)
        elsewhere = []
        for seed in range(others):
            shift = random.Random(seed).randrange(1, len(pairs))
            moved = [(pairs[(at + shift) % len(pairs)][0], answer) for at, (_, answer) in enumerate(pairs)]
            elsewhere.append(self.losses(moved))
        return own, own - np.mean(elsewhere, axis=0)


def _base(base: str) -> Scorer:
    from ftlab.data.rendering import ensure_chat_template
    from ftlab.models.load import load_base

    tokenizer = load_tokenizer(base)
    ensure_chat_template(tokenizer)
    return Scorer(load_base(ModelConfig(base=base)), tokenizer)


def train(base: str, pairs: Pairs, workspace: Workspace, name: str) -> tuple[Scorer, float]:
    """A run on `pairs` with its usual settings, and the seconds it took."""
    from ftlab.models.load import load_run
    from ftlab.training import supervisor
    from tests.benchmarks.methods import follow

    path = workspace.root / f"{name}.jsonl"
    path.write_text("".join(json.dumps({"prompt": p, "completion": a}) + "\n" for p, a in pairs), encoding="utf-8")
    config = build_config(
        {
            "model": {"base": base},
            "data": {"source": str(path), "test_fraction": 0.0, "validation_fraction": 0.02},
            "optimisation": {"epochs": 2 if base != STARTER else 4, "evaluations_per_epoch": 1},
            "evaluation": {"memorisation": False, "max_rows": 1, "general_text": "none"},
        }
    )
    began = time.perf_counter()
    run = supervisor.submit(config, workspace)
    follow(run)
    return Scorer(*load_run(run)), time.perf_counter() - began


def reported(pairs: Pairs) -> tuple[set[int], list[int]]:
    """The rows that the checks report, and those that Curate shows first."""
    turns = [
        [Message(role="user", content=prompt), Message(role="assistant", content=answer)] for prompt, answer in pairs
    ]
    examples = Examples(["train"] * len(pairs), list(range(len(pairs))), turns)
    findings, listed = suspicious(examples, Watch(), find_classes(examples.answers))
    return {row for finding in findings for row in finding.rows}, [suspect["row"] for suspect in listed]


def report_checks(tasks: list[str], rows: int, seeds: list[int], shares: list[float]) -> None:
    print("| task (rows) | planted | reported | of them planted | draws with a finding | planted of the first 20 |")
    print("|---|---|---|---|---|---|", flush=True)
    for task in tasks:
        for share in (0.0, *shares):
            planted, named, right, alarms, first = [], 0, 0, 0, []
            for seed in seeds:
                pairs, wrong = plant(pairs_of(task, rows, seed), share, seed)
                found, listed = reported(pairs)
                planted.append(len(wrong))
                named, right, alarms = named + len(found), right + len(found & wrong), alarms + bool(found)
                first.append(len(set(listed[:20]) & wrong) if listed else None)
            each = ", ".join("no list" if hits is None else str(hits) for hits in first)
            print(
                f"| {task} ({len(pairs)}) | {sum(planted)} | {named} | {right} | {alarms} of {len(seeds)} | {each} |",
                flush=True,
            )


def figures(scores: np.ndarray, wrong: set[int]) -> dict[str, float]:
    from sklearn.metrics import roc_auc_score

    order = np.argsort(-scores, kind="stable").tolist()
    truth = [at in wrong for at in range(len(scores))]
    return {
        "10": sum(at in wrong for at in order[:10]) / 10,
        "20": sum(at in wrong for at in order[:20]) / 20,
        "area": float(roc_auc_score(truth, scores)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default=STARTER)
    parser.add_argument("--tasks", default=",".join((*SAMPLES, *SHARED)))
    parser.add_argument("--rows", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--shares", default="0.05,0.1")
    parser.add_argument("--ways", action="store_true", help="compare other ways to rank")
    parser.add_argument("--runs", action="store_true", help="with --ways: train runs, too")
    args = parser.parse_args()
    tasks = [name.strip() for name in args.tasks.split(",")]
    seeds = list(range(args.first_seed, args.first_seed + args.seeds))
    shares = [float(share) for share in args.shares.split(",")]
    if not args.ways:
        report_checks(tasks, args.rows, seeds, shares)
        return
    base = _base(args.base)
    print("| task | planted | way | of the first 10 | of the first 20 | area |\n|---|---|---|---|---|---|", flush=True)
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for task in tasks:
            for share in shares:
                by_way: dict[str, list[dict[str, float]]] = defaultdict(list)
                for seed in seeds:
                    pairs, wrong = plant(pairs_of(task, args.rows, seed), share, seed)
                    ways: dict[str, np.ndarray | None] = {
                        "classifier": by_classifier(pairs),
                        "neighbors": by_neighbors(pairs),
                        "words shared": by_words_shared(pairs),
                    }
                    ways["base loss"], ways["base fit"] = base.fit(pairs)
                    if args.runs:
                        workspace = Workspace.open(Path(folder, f"{task}-{share}-{seed}"))
                        workspace.root.mkdir(parents=True, exist_ok=True)
                        run, seconds = train(args.base, pairs, workspace, "all")
                        ways["run loss"], ways["run fit"] = run.fit(pairs)
                        ways["run minus base"] = ways["run loss"] - ways["base loss"]
                        held = np.zeros(len(pairs))
                        fits = np.zeros(len(pairs))
                        for half in (0, 1):
                            other, _ = train(args.base, pairs[half::2], workspace, f"half{half}")
                            held[1 - half :: 2], fits[1 - half :: 2] = other.fit(pairs[1 - half :: 2])
                        ways["halves loss"], ways["halves fit"] = held, fits
                        print(f"<!-- {seconds:.0f} s a run -->", flush=True)
                    for way, scores in ways.items():
                        if scores is not None:
                            by_way[way].append(figures(scores, wrong))
                for way, each in by_way.items():
                    mean = {name: round(float(np.mean([seed[name] for seed in each])), 3) for name in each[0]}
                    results[f"{task} {share} {way}"] = mean
                    print(
                        f"| {task} | {share:.0%} | {way} | {mean['10']:.2f} | {mean['20']:.2f} | {mean['area']:.3f} |"
                    )
    print(json.dumps(results))


if __name__ == "__main__":
    main()
