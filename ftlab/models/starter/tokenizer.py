"""The starter's tokenizer: byte-level BPE with single digits, special tokens for roles, and a chat template.

A conversation is rendered without line breaks between turns:

    <|system|>Be short.<|end|><|user|>What is 2 plus 3?<|end|><|assistant|>5<|end|>

`<|end|>` closes each turn and is the end-of-sequence token; `<|pad|>` is a separate token. Assistant turns, including
their `<|end|>`, are marked with `{% generation %}`, so that the stop token is trained. The rendering with
`add_generation_prompt=True` is a prefix of the rendering of the whole conversation, in text and in tokens.

A space is prepended to each text between special tokens (as in Llama's tokenizer), and the decoder removes it, so that
a word is the same token at the start of an answer and inside a list. Text that is decoded in pieces must therefore be
decoded from the start of the answer, as `TextIteratorStreamer` does, not token by token.

The chat template writes the names of special tokens inside messages with a space (`<| end|>`), so that nobody can close
a turn by typing them. When you encode plain text, pass `split_special_tokens=True` instead.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD, SYSTEM, USER, ASSISTANT, END = "<|pad|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"
SPECIAL_TOKENS = (PAD, SYSTEM, USER, ASSISTANT, END)
VOCABULARY_SIZE = 2000

# GPT-2's pattern, except that each digit is a token of its own: "12" is two tokens.
PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"

CHAT_TEMPLATE = """\
{%- for message in messages -%}
{%- if message['role'] not in ['system', 'user', 'assistant'] -%}
{{- raise_exception("The starter knows the roles system, user and assistant, got '" + message['role'] + "'") -}}
{%- endif -%}
{%- set ns = namespace(text=message['content']) -%}
{%- for name in ['pad', 'system', 'user', 'assistant', 'end'] -%}
{%- set ns.text = ns.text | replace('<|' + name + '|>', '<| ' + name + '|>') -%}
{%- endfor -%}
{%- if message['role'] == 'assistant' -%}
{{- '<|assistant|>' -}}
{%- generation -%}{{- ns.text + '<|end|>' -}}{%- endgeneration -%}
{%- else -%}
{{- '<|' + message['role'] + '|>' + ns.text + '<|end|>' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"""


def train_tokenizer(texts: Iterable[str], context: int) -> PreTrainedTokenizerFast:
    """Train the tokenizer on `texts`, which have no special tokens; `context` is the model's, in tokens."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.normalizer = normalizers.Prepend(" ")
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(content=" ", left=1, right=0)])
    core.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=VOCABULARY_SIZE,
            special_tokens=list(SPECIAL_TOKENS),
            min_frequency=2,
            show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        ),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[SYSTEM, USER, ASSISTANT],
        chat_template=CHAT_TEMPLATE,
        model_max_length=context,
        clean_up_tokenization_spaces=False,
        padding_side="right",
    )
