"""Instructions for loading and serving an export: transformers, vLLM, llama.cpp, Ollama."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ftlab.config import RunConfig
from ftlab.config.stages import PRETRAINING
from ftlab.core.files import write_text
from ftlab.core.run_directory import RunDirectory
from ftlab.data.partition import turns_of
from ftlab.data.prompt_template import AsTrained, asked_of, renamed
from ftlab.data.rendering import vllm_parser_of
from ftlab.data.safe_templates import limit_templates
from ftlab.data.splits import read_split
from ftlab.data.tool_calls import uses_tools
from ftlab.data.tool_templates import go_tools, writes_tools
from ftlab.evaluation.material import limit_used
from ftlab.export.shape import BASE_FOLDER, Shape
from ftlab.export.to_gguf import CONVERTER
from ftlab.report.markdown import code

_HERE = 'folder = Path(".")  # this folder'


def loading_code(shape: Shape, config: RunConfig, run: RunDirectory, repository: str | None = None) -> str:
    """Python code, as Markdown, that loads the model of `run` (from `repository` on the Hub) and prompts it."""
    where = f"folder = Path(snapshot_download({_text(repository)}))" if repository else _HERE
    if shape.scores:
        return code("\n".join([*_imports(shape, repository), "", where, *_model(shape), *_score()]), "python")
    most = limit_used(run, config)
    asked = asked_of(run)
    asking = _continue(most) if config.stage == PRETRAINING else _ask(asked, most)
    json_too = ["import json"] if asked.tools and config.stage != PRETRAINING else []
    names = _of_gguf(shape, asking) if shape.gguf else (_imports(shape, repository), _model(shape), asking)
    imports, model, asking = names
    return code("\n".join([*json_too, *imports, "", where, *model, *asking]), "python")


def _of_gguf(shape: Shape, asking: list[str]) -> tuple[list[str], list[str], list[str]]:
    """Imports, loading and asking for a GGUF file, which transformers dequantizes."""
    imports = ["from pathlib import Path", "", "from transformers import AutoModelForCausalLM, AutoTokenizer"]
    imports[-1] += ", GenerationConfig, GgufConfig"
    file = _text(shape.gguf_file)
    model = [
        "model = AutoModelForCausalLM.from_pretrained(",
        f'    folder, gguf_file={file}, dtype="{shape.load_dtype}", quantization_config=GgufConfig(dequantize=True)',
        ")",
        f"tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file={file})",
        "",
    ]
    return imports, model, asking


def _imports(shape: Shape, repository: str | None) -> list[str]:
    names = ["AutoModelForSequenceClassification" if shape.scores else "AutoModelForCausalLM", "AutoTokenizer"]
    names += ["BitsAndBytesConfig"] if shape.quantisation else []
    names += [] if shape.scores else ["GenerationConfig"]
    lines = ["from pathlib import Path", ""]
    lines += ["import torch"] if shape.scores else []
    lines += ["from huggingface_hub import snapshot_download"] if repository else []
    if shape.is_adapter and not shape.needs_ftlab:
        lines.append("from peft import PeftModel")
    lines.append(f"from transformers import {', '.join(names)}")
    if shape.needs_ftlab:
        lines.append("from ftlab.models.bottleneck import load_bottlenecks  # PEFT has no such adapters")
    return lines


def _model(shape: Shape) -> list[str]:
    kind = "AutoModelForSequenceClassification" if shape.scores else "AutoModelForCausalLM"
    # An adapter was evaluated in this dtype, whatever that of its stored base.
    more = f', dtype="{shape.dtype if shape.is_adapter else "auto"}"'
    more += ", quantization_config=quantized" if shape.quantisation else ""
    more += ", num_labels=1" if shape.scores else ""
    lines = []
    if shape.quantisation:
        arguments = ", ".join(f"{name}={_text(value)}" for name, value in shape.quantisation.items())
        lines.append(f"quantized = BitsAndBytesConfig({arguments})")
    if not shape.is_adapter:
        lines.append(f"model = {kind}.from_pretrained(folder{more})")
    else:
        if shape.base_on_hub:
            revision = f", revision={_text(shape.revision)}" if shape.revision else ""
            lines.append(f"model = {kind}.from_pretrained({_text(shape.base)}{revision}{more})")
        else:
            lines.append(f"model = {kind}.from_pretrained(folder / {_text(shape.base)}{more})")
        lines.append(
            "load_bottlenecks(model, folder)"
            if shape.needs_ftlab
            else "model = PeftModel.from_pretrained(model, folder)"
        )
    return [*lines, "tokenizer = AutoTokenizer.from_pretrained(folder)", ""]


def _text(value: object) -> str:
    """`value` as a Python literal, with double quotes like the surrounding code."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def _ask(asked: AsTrained, most: int) -> list[str]:
    """Code that prompts as the training rows do: with their system prompt, and their prompt around the text."""
    lines, turns, question = [], [], '"Your question"'
    if asked.template:
        # str.format accepts identifiers only; a column can have any name.
        names = ["text"] if len(asked.columns) == 1 else [f"part_{n}" for n in range(1, len(asked.columns) + 1)]
        template = renamed(asked.template, dict(zip(asked.columns, names, strict=True)))
        lines.append(f"PROMPT = {_text(template)}  # around every text in training")
        texts = [f"{name}={_text(f'Your {column}')}" for name, column in zip(names, asked.columns, strict=True)]
        question = f"PROMPT.format({', '.join(texts)})"
    if asked.tools:
        lines.append(f"TOOLS = json.loads({_text(asked.tools)})  # those of training")
    if asked.system:
        turns.append(f'    {{"role": "system", "content": {_text(asked.system)}}},')
    turns.append(f'    {{"role": "user", "content": {question}}},')
    return [
        *lines,
        "messages = [",
        *turns,
        "]",
        "asked = tokenizer.apply_chat_template(",
        f'    messages, {"tools=TOOLS, " if asked.tools else ""}add_generation_prompt=True, return_tensors="pt", '
        "return_dict=True",
        ").to(model.device)",
        *_generate(most),
    ]


def _continue(most: int) -> list[str]:
    return ['asked = tokenizer("How a text begins", return_tensors="pt").to(model.device)', *_generate(most)]


def _generate(most: int) -> list[str]:
    return [
        f"settings = GenerationConfig.from_pretrained(folder, max_new_tokens={most})  # and where an answer ends",
        "made = model.generate(**asked, generation_config=settings)",
        'print(tokenizer.decode(made[0, asked["input_ids"].shape[1] :], skip_special_tokens=True))',
    ]


def _score() -> list[str]:
    return [
        "model.config.pad_token_id = tokenizer.pad_token_id",
        'messages = [{"role": "user", "content": "..."}, {"role": "assistant", "content": "The answer to judge"}]',
        'asked = tokenizer.apply_chat_template(messages, return_tensors="pt", return_dict=True).to(model.device)',
        "with torch.inference_mode():",
        "    print(model(**asked).logits[0, 0].item())  # only meaningful relative to other answers to the prompt",
    ]


# Architectures that `ollama create` converts from safetensors (convert/convert.go of Ollama); others need GGUF.
OLLAMA_READS = (
    "LlamaForCausalLM",
    "MixtralForCausalLM",
    "GemmaForCausalLM",
    "Gemma2ForCausalLM",
    "Gemma3ForCausalLM",
    "Phi3ForCausalLM",
    "Qwen2ForCausalLM",
    "Olmo3ForCausalLM",
    "CohereForCausalLM",
)
GGUF_FILE = "model.gguf"
_CONVERT = f"""git clone https://github.com/ggml-org/llama.cpp
pip install -r llama.cpp/requirements.txt
python llama.cpp/convert_hf_to_gguf.py . --outtype auto --outfile {GGUF_FILE}"""
_STARTER = (
    "llama.cpp and Ollama do not support the tokenizer of the starter, so they cannot run this model. With a real base "
    "from the Hub, the export includes the commands for both."
)


@dataclass(frozen=True)
class Turns:
    """The parts of a chat template: the text before and after each role's message, and before an answer."""

    begin: str
    system: tuple[str, str]
    user: tuple[str, str]
    assistant: tuple[str, str]
    default_system: str | None = None  # that the template puts in front where a conversation brings none

    def render(self, messages: Sequence[dict[str, str]], *, ask: bool) -> str:
        text = self.begin
        if self.default_system is not None and messages[0]["role"] != "system":
            messages = [{"role": "system", "content": self.default_system}, *messages]
        for message in messages:
            before, after = getattr(self, message["role"])
            text += before + message["content"] + after
        return text + (self.assistant[0] if ask else "")

    def around_questions(self, prompt: str) -> Turns:
        """The same with `prompt` around each question; a private-use character marks the question in it."""
        before, after = prompt.split("\ue000")
        return replace(self, user=(self.user[0] + before, after + self.user[1]))

    def go_template(self, *, tools: bool = False) -> str:
        """The same as a Go template, for Ollama; with `tools` in the form of Hermes, as ftlab's own template."""
        written = self._go_tools() if tools else ""
        written += "{{- range .Messages }}"
        for place, role in enumerate(("system", "user", "assistant")):
            before, after = getattr(self, role)
            condition = f'{"if" if place == 0 else "else if"} eq .Role "{role}"'
            condition = 'if and (eq .Role "system") (not $.Tools)' if tools and role == "system" else condition
            content = "{{ .Content }}" + (_GO_CALLS if tools and role == "assistant" else "")
            written += f"{{{{- {condition} }}}}{_literal(before)}{content}{_literal(after)}"
        if tools:
            before, after = self.user
            reply = _literal(before + "<tool_response>\n") + "{{ .Content }}" + _literal("\n</tool_response>" + after)
            written += '{{- else if eq .Role "tool" }}' + reply
        begin = _literal(self.begin)
        return begin + written + "{{- end }}{{- end }}" + _literal(self.assistant[0])

    def _go_tools(self) -> str:
        """The system turn of a conversation with tools."""
        (before, after), (head, tail) = self.system, go_tools()
        system = "{{- if .System }}{{ .System }}" + _literal("\n\n") + "{{- end }}"
        listed = _literal(head) + "{{- range .Tools }}" + _literal("\n") + "{{ .Function }}{{- end }}"
        return "{{- if .Tools }}" + _literal(before) + system + listed + _literal("\n" + tail + after) + "{{- end }}"


# The tags as plain text, not as string expressions: Ollama looks for them there to tell calls from other answers.
_GO_CALLS = (
    "{{- $said := .Content }}{{- range $number, $call := .ToolCalls }}"
    '{{ if or $said $number }}{{ "\\n" }}{{ end }}<tool_call>\n{"name": "{{ $call.Function.Name }}", '
    '"arguments": {{ $call.Function.Arguments }}}\n</tool_call>{{ end }}'
)


def _literal(text: str) -> str:
    """`text` as a string expression of a Go template, which preserves its whitespace and braces."""
    return f"{{{{ {json.dumps(text, ensure_ascii=True)} }}}}" if text else ""


def take_apart(tokenizer: Any) -> Turns | None:
    """The chat template of `tokenizer` as `Turns`; None if it does more than wrap each message.

    Derived by rendering marked texts, and then verified on conversations of several shapes.
    """
    limit_templates()
    marks = {role: f"\ue000{role}\ue001" for role in ("system", "user", "assistant")}
    conversation = [{"role": role, "content": text} for role, text in marks.items()]

    def render(messages: list[dict[str, str]], *, ask: bool = False) -> str:
        return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=ask)

    try:
        answered = render([*conversation, conversation[1]], ask=False)
        asked = render(conversation[:2], ask=True)
        alone = render(conversation[1:2])
        head, user_one = answered.split(marks["system"])
        between, rest = user_one.split(marks["user"], 1)
        after_user, rest = rest.split(marks["assistant"])
        after_assistant, last = rest.split(marks["user"])
        end_user = last
        before_answer = asked.split(marks["user"])[1].removeprefix(end_user)
        before_user = alone.split(marks["user"])[0]
        default = None
        if before_user.startswith(head) and before_user.endswith(between) and len(before_user) > len(head + between):
            # SmolLM2 and Qwen2.5 add a system prompt to a conversation without one.
            default = before_user[len(head) : len(before_user) - len(between)]
            after_system = render(conversation[:1]).split(marks["system"])[1]
            before_user = between.removeprefix(after_system)
    except Exception:  # a template can raise anything: then Ollama cannot express it
        return None
    turns = _parts(head, between, after_user, after_assistant, end_user, before_answer, before_user, default, tokenizer)
    if turns is None:
        return None
    turns = replace(turns, default_system=default)
    for shape in (
        ("user",),
        ("system", "user"),
        ("user", "assistant", "user"),
        ("system", "user", "assistant", "user"),
    ):
        messages = [{"role": role, "content": f"{role} {place}."} for place, role in enumerate(shape)]
        expected = render(messages, ask=True)
        if turns.render(messages, ask=True) != expected:
            return None
    return _without_begin(turns, tokenizer)


def _parts(
    head: str,
    between: str,
    after_user: str,
    after_assistant: str,
    end_user: str,
    before_answer: str,
    before_user: str,
    default: str | None,
    tokenizer: Any,
) -> Turns | None:
    bos = _bos(tokenizer)
    begin = bos if bos and head.startswith(bos) and (before_user.startswith(bos) or default is not None) else ""
    user_before = before_user.removeprefix(begin)
    if not (between.endswith(user_before) and after_assistant.endswith(user_before)):
        return None
    if not after_user.startswith(end_user):
        return None
    assistant_before = after_user.removeprefix(end_user)
    if assistant_before != before_answer:
        return None
    return Turns(
        begin,
        (head.removeprefix(begin), between.removesuffix(user_before)),
        (user_before, end_user),
        (assistant_before, after_assistant.removesuffix(user_before)),
    )


def _bos(tokenizer: Any) -> str:
    return tokenizer.bos_token or ""


def _without_begin(turns: Turns, tokenizer: Any) -> Turns:
    """The template without the BOS token if the tokenizer adds it: Ollama then adds it too."""
    from ftlab.data.rendering import begins

    return replace(turns, begin="") if begins(tokenizer) else turns


def write_modelfile(run: RunDirectory, shape: Shape, folder: Path, *, is_starter: bool) -> list[str]:
    """Write a Modelfile if Ollama can run the model; otherwise returns the reason why not."""
    from transformers import AutoTokenizer, GenerationConfig

    if shape.is_adapter or is_starter:
        return [] if shape.is_adapter else [_STARTER]
    own = {"gguf_file": shape.gguf_file} if shape.gguf else {}
    tokenizer = AutoTokenizer.from_pretrained(str(folder), **own)
    turns = take_apart(tokenizer)
    if turns is None:
        return ["There is no Modelfile: Ollama's templates cannot express this chat template. llama.cpp supports it."]
    asked = asked_of(run)
    if asked.template and len(asked.columns) > 1:
        return [
            "There is no Modelfile: the training prompts combine several columns, and Ollama can fill in only one text."
        ]
    if asked.template:
        turns = turns.around_questions(asked.wrapped("\ue000"))
    tools = writes_tools(tokenizer.chat_template or "")
    system = asked.system or turns.default_system
    source = (
        f"./{shape.gguf_file}" if shape.gguf else "." if _architecture(folder) in OLLAMA_READS else f"./{GGUF_FILE}"
    )
    stops = GenerationConfig.from_pretrained(folder).eos_token_id
    texts = [tokenizer.decode([token]) for token in ([stops] if isinstance(stops, int) else stops or [])]
    lines = [
        "# Generated by ftlab and not tested with Ollama. The template is equivalent to the chat template.",
        f"FROM {source}",
        f'TEMPLATE """{turns.go_template(tools=tools)}"""',
        *([f'SYSTEM """{system}"""'] if system else []),
        *(f"PARAMETER stop {json.dumps(text, ensure_ascii=False)}" for text in texts),
        "PARAMETER temperature 0",
        "PARAMETER repeat_penalty 1.0",
    ]
    write_text(folder / "Modelfile", "\n".join(lines) + "\n")
    if trains_tools(run) and not tools:
        return ["The Modelfile passes no tools to the model. For tool calls, serve it with vLLM or llama.cpp."]
    return []


def trains_tools(run: RunDirectory) -> bool:
    """Whether training rows of `run` list or call tools."""
    return run.manifest_file.exists() and any(uses_tools(turns_of(row)) for row in read_split(run, "train"))


def _tool_flags(run: RunDirectory, folder: Path) -> str:
    """The arguments of vLLM that make it read the calls of this model; empty for a run without tools."""
    from transformers import AutoTokenizer

    if not trains_tools(run):
        return ""
    limit_templates()
    parser = vllm_parser_of(AutoTokenizer.from_pretrained(str(folder)))
    return f" --enable-auto-tool-choice --tool-call-parser {parser}" if parser else ""


def serving_section(
    shape: Shape, folder: Path, run: RunDirectory, *, is_starter: bool, rank: int | None, notes: Sequence[str]
) -> str:
    """Instructions for serving the export, as Markdown."""
    if shape.scores:
        return ""
    if shape.needs_ftlab or (shape.is_adapter and rank is None):
        return "vLLM, llama.cpp and Ollama do not support this kind of adapter. Serve it from Python, as above."
    # An adapter is served on its base: the included one, or the one on the Hub.
    if shape.gguf:
        return _serving_gguf(shape, folder)
    base = f"./{BASE_FOLDER}" if shape.base == BASE_FOLDER else str(shape.base)
    parts = []
    tools = _tool_flags(run, folder)
    if shape.is_adapter:
        served = f"vllm serve {base}{_revision(shape)} --tokenizer . --generation-config . --enable-lora{tools} \\\n"
        served += f"    --max-lora-rank {_vllm_rank(rank or 16)} --lora-modules tuned=."
        parts += [code(f"# vLLM; request the model `tuned`\n{served}", "bash")]
        parts += [
            "`transformers serve`, llama.cpp and Ollama need a merged model: export it again with `--merge`.",
        ]
        return "\n\n".join(parts)
    parts += [
        code(
            f"# vLLM\nvllm serve . --generation-config .{tools}\n\n"
            '# transformers, for a few users\npip install "transformers[serving]"\ntransformers serve .',
            "bash",
        )
    ]
    if is_starter:
        return "\n\n".join([*parts, _STARTER])
    parts += [
        "For llama.cpp, LM Studio and others, convert it to GGUF. The converter is part of the llama.cpp repository:",
        code(f"{_CONVERT}\nllama-server -m {GGUF_FILE} --jinja", "bash"),
    ]
    if (folder / "Modelfile").exists():
        first = "" if _architecture(folder) in OLLAMA_READS else f"# after the conversion to {GGUF_FILE} above\n"
        parts += [
            "For Ollama, use the Modelfile, which contains the template and the stop strings:",
            code(f"{first}ollama create my-model -f Modelfile\nollama run my-model", "bash"),
        ]
    parts += [*notes, "These programs were not tested with this model: try some held-out prompts."]
    return "\n\n".join(parts)


def _serving_gguf(shape: Shape, folder: Path) -> str:
    parts = [
        code(
            f"# llama.cpp; OpenAI's API at http://127.0.0.1:8080/v1\nllama-server -m {shape.gguf_file} --jinja\n\n"
            '# or in Python\npip install "llama-cpp-python[server]"\n'
            f"python -m llama_cpp.server --model {shape.gguf_file}",
            "bash",
        )
    ]
    if (folder / "Modelfile").exists():
        parts += [
            "For Ollama, use the Modelfile, which contains the template and the stop strings:",
            code("ollama create my-model -f Modelfile\nollama run my-model", "bash"),
        ]
    made = f"Converted by {CONVERTER.package} {CONVERTER.version} (llama.cpp's converter, MIT license)"
    return "\n\n".join([*parts, f"{made}. LM Studio and others load the file as it is."])


def _vllm_rank(rank: int) -> int:
    """The smallest maximum LoRA rank of vLLM that fits."""
    return next((known for known in (8, 16, 32, 64, 128, 256, 320, 512) if known >= rank), rank)


def _revision(shape: Shape) -> str:
    return f" --revision {shape.revision}" if shape.base_on_hub and shape.revision else ""


def _architecture(folder: Path) -> str:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return next(iter(config.get("architectures") or [""]))
