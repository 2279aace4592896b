"""How fast ftlab trains beside plain TRL (and LLaMA-Factory) on the same rows, model, LoRA and batch.

    python -m tests.benchmarks.train --rows 300 --repeats 3         # the starter
    python -m tests.benchmarks.train --model m80 --rows 40          # a random Llama of about 75 million weights
    LLAMAFACTORY_PYTHON=/path/to/venv/bin/python python -m tests.benchmarks.train ...

Every variant is a process of its own; they take turns, so that what else the machine does hits all alike. Real tokens
are those of the examples, without padding. `ceiling` is the share of the machine's own matrix product rate in the same
call: a LoRA step costs about 4 floating point operations per weight and token (forward 2, backward through the frozen
weights 2; Kaplan et al. 2020, arXiv 2001.08361, section 2.1, without the gradients of the weights).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data" / "alpaca_en_demo.json"
VARIANTS = ("ftlab", "trl", "trl-no-checkpointing")
LLAMA_FACTORY = ("llamafactory", "llamafactory-grouped")
BATCH, MAX_LENGTH, RANK = 8, 512, 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=["starter", "m80"], default="starter")
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(run_child(given.child, given.folder)))
        return
    with tempfile.TemporaryDirectory() as folder:
        compare(given, Path(folder))


def compare(given: argparse.Namespace, folder: Path) -> None:
    """Let the variants take turns and print the medians."""
    facts = prepare(given, folder)
    rate = matrix_rate()
    variants = [*VARIANTS, *(LLAMA_FACTORY if os.environ.get("LLAMAFACTORY_PYTHON") else ())]
    found: dict[str, list[dict[str, float]]] = {name: [] for name in variants}
    for turn in range(given.repeats):
        for name in variants:
            began = time.perf_counter()
            measured = start(name, folder)
            measured["wall"] = time.perf_counter() - began
            found[name].append(measured)
            print(f"  turn {turn + 1}: {name:<22} {measured['wall']:6.1f} s", file=sys.stderr)
    print(f"{facts['rows']} rows, {facts['tokens']:,} real tokens, {facts['weights']:,} weights, batch {BATCH}")
    print(f"matrix products in float32: {rate / 1e9:.0f} GFLOP/s")
    print(f"{'':<22} {'tokens/s':>9} {'training':>9} {'process':>9} {'peak MB':>8} {'ceiling':>8} {'loss':>8}")
    ours = statistics.median(one["seconds"] for one in found["ftlab"])
    for name, runs in found.items():
        seconds, wall = (statistics.median(one[key] for one in runs) for key in ("seconds", "wall"))
        speed = facts["tokens"] / seconds
        share = 4 * facts["weights"] * speed / rate
        loss = statistics.median(one.get("loss", float("nan")) for one in runs)
        print(
            f"{name:<22} {speed:9.0f} {seconds:7.1f} s {wall:7.1f} s {runs[-1]['peak']:8.0f} {share:8.0%} {loss:8.3f}"
            + ("" if name == "ftlab" else f"   ftlab is {seconds / ours:.2f} times as fast")
        )


def prepare(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The model, and the rows that fit into MAX_LENGTH, as messages for all variants."""
    from ftlab.config import build_config
    from ftlab.data.load import load_rows
    from ftlab.data.rendering import encode
    from ftlab.data.splits import prepare as split
    from ftlab.models.load import load_tokenizer

    model = build_model(given.model, folder / "model")
    tokenizer = load_tokenizer(str(folder / "model"))
    config = build_config({"data": {"source": str(given.data), "validation_fraction": 0, "test_fraction": 0}}).data
    rows, tokens = [], 0
    for row in split(config, load_rows(config)).splits["train"]:
        length = len(encode(row["messages"], tokenizer).input_ids)
        if length <= MAX_LENGTH and len(rows) < given.rows:
            rows.append({"messages": row["messages"]})
            tokens += length
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return {"rows": len(rows), "tokens": tokens, "weights": sum(p.numel() for p in model.parameters())}


def build_model(name: str, folder: Path) -> Any:
    """The starter, or a Llama with random weights, saved with the starter's tokenizer and chat template."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

    from ftlab.models.starter import starter_path

    tokenizer = AutoTokenizer.from_pretrained(starter_path())
    if name == "starter":
        model = AutoModelForCausalLM.from_pretrained(starter_path())
    else:
        torch.manual_seed(0)
        sizes = {"hidden_size": 640, "num_hidden_layers": 12, "num_attention_heads": 10, "intermediate_size": 2304}
        model = AutoModelForCausalLM.from_config(
            LlamaConfig(
                vocab_size=len(tokenizer),
                max_position_embeddings=1024,
                pad_token_id=tokenizer.pad_token_id,
                eos_token_id=tokenizer.eos_token_id,
                bos_token_id=None,
                **sizes,
            )
        )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model


def matrix_rate(seconds: float = 2.0, *, gpu: bool = False) -> float:
    """Floating point operations per second of matrix products: float32 on the CPU, bf16 on the GPU."""
    import torch

    size, dtype, times = (8192, torch.bfloat16, 10) if gpu else (1024, torch.float32, 1)
    left, right = (torch.randn(size, size, device="cuda" if gpu else "cpu", dtype=dtype) for _ in range(2))
    wait = torch.cuda.synchronize if gpu else lambda: None
    left @ right
    wait()
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        for _ in range(times):
            left @ right
        wait()
        done += times
    return done * 2 * size**3 / (time.perf_counter() - began)


def start(name: str, folder: Path) -> dict[str, float]:
    """Run one variant as a process and return what it measured."""
    if name in LLAMA_FACTORY:
        return start_llama_factory(name, folder)
    # As the supervisor sets it for a run; plain TRL gets what a shell gives.
    environment = dict(os.environ, PYTHONPATH=str(ROOT), TOKENIZERS_PARALLELISM="false")
    if name == "ftlab":
        from ftlab.config import build_config
        from ftlab.training.supervisor import environment_for

        environment = environment_for(build_config({}), online=False) | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.benchmarks.train", "--child", name, "--folder", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def run_child(name: str, folder: Path) -> dict[str, float]:
    """One epoch; returns seconds of training, peak memory in MB and the mean loss."""
    import resource

    trainer = ftlab_trainer(folder) if name == "ftlab" else trl_trainer(folder, checkpointing=name == "trl")
    began = time.perf_counter()
    result = trainer.train()
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "peak": peak, "loss": result.training_loss}


def ftlab_trainer(folder: Path) -> Any:
    from ftlab.config import build_config
    from ftlab.core.workspace import Workspace
    from ftlab.data.splits import freeze, prepare
    from ftlab.models.load import shape_of
    from ftlab.training.sft import prepare_training
    from ftlab.training.status import StatusWriter

    config = build_config(
        {
            "model": {"base": str(folder / "model")},
            "data": {
                "source": str(folder / "rows.jsonl"),
                "validation_fraction": 0,
                "test_fraction": 0,
                "replay": "none",
            },
            "method": {"rank": RANK},
            "optimisation": {"epochs": 1, "batch_size": BATCH, "max_length": MAX_LENGTH, "learning_rate": 2e-4},
        }
    )
    config = config.resolved(shape_of(config.model))
    run = Workspace.open(tempfile.mkdtemp(dir=folder)).create_run("benchmark")
    freeze(prepare(config.data), run)
    return prepare_training(run, config, StatusWriter(run.status_file)).trainer


def trl_trainer(folder: Path, *, checkpointing: bool) -> Any:
    """TRL as its documentation shows it: its own defaults, but for what has to be the same in all variants."""
    from datasets import load_dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    arguments = SFTConfig(
        output_dir=tempfile.mkdtemp(dir=folder),
        num_train_epochs=1,
        per_device_train_batch_size=BATCH,
        max_length=MAX_LENGTH,
        learning_rate=2e-4,
        assistant_only_loss=True,
        gradient_checkpointing=checkpointing,
        use_cpu=True,
        bf16=False,
        report_to="none",
        disable_tqdm=True,
        save_strategy="no",
    )
    return SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(folder / "model"),
        args=arguments,
        train_dataset=load_dataset("json", data_files=str(folder / "rows.jsonl"), split="train"),
        processing_class=AutoTokenizer.from_pretrained(folder / "model"),
        peft_config=LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM"),
    )


def start_llama_factory(name: str, folder: Path) -> dict[str, float]:
    """LLaMA-Factory's own command in the venv of LLAMAFACTORY_PYTHON."""
    import resource

    import yaml

    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text(encoding="utf-8").splitlines()]
    (folder / "lf.json").write_text(json.dumps(rows), encoding="utf-8")
    tags = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}
    about = {
        "rows": {"file_name": "lf.json", "formatting": "sharegpt", "columns": {"messages": "messages"}, "tags": tags}
    }
    (folder / "dataset_info.json").write_text(json.dumps(about), encoding="utf-8")
    output = tempfile.mkdtemp(dir=folder)
    settings = {
        "stage": "sft", "do_train": True, "model_name_or_path": str(folder / "model"), "dataset": "rows",
        "dataset_dir": str(folder), "template": "empty", "finetuning_type": "lora", "lora_target": "all",
        "lora_rank": RANK, "lora_alpha": 2 * RANK, "cutoff_len": MAX_LENGTH, "num_train_epochs": 1,
        "per_device_train_batch_size": BATCH, "learning_rate": 2e-4, "output_dir": output, "save_strategy": "no",
        "report_to": "none", "use_cpu": True, "overwrite_output_dir": True,
    }  # fmt: skip
    if name.endswith("grouped"):
        settings["train_sampling_strategy"] = "group_by_length"
    (folder / "lf.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    command = [os.environ["LLAMAFACTORY_PYTHON"], "-m", "llamafactory.cli", "train", str(folder / "lf.yaml")]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-3000:]}")
    result = json.loads((Path(output) / "train_results.json").read_text(encoding="utf-8"))
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return {"seconds": result["train_runtime"], "peak": peak, "loss": result["train_loss"]}


if __name__ == "__main__":
    main()
