"""What self replay holds: `python -m tests.benchmarks.forgetting_held [--arms "none; nll 0.5; kl 0.5"] [--seeds 0]`.

SmolLM2 learns ten intents of banking77 (200 messages, LoRA at 1e-3, two epochs) without replay, and with its own
answers to as many prompts as a share of the rows, learnt (nll) or held by their probabilities (kl). Asked are 100
unseen messages (right: the intent, word for word), and the base's own greedy answers of 40 tokens to prompts that no
arm saw: of kinds that were replayed, of kinds that were not, and 40 questions of GSM8K. Along them: KL(base || adapted)
over the whole vocabulary, in nats a token, and how often both hold the same next token likeliest. Seconds are those of
training with its validations, and of the base's own answers before it. Prints a Markdown table as it grows, and a JSON
list as the last line; `kl_of_top` in it is what the loss sees, the likeliest words and the rest as one.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import tempfile
import time
from pathlib import Path
from typing import Any

from ftlab.config import build_config
from ftlab.data.load import load_rows
from ftlab.data.rendering import encode_prompt, stop_token_ids
from ftlab.data.splits import freeze, prepare
from ftlab.evaluation.generate import generate_answers
from ftlab.files import read_jsonl, write_text
from ftlab.models.load import adapter_disabled, load_run
from ftlab.run_directory import RunDirectory
from ftlab.training.holding import divergence, shortened
from ftlab.training.self_replay import TOP, ensure_answers
from ftlab.training.sft import train_sft
from ftlab.training.status import RunStatus, StatusWriter, write_status

_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
_INTENTS, _EACH, _UNSEEN, _GSM8K, _TOKENS = 10, 20, 100, 40, 40
_HEADER = ["arm", "seed", "right", "KL", "same token", "seconds", "answers before"]


def intents(data: Path, folder: Path, seed: int) -> tuple[Path, list[tuple[str, str]]]:
    """The training file, and unseen messages with their intents."""
    rows = {split: _rows(data / f"banking77_{split}.csv") for split in ("train", "test")}
    names = list(dict.fromkeys(row["category"] for row in rows["train"]))[:_INTENTS]
    draw = random.Random(seed)
    chosen, unseen = [], []
    for name in names:
        chosen += draw.sample([row for row in rows["train"] if row["category"] == name], _EACH)
        found = draw.sample([row for row in rows["test"] if row["category"] == name], _UNSEEN // _INTENTS)
        unseen += [(row["text"], name) for row in found]
    path = folder / f"intents-{seed}.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["text", "category"])
        writer.writeheader()
        writer.writerows(chosen)
    return path, unseen


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def train(arm: str, seed: int, given: Any, folder: Path, source: Path) -> tuple[RunDirectory, dict[str, float]]:
    """Train one arm (`none`, or `kl SHARE` and `nll SHARE`); returns its run and what it took, in seconds."""
    loss, _, share = arm.partition(" ")
    data: dict[str, Any] = {"source": str(source), "validation_fraction": 0.05, "test_fraction": 0.0}
    if loss != "none":
        prompts = f"self:{given.prompts}" if given.prompts else "self"
        data |= {"replay": prompts, "replay_loss": loss, "replay_fraction": float(share or 0.5)}
    config = build_config(
        {
            "model": {"base": given.base},
            "data": data,
            "method": json.loads(given.method),
            "optimisation": {
                "epochs": given.epochs,
                "learning_rate": given.rate,
                "seed": seed,
                "evaluations_per_epoch": 1,
            },
        }
    ).resolved()
    run = RunDirectory(folder / f"{arm.replace(' ', '-')}-{seed}")
    freeze(prepare(config.data, stage="sft"), run)
    write_text(run.config_file, config.to_yaml())
    write_status(run.status_file, RunStatus(created=time.time()))
    writer = StatusWriter(run.status_file)
    before = ensure_answers(run, config, writer)
    train_sft(run, config, writer)
    writer.close()
    times = [row["time"] for row in run.metrics()]
    return run, {"seconds": times[-1] - times[0], "before": before}


def right(model: Any, tokenizer: Any, unseen: list[tuple[str, str]], run: RunDirectory) -> float:
    """The share of unseen messages whose intent is answered."""
    import pyarrow.parquet as pq

    first = pq.read_table(run.split_file("train")).to_pylist()[0]
    text = read_first(run, first["row"])
    asked = [[{"role": "user", "content": first["messages"][0]["content"].replace(text, one)}] for one, _ in unseen]
    answers = _answered(model, tokenizer, [[*turns, {"role": "assistant", "content": ""}] for turns in asked], 16)
    return sum(answer.text.strip() == name for answer, (_, name) in zip(answers, unseen, strict=True)) / len(unseen)


def read_first(run: RunDirectory, row: int) -> str:
    """The text of a source row: what stands in the prompt made of it."""
    from ftlab.config import load_config

    loaded = load_rows(load_config(run.config_file).data)
    return loaded.splits[loaded.main][row]["text"]


def _answered(model: Any, tokenizer: Any, asked: list[Any], tokens: int) -> list[Any]:
    from ftlab.models.families import generating_model

    stops = stop_token_ids(tokenizer, generating_model(model).generation_config)
    prompts = [encode_prompt(turns, tokenizer) for turns in asked]
    return generate_answers(model, tokenizer, prompts, max_new_tokens=tokens, stop_ids=stops).answers


def moved(model: Any, tokenizer: Any, sets: dict[str, list[str]], kept: dict[str, Any]) -> dict[str, dict[str, float]]:
    """KL and same next token along the base's answers to each of `sets` of prompts; the answers are `kept`."""
    import torch

    found = {}
    for name, prompts in sets.items():
        asked = [[{"role": "user", "content": one}, {"role": "assistant", "content": ""}] for one in prompts]
        if name not in kept:
            with adapter_disabled(model):
                kept[name] = _answered(model, tokenizer, asked, _TOKENS)
        kl, of_top, same, tokens = 0.0, 0.0, 0, 0
        for turns, answer in zip(asked, kept[name], strict=True):
            before = encode_prompt(turns, tokenizer)
            ids = before + tokenizer(answer.text, add_special_tokens=False).input_ids
            if len(ids) == len(before):
                continue
            given = torch.tensor([ids], device=model.device)
            with torch.inference_mode():
                q = model(input_ids=given).logits[0, len(before) - 1 : -1].double().log_softmax(-1)
                with adapter_disabled(model):
                    p = model(input_ids=given).logits[0, len(before) - 1 : -1].double().log_softmax(-1)
                of_top += float(divergence(q, *shortened(p, TOP)))
            kl += float((p.exp() * (p - q)).sum())
            same += int((p.argmax(-1) == q.argmax(-1)).sum())
            tokens += len(p)
        found[name] = {"kl": kl / tokens, "kl_of_top": of_top / tokens, "same": same / tokens, "tokens": tokens}
    return found


def neutral(given: Any, trained: set[str]) -> dict[str, list[str]]:
    """Prompts of kinds that are replayed, of others, and questions of GSM8K."""
    rows = read_jsonl(Path(given.neutral))
    sets: dict[str, list[str]] = {"replayed kinds": [], "other kinds": []}
    for row in rows:
        prompt = row["prompt"] if isinstance(row["prompt"], str) else row["prompt"][-1]["content"]
        sets["replayed kinds" if row["kind"] in trained else "other kinds"].append(prompt)
    lines = (Path(given.data) / "gsm8k_test.jsonl").read_text(encoding="utf-8").splitlines()[:_GSM8K]
    sets["GSM8K"] = [json.loads(line)["question"] for line in lines]
    return {name: prompts for name, prompts in sets.items() if prompts}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    samples = Path(__file__).resolve().parents[2] / "ftlab" / "samples"
    parser.add_argument("--base", default="smollm2")
    parser.add_argument("--arms", default="none; nll 0.5; kl 0.5")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--method", default='{"name": "lora"}')
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--epochs", type=float, default=2)
    parser.add_argument("--data", default=str(_DATA), help="the folder of banking77 and GSM8K")
    parser.add_argument("--prompts", help="a file of prompts instead of those that ship")
    parser.add_argument("--neutral", default=str(samples / "neutral_prompts" / "test.jsonl"))
    given = parser.parse_args()
    prompts = Path(given.prompts) if given.prompts else samples / "replay_prompts" / "train.jsonl"
    trained = {row["kind"] for row in read_jsonl(prompts)}
    sets = neutral(given, trained)
    print(f"| {' | '.join([*_HEADER[:3], *(f'{name}: KL, same token' for name in sets), *_HEADER[5:]])} |")
    print("|" + "---|" * (5 + len(sets)), flush=True)
    results, kept = [], {}
    with tempfile.TemporaryDirectory() as folder:
        for seed in map(int, given.seeds.split(",")):
            source, unseen = intents(Path(given.data), Path(folder), seed)
            for arm in (one.strip() for one in given.arms.split(";")):
                run, took = train(arm, seed, given, Path(folder), source)
                model, tokenizer = load_run(run)
                found = moved(model, tokenizer, sets, kept)
                one = {"arm": arm, "seed": seed, "right": right(model, tokenizer, unseen, run), **took, "moved": found}
                results.append(one)
                share = f"{one['right']:.0%}"
                cells = [f"{value['kl']:.3f}, {value['same']:.0%}" for value in found.values()]
                times = [f"{one['seconds']:.0f}", f"{one['before']:.0f}"]
                print(f"| {' | '.join([arm, str(seed), share, *cells, *times])} |", flush=True)
                del model
    print(json.dumps(results))


if __name__ == "__main__":
    main()
