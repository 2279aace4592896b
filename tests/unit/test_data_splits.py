"""The splits of a run: the same seed gives the same ones, no prompt stands on both sides, nothing is lost silently."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ftlab.config import DataConfig
from ftlab.core.run_directory import RunDirectory
from ftlab.core.workspace import Workspace
from ftlab.data.conversion import is_document
from ftlab.data.partition import hold_out
from ftlab.data.splits import freeze, prepare, prompt_fingerprint, read_split
from ftlab.errors import FtlabError, InputError


def write(path: Path, rows: list[dict]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def rows(count: int, start: int = 0) -> list[dict]:
    return [{"prompt": f"ask {n}", "completion": f"answer {n}"} for n in range(start, start + count)]


def prompts(examples: list[dict]) -> list[str]:
    return [next(turn["content"] for turn in row["messages"] if turn["role"] == "user") for row in examples]


def test_the_split_has_the_asked_sizes_and_loses_no_row(tmp_path: Path) -> None:
    data = DataConfig(source=write(tmp_path / "a.jsonl", rows(100)), validation_fraction=0.1, test_fraction=0.2)
    prepared = prepare(data)
    assert prepared.manifest["splits"] == {"train": 70, "validation": 10, "test": 20}
    assert sorted(row["row"] for split in prepared.splits.values() for row in split) == list(range(100))
    first = prepared.splits["train"][0]
    assert first["messages"][0]["content"] == f"ask {first['row']}" and first["source"] == "train"


def test_the_seed_decides_the_split(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", rows(60))
    once, again, other = (prepare(DataConfig(source=source, seed=seed)) for seed in (3, 3, 4))
    assert once.splits == again.splits and once.manifest == again.manifest
    assert once.splits["test"] != other.splits["test"]


def test_one_prompt_never_stands_on_both_sides(tmp_path: Path) -> None:
    # 40 prompts with 1 to 4 answers each, some written with other case and spaces
    many = [
        {"prompt": f"Ask  {n}" if copy % 2 else f"ask {n} ", "completion": f"{n}.{copy}"}
        for n in range(40)
        for copy in range(n % 4 + 1)
    ]
    prepared = prepare(DataConfig(source=write(tmp_path / "a.jsonl", many), test_fraction=0.3))
    seen = {split: {" ".join(p.lower().split()) for p in prompts(part)} for split, part in prepared.splits.items()}
    assert not seen["train"] & seen["test"] and not seen["train"] & seen["validation"]
    assert not seen["validation"] & seen["test"]
    sizes = prepared.manifest["splits"]
    assert sum(sizes.values()) == len(many) and 25 <= sizes["test"] <= 30 and sizes["validation"] >= 1


def test_a_small_share_still_holds_out_one_row(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", rows(12))
    small = prepare(DataConfig(source=source, validation_fraction=0.01, test_fraction=0.01)).manifest["splits"]
    assert small == {"train": 10, "validation": 1, "test": 1}
    none = prepare(DataConfig(source=source, validation_fraction=0, test_fraction=0)).manifest["splits"]
    assert none == {"train": 12, "validation": 0, "test": 0}


def test_the_splits_of_the_source_are_kept_and_shared_prompts_are_told(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", rows(40))
    write(tmp_path / "test.jsonl", rows(8, start=36))
    prepared = prepare(DataConfig(source=str(tmp_path), test_fraction=0.5))
    assert prepared.manifest["splits"] == {"train": 36, "validation": 4, "test": 8}
    assert prompts(prepared.splits["test"]) == [f"ask {n}" for n in range(36, 44)]
    shared = len({f"ask {n}" for n in range(36, 40)} & set(prompts(prepared.splits["train"])))
    assert shared and any(f"{shared} of the 8 test rows" in note for note in prepared.manifest["notes"])
    assert {row["source"] for row in prepared.splits["validation"]} == {"train"}


def test_unusable_rows_are_counted_by_reason(tmp_path: Path) -> None:
    bad = [{"prompt": "", "completion": "x"}, {"prompt": "x", "completion": None}, {"prompt": " ", "completion": "x"}]
    prepared = prepare(DataConfig(source=write(tmp_path / "a.jsonl", rows(30) + bad)))
    assert prepared.manifest["dropped"] == {"empty prompt": 2, "empty answer": 1}
    assert prepared.manifest["rows_in"] == 33 and sum(prepared.manifest["splits"].values()) == 30


def test_a_part_of_the_rows_is_drawn_with_the_seed(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", rows(500))
    prepared = prepare(DataConfig(source=source, max_rows=50))
    numbers = sorted(row["row"] for split in prepared.splits.values() for row in split)
    assert len(numbers) == 50 and numbers != list(range(50)) and max(numbers) > 250
    assert any("50 of 500 rows" in note for note in prepared.manifest["notes"])
    assert prepare(DataConfig(source=source, max_rows=50)).splits == prepared.splits


def test_replay_goes_into_train_only_and_never_brings_a_held_out_prompt(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", rows(100))
    general = rows(100) + [{"prompt": f"general {n}", "completion": "g"} for n in range(100)]
    replay = write(tmp_path / "general.jsonl", general)
    data = DataConfig(source=source, replay=replay, replay_fraction=0.5, system_prompt="Be kind.")
    prepared = prepare(data)
    added = [row for row in prepared.splits["train"] if row["source"] == "replay"]
    assert len(added) == 40 and prepared.manifest["splits"] == {"train": 120, "validation": 10, "test": 10}
    held_out = set(prompts(prepared.splits["test"] + prepared.splits["validation"]))
    assert not held_out & set(prompts(prepared.splits["train"]))
    assert {row["source"] for row in prepared.splits["test"]} == {"train"}
    assert all(row["messages"][0] == {"role": "system", "content": "Be kind."} for row in prepared.splits["train"])
    record = prepared.manifest["replay"]
    assert (record["wanted"], record["rows"], record["held_out_prompts_skipped"]) == (40, 40, 20)
    assert [entry["name"] for entry in prepared.manifest["sources"]] == ["a.jsonl", "general.jsonl"]
    assert [row["source"] for row in prepared.splits["train"][-40:]].count("replay") < 40  # mixed, not appended


def test_less_replay_than_asked_is_told(tmp_path: Path) -> None:
    replay = write(tmp_path / "r.jsonl", [{"prompt": f"g {n}", "completion": "g"} for n in range(10)])
    data = DataConfig(source=write(tmp_path / "a.jsonl", rows(50)), replay=replay, replay_fraction=1)
    record = prepare(data).manifest["replay"]
    assert (record["wanted"], record["rows"], record["available"]) == (40, 10, 10)


def test_documents_are_mixed_in_beside_replayed_conversations(tmp_path: Path) -> None:
    replay = write(tmp_path / "r.jsonl", [{"prompt": f"g {n}", "completion": "g"} for n in range(50)])
    texts = write(tmp_path / "t.jsonl", [{"text": f"It was day {n}.", "label": n % 2} for n in range(60)])
    data = {"source": write(tmp_path / "a.jsonl", rows(100)), "replay": replay, "replay_fraction": 0.5}
    prepared = prepare(DataConfig(**data, replay_text=texts, replay_text_fraction=0.25))
    train = prepared.splits["train"]
    documents = [row["messages"][0]["content"] for row in train if is_document(row["messages"])]
    # A share of the data's own rows each, whatever else is mixed in; a label beside a text does not count.
    assert (len(train), len(documents)) == (80 + 40 + 20, 20)
    assert set(documents) <= {f"It was day {n}." for n in range(60)}
    assert not any(is_document(row["messages"]) for split in ("validation", "test") for row in prepared.splits[split])
    record = prepared.manifest["replay_text"]
    assert (record["source"], record["wanted"], record["rows"], record["available"]) == ("t.jsonl", 20, 20, 60)
    assert [entry["name"] for entry in prepared.manifest["sources"]] == ["a.jsonl", "r.jsonl", "t.jsonl"]
    # What is replayed as conversations is what it was without them.
    before = prepare(DataConfig(**data))
    assert before.manifest["replay_text"] is None
    asked = {row["row"] for row in train if row["source"] == "replay" and not is_document(row["messages"])}
    assert asked == {row["row"] for row in before.splits["train"] if row["source"] == "replay"}


def test_the_manifest_says_which_kinds_were_mixed_in(tmp_path: Path) -> None:
    data = {"source": write(tmp_path / "a.jsonl", rows(100)), "replay_text": "general_documents"}
    record = prepare(DataConfig(**data, replay="general_replay", replay_fraction=0.02)).manifest
    assert record["replay_text"]["kinds"] == ["scenes", "titles"]
    assert 1 <= len(record["replay"]["kinds"]) <= record["replay"]["rows"] == 2  # of the rows that were used
    unnamed = [{"prompt": f"g {n}", "completion": "g"} | ({"kind": "letters"} if n else {}) for n in range(9)]
    record = prepare(DataConfig(**data, replay=write(tmp_path / "r.jsonl", unnamed))).manifest
    assert record["replay"]["kinds"] is None


def test_conversations_are_no_replay_text_and_preferences_take_none(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", rows(50))
    with pytest.raises(InputError, match=r"holds no plain text.*data\.replay_text") as caught:
        prepare(DataConfig(source=source, replay_text="general_replay"))
    assert "for conversations, set data.replay" in caught.value.message()
    with pytest.raises(InputError, match="cannot be mixed into the stage dpo") as caught:
        prepare(DataConfig(source="brand_voice_preferences", replay_text="general_documents"), stage="dpo")
    assert "data.replay_text: general_documents" in caught.value.message()


def test_the_system_prompt_does_not_change_the_split_or_the_fingerprints(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", rows(50))
    plain, kind = prepare(DataConfig(source=source)), prepare(DataConfig(source=source, system_prompt="Be kind."))
    assert prompts(plain.splits["test"]) == prompts(kind.splits["test"])
    assert plain.manifest["prompt_fingerprints"] == kind.manifest["prompt_fingerprints"]


def test_a_fingerprint_sees_the_whole_prompt_and_not_the_answer() -> None:
    ask = [{"role": "user", "content": "Hello  World"}]
    answer = {"role": "assistant", "content": "a"}
    assert prompt_fingerprint([*ask, answer]) == prompt_fingerprint([{"role": "user", "content": "hello world"}])
    assert prompt_fingerprint([*ask, answer, *ask, answer]) != prompt_fingerprint([*ask, answer])
    assert prompt_fingerprint([{"role": "system", "content": "s"}, *ask]) != prompt_fingerprint(ask)


def test_preferences_teach_the_chosen_answer_and_say_so(tmp_path: Path) -> None:
    pairs = [{"prompt": f"ask {n}", "chosen": f"good {n}", "rejected": f"bad {n}"} for n in range(20)]
    prepared = prepare(DataConfig(source=write(tmp_path / "a.jsonl", pairs)))
    answers = [row["messages"][-1]["content"] for split in prepared.splits.values() for row in split]
    assert len(answers) == 20 and all(answer.startswith("good") for answer in answers)
    assert any("chosen answers" in note for note in prepared.manifest["notes"])


def test_frozen_splits_come_back_as_they_were(tmp_path: Path, workspace: Workspace) -> None:
    run = workspace.create_run("frozen")
    odd = [{"prompt": f"Ünï 😀 {n}\n", "completion": f" <b>{n}</b>\t"} for n in range(20)]
    prepared = prepare(DataConfig(source=write(tmp_path / "a.jsonl", odd), validation_fraction=0))
    freeze(prepared, run)
    for split, examples in prepared.splits.items():
        assert read_split(run, split) == examples
    assert run.manifest() == json.loads(json.dumps(prepared.manifest))
    assert not run.split_file("validation").exists() and read_split(run, "validation") == []
    assert str(tmp_path) not in run.manifest_file.read_text()


def test_a_run_without_data_says_so(tmp_path: Path) -> None:
    with pytest.raises(FtlabError, match="no frozen data"):
        read_split(RunDirectory(tmp_path / "none"), "test")


def test_splits_without_train_are_refused_and_a_single_one_is_split(tmp_path: Path) -> None:
    write(tmp_path / "test.jsonl", rows(30))
    prepared = prepare(DataConfig(source=str(tmp_path)))
    assert prepared.manifest["splits"] == {"train": 24, "validation": 3, "test": 3}
    assert any("only the split test" in note for note in prepared.manifest["notes"])
    write(tmp_path / "validation.jsonl", rows(30))
    with pytest.raises(InputError, match="no training split"):
        prepare(DataConfig(source=str(tmp_path)))


def test_rows_of_one_customer_never_stand_on_both_sides(tmp_path: Path) -> None:
    many = [{**row, "customer": f"c{n % 17}", "n": n % 17} for n, row in enumerate(rows(170))]
    source = write(tmp_path / "a.jsonl", many)
    for column in ("customer", "n"):
        splits = prepare(DataConfig(source=source, group_by=column)).splits
        sides = [{many[row["row"]]["customer"] for row in part} for part in splits.values()]
        assert all(sides) and sum(map(len, sides)) == 17
    with pytest.raises(InputError, match="did you mean customer"):
        prepare(DataConfig(source=source, group_by="custmer"))
    same = [{**row, "customer": "one"} for row in rows(50)]
    with pytest.raises(InputError, match=r"1 different values of customer in 50 rows"):
        prepare(DataConfig(source=write(tmp_path / "b.jsonl", same), group_by="customer"))


WORDS = "the order that came on day was not what we asked for and box torn parcel late refund please help soon".split()


def test_near_equal_prompts_never_stand_on_both_sides(tmp_path: Path) -> None:
    import random

    generator = random.Random(1)
    many = []
    for n in range(60):
        text = " ".join(generator.choices(WORDS, k=40))
        many += [{"prompt": f"{text} {end}", "completion": "x", "n": n} for end in ("", "today", "thanks a lot")]
    source = write(tmp_path / "a.jsonl", many)
    prepared = prepare(DataConfig(source=source, test_fraction=0.2))
    sides = [{many[row["row"]]["n"] for row in part} for part in prepared.splits.values()]
    assert all(sides) and sum(map(len, sides)) == 60
    assert any("120 near-duplicate prompts were kept" in note for note in prepared.manifest["notes"])
    apart = prepare(DataConfig(source=source, test_fraction=0.2, near_duplicates="apart"))
    assert sum(len({many[row["row"]]["n"] for row in part}) for part in apart.splits.values()) > 60


VARIANTS = (
    "Please {}",
    "{} today",
    "{}!!",
    "Could you tell me: {}?",
    "\u200b{}\ufeff",
)


def test_variants_of_a_short_question_stand_on_one_side_also_where_customers_do(tmp_path: Path) -> None:
    plain = [f"{verb} my {thing}" for verb in ("cancel", "activate", "return") for thing in "card order lamp".split()]
    plain += [f"what is {first} + {other}" for first in range(20, 30) for other in (5, 7, 9)]
    many = [{"prompt": text, "completion": "x", "of": n} for n, text in enumerate(plain)]
    many += [
        {"prompt": VARIANTS[n % 5].format(row["prompt"]), "completion": "x", "of": n} for n, row in enumerate(many)
    ]
    many = [{**row, "customer": f"c{n}"} for n, row in enumerate(many)] + [
        {"prompt": f"something else, number {n}", "completion": "x", "of": 1000 + n, "customer": f"c{n}"}
        for n in range(len(many))
    ]
    source = write(tmp_path / "a.jsonl", many)
    for group_by, column in ((None, "of"), ("customer", "of"), ("customer", "customer")):
        for seed in range(3):
            splits = prepare(DataConfig(source=source, test_fraction=0.2, seed=seed, group_by=group_by)).splits
            sides = [{many[row["row"]][column] for row in part} for part in splits.values()]
            assert sum(map(len, sides)) == len(set.union(*sides)) and all(sides)


def test_what_a_template_makes_alike_is_split_as_ever(tmp_path: Path) -> None:
    form = "You are a helpful clerk. Read the ticket below and answer with the name of the queue it belongs to: "
    for thing in ("item {} broke", "the {} broke".format("{}th chair")):
        many = [{"prompt": f"{form} {thing.format(n)}", "completion": "x"} for n in range(60)]
        manifest = prepare(DataConfig(source=write(tmp_path / "a.jsonl", many))).manifest
        assert manifest["splits"] == {"train": 48, "validation": 6, "test": 6} and manifest["notes"] == []


def test_a_chain_of_likeness_does_not_swallow_the_data_and_is_said(tmp_path: Path) -> None:
    words = [f"{a}{b}" for a in ("bal", "dor", "fim", "gun", "hel", "jat") for b in "ando erin ilos omar unde".split()]
    # Each prompt is the one before without its first word and with another last one.
    chain = [words[n % 30 :] + words[: n % 30] for n in range(60)]
    many = [{"prompt": " ".join(text[: 24 + n // 30]), "completion": "x"} for n, text in enumerate(chain)]
    many += [{"prompt": f"what is {n} + {n}", "completion": str(n)} for n in range(140)]
    manifest = prepare(DataConfig(source=write(tmp_path / "a.jsonl", many), test_fraction=0.2)).manifest
    assert manifest["splits"]["test"] == 40
    assert any("near duplicates may be in different splits" in note for note in manifest["notes"])


def test_identical_long_answers_stand_on_one_side(tmp_path: Path) -> None:
    things = "lamp chair desk shelf clock kettle radio carpet mirror ladder".split()
    many = [
        {
            "prompt": f"{ask} {thing} {n}",
            "completion": f"The {thing} {n} left our house today and will be with you soon.",
        }
        for n in range(12)
        for thing in things
        for ask in (["Where is my"] if n else ["Where is my", "Any news of the"])
    ]
    source = write(tmp_path / "a.jsonl", many)
    for seed in range(3):
        splits = prepare(DataConfig(source=source, test_fraction=0.2, seed=seed)).splits
        sides = [{row["messages"][-1]["content"] for row in part} for part in splits.values()]
        assert sum(map(len, sides)) == 120


def test_variants_in_a_split_that_the_data_bring_are_counted(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", [*rows(20), {"prompt": "where is my lamp?", "completion": "soon"}])
    asked = ["Please where is my lamp", "where is my lamp now?", "where is my chair?", "ask 77"]
    write(tmp_path / "test.jsonl", [{"prompt": text, "completion": "soon"} for text in asked])
    notes = prepare(DataConfig(source=str(tmp_path))).manifest["notes"]
    assert any("2 of the 4 test rows have a near duplicate in train" in note for note in notes)


def test_replay_holds_no_variant_of_a_held_out_prompt(tmp_path: Path) -> None:
    source, replay = write(tmp_path / "a.jsonl", rows(50)), tmp_path / "r.jsonl"
    held = prompts(prepare(DataConfig(source=source)).splits["test"])
    write(replay, [{"prompt": f"Please {text}!", "completion": "y"} for text in held] + rows(70)[50:])
    record = prepare(DataConfig(source=source, replay=str(replay), replay_fraction=1.0)).manifest["replay"]
    assert record["held_out_prompts_skipped"] == len(held) and record["available"] == 20


def test_a_stratified_split_shows_every_label_by_its_share(tmp_path: Path) -> None:
    many = [
        {**row, "label": "rare" if n % 10 == 0 else "usual" if n % 10 < 4 else None} for n, row in enumerate(rows(200))
    ]
    source = write(tmp_path / "a.jsonl", many)
    for seed in range(3):
        data = DataConfig(source=source, stratify_by="label", test_fraction=0.1, validation_fraction=0.2, seed=seed)
        splits = prepare(data).splits
        counts = {
            name: [sum(many[row["row"]]["label"] == label for row in part) for label in ("rare", "usual", None)]
            for name, part in splits.items()
        }
        assert counts == {"train": [14, 42, 84], "validation": [4, 12, 24], "test": [2, 6, 12]}
        assert prepare(data).splits == splits


def test_whole_groups_hold_out_enough_rows_to_tell_a_difference():
    """Twelve guests with five rows each: a test split of one guest would have 5 rows, which no verdict can rest on."""
    rows = [
        {"messages": [{"role": "user", "content": f"{word} {guest}"}, {"role": "assistant", "content": "yes"}]}
        for guest in range(12)
        for word in ("pool", "dog", "train", "crib", "wine")
    ]
    cells = [{"guest": row["messages"][0]["content"].split()[-1]} for row in rows]
    held = hold_out({"train": rows}, DataConfig(group_by="guest"), cells)
    assert {split: len(part) for split, part in held.items()} == {"train": 45, "validation": 5, "test": 10}
    few = hold_out({"train": rows[:20]}, DataConfig(group_by="guest"), cells[:20])
    assert len(few["test"]) == 5  # a share of 2 rows: more groups would be most of the data
