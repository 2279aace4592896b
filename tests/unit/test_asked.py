"""As it was trained, so it is asked: evaluation, chat, blind test, export and Ollama ask with one and the same tokens,
and these are what an example of training begins with."""

from __future__ import annotations

import json

import pytest
from trl.chat_template_utils import _CHAT_TEMPLATES_DIR

from ftlab.config import build_config
from ftlab.core.run_directory import RunDirectory
from ftlab.data.checks import check
from ftlab.data.prompt_template import AsTrained, asked_of
from ftlab.data.rendering import encode, encode_prompt, ensure_chat_template
from ftlab.data.splits import freeze, prepare, read_split
from ftlab.export.serving import take_apart
from ftlab.models.load import load_tokenizer, run_tokenizer
from ftlab.models.starter import starter_path
from ftlab.training.setup import chat_tokenizer
from ftlab.training.status import StatusWriter
from tests.asked import assert_all_ask_alike

_TURN = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] }}{% if m['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ ' ' }}{% endfor %}"  # noqa: E501
TEMPLATES = {
    "starter": None,
    "qwen2.5": "qwen2_5",
    "qwen3": "qwen3",
    "llama 3": "llama3",
    "gemma 3": "gemma3",
    "phi 3": "phi3",
    "lfm2": "lfm2",
    "a blank before the answer": _TURN + "{% if add_generation_prompt %}assistant: {% endif %}",
    "no heading when it asks": _TURN,
}
WORDS = ["parcel", "invoice", "keyboard", "refund", "window", "printer", "holiday", "lamp", "letter", "bridge"] * 3
DATA = {
    "prompts": [{"prompt": f"What about the {w} {n}?", "completion": f"The {w} is fine."} for n, w in enumerate(WORDS)],
    "classes": [{"text": f"My {w} {n} is late", "label": ("account", "billing")[n % 2]} for n, w in enumerate(WORDS)],
    "template": [{"q": f"the {w} {{{n}}}", "answer": f"about {w}"} for n, w in enumerate(WORDS)],
    "one instruction": [
        {"instruction": "Name the thing {exactly}.", "input": f"a {w} of {n}", "output": w} for n, w in enumerate(WORDS)
    ],
    "one system prompt": [
        {"system": "Answer in two words.", "prompt": f"And {w} {n}?", "completion": f"Yes, {w}"}
        for n, w in enumerate(WORDS)
    ],
    "two system prompts": [
        {"system": "Be brief." if n % 3 else "Be long.", "prompt": f"And {w} {n}?", "completion": f"Yes, {w}"}
        for n, w in enumerate(WORDS)
    ],
    "several turns": [
        {
            "messages": [
                {"role": "user", "content": f"Hello {n}"},
                {"role": "assistant", "content": "Hi there"},
                {"role": "user", "content": f"What about {w}?"},
                {"role": "assistant", "content": f"The {w} is fine."},
            ]
        }
        for n, w in enumerate(WORDS)
    ],
}  # fmt: skip
SETTINGS = {"template": {"prompt_template": "Say it of {q}, please.", "columns": {"completion": "answer"}}}
# What a person types, of a row as it is in the file.
TYPED = {"classes": "text", "template": "q", "one instruction": "input"}


@pytest.fixture
def run(request, tmp_path):
    """A run with frozen rows and the template that its training chose; nothing is trained."""
    template, kind = request.param
    base = tmp_path / "base"
    tokenizer = load_tokenizer("starter")
    if (source := TEMPLATES[template]) is not None:
        known = _CHAT_TEMPLATES_DIR / f"{source[:40]}.jinja"
        tokenizer.chat_template = known.read_text(encoding="utf-8") if known.exists() else source
        tokenizer.bos_token = tokenizer.eos_token  # some of them write it
    tokenizer.save_pretrained(base)
    for name in ("config.json", "model.safetensors"):
        (base / name).symlink_to(starter_path() / name)
    file = tmp_path / "data.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in DATA[kind]), encoding="utf-8")
    data = {"source": str(file), "near_duplicates": "apart", **SETTINGS.get(kind, {})}
    config = build_config({"model": {"base": str(base)}, "data": data})
    made = RunDirectory(tmp_path / "run")
    made.path.mkdir()
    made.config_file.write_text(config.to_yaml(), encoding="utf-8")
    freeze(prepare(config.data), made)
    writer = StatusWriter(made.status_file)
    try:
        chat_tokenizer(made, config, writer)
    finally:
        writer.close()
    return made, config, kind


EVERY = [(template, kind) for template in TEMPLATES for kind in DATA]


@pytest.mark.parametrize("run", EVERY, indirect=True, ids=[", ".join(names) for names in EVERY])
def test_all_ask_with_the_tokens_that_training_began_with(run):
    run, config, kind = run
    tokenizer, asked = run_tokenizer(run, config), asked_of(run)
    for row in read_split(run, "test"):
        own = DATA[kind][row["row"]]
        typed = own.get(TYPED.get(kind, ""), row["messages"][-2]["content"])
        assert_all_ask_alike(row["messages"], tokenizer, asked, typed, own.get("system"))


def test_a_template_with_a_system_prompt_of_its_own_is_told_to_ollama():
    tokenizer = load_tokenizer("starter")
    tokenizer.chat_template = (_CHAT_TEMPLATES_DIR / "qwen2_5.jinja").read_text(encoding="utf-8")
    turns = take_apart(tokenizer)
    assert turns.default_system.startswith("You are Qwen")
    assert turns.system == ("<|im_start|>system\n", "<|im_end|>\n")
    assert turns.user == ("<|im_start|>user\n", "<|im_end|>\n")


@pytest.mark.parametrize("thinking", [False, True])
def test_the_choice_of_thinking_is_in_the_template_and_holds_for_all(thinking):
    tokenizer = load_tokenizer("starter")
    tokenizer.chat_template = (_CHAT_TEMPLATES_DIR / "qwen3.jinja").read_text(encoding="utf-8")
    ensure_chat_template(tokenizer, thinking=thinking)
    asked = tokenizer.decode(encode_prompt([{"role": "user", "content": "Hi"}], tokenizer))
    assert ("</think>" in asked) is not thinking
    elsewhere = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], add_generation_prompt=True, tokenize=False
    )
    assert elsewhere == asked
    ensure_chat_template(tokenizer, thinking=not thinking)
    assert tokenizer.decode(encode_prompt([{"role": "user", "content": "Hi"}], tokenizer)) == asked


@pytest.mark.parametrize("run", [("qwen3", "several turns")], indirect=True)
def test_every_answer_of_a_conversation_is_trained_with_a_template_of_qwen3(run):
    run, config, _ = run
    encoded = encode(read_split(run, "train")[0]["messages"], run_tokenizer(run, config))
    assert not any("Only the last answer" in note for note in encoded.notes)
    starts = [n for n, on in enumerate(encoded.trained) if on and not encoded.trained[n - 1]]
    assert len(starts) == 2


def test_a_template_that_leaves_system_prompts_out_is_told():
    tokenizer = load_tokenizer("starter")
    tokenizer.chat_template = "{% for m in messages if m.role != 'system' %}" + _TURN.partition("%}")[2]
    messages = [{"role": role, "content": "x"} for role in ("system", "user", "assistant")]
    assert any("never sees it" in note for note in encode(messages, tokenizer).notes)
    assert not any("never sees it" in note for note in encode(messages[1:], tokenizer).notes)


def test_the_checks_find_the_system_prompts_that_a_template_leaves_out(tmp_path):
    tokenizer = load_tokenizer("starter")
    tokenizer.chat_template = "{% for m in messages if m.role != 'system' %}" + _TURN.partition("%}")[2]
    file = tmp_path / "system.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in DATA["one system prompt"]), encoding="utf-8")
    [finding] = [
        finding for finding in check(str(file), tokenizer=tokenizer).findings if finding.kind == "system_unseen"
    ]
    assert len(finding.rows) == len(WORDS) and finding.excerpts[0] == "Answer in two words."


def test_a_text_of_several_columns_is_written_as_json_or_stays():
    asked = AsTrained("Q: {question} C: {context}")
    assert asked.wrapped('{"question": "why", "context": "here"}') == "Q: why C: here"
    assert asked.takes('{"question": "why", "context": "here"}') and not asked.takes("why?")
    assert asked.wrapped("why?") == "why?"
