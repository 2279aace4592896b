"""What to change in the next run if this one forgot or memorized, or if a prompt or another model does better."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftlab.config import SELF, RunConfig, usual_learning_rate, why_not_held
from ftlab.config.methods import fields_of
from ftlab.config.stages import PREFERENCE_STAGES, PRETRAINING, REWARD_STAGES, SFT, WITH_REFERENCE
from ftlab.core.comparison import ComparisonJson
from ftlab.evaluation.figures import percent
from ftlab.evaluation.forgetting import answer_of

GENERAL_REPLAY = "general_replay"  # drawn from what the starter knows
GENERAL_DOCUMENTS = "general_documents"  # the same, as plain text
_MOST_REPLAY = 2.0  # the upper end of data.replay_fraction


@dataclass(frozen=True)
class Answers:
    """Who is to answer the training prompts of `run`: its prompted base, or a model behind an address."""

    run: str
    url: str | None = None
    model: str | None = None

    @property
    def command(self) -> str:
        command = f"python -m ftlab data make --answers {shlex.quote(self.run)}"
        if self.url:
            command += f" --url {shlex.quote(self.url)} --model {shlex.quote(str(self.model))}"
        return command


@dataclass(frozen=True)
class Remedy:
    """A run to try next. `changes` are settings by path ({"data.replay": "general_replay"}), for `with_settings`.

    `needs` is the path of a setting that only a person can fill in; empty if one click is enough. `first` is what
    writes the data to fill in.
    """

    title: str
    why: str
    changes: dict[str, Any]
    needs: str | None = None
    first: Answers | None = None


def remedies(comparison: ComparisonJson, config: RunConfig) -> list[Remedy]:
    """Remedies for the problems in `comparison`, the most promising first. Empty if nothing is wrong.

    `config` is that of the compared run.
    """
    config = config.resolved()
    advice = against_better(comparison) if config.stage == SFT else []
    if shows_forgetting(comparison):
        advice += against_forgetting(config)
    memorisation = comparison.get("memorisation")
    if memorisation and (memorisation.get("memorised") or memorisation.get("overfitted")):
        known = [remedy.changes for remedy in advice]
        advice += [remedy for remedy in against_memorising(config) if remedy.changes not in known]
    return advice


def commands(comparison: ComparisonJson, config: RunConfig, config_file: Path) -> list[tuple[str, str]]:
    """The title and command line of every remedy, for use outside the app. `config_file` is that of the run."""
    lines = []
    for remedy in remedies(comparison, config):
        changes = {remedy.needs: "YOUR_DATA"} if remedy.needs else {}
        settings = " ".join(f"--set {path}={value}" for path, value in (changes | remedy.changes).items())
        command = f"python -m ftlab train {shlex.quote(str(config_file))} {settings}"
        lines.append((remedy.title, f"{remedy.first.command}\n    {command}" if remedy.first else command))
    return lines


def against_better(comparison: ComparisonJson) -> list[Remedy]:
    """Tune on the answers of whatever was clearly better than the adapted model: the prompted base, or a model behind
    an address."""
    advice = []
    for side in comparison.get("sides", []):
        verdict = comparison.get("verdicts", {}).get(f"adapted_vs_{side['name']}")
        address = side.get("outside")
        if verdict is None or verdict["better"] is not False or not (side["name"] == "prompted" or address):
            continue
        if address and not address["url"]:
            continue  # a file cannot answer other prompts
        first = Answers(comparison["run"], *((address["url"], address["model"]) if address else ()))
        who = "the prompted base" if not address else side["title"]
        advice.append(
            Remedy(
                f"Tune on the answers of {who}, so that the weights do what it does",
                "It is better than the adapted model on these rows. Its answers to the training prompts become rows "
                "that a model wrote: read them, or accept them, then train on them. Compare all three.",
                {},
                needs="data.source",
                first=first,
            )
        )
    return advice


def shows_forgetting(comparison: ComparisonJson) -> bool:
    """Whether the forgetting score shows it, or the verdict if there is no score."""
    if comparison.get("forgetting"):
        return answer_of(comparison) == "lost"
    return bool(comparison["verdict"].get("forgot"))


def against_forgetting(config: RunConfig) -> list[Remedy]:
    """Replay and a lower learning rate, fewer epochs, a lower rank; for runs that learn from preferences, a higher
    beta."""
    advice: list[Remedy | None] = []
    rate = _lower_rate(config, "Smaller steps keep more of what the base knew, and learn the task more slowly.")
    if _can_hold(config):
        advice.append(_hold(config))
    if config.data.replay_source is not None:
        advice.append(_documents(config))
        # Measured on the starter (docs/replay.md): with replay, 65% of the questions of other kinds instead of 35%.
        advice.append(rate)
    if config.stage in WITH_REFERENCE and config.preference.beta is not None:
        advice.append(_held_back("preference.beta", config.preference.beta, 100.0))
    elif config.stage in REWARD_STAGES:
        advice.append(_held_back("reinforcement.beta", config.reinforcement.beta or 0.025, 10.0))
    elif config.stage not in PREFERENCE_STAGES and not _can_hold(config):
        advice.append(_replay(config))
    if rate not in advice:
        advice.append(rate)
    advice += _fewer_epochs(config, "Each epoch moves the model further from its base.")
    advice += _lower_rank(
        config, "Fewer trained weights change less of what the base knew, but may learn the task less well."
    )
    return [remedy for remedy in advice if remedy is not None]


def against_memorising(config: RunConfig) -> list[Remedy]:
    """Fewer epochs, a lower rank, dropout, a lower learning rate."""
    advice = _fewer_epochs(config, "Rows seen less often are less likely to be memorized.")
    advice += _lower_rank(config, "Fewer weights have less capacity for single rows.")
    if "dropout" in fields_of(config.method.name) and config.method.dropout < 0.1:
        advice.append(
            Remedy(
                "Use dropout of 0.1",
                "Dropping random parts of the adapter makes single rows harder to memorize.",
                {"method.dropout": 0.1},
            )
        )
    return [*advice, _lower_rate(config, "Smaller steps fit single rows less tightly.")]


def _can_hold(config: RunConfig) -> bool:
    """Whether holding the base's own answers by their probabilities is possible and not used yet. The starter is too
    small: it does not hold kinds that were not replayed (ftlab/docs/replay.md)."""
    held = config.data.replay_prompts is not None and config.data.replay_loss == "kl"
    return why_not_held(config) is None and not held


def _hold(config: RunConfig) -> Remedy:
    """Measured on SmolLM2 (ftlab/docs/replay.md): no other method tried holds as much at the same score."""
    share = config.data.replay_fraction
    why = (
        "Before training the base answers prompts that ship with ftlab, and training keeps its probabilities on "
        "these answers from moving. It needs no data of yours, but takes longer."
    )
    if config.data.replay_prompts:
        title = "Keep the probabilities of the base's own answers instead of learning them as text"
        return Remedy(title, why, {"data.replay_loss": "kl"})
    title = f"Replay the base's own answers: {percent(share)} of the rows"
    if config.data.replay is not None:
        title += f", instead of mixing in {config.data.replay}"
        why += " This also protects kinds that are not among the prompts; mixed-in data protects only its own kinds."
    return Remedy(title, why, {"data.replay": SELF, "data.replay_fraction": share, "data.replay_loss": "kl"})


def _replay(config: RunConfig) -> Remedy | None:
    share = config.data.replay_fraction
    if config.data.replay is not None:
        more = min(_MOST_REPLAY, round(2 * share, 3))
        if more == share:
            return None
        if config.data.replay_prompts:
            return Remedy(
                f"Replay more of the base's own answers: {percent(more)} of the rows instead of {percent(share)}",
                "More rows that pull toward the base keep it closer to it. Training takes longer.",
                {"data.replay_fraction": more},
            )
        return Remedy(
            f"Mix in more general examples: {percent(more)} instead of {percent(share)}",
            "General examples protect the kinds they contain. More of them protect more, but training takes longer. "
            "If a lost kind is not among them, name a data set that contains it.",
            {"data.replay_fraction": more},
        )
    why = (
        "The model is reminded of what it knew while it learns the task. It protects the kinds in the examples, "
        "others much less, and training takes longer."
    )
    if config.is_starter and config.stage == SFT:
        mixed_in = {"data.replay": GENERAL_REPLAY, "data.replay_fraction": share}
        return Remedy(
            f"Mix in general examples, {percent(share)} of the rows, and documents, and halve the learning rate",
            why,
            {**mixed_in, "data.replay_text": GENERAL_DOCUMENTS, **_with_documents(config)},
        )
    kind = "texts" if config.stage == PRETRAINING else "conversations"
    return Remedy(
        f"Mix in general {kind}: {percent(share)} of the rows",
        f"{why} Name general {kind} of your own, or a data set of the Hub, as replay data.",
        {"data.replay_fraction": share},
        needs="data.replay",
    )


def _documents(config: RunConfig) -> Remedy | None:
    """Plain text in addition to conversations already mixed in, at half the learning rate, as measured on the
    starter."""
    if not config.is_starter or config.data.replay_text or config.data.replay_prompts or config.stage != SFT:
        return None
    share, changes = config.data.replay_text_fraction, _with_documents(config)
    title = f"Mix in plain documents too, {percent(share)} of the rows, and halve the learning rate"
    why = (
        "Mixed-in conversations protect what the model says in a chat, documents what it knows outside one. Kinds in "
        "neither are protected much less."
    )
    return Remedy(title, why, {"data.replay_text": GENERAL_DOCUMENTS, **changes})


def _with_documents(config: RunConfig) -> dict[str, Any]:
    share, rate = config.data.replay_text_fraction, _half_rate(config)
    return {"data.replay_text_fraction": share, "optimisation.learning_rate": rate}


def _held_back(path: str, beta: float, most: float) -> Remedy | None:
    more = min(most, round(2 * beta, 4))
    if more == beta:
        return None
    return Remedy(
        f"Keep the model closer to its start: beta {more:g}",
        "A higher beta changes the model less, so it keeps more of what it knew and learns less of what people prefer.",
        {path: more},
    )


def _lower_rate(config: RunConfig, why: str) -> Remedy:
    rate, lower = _rate(config), _half_rate(config)
    return Remedy(f"Halve the learning rate: {lower:g} instead of {rate:g}", why, {"optimisation.learning_rate": lower})


def _rate(config: RunConfig) -> float:
    rate = config.optimisation.learning_rate
    return usual_learning_rate(config) if rate is None else rate


def _half_rate(config: RunConfig) -> float:
    return float(f"{_rate(config) / 2:.3g}")


def _fewer_epochs(config: RunConfig, why: str) -> list[Remedy]:
    steps, epochs = config.optimisation.max_steps, config.optimisation.epochs
    if steps is not None and steps > 1:
        title = f"Train half as long: {steps // 2} steps instead of {steps}"
        return [Remedy(title, why, {"optimisation.max_steps": steps // 2})]
    assert epochs is not None  # resolved() has set it
    fewer = round(epochs / 2, 2) if epochs < 2 else float(int(epochs // 2))
    title = f"Train half as long: {fewer:g} {'epoch' if fewer == 1 else 'epochs'} instead of {epochs:g}"
    return [Remedy(title, why, {"optimisation.epochs": fewer})]


def _lower_rank(config: RunConfig, why: str) -> list[Remedy]:
    rank = config.method.rank
    if "rank" not in fields_of(config.method.name) or rank < 2:
        return []
    # alpha scales with the rank, since LoRA scales its update by their ratio.
    alpha = max(1, config.method.alpha // 2)
    changes = {"method.rank": rank // 2, "method.alpha": alpha}
    return [Remedy(f"Halve the rank: {rank // 2} instead of {rank}", why, changes)]
