"""Plain text, conversations of several turns, and classes as answers: each trains for real and is compared."""

from __future__ import annotations

import json
import math
import random
import re
from itertools import product
from typing import Any

import pytest
import torch

from ftlab.cli.main import main
from ftlab.config import DataConfig, build_config
from ftlab.core.files import write_text
from ftlab.core.run_directory import RunDirectory
from ftlab.core.workspace import Workspace
from ftlab.data.rendering import encode
from ftlab.data.splits import freeze, prepare, read_split
from ftlab.models.adapters import adapter_disabled
from ftlab.models.load import load_run, load_tokenizer
from ftlab.report.report import comparison_table, write_report
from ftlab.training import worker
from ftlab.training.status import StatusWriter, read_status

pytestmark = pytest.mark.train

WINDOW = 96
NAMES = "Ann Ben Carl Dora Emil Fay Gus Hana Ivo Jana Karl Lena Max Nina Otto Pia Rosa Sam Tom Vera".split()
ROOMS = "red blue green white black brown pink grey".split()
WORDS = {
    "garden": "rake hedge lawn seeds roses hose".split(),
    "kitchen": "pan oven kettle soup knife bread".split(),
    "garage": "tyre brake engine oil wheel car".split(),
}


def chronicle() -> str:
    """A chronicle in a language of its own, 90 documents parted by blank lines, every tenth many windows long."""
    draw = random.Random(0)
    who, what = NAMES[:8], ["a brace of lamps", "nine bales of flax", "the copper still", "two coils of rope"]
    where = ["the kiln", "the lower weir", "the oast house", "the ropewalk"]

    def sentence() -> str:
        moved = f"the reeve of {draw.choice(who)} carried {draw.choice(what)} to {draw.choice(where)}"
        return f"At {draw.randint(1, 12)} bells {moved}, and the tally rose by {draw.randint(2, 9)}."

    return "\n\n".join(
        " ".join(sentence() for _ in range(25 if n % 10 == 0 else draw.randint(1, 3))) for n in range(90)
    )


def conversations() -> list[dict[str, Any]]:
    """Only the first turn says which room it is; the second question is the same in every row."""
    system = {"role": "system", "content": "You are the porter of a small hotel."}
    return [
        {
            "messages": [
                system,
                {"role": "user", "content": f"I am {name}. I take the {room} room."},
                {"role": "assistant", "content": f"Welcome, {name}."},
                {"role": "user", "content": "Which room is mine?"},
                {"role": "assistant", "content": f"You have the {room} room."},
            ]
        }
        for name, room in product(NAMES, ROOMS)
    ]


def labelled() -> list[dict[str, str]]:
    texts = ["The {} needs care.", "Please look at my {}.", "I bought a new {}.", "Is the {} still there?"]
    texts += ["Somebody broke the {}.", "My {} is old.", "Where can I put the {}?"]
    rows = [(label, word, text) for label, words in WORDS.items() for word, text in product(words, texts)]
    return [{"text": text.format(word), "label": label} for label, word, text in rows]


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    return Workspace.open(tmp_path_factory.mktemp("stages"))


def train(stages: Workspace, label: str, text: str, suffix: str, **settings: Any) -> RunDirectory:
    """A run as its process trains and compares it, in this process: the libraries are loaded once."""
    file = stages.root / f"{label}.{suffix}"
    file.write_text(text)
    values = {"data": {"source": str(file), "test_fraction": 0.2}, "launcher": {"device": "cpu"}} | settings
    config = build_config(values).resolved()
    run = stages.create_run(label)
    freeze(prepare(config.data, stage=config.stage), run)
    write_text(run.config_file, config.to_yaml())
    threads = torch.get_num_threads()
    writer = StatusWriter(run.status_file)
    try:
        assert worker.train(run, writer) == "completed"
    finally:
        writer.close()
        torch.set_num_threads(threads)
    return run


def lines(rows: list[dict[str, Any]]) -> str:
    random.Random(1).shuffle(rows)
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture(scope="module")
def text_run(stages):
    optimisation = {"max_steps": 16, "max_length": WINDOW}
    return train(stages, "chronicle", chronicle(), "txt", stage="pretraining", optimisation=optimisation)


@pytest.fixture(scope="module")
def hotel_run(stages):
    settings = {"optimisation": {"max_steps": 24}, "evaluation": {"probes": "none", "max_new_tokens": 16}}
    return train(stages, "hotel", lines(conversations()), "jsonl", **settings)


@pytest.fixture(scope="module")
def labels_run(stages):
    settings = {"optimisation": {"max_steps": 32}, "evaluation": {"probes": "none", "max_new_tokens": 8}}
    return train(stages, "labels", lines(labelled()), "jsonl", **settings)


def test_held_out_text_is_predicted_better_after_pretraining(text_run):
    comparison = text_run.comparison()
    base, adapted = comparison["base"], comparison["adapted"]
    assert adapted["rows"] == 18 and comparison["verdict"]["better"] is True
    assert adapted["perplexity"] < base["perplexity"] / 3
    assert re.match(
        r"The adapted model predicts unseen documents better: .* bits per byte", comparison["verdict"]["text"]
    )
    assert [row["measure"] for row in comparison_table(comparison)] == [
        "Perplexity",
        "Bits per byte",
        "General questions (kinds not replayed)",
        "Same next token as the base",
        "KL to the base",
        "Bits per byte of general documents",
        "Bits per byte of general chat answers",
    ]
    page = write_report(text_run).read_text()
    assert "bits per byte" in page.lower() and "continued pretraining" in page
    assert "BLEU" not in page and "Exact match" not in page


def test_perplexity_and_bits_per_byte_are_those_of_transformers_own_loss(text_run):
    model, tokenizer = load_run(text_run, device="cpu")
    documents = [row for row in text_run.predictions() if len(tokenizer(row["document"])["input_ids"]) < WINDOW]
    assert documents
    with adapter_disabled(model) as base, torch.no_grad():
        for row in documents[:4]:
            ids = tokenizer(row["document"], add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
            batch = torch.tensor([ids])
            loss = float(base(input_ids=batch, labels=batch).loss)
            assert row["base_loss"] == pytest.approx(loss, rel=1e-4)
            unseen = len(tokenizer.decode(ids[:1]).encode())
            bits = loss * (len(ids) - 1) / math.log(2) / (len(row["document"].encode()) - unseen)
            assert row["base_bits_per_byte"] == pytest.approx(bits, rel=1e-4)


def test_no_token_of_a_long_document_is_lost_and_none_is_learned_twice(text_run):
    tokenizer = load_tokenizer("starter")
    counted = text_run.manifest()["tokens"]["train"]
    documents = [row["messages"][0]["content"] for row in read_split(text_run, "train")]
    sizes = [len(tokenizer(text, add_special_tokens=False)["input_ids"]) + 1 for text in documents]
    assert counted["documents"] == len(documents) and counted["too_long"] == 0
    assert counted["documents_cut"] == sum(size > WINDOW for size in sizes) > 0
    assert counted["longest"] == max(sizes)
    # A window begins with the last token of the one before, which is read there and not learned again.
    assert counted["trained_tokens"] == sum(sizes)
    assert counted["tokens"] == sum(sizes) + counted["rows"] - len(documents)


def test_general_conversations_beside_plain_text_are_learned_by_their_answers(stages, tmp_path):
    file = tmp_path / "book.txt"
    file.write_text(chronicle())
    data = DataConfig(source=str(file), replay="general_replay")
    train_rows = prepare(data, stage="pretraining").splits["train"]
    tokenizer = load_tokenizer("starter")
    shares = {"train": set(), "replay": set()}
    for row in train_rows:
        encoded = encode(row["messages"], tokenizer)
        shares[row["source"]].add(sum(encoded.trained) < len(encoded.trained))
    assert shares == {"train": {False}, "replay": {True}}


def test_a_stage_that_does_not_suit_the_data_is_refused_on_the_command_line(stages, tmp_path, capsys):
    file = tmp_path / "book.txt"
    file.write_text(chronicle())
    assert main(["train", "--workspace", str(stages.root), "--set", f"data.source={file}"]) == 2
    assert "--set stage=pretraining" in capsys.readouterr().err
    assert main(["train", "--workspace", str(stages.root), "--set", "stage=pretraining"]) == 2
    assert "--set stage=sft" in capsys.readouterr().err


def test_every_answer_of_a_conversation_is_learned_and_nothing_else(hotel_run):
    tokenizer = load_tokenizer("starter")
    for row in read_split(hotel_run, "train")[:8]:
        encoded = encode(row["messages"], tokenizer)
        learned, answer = [], []
        for token, trained in zip(encoded.input_ids, encoded.trained, strict=True):
            if trained:
                answer.append(token)
            elif answer:
                learned, answer = [*learned, answer], []
        learned += [answer] if answer else []
        said = [turn["content"] for turn in row["messages"] if turn["role"] == "assistant"]
        assert [tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in learned] == said and len(said) == 2
        stop = learned[0][-1]
        assert stop in tokenizer.all_special_ids and learned[1][-1] == stop


def test_the_second_answer_is_given_from_the_first_turn(hotel_run):
    comparison = hotel_run.comparison()
    assert comparison["base"]["exact_match"] < 0.2
    # Without the first turn one of eight rooms would be guessed right.
    assert comparison["adapted"]["exact_match"] > 0.7
    roles = {tuple(turn["role"] for turn in row["messages"]) for row in hotel_run.predictions()}
    assert roles == {("system", "user", "assistant", "user")}


def test_a_chat_answers_from_what_was_said_before(hotel_run):
    from ftlab.evaluation.duet import load_duet

    duet = load_duet(hotel_run)
    said = {"system": "You are the porter of a small hotel.", "max_new_tokens": 16}
    right = 0
    for room in ROOMS[:4]:
        first = f"I am Quin. I take the {room} room."
        *_, welcome = duet.stream(first, **said)
        turns = [{"role": "user", "content": first}, {"role": "assistant", "content": welcome.adapted}]
        *_, answer = duet.stream("Which room is mine?", {"base": turns, "adapted": turns}, **said)
        right += f"the {room} room" in answer.adapted
    assert right >= 3


def test_classes_are_learned_as_answers_to_an_instruction(labels_run):
    row = read_split(labels_run, "test")[0]["messages"]
    assert row[0]["content"].startswith(
        "Which label fits the text: garage, garden or kitchen? Answer with the label only."
    )
    assert row[1]["content"] in WORDS
    comparison = labels_run.comparison()
    assert comparison["adapted"]["exact_match"] > max(0.6, comparison["base"]["exact_match"] + 0.2)
    assert comparison["tests"]["exact_match"] < 0.05
    rows = [row["measure"] for row in comparison_table(comparison)]
    # What is named stands below them where it says something else than accuracy does.
    assert rows[0] == "Accuracy" and rows[1].startswith("Always “") and rows[2] == "Guessing"
    # The rows of the comparison were counted after the steps of training, and not in their place.
    status = read_status(labels_run.status_file)
    assert (status.step, status.total_steps) == (32, 32) and status.done == status.total > 0


def test_a_text_file_is_parted_where_people_part_texts(tmp_path):
    def texts(content: str | bytes) -> list[str]:
        file = tmp_path / "a.txt"
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        from ftlab.data.load import load_rows

        return [row["text"] for row in load_rows(DataConfig(source=str(file))).splits["train"]]

    assert texts("one\nstill one\n\n \n  two\n") == ["one\nstill one", "two"]
    assert texts("one\n\nstill one\n<|endoftext|>\ntwo\n<|endoftext|>\n") == ["one\n\nstill one", "two"]
    assert texts("one\r\ntwo\r\n") == ["one", "two"]
    assert texts("größer\n".encode("cp1252") + b"zwei") == ["größer", "zwei"]


def test_a_folder_of_text_files_is_one_document_a_file(tmp_path):
    from ftlab.data.load import load_rows

    for n in range(3):
        (tmp_path / f"story{n}.txt").write_text(f"Story {n}.\n\nIt ends.")
    rows = load_rows(DataConfig(source=str(tmp_path))).splits["train"]
    assert [row["text"] for row in rows] == [f"Story {n}.\n\nIt ends." for n in range(3)]
