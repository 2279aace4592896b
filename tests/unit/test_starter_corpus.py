"""The starter's text, tokenizer, weights and the samples made from it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest

from ftlab.config import build_config
from ftlab.models.starter import starter_path
from ftlab.models.starter.corpus import draw, family_examples, training_examples
from ftlab.models.starter.families import FAMILIES, words
from ftlab.models.starter.families import facts as fact_tables
from ftlab.models.starter.families.draft import an, several_turns, split_of
from ftlab.models.starter.families.talk import obey
from ftlab.models.starter.families.word_tasks import plural_of
from ftlab.models.starter.samples import make_probes, make_replay

SAMPLES = Path(__file__).parents[2] / "ftlab" / "samples"
MEGABYTE = 1_000_000
CHAT = [
    {"role": "system", "content": "Be short."},
    {"role": "user", "content": "Sort: dog, cat"},
    {"role": "assistant", "content": "cat, dog"},
    {"role": "user", "content": "What is 7 plus 5?"},
    {"role": "assistant", "content": "12"},
]


def read_rows(file: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def tokenizer():
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(starter_path())


@pytest.fixture(scope="module")
def model():
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(starter_path())


def test_the_same_seed_writes_the_same_text_in_another_process():
    here = [json.dumps(e) for e in islice(training_examples(3), 50)]
    command = [sys.executable, "-m", "ftlab.models.starter.corpus", "--rows", "50", "--seed", "3"]
    there = subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    ).stdout.splitlines()
    assert here == there
    assert here != [json.dumps(e) for e in islice(training_examples(4), 50)]


def test_about_one_combination_in_ten_is_held_out():
    held_out = sum(split_of("sums", f"sum|{a}|{b}") == "held-out" for a in range(100) for b in range(100))
    assert 900 < held_out < 1100
    # From sha256sum: were the hash to change, questions shown as held out would be trained ones.
    assert [b for b in range(41) if split_of("sums", f"sum|1|{b}") == "held-out"] == [34]


def test_no_held_out_question_is_trained_on():
    trained = {json.dumps(e["messages"][:-1]) for e in islice(training_examples(0), 30_000)}
    for family in FAMILIES:
        if family.scored == "exact":
            held_out = family_examples(family, "held-out", 40, seed=5)
            assert len(held_out) == 40, family.name
            assert not [e for e in held_out if json.dumps(e["messages"][:-1]) in trained], family.name


def test_every_family_asks_questions_with_one_right_answer():
    import random

    for family in FAMILIES:
        rng = random.Random(f"one answer {family.name}")
        answers: dict[str, str] = {}
        for _ in range(1500):
            draft = draw(family, "train", rng)
            assert draft.messages[-1]["role"] == "assistant" and draft.messages[-2]["role"] == "user"
            assert all(m["content"].strip() == m["content"] != "" for m in draft.messages), draft
            # A slot that was not filled shows as a brace; new words may hold one.
            assert (
                family.name == "new words"
                or "{" not in draft.prompt
                or "json" in draft.prompt.lower()
                or '{"' in draft.prompt
            ), draft.prompt
            if family.scored == "exact":
                asked = json.dumps(draft.messages[:-1])
                assert answers.setdefault(asked, draft.answer) == draft.answer, asked


def test_training_text_has_system_turns_and_conversations_of_several_turns():
    examples = list(islice(training_examples(1), 3000))
    assert sum(e["messages"][0]["role"] == "system" for e in examples) > 300
    assert sum(len(e["messages"]) >= 4 for e in examples) > 300
    for example in examples:
        roles = [m["role"] for m in example["messages"] if m["role"] != "system"]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        assert all(m["role"] != "system" for m in example["messages"][1:])


@pytest.mark.parametrize(
    ("noun", "many"),
    [
        ("baby", "babies"),
        ("box", "boxes"),
        ("key", "keys"),
        ("mouse", "mice"),
        ("potato", "potatoes"),
        ("watch", "watches"),
    ],
)
def test_plurals_are_right(noun: str, many: str):
    assert plural_of(noun) == many


def test_rules_of_system_turns_shape_the_answer():
    assert obey("upper", "Paris", "Tom") == "PARIS"
    assert obey("sign", "Paris", "Tom") == "Paris - Tom"
    assert json.loads(obey("json", "Paris", "Tom")) == {"answer": "Paris"}
    assert an("owl") == "an owl" and an("cat") == "a cat"


def test_an_unfinished_conversation_is_refused():
    with pytest.raises(ValueError, match="even number"):
        several_turns("key", "Hello", "Hi", "Bye")


def test_template_marks_answers_and_their_stop_tokens(tokenizer):
    coded = tokenizer.apply_chat_template(CHAT, return_dict=True, return_assistant_tokens_mask=True)
    pieces = tokenizer.convert_ids_to_tokens(coded["input_ids"])
    marked = [p for p, m in zip(pieces, coded["assistant_masks"], strict=True) if m]
    assert "".join(marked).replace("Ġ", " ") == " cat, dog<|end|> 12<|end|>"
    assert marked.count("<|end|>") == 2 and pieces.count("<|end|>") == 5


def test_a_prompt_is_a_prefix_of_the_whole_conversation(tokenizer):
    for turns in (2, 4):
        for add in (CHAT[:turns], CHAT[1:turns]):
            whole = [*add, CHAT[turns]]
            head = tokenizer.apply_chat_template(add, add_generation_prompt=True, return_dict=True)["input_ids"]
            ids = tokenizer.apply_chat_template(whole, return_dict=True)["input_ids"]
            assert ids[: len(head)] == head
            assert tokenizer.decode(ids[len(head) :], skip_special_tokens=True) == CHAT[turns]["content"]


def test_trl_finds_the_stop_token_trained(tokenizer):
    from trl.chat_template_utils import is_chat_template_stop_token_trained

    assert is_chat_template_stop_token_trained(tokenizer)


def test_typing_a_special_token_does_not_end_the_turn(tokenizer):
    ids = tokenizer.apply_chat_template([{"role": "user", "content": "a<|end|><|assistant|>b"}], return_dict=True)[
        "input_ids"
    ]
    assert ids.count(tokenizer.eos_token_id) == 1
    assert tokenizer.convert_tokens_to_ids("<|assistant|>") not in ids


def test_an_unknown_role_is_refused(tokenizer):
    with pytest.raises(Exception, match="got 'robot'"):
        tokenizer.apply_chat_template([{"role": "robot", "content": "beep"}])


@pytest.mark.parametrize(
    "text", ["Hello there", "  two  spaces ", "", "a\nb\n", "Straße 日本 😀", '{"count": 12}', "x\ty"]
)
def test_encoding_loses_nothing(tokenizer, text: str):
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_digits_are_single_tokens_and_words_keep_their_token(tokenizer):
    assert tokenizer.tokenize("2024") == ["Ġ2", "0", "2", "4"]
    assert tokenizer("apple")["input_ids"] == tokenizer("an apple")["input_ids"][-1:]


def test_padding_is_not_the_stop_token(tokenizer, model):
    assert tokenizer.pad_token == "<|pad|>" and tokenizer.eos_token == "<|end|>" and tokenizer.bos_token is None
    assert model.generation_config.eos_token_id == model.config.eos_token_id == tokenizer.eos_token_id
    assert model.generation_config.pad_token_id == model.config.pad_token_id == tokenizer.pad_token_id


def test_weights_load_as_float32_with_shared_embeddings_and_room_for_512_tokens(model):
    import torch

    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert model.config.tie_word_embeddings and model.config.max_position_embeddings == 512
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    assert model.num_parameters() < 4_000_000


def test_every_word_piece_has_an_embedding_of_its_own(model, tokenizer):
    import torch

    # Entries that no text shows collapse onto one vector, and LoRA can then not learn to write "priority".
    words = [piece for piece in tokenizer.get_vocab() if piece.strip("Ġ").isascii() and piece.strip("Ġ").isalpha()]
    table = model.get_input_embeddings().weight.detach()[tokenizer.convert_tokens_to_ids(words)]
    distances = torch.cdist(table, table) + 10 * torch.eye(len(words))
    assert float(distances.min()) > 0.2, words[int(distances.min(dim=1).values.argmin())]


def test_the_starter_takes_at_most_twelve_megabytes_of_the_repository():
    files = [f for f in starter_path().iterdir() if f.is_file()]
    assert sum(f.stat().st_size for f in files) <= 12 * MEGABYTE
    assert not [f for f in files if f.suffix in {".bin", ".pt", ".pkl"}]


def test_the_recipe_learns_on_a_tiny_scale_and_leaves_a_loadable_folder(tmp_path: Path, tokenizer):
    from transformers import AutoModelForCausalLM

    from ftlab.models.starter.build import Recipe, Stage, make_model, save, train

    recipe = Recipe(rows=2, row_length=64, hidden=32, layers=2, heads=2, intermediate=64, prompt_weight=1.0)
    net = make_model(recipe, tokenizer)
    figures = train(net, tokenizer, recipe, Stage(steps=12), tmp_path)
    save(net, tokenizer, tmp_path)
    assert figures["steps"] == 12 and figures["tokens"] == 12 * 2 * 64
    assert figures["loss_on_answers"] < 7.6  # ln 2000 is 7.60: better than knowing nothing
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert float((loaded.model.norm.weight - net.model.norm.weight).detach().abs().max()) < 1e-3


def test_orthogonalised_matrices_have_singular_values_near_one():
    import torch

    from ftlab.models.starter.build import orthogonalize

    torch.manual_seed(0)
    for shape in ((3, 16, 48), (2, 48, 16), (1, 16, 16)):
        # The iteration of the paper ends between 0.7 and 1.2 for well-conditioned matrices; it is not exact on purpose.
        values = torch.linalg.svdvals(orthogonalize(torch.randn(shape)))
        assert float(values.min()) > 0.3 and float(values.max()) < 1.3


def test_shipped_probes_and_replay_are_what_the_script_writes():
    probes, about = make_probes()
    assert read_rows(SAMPLES / "general_probes" / "test.jsonl") == probes
    assert read_rows(SAMPLES / "general_replay" / "train.jsonl") == make_replay(probes, about)


def read_probes_and_replayed() -> tuple[list[dict], list[dict]]:
    replayed = [SAMPLES / name / "train.jsonl" for name in ("general_replay", "general_documents")]
    return read_rows(SAMPLES / "general_probes" / "test.jsonl"), [row for file in replayed for row in read_rows(file)]


def whole(row: dict) -> str:
    """All texts of a row as words, with a blank at both ends."""
    texts = [turn["content"] for turn in row.get("messages", [])] + [row.get(k, "") for k in ("prompt", "completion")]
    found = re.findall(r"\w+", " ".join([*texts, row.get("text", "")]).casefold())
    return f" {' '.join(found)} "


def test_half_of_the_probes_are_of_kinds_that_replay_never_holds():
    probes, replayed = read_probes_and_replayed()
    kinds = Counter(row["kind"] for row in probes)
    held = {row["kind"] for row in replayed}
    apart = {kind for kind in kinds if kind not in held}
    assert apart == {"extraction", "advice", "conversation", "system prompts", "remembered numbers"}
    assert sum(kinds[kind] for kind in apart) == 100 == sum(kinds.values()) - 100
    # Nor under another name: no JSON is read out of a text, nothing is asked for in a later turn or ruled by a system
    # prompt, no advice is given.
    assert not [row for row in replayed if row.get("completion", "").startswith("{") and row["kind"] != "requests"]
    assert not [row for row in replayed if "messages" in row]
    advice = {row["messages"][-1]["content"] for row in probes if row["kind"] == "advice"}
    assert not [row for row in replayed for text in advice if text in row.values()]


def test_no_question_and_no_fact_of_a_probe_is_replayed():
    probes, replayed = read_probes_and_replayed()
    assert len(probes) == 200 and len(replayed) == 600 + 340
    assert len({json.dumps(row["messages"][:-1]) for row in probes}) == 200
    texts = [whole(row) for row in replayed]
    for row in probes:
        asked = whole({"prompt": row["messages"][-2]["content"]})
        assert not [text for text in texts if asked in text], asked
    # A fact is its two ends, in whatever form they are asked for: What is the capital of Peru? Lima is the capital of
    # which country? Is Lima the capital of Peru? Answer in upper case ...
    of = fact_tables
    pairs = [*of.CAPITALS, *of.OPPOSITES, *of.COLOURS_OF, *of.USES, *of.WORKERS, *of.SOUNDS, *of.YOUNG, *of.HOMES]
    pairs += [*of.LEGS, *of.NUMBERS_KNOWN]
    for cycle in (words.DAYS, words.MONTHS):
        pairs += zip(cycle, [*cycle[1:], cycle[0]], strict=True)
    facts = [tuple(whole({"text": end}) for end in pair) for pair in pairs]
    probed = {fact for fact in facts for text in map(whole, probes) if fact[0] in text and fact[1] in text}
    assert len(probed) > 45
    assert not [fact for fact in probed for text in texts if fact[0] in text and fact[1] in text]


def test_the_starter_answers_most_probes_of_either_kind(model, tokenizer):
    from ftlab.evaluation.probes import by_replay, load_general
    from ftlab.models.starter.evaluate import answer_greedily

    replayed = frozenset(row["kind"] for row in read_rows(SAMPLES / "general_replay" / "train.jsonl"))
    probes = load_general(build_config(), replayed)[0]
    answers = answer_greedily(model, tokenizer, [probe.messages for probe in probes])
    for places in by_replay([one.replayed for one in probes]).values():
        assert sum(answers[i] == probes[i].reference for i in places) >= 95
        assert len(places) == 100
