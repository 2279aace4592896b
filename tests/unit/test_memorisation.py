"""Memorized rows are noticed, and so are held-out rows that training has seen."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from ftlab.config import ModelConfig, RunConfig, build_config, with_settings
from ftlab.core.files import write_text
from ftlab.core.jobs import Stopped
from ftlab.core.run_directory import RunDirectory
from ftlab.data.rendering import Encoded, encode
from ftlab.data.splits import Prepared, freeze
from ftlab.evaluation.losses import Losses
from ftlab.evaluation.memorisation import Half, compare, conclude, find_leaks, halve, measure_memorisation, overlap
from ftlab.models.load import load_base, load_tokenizer
from ftlab.models.starter.corpus import family_examples
from ftlab.models.starter.families import FAMILIES

NO_LEAKS = {"same": 0, "near": 0, "text": ""}


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer("starter")


def example(prompt: str, answer: str, row: int = 0) -> dict:
    messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    return {"row": row, "source": "train", "messages": messages}


@pytest.fixture(scope="module")
def model():
    return load_base(ModelConfig(), device="cpu")


def make_run(folder, train: list[dict], held_out: list[dict], **settings) -> tuple[RunDirectory, RunConfig]:
    config = build_config({"method": {"name": "full"}, "launcher": {"device": "cpu"}, **settings}).resolved()
    run = RunDirectory(folder / "run")
    write_text(run.config_file, config.to_yaml())
    freeze(Prepared({"train": train, "validation": [], "test": held_out}, {}), run)
    return run, config


def advice() -> list[dict]:
    """Thirty answers of which the starter has read each some thousand times, and knows every word."""
    family = next(family for family in FAMILIES if family.name == "advice")
    every = family_examples(family, "train", 60, 0)
    answers = {one["messages"][-1]["content"]: one["messages"] for one in every}
    return [{"row": n, "source": "train", "messages": list(messages)} for n, messages in enumerate(answers.values())]


def invented(count: int, seed: int) -> list[dict]:
    """Answers of words drawn at random, which nobody can know."""
    draw = random.Random(seed)
    words = "river stone bread cloud window paper garden silver".split()
    return [example(f"How do I recite poem {seed} {n}?", " ".join(draw.choices(words, k=16)), n) for n in range(count)]


def test_a_model_that_recites_its_rows_has_learned_them_by_heart(model, tokenizer, tmp_path):
    train = advice()
    run, config = make_run(tmp_path, train, invented(20, 1))
    found = measure_memorisation(model, tokenizer, run, config)
    assert found["rows"] == {"train": len(train), "held_out": 20} and found["split"] == "test"
    assert found["continuation"]["train"]["exact"] > 0.9
    # Eight words: who guesses gets no run of eight right.
    assert found["continuation"]["held_out"]["exact"] == 0
    assert found["memorised"] is True and found["continuation_p"] < 0.001
    assert found["overfitted"] is True and found["gap"] > 1
    assert "memorized training rows" in found["text"] and "overfitted" in found["text"]
    shown = found["examples"][0]
    assert train[shown["row"]]["messages"][-1]["content"] == shown["given"] + shown["rest"]
    # No base beside a fully tuned model: nothing to say how much of its gain carries over.
    assert set(found["losses"]) == {"adapted"} and found["carried_over"] is None


def test_a_model_that_never_read_its_rows_has_learned_nothing_by_heart(model, tokenizer, tmp_path):
    run, config = make_run(tmp_path, invented(20, 2), invented(20, 1))
    told: list[tuple[str, int, int]] = []
    found = measure_memorisation(model, tokenizer, run, config, progress=lambda *step: told.append(step))
    assert found["continuation"]["train"]["exact"] == 0
    assert found["memorised"] is False and found["overfitted"] is False
    assert found["examples"] == []
    assert told[-1][1] == told[-1][2] == 80
    assert all(before[1] <= after[1] for before, after in pairwise(told))


def test_it_can_be_turned_off_and_stopped_and_needs_rows_that_were_held_out(model, tokenizer, tmp_path):
    run, config = make_run(tmp_path, invented(12, 2), invented(4, 1))
    off = with_settings(config, {"evaluation.memorisation": False})
    assert measure_memorisation(model, tokenizer, run, off) is None
    rewarded = config.model_copy(update={"stage": "grpo"})
    assert measure_memorisation(model, tokenizer, run, rewarded) is None
    with pytest.raises(Stopped):
        measure_memorisation(model, tokenizer, run, config, should_stop=lambda: True)
    run.split_file("test").unlink()
    assert measure_memorisation(model, tokenizer, run, config) is None


def test_the_second_half_of_an_answer_is_asked_for_without_its_stop_token(tokenizer):
    row = example("What is this?", "one two three four five six seven eight nine ten")
    encoded = encode(row["messages"], tokenizer)
    half = halve(7, encoded, tokenizer)
    assert half.row == 7
    assert encoded.input_ids[: len(half.prompt)] == half.prompt
    assert half.opening + half.rest == row["messages"][-1]["content"]
    assert half.words[-1] == "ten"
    assert halve(0, encode(example("What?", "Yes.")["messages"], tokenizer), tokenizer) is None
    assert halve(0, Encoded([5, 6, 7], [False] * 3), tokenizer) is None


def test_what_is_said_is_compared_in_words():
    half = Half(0, [1], "", "Alpha beta, gamma delta epsilon zeta.", "alpha beta gamma delta epsilon zeta".split(), 6)
    assert compare(half, "alpha BETA gamma delta epsilon zeta and more").exact is True
    near = compare(half, "alpha beta gamma delta ypsilon zeta")
    # One of three 4-grams is there, and four of six words run on.
    assert (near.exact, near.overlap, near.longest) == (False, pytest.approx(1 / 3), pytest.approx(4 / 6))
    assert overlap(["a", "b"], ["b", "a"]) == 0 and overlap(["a", "b"], ["a", "b"]) == 1


def test_of_what_training_rows_gained_the_share_of_unseen_rows_is_told():
    def losses(mean: float) -> Losses:
        return Losses([10 * mean] * 20, [10] * 20)

    found = conclude(
        {
            "base": {"train": losses(3.0), "held_out": losses(3.0)},
            "adapted": {"train": losses(1.0), "held_out": losses(2.5)},
        },
        {"train": [], "held_out": []},
        NO_LEAKS,
    )
    # 0.5 of 2 nats: a quarter of the gain.
    assert found["carried_over"] == pytest.approx(0.25) and found["gap"] == pytest.approx(1.5)
    assert found["overfitted"] is True and "25% carries over" in found["text"]
    assert found["memorised"] is False and "too short to tell" in found["text"]


def test_held_out_rows_of_one_customer_count_once():
    values = [1.9, 2.4, 2.2, 2.6, 2.0]
    train, held_out = Losses([20.0] * 20, [10] * 20), Losses([10 * value for value in values * 4], [10] * 20)
    losses = {"adapted": {"train": train, "held_out": held_out}}
    alone = conclude(losses, {"train": [], "held_out": []}, NO_LEAKS)
    tied = conclude(losses, {"train": [], "held_out": []}, NO_LEAKS, {"held_out": list("abcde") * 4})
    assert alone["gap"] == tied["gap"] == pytest.approx(0.22)
    # Five customers by t with 4 degrees of freedom, .286 / 5 ** .5 * 2.78 = .36; twenty rows: .27 / 20 ** .5 * 2.09.
    assert alone["gap_interval"] == pytest.approx([0.10, 0.34], abs=0.03)
    assert tied["gap_interval"][0] < 0 and tied["gap_interval"][1] > 0.4


def test_held_out_rows_that_training_has_seen_are_named():
    long = "Please tell me where the parcel with the blue lamp is that I ordered two weeks ago"
    train = [example(f"Question {n} about apples?", "Yes.", n) for n in range(20)]
    train += [example(f"{long} in Rome.", "Soon.", 20), example("How far is the moon?", "Far.", 21)]
    held_out = [
        example("HOW FAR is the moon", "Far away.", 3),
        example(f"{long} in Rome by van.", "Soon.", 5),
        example("Something else entirely?", "No.", 6),
    ]
    found = find_leaks(train, held_out)
    assert (found["same"], found["near"], found["held_out"]) == (1, 1, 3)
    assert [(pair["kind"], pair["train_row"], pair["held_out_row"]) for pair in found["pairs"]] == [
        ("same", 21, 3),
        ("near", 20, 5),
    ]
    assert found["pairs"][0]["held_out"] == "HOW FAR is the moon"
    assert "1 has a copy and 1 has a near copy among the training rows" in found["text"]
    assert find_leaks(train, held_out[2:])["pairs"] == []
    # Every held-out row is counted, though one training row is behind all of them; answers count where they are long.
    told = "The parcel is on its way and will be with you before the end of the week, we promise."
    train += [
        example("Where is order 12?", told, 22),
        *(example(f"Item {n}?", f"{long} {n}.", n) for n in range(30, 40)),
    ]
    short = (
        "Please, how far is the moon?",
        "How far is the moon now?",
        "How far is the\u200b moon?!",
        "How far is the sun?",
    )
    held_out = [example(text, "Far.", n) for n, text in enumerate(short)] + [example("Any news?", told, 9)]
    found = find_leaks(train, held_out)
    assert (found["same"], found["near"], found["answer"], found["held_out"]) == (1, 2, 1, 5)
    assert "1 has a copy, 2 have a near copy and 1 has its answer word for word among" in found["text"]
    assert {pair["held_out_row"] for pair in found["pairs"]} == {0, 1, 2, 9}
    with pytest.raises(Stopped):
        find_leaks(train, held_out, should_stop=lambda: True)
