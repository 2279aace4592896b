"""A chat template of a stranger can neither hang nor fill the memory of whoever renders it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from ftlab.data import safe_templates
from ftlab.data.rendering import encode, render
from ftlab.errors import InputError
from ftlab.export.serving import take_apart
from ftlab.models.load import load_tokenizer

CHAT = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "there"}]
CHATML = (
    "{% for message in messages %}{{ '<' + message['role'] + '>' + message['content'] + eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)
LOOPS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
BOMBS = {
    "memory": "{{ 'x' * 10**10 }}",
    "doubled": "{% set n = namespace(x='ab') %}{% for i in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}",
    "filter": "{{ 'x'|center(10000000000) }}",
    "format": "{{ '%10000000000d'|format(1) }}",
    "time": LOOPS,
    "long": "{% for i in range(99999) %}{{ 'y' * 200 }}{% endfor %}",
    "recursion": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "nesting": "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}",
    "only_some_rows": CHATML + "{% if messages[0]['content'] == 'hi' %}{{ 'x' * 10**10 }}{% endif %}",
}


@pytest.fixture
def tokenizer() -> Any:
    return load_tokenizer("starter")


@pytest.mark.parametrize("name", BOMBS)
def test_a_template_without_end_is_refused_in_one_sentence(
    tokenizer: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(safe_templates, "SECONDS", 1.0)
    tokenizer.chat_template = BOMBS[name]
    before, begun = psutil.Process().memory_info().rss, time.monotonic()
    for _ in range(2):  # the second time it is known
        with pytest.raises(InputError, match="chat template of the base is rejected") as caught:
            render(CHAT, tokenizer)
    assert "Traceback" not in str(caught.value) and time.monotonic() - begun < 10
    assert psutil.Process().memory_info().rss - before < 100 << 20
    # Whoever renders it meets the same limits: training, and the words for Ollama.
    with pytest.raises(InputError):
        encode(CHAT, tokenizer)
    assert take_apart(tokenizer) is None
    # And what comes after it is rendered.
    tokenizer.chat_template = CHATML
    assert render(CHAT, tokenizer) == "<user>hi<|end|><assistant>there<|end|>"


@pytest.mark.parametrize(
    "template", ["{{ 1 + 'a' }}", "{% for %}", "{{ a.b.c }}", "{{ raise_exception('no') }}", "{{ ''.__class__.mro() }}"]
)
def test_a_template_that_fails_is_refused_in_one_sentence(tokenizer: Any, template: str) -> None:
    tokenizer.chat_template = template
    with pytest.raises(InputError, match="rejects these messages"):
        render(CHAT, tokenizer)


def test_what_is_rendered_elsewhere_is_what_transformers_renders(tokenizer: Any) -> None:
    from transformers.utils import chat_template_utils as utils

    usual = utils._cached_compile_jinja_template
    chats = [
        CHAT,
        [{"role": "system", "content": "é 😀 \ud83d"}, *CHAT, *CHAT],
        [{"role": "user", "content": "a\n\n b"}],
    ]
    for template in (
        CHATML,
        CHATML + "{{ tools|tojson if tools }}{{ bos_token }}",
        "\n{%- for m in messages %}\n  {{ m }}\n{% endfor %}\n",
    ):
        tokenizer.chat_template = template
        for chat in chats:
            wanted = usual(template).render(messages=chat, tools=None, documents=None, **tokenizer.special_tokens_map)
            assert tokenizer.apply_chat_template(chat, tokenize=False) == wanted


def test_the_answers_that_a_template_marks_are_trained(tokenizer: Any) -> None:
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['role'] + ': ' }}{% if m['role'] == 'assistant' %}"
        "{% generation %}{{ m['content'] + eos_token }}{% endgeneration %}{% else %}{{ m['content'] }}{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    )
    encoded = encode(CHAT, tokenizer)
    trained = [token for token, on in zip(encoded.input_ids, encoded.trained, strict=True) if on]
    assert tokenizer.decode(trained) == "there<|end|>"


def test_the_process_that_renders_has_no_keys_and_ends_with_its_parent(tmp_path: Path) -> None:
    script = f"""
import os, sys
from ftlab.data import safe_templates
from ftlab.data.rendering import render
from ftlab.models.load import load_tokenizer
tokenizer = load_tokenizer("starter")
tokenizer.chat_template = {CHATML!r}
render({CHAT!r}, tokenizer)
print(safe_templates._child.process.pid, flush=True)
sys.stdin.read()
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"FTLAB_JUDGE_KEY": "secret"},
    )
    child = psutil.Process(int(parent.stdout.readline()))
    assert "FTLAB_JUDGE_KEY" not in child.environ()
    parent.kill()
    parent.communicate()
    ends = time.monotonic() + 20
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < ends
        time.sleep(0.1)


def test_templates_that_ship_with_ftlab_need_no_process(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from ftlab.data.safe_templates import FALLBACK_TEMPLATE

    def none(*_: Any) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(safe_templates, "_started", none)
    monkeypatch.setattr(safe_templates, "_child", None)
    render(CHAT, tokenizer)
    tokenizer.chat_template = FALLBACK_TEMPLATE.replace("BOS", "")
    render(CHAT, tokenizer)
