"""Whether the loss robust learns more from votes that are partly wrong: `python -m tests.benchmarks.flipped_votes`.

An instruction-tuned starter learns from the pairs of brand_voice_preferences by DPO, with a share of the training pairs
the wrong way round, once with the loss sigmoid and once with robust and that share, for some seeds. Reported is how
many of 80 held-out pairs, all the right way round, each run finds more probable the right way round.

    python -m tests.benchmarks.flipped_votes [--shares 0 0.1 0.25] [--seeds 3] [--epochs 2] [--rate 5e-5]
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
from pathlib import Path

import ftlab
from ftlab.core.files import read_jsonl, write_jsonl
from ftlab.samples import sample_path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.0, 0.1, 0.25])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--rate", type=float, default=5e-5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        tuned = ftlab.train(
            data={"source": "brand_voice"},
            workspace=root / "ws",
            optimisation={"max_steps": 25},
            evaluation={"after_training": False},
        ).wait(show=False)
        for share in args.shares:
            ranked: dict[str, list[float]] = {}
            for seed in range(args.seeds):
                data = flipped(share, seed, root / f"pairs-{share}-{seed}")
                losses = {"sigmoid": {"loss": "sigmoid"}}
                if share:
                    losses["robust"] = {"loss": "robust", "label_smoothing": share}
                for name, preference in losses.items():
                    run = ftlab.train(
                        data={"source": str(data)},
                        workspace=root / "ws",
                        stage="dpo",
                        model={"start": tuned.id},
                        preference=preference,
                        optimisation={"epochs": args.epochs, "learning_rate": args.rate, "seed": seed},
                    ).wait(show=False)
                    ranked.setdefault(name, []).append(run.preferences()["by_log_probability"]["after"]["accuracy"])
                    print(f"share {share:g} seed {seed} {name:8} {ranked[name][-1]:.1%}", flush=True)
            for name, values in ranked.items():
                print(f"share {share:g}: {name:8} mean {statistics.mean(values):.1%} of the held-out pairs", flush=True)


def flipped(share: float, seed: int, folder: Path) -> Path:
    """The sample with `share` of its training pairs the wrong way round, and all others to test on."""
    folder.mkdir()
    source = sample_path("brand_voice_preferences")
    rows = read_jsonl(source / "train.jsonl")
    for number in random.Random(seed).sample(range(len(rows)), round(share * len(rows))):
        rows[number] |= {"chosen": rows[number]["rejected"], "rejected": rows[number]["chosen"]}
    write_jsonl(folder / "train.jsonl", rows[20:])
    write_jsonl(folder / "validation.jsonl", rows[:20])
    test = [*read_jsonl(source / "validation.jsonl"), *read_jsonl(source / "test.jsonl")]
    write_jsonl(folder / "test.jsonl", test)
    return folder


if __name__ == "__main__":
    main()
