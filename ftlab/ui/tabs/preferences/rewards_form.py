"""The rewards as simple rows, one of each kind; further rewards as YAML below.

elem_ids: `pref_reward_model`, `pref_reward_model_weight`, `pref_length_shortest`, `pref_length_longest`,
`pref_length_weight`, `pref_regex_pattern`, `pref_regex_weight`, `pref_json_on`, `pref_json_keys`, `pref_json_weight`,
`pref_exact_on`, `pref_exact_weight`, `pref_reinforcement_rewards` (YAML).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
import yaml

from ftlab.config import Reward
from ftlab.core.workspace import Workspace
from ftlab.ui import run_files, run_names
from ftlab.ui.kit import forms
from ftlab.ui.kit.html import heading

PATH = "reinforcement.rewards"
# The fields of a row besides its weight, by the kind of the reward.
_ROWS = {
    "model": ("model",),
    "length": ("shortest", "longest"),
    "regex": ("pattern",),
    "json": ("on", "keys"),
    "exact_match": ("on",),
    "final_number": ("on",),
}


@dataclass(frozen=True)
class RewardsForm:
    box: gr.Column
    cells: dict[str, Any]  # by kind.field
    more: gr.Textbox

    @property
    def inputs(self) -> list[Any]:
        return list(self.cells.values())


def build(form: forms.Form) -> RewardsForm:
    """Draw the rows; the YAML of further rewards is drawn into `form`."""
    cells: dict[str, Any] = {}

    def text(name: str, label: str, elem_id: str, **settings: Any) -> None:
        settings = {"max_lines": 1, "min_width": 95} | settings
        cells[name] = gr.Textbox(label=label, elem_id=f"pref_{elem_id}", **settings)

    def weight(kind: str, elem_id: str) -> None:
        text(f"{kind}.weight", "Weight", f"{elem_id}_weight", placeholder="1", scale=0, min_width=85)

    with gr.Column(visible=False, elem_id="pref_rewards") as box:
        gr.HTML(
            heading(
                "Rewards",
                "What answers are rewarded for. Fill in any of them; they are summed by weight.",
            )
        )
        with gr.Row():
            cells["model.model"] = gr.Dropdown(
                [("none", "")],
                value="",
                label="Reward model",
                info="A run of the stage Reward model, or a folder. It scores answers as your raters would.",
                allow_custom_value=True,
                elem_id="pref_reward_model",
                scale=3,
                min_width=180,
            )
            weight("model", "reward_model")
        with gr.Row():
            text("length.shortest", "Words at least", "length_shortest")
            text("length.longest", "Words at most", "length_longest")
            weight("length", "length")
        with gr.Row():
            text(
                "regex.pattern",
                "Text to find (regular expression)",
                "regex_pattern",
                placeholder="^(Hi|Hello|Dear) ",
                scale=3,
            )
            weight("regex", "regex")
        with gr.Row():
            cells["json.on"] = gr.Checkbox(False, label="Valid JSON", elem_id="pref_json_on", min_width=95)
            text("json.keys", "with the keys", "json_keys", placeholder="queue, priority", scale=2)
            weight("json", "json")
        with gr.Row():
            cells["exact_match.on"] = gr.Checkbox(
                False, label="Equal to the reference answer", elem_id="pref_exact_on", scale=3, min_width=180
            )
            weight("exact_match", "exact")
        with gr.Row():
            cells["final_number.on"] = gr.Checkbox(
                False, label="Ends with the reference's number", elem_id="pref_final_number_on", scale=3, min_width=180
            )
            weight("final_number", "final_number")
        with gr.Accordion("More rewards (YAML)", open=False):
            more = form.draw(PATH, label="Rewards beyond the rows above")
    return RewardsForm(box, cells, more)


def collect(values: Sequence[Any]) -> list[dict[str, Any]]:
    """The rewards of the rows, from the values of `inputs`; config.py checks them."""
    by_name = dict(zip(_names(), values, strict=True))
    rewards = []
    for kind, fields in _ROWS.items():
        cells = {name: _clean(by_name[f"{kind}.{name}"]) for name in fields}
        weight = _clean(by_name[f"{kind}.weight"])
        # A weight alone adds no reward. Keys do, even without the tick or anything else.
        if not any(cells.values()):
            continue
        cells.pop("on", None)
        if "keys" in cells:
            cells["keys"] = [key.strip() for key in (cells["keys"] or "").split(",") if key.strip()]
        reward = {"kind": kind} | {name: value for name, value in cells.items() if value not in (None, [])}
        rewards.append(reward | ({"weight": weight} if weight is not None else {}))
    return rewards


def rows_of(rewards: Sequence[Reward]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(values of the cells by kind.field, the rewards that no row can hold) of `rewards`."""
    values: dict[str, Any] = {name: False if name.endswith(".on") else "" for name in _names()}
    left: list[dict[str, Any]] = []
    taken: set[str] = set()
    for reward in rewards:
        fields = reward.model_dump(exclude_defaults=True) | {"kind": reward.kind}
        # A row has no place for a name, and there is one of each kind.
        if reward.kind in taken or reward.name:
            left.append(fields)
            continue
        taken.add(reward.kind)
        for name in _ROWS[reward.kind]:
            if name == "on":
                values[f"{reward.kind}.on"] = True
            elif name == "keys":
                values["json.keys"] = ", ".join(reward.keys)
            else:
                value = getattr(reward, name)
                values[f"{reward.kind}.{name}"] = "" if value is None else str(value)
        if reward.weight != 1:
            values[f"{reward.kind}.weight"] = f"{reward.weight:g}"
    return values, left


def fill(tab: RewardsForm, rewards: Sequence[Reward]) -> dict[Any, Any]:
    """Updates that show `rewards`."""
    values, left = rows_of(rewards)
    updates = {component: values[name] for name, component in tab.cells.items()}
    return updates | {tab.more: yaml.safe_dump(left, sort_keys=False, allow_unicode=True).strip() if left else ""}


def model_choices(workspace: Workspace) -> list[tuple[str, str]]:
    return [("none", ""), *run_names.choices(run_files.reward_models(workspace))]


def _names() -> list[str]:
    return [f"{kind}.{name}" for kind, fields in _ROWS.items() for name in (*fields, "weight")]


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        value = value.strip() or None
    return value or None
