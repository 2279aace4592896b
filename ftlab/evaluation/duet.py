"""Chat with the base and the adapted model at once, turn by turn. Earlier turns stay in the cache."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Any

from ftlab.config import load_config
from ftlab.core.run_directory import RunDirectory
from ftlab.data.prompt_template import AsTrained, asked_of
from ftlab.data.rendering import encode_prompt, read_calls, stop_token_ids
from ftlab.data.tool_calls import TOOL, next_turn
from ftlab.errors import InputError
from ftlab.evaluation import loaded
from ftlab.evaluation.batches import free_memory
from ftlab.models.families import carried_on, next_logits, places
from ftlab.models.load import load_run, load_trained_base, text_length
from ftlab.models.strength import AS_TRAINED, check_strength, chosen_strength, set_strength, strength_name

SIDES = ("base", "adapted")
_SHOWN_EVERY = 2


@dataclass(frozen=True)
class Answers:
    """Both answers so far. `cut` names the sides that hit the length limit; `notes` are shown to the user."""

    base: str
    adapted: str
    done: bool
    cut: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass
class _Stream:
    """One side's answer in progress."""

    model: Any
    adapter_off: bool
    prompt: list[int]
    tokens: list[int] = field(default_factory=list)
    cache: dict[str, Any] = field(default_factory=dict)
    ended: bool = False


@dataclass
class Duet:
    """The loaded models of one run. `base_model` is the same object as `model` if an adapter can be switched off."""

    model: Any
    base_model: Any
    tokenizer: Any
    context: int | None
    asked: AsTrained = field(default_factory=AsTrained)
    run: RunDirectory | None = None
    strength: float = AS_TRAINED  # current strength of `model`

    def stream(
        self,
        message: str,
        history: dict[str, list[dict[str, str]]] | None = None,
        *,
        system: str | None = None,
        as_trained: bool = True,
        temperature: float = 0.0,
        top_p: float = 1.0,
        max_new_tokens: int = 128,
        seed: int | None = None,
        threads: int | None = None,
        strength: float | None = None,
        tools: str | None = None,
    ) -> Generator[Answers, None, None]:
        """Both answers to `message` as they grow; the last one has `done`.

        `history` holds each side's earlier turns ({"base": [...], "adapted": [...]}, roles user, assistant and tool).
        After a call, `message` is the tool's reply. `tools` (a JSON list) replace those of training. With `as_trained`,
        the user's text is prompted as the training rows were (AsTrained: their template, and their system prompt unless
        `system` is set); otherwise it is sent unchanged. `temperature` 0 is greedy decoding, exactly as in the
        evaluation. `threads` limits the CPU threads, for when a run trains on the same cores. The adapted model answers
        at `strength`, by default the one chosen for its run. Raises InputError for an empty message, settings out of
        range, or a message longer than the base's context.
        """
        import torch

        _check(message, temperature, top_p, max_new_tokens)
        asked = (self.asked if as_trained else AsTrained()).offering(tools)
        notes: list[str] = []
        if not asked.takes(message):
            notes.append(f"Sent unchanged: the prompts in training were made from {' and '.join(asked.columns)}.")
        at = self.wanted(strength)
        if at != AS_TRAINED:
            chosen = ", which was chosen for this run" if strength is None else ""
            notes.append(f"The adapted model answers at {strength_name(at)}{chosen}.")
        streams = {}
        for side in SIDES:
            earlier = (history or {}).get(side, [])
            turns = [*earlier, next_turn(earlier, message)]
            prompt, dropped = self._prompt(turns, asked, system, max_new_tokens)
            left_out = "The conversation is longer than the model can read; its oldest turns were left out."
            if dropped and left_out not in notes:
                notes.append(left_out)
            model = self.model if side == "adapted" else self.base_model
            streams[side] = _Stream(model, side == "base" and self.base_model is self.model, prompt)
        generator = torch.Generator().manual_seed(seed) if seed is not None else None
        stops = set(stop_token_ids(self.tokenizer, self.model.generation_config))
        with loaded.device:
            self._put(at)
            streams["adapted"].model = self.model
            for count in range(1, max_new_tokens + 1):
                # At each token: the app may resume this generator in any of its threads, and each thread has its own
                # limit.
                with _threads(threads):
                    for stream in streams.values():
                        if not stream.ended:
                            _step(stream, stops, temperature, top_p, generator)
                done = all(stream.ended for stream in streams.values())
                if done or count % _SHOWN_EVERY == 0 or count == max_new_tokens:
                    done = done or count == max_new_tokens
                    cut = tuple(side for side in SIDES if done and not streams[side].ended)
                    texts = {side: self._text(streams[side], final=done, tools=asked.tools) for side in SIDES}
                    yield Answers(texts["base"], texts["adapted"], done, cut, tuple(notes))
                if done:
                    return

    def answer(
        self,
        side: str,
        prompt: list[int],
        *,
        max_new_tokens: int,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int | None = None,
        threads: int | None = None,
        strength: float | None = None,
    ) -> Generator[tuple[str, int, bool], None, None]:
        """One side's answer to `prompt` (token ids) as it grows: the text, the number of tokens including the stop
        token, and whether the model ended it. The settings are those of `stream`. The device is held until the
        generator ends or is closed. Raises InputError for a strength that the run does not have."""
        import torch

        at = self.wanted(strength)
        generator = torch.Generator().manual_seed(seed) if seed is not None else None
        stops = set(stop_token_ids(self.tokenizer, self.model.generation_config))
        with loaded.device:
            self._put(at)
            stream = _Stream(
                self.model if side == "adapted" else self.base_model,
                side == "base" and self.base_model is self.model,
                prompt,
            )
            while not stream.ended and len(stream.tokens) < max_new_tokens:
                with _threads(threads):
                    _step(stream, stops, temperature, top_p, generator)
                final = stream.ended or len(stream.tokens) == max_new_tokens
                yield self._text(stream, final=final, tools=None), len(stream.tokens) + stream.ended, stream.ended

    def wanted(self, strength: float | None) -> float:
        """The strength to answer at, by default the one chosen for the run. Raises InputError for a strength that the
        run does not have."""
        if self.run is None:
            return AS_TRAINED
        return check_strength(
            load_config(self.run.config_file), chosen_strength(self.run) if strength is None else strength
        )

    def _put(self, strength: float) -> None:
        """Set the adapted model to `strength`. Whole weights are reloaded for that. The caller holds the device."""
        if strength == self.strength:
            return
        if self.base_model is not self.model and self.run is not None:
            self.model = None
            free_memory()
            self.model, _ = load_run(self.run)
        set_strength(self.model, strength, base=self.base_model)
        self.strength = strength

    def _prompt(
        self, turns: list[dict[str, str]], asked: AsTrained, system: str | None, max_new_tokens: int
    ) -> tuple[list[int], int]:
        """The tokens of the conversation, without its oldest turns if it is too long, and the number of dropped
        turns."""
        room = None if self.context is None else self.context - min(max_new_tokens, self.context // 2)
        dropped = 0
        while True:
            # encode_prompt renders everything before the last assistant turn.
            whole = [*asked.messages(turns[dropped:], system), {"role": "assistant", "content": ""}]
            prompt = encode_prompt(whole, self.tokenizer)
            if room is None or len(prompt) <= room:
                return prompt, dropped
            if dropped + 2 >= len(turns):
                raise InputError(
                    "This message is longer than the model can read",
                    given=f"{len(prompt)} tokens",
                    allowed=f"at most {room} tokens, so that an answer of {max_new_tokens} still fits",
                    try_="shorten it, or lower the longest answer",
                )
            dropped += 2
            while dropped + 2 < len(turns) and turns[dropped]["role"] == TOOL:
                dropped += 2  # a reply is meaningless without its call

    def _text(self, stream: _Stream, *, final: bool, tools: str | None) -> str:
        text = self.tokenizer.decode(stream.tokens, skip_special_tokens=True)
        text = read_calls(text, self.tokenizer) if final and tools else text
        # Part of a multi-byte character: wait for the rest.
        return text if final else text.rstrip("\ufffd")


def load_duet(run: RunDirectory) -> Duet:
    """The models of `run`, loaded on first use. Only the latest run's models stay in memory."""
    with loaded.device:
        return loaded.models_of("chat", str(run.path), lambda: _load(run))


def threads_beside_a_run() -> int:
    """The CPU threads to use for answers while a run trains on the same cores.

    One on few cores: two next to a trainer on two cores take nine times as long (facts.md).
    """
    return max(1, (os.cpu_count() or 1) // 4)


def _load(run: RunDirectory) -> Duet:
    config = load_config(run.config_file)
    model, tokenizer = load_run(run)
    full = config.method.is_full
    base = load_trained_base(config, device=config.launcher.device) if full else model
    return Duet(model, base, tokenizer, text_length(config), asked_of(run), run)


def _step(stream: _Stream, stops: set[int], temperature: float, top_p: float, generator: Any) -> None:
    """Add one token to the stream's answer, or end it."""
    import torch

    from ftlab.models.adapters import adapter_disabled

    device = loaded.device_of(stream.model)
    context = stream.prompt + stream.tokens
    fresh = context[-1:] if stream.cache else context
    off = adapter_disabled(stream.model) if stream.adapter_off else contextlib.nullcontext()
    with torch.inference_mode(), off:
        ids = torch.tensor([fresh], device=device)
        where = places(stream.model, len(context) - len(fresh), len(fresh))
        output = next_logits(stream.model, ids, use_cache=True, **where, **stream.cache)
    stream.cache = carried_on(output)
    token = _pick(output.logits[0, -1].float().cpu(), temperature, top_p, generator)
    if token in stops:
        stream.ended = True
    else:
        stream.tokens.append(token)


def _pick(logits: Any, temperature: float, top_p: float, generator: Any) -> int:
    import torch
    from transformers import TemperatureLogitsWarper, TopPLogitsWarper

    if temperature == 0:
        return int(logits.argmax())
    scores = TemperatureLogitsWarper(float(temperature))(None, logits[None])
    if top_p < 1:
        scores = TopPLogitsWarper(float(top_p))(None, scores)
    return int(torch.multinomial(scores.softmax(-1), 1, generator=generator))


@contextlib.contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Within this context, this thread computes with `count` threads; None changes nothing."""
    import torch

    before = torch.get_num_threads()
    if not count or count == before:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _check(message: str, temperature: float, top_p: float, max_new_tokens: int) -> None:
    if not message or not message.strip():
        raise InputError("There is no message to answer", try_="type a question first")
    if not 0 <= temperature <= 2:
        raise InputError("Temperature is out of range", given=temperature, allowed="0 (likeliest token) to 2")
    if not 0 < top_p <= 1:
        raise InputError("top_p is out of range", given=top_p, allowed="above 0, at most 1")
    if not 1 <= max_new_tokens <= 8192:
        raise InputError("The longest answer is out of range", given=max_new_tokens, allowed="1 to 8192 tokens")
