"""What each remedy holds: `python -m tests.benchmarks.forgetting_held OUT [--arms "none; kl 0.35"] [--seeds 0,1,2]`.

SmolLM2 learns ten intents of banking77 (200 messages) or support_triage (600), with LoRA at 1e-3 for two epochs. An
arm is `none`, or its own answers to as many prompts as a share of the rows, learned (`nll 0.35`) or held by their
probabilities (`kl 0.35`); settings may follow (`none optimisation.loss=eaft`, `none method.targets=mlp`). Every
trained model is asked as trained, at each of `--strengths`, and with `--intruders` after PEFT's
reduce_intruder_dimension. Asked are unseen messages (right: the answer, word for word), and the base's own greedy
answers of 40 tokens to prompts that no arm saw: of kinds that were replayed, of kinds that were not, and questions of
GSM8K. Along them: KL(base || adapted) over the whole vocabulary, in nats a token, and how often both hold the same next
token likeliest. Seconds are CPU seconds of this process (one thread: OMP_NUM_THREADS=1), so that other work on the
machine does not count: of training with its validations, and of the base's own answers before it.

Each figure is a line in OUT/results.jsonl as soon as it is known; what is there is not measured again. The folder also
keeps the base's answers and the trained runs. Prints the table of all lines at the end, or with `--table` alone.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import random
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ftlab.config import RunConfig, build_config
from ftlab.core.files import read_jsonl, write_text
from ftlab.core.jobs import write_status
from ftlab.core.run_directory import RunDirectory
from ftlab.data.rendering import encode_prompt, stop_token_ids
from ftlab.data.splits import freeze, prepare
from ftlab.evaluation.batches import by_length, pad
from ftlab.evaluation.generate import generate_answers
from ftlab.models.adapters import adapter_disabled
from ftlab.models.families import generating_model
from ftlab.models.load import load_run
from ftlab.models.strength import AS_TRAINED, set_strength
from ftlab.training.self_replay import ensure_answers
from ftlab.training.sft import train_sft
from ftlab.training.status import RunStatus, StatusWriter
from ftlab.training.trainer import head_logits, hidden_states

_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
_SAMPLES = Path(__file__).resolve().parents[2] / "ftlab" / "samples"
_INTENTS, _EACH, _UNSEEN, _GSM8K, _TOKENS = 10, 20, 100, 40, 40
_TRIAGE_ROWS, _TRIAGE_UNSEEN = 600, 100
REDUCED = ", intruders reduced"
SETS = ("replayed kinds", "other kinds", "GSM8K")

Turns = list[dict[str, str]]


def banking77(data: Path, seed: int) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Rows to train on and unseen ones, with the columns text and category."""
    rows = {split: _rows(data / f"banking77_{split}.csv") for split in ("train", "test")}
    names = list(dict.fromkeys(row["category"] for row in rows["train"]))[:_INTENTS]
    draw = random.Random(seed)
    chosen, unseen = [], []
    for name in names:
        chosen += draw.sample([row for row in rows["train"] if row["category"] == name], _EACH)
        found = draw.sample([row for row in rows["test"] if row["category"] == name], _UNSEEN // _INTENTS)
        unseen += [{"text": row["text"], "category": name} for row in found]
    return chosen, unseen


def triage(_data: Path, seed: int) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Rows of support_triage to train on and unseen ones, with the columns prompt and completion."""
    draw = random.Random(seed)
    train, test = (read_jsonl(_SAMPLES / "support_triage" / f"{split}.jsonl") for split in ("train", "test"))
    return draw.sample(train, _TRIAGE_ROWS), draw.sample(test, _TRIAGE_UNSEEN)


TASKS = {"banking77": (banking77, "text", "category", 16), "support_triage": (triage, "prompt", "completion", 40)}


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def config_of(arm: str, seed: int, given: Any, source: Path) -> RunConfig:
    """The configuration of an arm (see the module)."""
    loss, *rest = arm.split()
    shares = [word for word in rest if "=" not in word]
    data: dict[str, Any] = {"source": str(source), "validation_fraction": 0.05, "test_fraction": 0.0, "replay": "none"}
    if loss != "none":
        prompts = f"self:{given.prompts}" if given.prompts else "self"
        data |= {"replay": prompts, "replay_loss": loss, "replay_fraction": float(shares[0])}
    values = {
        "model": {"base": given.base, "dtype": given.dtype},
        "data": data,
        "method": {"name": "lora"},
        "optimisation": {"epochs": 2, "learning_rate": 1e-3, "seed": seed, "evaluations_per_epoch": 1},
    }
    return build_config(values, [word for word in rest if "=" in word]).resolved()


def train(config: RunConfig, run: RunDirectory, kept: Path) -> dict[str, float]:
    """Train `run` and leave what it took beside it, in CPU seconds; answers of the base are taken from `kept`."""
    took_file = run.path / "took.json"
    if took_file.exists():
        return json.loads(took_file.read_text(encoding="utf-8"))
    shutil.rmtree(run.path, ignore_errors=True)
    freeze(prepare(config.data, stage="sft"), run)
    write_text(run.config_file, config.to_yaml())
    write_status(run.status_file, RunStatus(created=time.time()))
    writer = StatusWriter(run.status_file)
    began, before = time.process_time(), 0.0
    if config.data.replay_prompts:
        before = _answers(config, run, kept, writer)
        began = time.process_time()
    train_sft(run, config, writer)
    writer.close()
    took = {"seconds": time.process_time() - began, "before": before}
    write_text(took_file, json.dumps(took))
    return took


def _answers(config: RunConfig, run: RunDirectory, kept: Path, writer: StatusWriter) -> float:
    """The base's answers of `run`, made or taken from an arm that asked the same; what they took, in CPU seconds."""
    name = hashlib.sha256(run.replay_prompts_file.read_bytes()).hexdigest()[:16] + config.data.replay_loss
    folder, files = kept / name, [run.self_replay_file, run.teacher_file]
    if (folder / "took.json").exists():
        for file in files:
            if (folder / file.name).exists():
                shutil.copy(folder / file.name, file)
        return json.loads((folder / "took.json").read_text(encoding="utf-8"))
    began = time.process_time()
    ensure_answers(run, config, writer)
    took = time.process_time() - began
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        if file.exists():
            shutil.copy(file, folder / file.name)
    write_text(folder / "took.json", json.dumps(took))
    return took


def right(model: Any, tokenizer: Any, task: str, unseen: list[dict[str, str]], run: RunDirectory, source: Path) -> int:
    """How many of the unseen rows are answered word for word."""
    import pyarrow.parquet as pq

    _, asked, answered, tokens = TASKS[task]
    first = pq.read_table(run.split_file("train")).to_pylist()[0]
    text = read_jsonl(source)[first["row"]][asked]
    turns = [turn for turn in first["messages"] if turn["role"] != "assistant"]
    prompts = [[{**turn, "content": turn["content"].replace(text, row[asked])} for turn in turns] for row in unseen]
    answers = _answered(model, tokenizer, prompts, tokens)
    return sum(answer.text.strip() == row[answered] for answer, row in zip(answers, unseen, strict=True))


def _answered(model: Any, tokenizer: Any, asked: Sequence[Turns], tokens: int) -> list[Any]:
    stops = stop_token_ids(tokenizer, generating_model(model).generation_config)
    prompts = [_prompt(turns, tokenizer) for turns in asked]
    return generate_answers(model, tokenizer, prompts, max_new_tokens=tokens, stop_ids=stops).answers


def _prompt(turns: Turns, tokenizer: Any) -> list[int]:
    return encode_prompt([*turns, {"role": "assistant", "content": ""}], tokenizer)


def own_answers(model: Any, tokenizer: Any, sets: dict[str, list[str]], file: Path) -> list[dict[str, Any]]:
    """The base's answers to the prompts of `sets`, kept in `file`: {set, ids, start, hidden [tokens, width]}."""
    import torch

    if file.exists():
        return torch.load(file)
    rows: list[dict[str, Any]] = []
    with adapter_disabled(model):
        for name, prompts in sets.items():
            asked = [[{"role": "user", "content": one}] for one in prompts]
            for turns, answer in zip(asked, _answered(model, tokenizer, asked, _TOKENS), strict=True):
                before = _prompt(turns, tokenizer)
                ids = before + tokenizer(answer.text, add_special_tokens=False).input_ids
                if len(ids) > len(before):
                    rows.append({"set": name, "ids": ids, "start": len(before)})
        for row, hidden in _hidden(model, rows, tokenizer.pad_token_id):
            row["hidden"] = hidden
    torch.save(rows, file)
    return rows


def _hidden(model: Any, rows: list[dict[str, Any]], padding: int) -> Iterator[tuple[dict[str, Any], Any]]:
    """Each of `rows` and the last hidden states from which the tokens of its answer follow."""
    import torch

    with torch.inference_mode(), hidden_states(model) as seen:
        for batch in by_length([len(row["ids"]) for row in rows], rows=16, tokens=2048):
            ids = torch.tensor(pad([rows[i]["ids"] for i in batch], padding))
            mask = torch.tensor(pad([[1] * len(rows[i]["ids"]) for i in batch], 0))
            model(input_ids=ids, attention_mask=mask, use_cache=False, logits_to_keep=1)
            for place, i in enumerate(batch):
                yield rows[i], seen[-1][place, rows[i]["start"] - 1 : len(rows[i]["ids"]) - 1].clone()
            seen.clear()


def moved(model: Any, rows: list[dict[str, Any]], padding: int) -> dict[str, list[list[float]]]:
    """By set of prompts, for each: KL summed over its answer, how many tokens have the same next one, and tokens."""
    import torch

    found: dict[str, list[list[float]]] = {}
    for row, hidden in _hidden(model, rows, padding):
        with torch.inference_mode():
            q = head_logits(model, hidden).log_softmax(-1)
            p = head_logits(model, row["hidden"]).log_softmax(-1)
            kl, same = float((p.exp() * (p - q)).sum()), int((p.argmax(-1) == q.argmax(-1)).sum())
        found.setdefault(row["set"], []).append([kl, same, len(p)])
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


def measure(arm: str, seed: int, strengths: Sequence[float], given: Any, sets: dict[str, list[str]]) -> None:
    """Train an arm where it is not yet, and add its lines to the results."""
    out = Path(given.out)
    done = [(one["task"], one["arm"], one["seed"], one["strength"]) for one in results(out)]
    left = [one for one in strengths if (given.task, arm, seed, one) not in done]
    reduced = arm + REDUCED
    reduces = given.intruders and (given.task, reduced, seed, AS_TRAINED) not in done
    if not left and not reduces:
        return
    rows, unseen = TASKS[given.task][0](Path(given.data), seed)
    source = out / f"{given.task}-{seed}.jsonl"
    write_text(source, "".join(json.dumps(row) + "\n" for row in rows))
    words = "-".join(arm.replace("=", "-").replace(",", "-").split())
    run = RunDirectory(out / "runs" / f"{given.task}-{words}-{seed}")
    took = train(config_of(arm, seed, given, source), run, out / "answers")
    model, tokenizer = load_run(run)
    model.eval()
    kept = own_answers(model, tokenizer, sets, out / "own_answers.pt")
    kept = [row for row in kept if row["set"] in given.sets.split(",")]

    def ask(name: str, strength: float, more: dict[str, Any]) -> None:
        found = moved(model, kept, tokenizer.pad_token_id)
        one = {"task": given.task, "arm": name, "seed": seed, "strength": strength, **took, **more}
        one |= {"asked": len(unseen), "right": right(model, tokenizer, given.task, unseen, run, source), "moved": found}
        with (out / "results.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(one) + "\n")
        print(time.strftime("%H:%M:%S"), "|", " | ".join(_cells([one])), flush=True)

    for strength in left:
        set_strength(model, strength)
        ask(arm, strength, {})
    if reduces:
        set_strength(model, AS_TRAINED)
        ask(reduced, AS_TRAINED, reduce_intruders(model))


def reduce_intruders(model: Any) -> dict[str, float]:
    """Put PEFT's mitigation with its usual settings in place of the adapter; how many directions of how many layers it
    found, and its CPU seconds. (mitigation_lambda 0.75 leaves three quarters of each: the code, not its help.)"""
    from peft.tuners.lora.intruders import reduce_intruder_dimension

    said: list[str] = []
    began = time.process_time()
    reduce_intruder_dimension(model, logging_sink=said.append)
    counts = [int(line.rsplit(" ", 1)[-1]) for line in said if ": Intruders: " in line]
    return {"reducing": time.process_time() - began, "intruders": sum(counts), "layers": len(counts)}


def results(out: Path) -> list[dict[str, Any]]:
    file = out / "results.jsonl"
    return read_jsonl(file) if file.exists() else []


def _cells(same: list[dict[str, Any]]) -> list[str]:
    """The cells of one row of the table: the mean over its seeds, and their range where there are several."""
    first = same[0]
    name = first["arm"] + ("" if first["strength"] == AS_TRAINED else f", strength {first['strength']:g}")
    cells = [first["task"], name, ", ".join(str(one["seed"]) for one in same)]
    cells.append(_range([one["right"] / one["asked"] for one in same], "{:.0%}"))
    for part in SETS:
        found = [one["moved"][part] for one in same if part in one["moved"]]
        sums = [[sum(column) for column in zip(*one, strict=True)] for one in found]
        cells.append(_range([kl / tokens for kl, _, tokens in sums], "{:.3f}"))
        cells.append(_range([equal / tokens for _, equal, tokens in sums], "{:.0%}"))
    return [*cells, *(_range([one[name] for one in same], "{:.0f}") for name in ("seconds", "before"))]


def _range(values: list[float], form: str) -> str:
    mean = form.format(sum(values) / len(values)) if values else "–"
    return mean if len(values) < 2 else f"{mean} ({form.format(min(values))} to {form.format(max(values))})"


def table(out: Path) -> str:
    """All results as a Markdown table, arms in the order in which they were measured."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for one in results(out):
        groups.setdefault((one["task"], one["arm"], one["strength"]), []).append(one)
    names = [f"{part}: {what}" for part in SETS for what in ("KL", "same token")]
    header = ["task", "arm", "seeds", "right", *names, "seconds", "answers before"]
    lines = [_cells(sorted(same, key=lambda one: one["seed"])) for same in groups.values()]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [header, ["---"] * len(header), *lines])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("--task", default="banking77", choices=TASKS)
    parser.add_argument("--arms", default="none; kl 0.35")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--strengths", default="1", help="in addition to 1: .75,.5,.25")
    parser.add_argument("--intruders", action="store_true", help="ask after reduce_intruder_dimension too")
    parser.add_argument("--sets", default=",".join(SETS), help="prompts along which the KL is taken")
    parser.add_argument("--table", action="store_true", help="print what there is")
    parser.add_argument("--base", default="smollm2")
    parser.add_argument("--dtype", default="bfloat16", help="of the base; auto would be timed anew in each process")
    parser.add_argument("--data", default=str(_DATA), help="the folder of banking77 and GSM8K")
    parser.add_argument("--prompts", help="a file of prompts instead of those that ship")
    parser.add_argument("--neutral", default=str(_SAMPLES / "neutral_prompts" / "test.jsonl"))
    given = parser.parse_args()
    out = Path(given.out)
    out.mkdir(parents=True, exist_ok=True)
    if not given.table:
        prompts = Path(given.prompts) if given.prompts else _SAMPLES / "replay_prompts" / "train.jsonl"
        sets = neutral(given, {row["kind"] for row in read_jsonl(prompts)})
        strengths = sorted({AS_TRAINED, *map(float, given.strengths.split(","))}, reverse=True)
        for seed in map(int, given.seeds.split(",")):
            for arm in (one.strip() for one in given.arms.split(";")):
                measure(arm, seed, strengths, given, sets)
    print(table(out))


if __name__ == "__main__":
    main()
