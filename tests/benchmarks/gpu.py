"""How fast and how large training is on one GPU, beside plain TRL: under 8 minutes on one card, random weights.

    python -m tests.benchmarks.gpu                  # Llama-3-8B and 1B shapes
    python -m tests.benchmarks.gpu --tiny           # the same script with toy shapes, on whatever device there is
    python -m tests.benchmarks.gpu --only lora-8b --steps 20

Each case is trained by ftlab and by TRL as its documentation shows it, each in a process of its own, with the same
weights, rows, rank and batch. Tokens/s: real tokens of the steps after the first two, by their time. `peak` is the
share of this device's own matrix product rate in bf16 (float32 on a CPU), by the operations that a step needs: 6 per
weight and token with all weights trained, 4 where they are frozen (Kaplan et al. 2020, arXiv 2001.08361, section 2.1).
Memory is torch's peak of allocated bytes; on a CPU that of the process. At the end the losses of the first steps on the
device are held against those of the CPU (a small shape, the same rows and seed). For scale: NeMo AutoModel gives 12,473
tokens/s for LoRA r16 on all projections of Llama-3-8B with 4,096 full tokens in bf16 on an H100 (facts.md of the
project; NVIDIA's published figure).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.train import RANK, ROOT, matrix_rate

WARM = 2
TRAINERS = ("ftlab", "trl")


@dataclass(frozen=True)
class Shape:
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    intermediate: int
    vocabulary: int
    tied: bool


SHAPES = {
    "8b": Shape(4096, 32, 32, 8, 14336, 128_256, tied=False),  # Llama-3-8B
    "1b": Shape(2048, 16, 32, 8, 8192, 128_256, tied=True),  # Llama-3.2-1B
    "tiny": Shape(64, 2, 4, 2, 128, 4_096, tied=True),
}


@dataclass(frozen=True)
class Case:
    """`length`: tokens of every row, all of them real; 0: lengths spread as those of instructions are."""

    method: str
    shape: str
    length: int
    batch: int

    @property
    def name(self) -> str:
        return f"{self.method}-{self.shape}" + ("" if self.length else "-spread")


CASES = [
    Case("lora", "8b", 4096, 1),
    Case("qlora", "8b", 4096, 1),
    Case("full", "1b", 4096, 2),
    Case("lora", "1b", 0, 16),
]
TINY = [Case("lora", "tiny", 128, 1), Case("full", "tiny", 128, 2), Case("lora", "tiny", 0, 8)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--only", action="append", help="a case by its name, such as lora-8b or lora-1b-spread")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(_child(**json.loads(args.child))))
        return
    cases = [case for case in (TINY if args.tiny else CASES) if not args.only or case.name in args.only]
    with tempfile.TemporaryDirectory() as place:
        _report(cases, args.steps, Path(place))


def _report(cases: list[Case], steps: int, folder: Path) -> None:
    import torch

    rate = matrix_rate(gpu=torch.cuda.is_available())
    print(f"{_device_name()}: {rate / 1e12:.3g} TFLOP/s in matrix products; {steps} steps, the first {WARM} not timed")
    print(f"{'case':<18}{'trainer':<8}{'tokens/s':>10}{'peak':>7}{'memory GB':>11}{'loss':>8}{'process':>10}")
    shapes = dict.fromkeys(case.shape for case in cases)
    for shape in shapes:
        weights = build_model(shape, folder / shape)
        for case in [case for case in cases if case.shape == shape]:
            write_rows(case, steps, folder / shape, folder / f"{case.name}.jsonl")
            for trainer in TRAINERS:
                began = time.perf_counter()
                measured = _start(case, trainer, steps, folder)
                took = time.perf_counter() - began
                if "error" in measured:
                    print(f"{case.name:<18}{trainer:<8}  {measured['error']}")
                    continue
                operations = (6 if case.method == "full" else 4) * weights * measured["speed"]
                print(
                    f"{case.name:<18}{trainer:<8}{measured['speed']:10,.0f}{operations / rate:7.0%}"
                    f"{measured['memory'] / 1e9:11.2f}{measured['losses'][-1]:8.3f}{took:8.0f} s",
                    flush=True,
                )
    print(_held_against_cpu(folder))


def _held_against_cpu(folder: Path) -> str:
    """The losses of the first steps on the device and on the CPU: the same small shape, rows and seed."""
    case, place = Case("lora", "tiny", 128, 2), folder / "tiny"
    if not place.exists():
        build_model("tiny", place)
    write_rows(case, 4, place, folder / f"{case.name}.jsonl")
    here, there = (_start(case, "ftlab", 4, folder, device=device) for device in ("auto", "cpu"))
    if "error" in here or "error" in there:
        return f"losses beside the CPU's: {here.get('error') or there.get('error')}"
    apart = max(abs(a - b) for a, b in zip(here["losses"], there["losses"], strict=True))
    return f"losses of {len(here['losses'])} steps beside the CPU's: at most {apart:.2g} apart ({here['losses']})"


def build_model(shape: str, folder: Path) -> int:
    """A Llama of `shape` with random weights in bf16 and the starter's tokenizer; returns the number of its weights."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from ftlab.models.starter import starter_path

    tokenizer = AutoTokenizer.from_pretrained(starter_path())
    sizes = SHAPES[shape]
    config = LlamaConfig(
        vocab_size=max(sizes.vocabulary, len(tokenizer)),
        hidden_size=sizes.hidden,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        num_key_value_heads=sizes.kv_heads,
        intermediate_size=sizes.intermediate,
        max_position_embeddings=8192,
        tie_word_embeddings=sizes.tied,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    torch.manual_seed(0)
    # Drawn where drawing is fast: 8 billion weights take minutes on a CPU.
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        default = torch.get_default_dtype()
        torch.set_default_dtype(torch.bfloat16)
        try:
            model = LlamaForCausalLM(config)
        finally:
            torch.set_default_dtype(default)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    weights = sum(parameter.numel() for parameter in model.parameters())
    del model
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return weights


def write_rows(case: Case, steps: int, model: Path, file: Path) -> None:
    """Rows for `steps` steps of `case`, whose tokens are exactly or about as many as it asks for."""
    from ftlab.data.rendering import encode
    from ftlab.models.load import load_tokenizer

    tokenizer, drawn = load_tokenizer(str(model)), random.Random(0)
    words = "order parcel invoice refund late broken account green chair table lamp delivery street number".split()
    rows = []
    for number in range(max(10, steps * case.batch)):  # a run asks for ten at least
        # Lengths of instructions are about log-normal; 150 tokens at the median.
        wanted = case.length or min(1024, max(24, int(drawn.lognormvariate(math.log(150), 0.8))))
        question = f"Case {number}: " + " ".join(drawn.choices(words, k=8))
        low, high = 1, 2 * wanted
        while low < high:  # the longest answer that fits
            middle = (low + high + 1) // 2
            rest = random.Random(number).choices(words, k=middle)
            fits = len(encode(_messages(question, rest), tokenizer).input_ids) <= wanted
            low, high = (middle, high) if fits else (low, middle - 1)
        rows.append({"messages": _messages(question, random.Random(number).choices(words, k=low))})
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _messages(question: str, words: list[str]) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": " ".join(words)}]


def _start(case: Case, trainer: str, steps: int, folder: Path, device: str = "auto") -> dict[str, Any]:
    """What a process of its own measured of `case`, or {"error": its last line}."""
    asked = {
        "case": case.__dict__, "trainer": trainer, "steps": steps, "folder": str(folder), "device": device,
    }  # fmt: skip
    environment = dict(os.environ, PYTHONPATH=str(ROOT), TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1")
    if device == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = ""
    command = [sys.executable, "-m", "tests.benchmarks.gpu", "--child", json.dumps(asked)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or ["ended without a word"])[-1][:300]}
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def _child(case: dict[str, Any], trainer: str, steps: int, folder: str, device: str) -> dict[str, Any]:
    import resource

    import torch
    from transformers import TrainerCallback

    of, place = Case(**case), Path(folder)
    made = (_ftlab if trainer == "ftlab" else _trl)(of, steps, place, device)
    times: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, **__: Any) -> None:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            times.append(time.perf_counter())

    made.add_callback(Clock())
    made.train()
    losses = [round(entry["loss"], 5) for entry in made.state.log_history if "loss" in entry]
    warm = min(WARM, len(times) - 2)
    tokens = of.batch * _mean_tokens(of, place)
    speed = tokens / statistics.mean(b - a for a, b in zip(times[warm:], times[warm + 1 :], strict=False))
    memory = (
        torch.cuda.max_memory_allocated()
        if torch.cuda.is_available()
        else 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    )
    return {"speed": speed, "memory": memory, "losses": losses}


def _mean_tokens(case: Case, folder: Path) -> float:
    """The real tokens of a row of `case`, on average."""
    from ftlab.data.rendering import encode
    from ftlab.models.load import load_tokenizer

    tokenizer = load_tokenizer(str(folder / case.shape))
    lines = (folder / f"{case.name}.jsonl").read_text(encoding="utf-8").splitlines()
    return statistics.mean(len(encode(json.loads(line)["messages"], tokenizer).input_ids) for line in lines)


def _ftlab(case: Case, steps: int, folder: Path, device: str) -> Any:
    """As a run trains: every choice that the case does not fix is ftlab's own."""
    from ftlab.config import build_config
    from ftlab.core.workspace import Workspace
    from ftlab.data.splits import freeze, prepare
    from ftlab.models.load import shape_of
    from ftlab.training.sft import prepare_training
    from ftlab.training.status import StatusWriter

    source = str(folder / f"{case.name}.jsonl")
    config = build_config(
        {
            "model": {"base": str(folder / case.shape)},
            "data": {"source": source, "validation_fraction": 0, "test_fraction": 0, "replay": "none"},
            "method": {"name": case.method} | ({} if case.method == "full" else {"rank": RANK}),
            "optimisation": {
                "max_steps": steps, "batch_size": case.batch, "max_length": case.length or 1024,
                "learning_rate": 2e-4, "gradient_accumulation": 1,
            },
            "launcher": {"device": device},
        }
    )  # fmt: skip
    config = config.resolved(shape_of(config.model))
    run = Workspace.open(tempfile.mkdtemp(dir=folder)).create_run("benchmark")
    freeze(prepare(config.data), run)
    trainer = prepare_training(run, config, StatusWriter(run.status_file)).trainer
    trainer.args.logging_steps = 1
    return trainer


def _trl(case: Case, steps: int, folder: Path, device: str) -> Any:
    """TRL as its documentation shows it: its own defaults, but for what has to be the same."""
    import torch
    from datasets import load_dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
    from trl import SFTConfig, SFTTrainer

    on_gpu = torch.cuda.is_available() and device != "cpu"
    arguments = SFTConfig(
        output_dir=tempfile.mkdtemp(dir=folder),
        max_steps=steps,
        per_device_train_batch_size=case.batch,
        max_length=case.length or 1024,
        learning_rate=2e-4,
        assistant_only_loss=True,
        use_cpu=not on_gpu,
        bf16=on_gpu,
        logging_steps=1,
        report_to="none",
        disable_tqdm=True,
        save_strategy="no",
    )
    loading: dict[str, Any] = {"dtype": torch.bfloat16 if on_gpu else torch.float32}
    if case.method == "qlora":
        loading["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
        )
    lora = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM")
    return SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(folder / case.shape, **loading),
        args=arguments,
        train_dataset=load_dataset("json", data_files=str(folder / f"{case.name}.jsonl"), split="train"),
        processing_class=AutoTokenizer.from_pretrained(folder / case.shape),
        peft_config=None if case.method == "full" else lora,
    )


def _device_name() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"


if __name__ == "__main__":
    main()
