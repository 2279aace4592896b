"""Forms drawn from config.py, which defines every field's title, help, unit and range once.

A field's component has the elem_id `set_<section>_<field>`, e.g. `set_optimisation_learning_rate`; on the Preferences
tab, which has some of the same settings, `pref_<section>_<field>`.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import gradio as gr
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ftlab.config import RunConfig
from ftlab.config.sections import kind_of, range_of
from ftlab.core.parsing import parse_yaml
from ftlab.errors import InputError
from ftlab.ui.kit.html import heading

_YAML_EXAMPLES = {
    "data.columns": "prompt: question\ncompletion: answer",
    "tracking.report_to": "- trackio",
    "trainer": "neftune_noise_alpha: 5",
    "reinforcement.rewards": "- {kind: regex, pattern: '^(Hi|Hello) ', weight: 0.5}",
}


# Suggestions for settings that accept any text.
_CHOICES = {"method.targets": [("all linear layers", "all-linear"), ("MLP only", "mlp")]}

# Shows only settings whose label, help and key contain every word of the query.
_FIND_JS = """
element.addEventListener('input', event => {
  const asked = event.target.value.toLowerCase().split(/[\\s._]+/).filter(Boolean);
  for (const group of document.querySelectorAll('#FOLDER .ft-group')) {
    let left = 0;
    for (const block of group.querySelectorAll('.block[id^=KEY_]')) {
      const text = `${block.textContent} ${block.id.replaceAll('_', ' ')}`.toLowerCase();
      const missed = asked.some(word => !text.includes(word));
      block.classList.toggle('ft-missed', missed);
      left += !missed;
    }
    group.classList.toggle('ft-missed', !left && asked.length > 0);
  }
});
"""


def fields(section: type[BaseModel] = RunConfig, prefix: str = "") -> dict[str, FieldInfo]:
    """All settings of a run by path, e.g. `optimisation.learning_rate`."""
    by_path: dict[str, FieldInfo] = {}
    for name, info in section.model_fields.items():
        path = f"{prefix}{name}"
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            by_path |= fields(info.annotation, f"{path}.")
        else:
            by_path[path] = info
    return by_path


def fields_of(*sections: str) -> list[str]:
    """The paths of all settings that begin with one of `sections`, such as `optimisation.`."""
    return [path for path in fields() if path.startswith(sections)]


def is_advanced(info: FieldInfo) -> bool:
    return bool(_extra(info, "advanced"))


def _extra(info: FieldInfo, name: str) -> Any:
    """An extra attribute of a setting that pydantic does not define; None if it is not set."""
    return info.json_schema_extra.get(name) if isinstance(info.json_schema_extra, dict) else None


@dataclass
class Form:
    """The components of some settings, by path. Filled while the form is drawn."""

    components: dict[str, Any] = field(default_factory=dict)
    prefix: str = "set"  # of the elem_ids

    def draw(self, path: str, **overrides: Any) -> Any:
        """Draw the component of one setting here and keep it."""
        named = {"elem_id": f"{self.prefix}_{path.replace('.', '_')}"}
        self.components[path] = component = _component(path, fields()[path], named | overrides)
        return component

    def draw_groups(
        self, groups: Mapping[str, Sequence[str]], special: Callable[[str], dict[str, Any]], pages: dict[str, str]
    ) -> None:
        """Draw each group of settings under its title, in a full-width grid; `pages` maps titles to pages of Help."""
        for title, paths in groups.items():
            with gr.Column(elem_classes="ft-group"):
                gr.HTML(heading(title, page=pages.get(title, "")))
                for path in paths:
                    if path not in self.components:
                        self.draw(path, **special(path))

    def draw_find(self, elem_id: str, folder: str) -> None:
        """A search box over the groups of settings within the element `folder`. Runs in the browser only."""
        script = _FIND_JS.replace("FOLDER", folder).replace("KEY", self.prefix)
        gr.HTML(
            '<label class="ft-find">Find a setting <input type="search" placeholder="rate, memory, seed"></label>',
            elem_id=elem_id,
            js_on_load=script,
        )

    @property
    def inputs(self) -> list[Any]:
        return list(self.components.values())

    def collect(self, values: Sequence[Any]) -> dict[str, Any]:
        """Nested settings from the values of `inputs`. An empty value means None where allowed, else the default.

        Raises InputError if a field that expects YAML holds invalid YAML.
        """
        typed = {path: _read(path, value) for path, value in zip(self.components, values, strict=True)}
        return nested(
            {
                path: value
                for path, value in typed.items()
                if value is not None or _may_be_none(fields()[path].annotation)
            }
        )

    def fill(self, config: RunConfig) -> dict[Any, Any]:
        """Updates that show `config` in the form."""
        values = config.model_dump(mode="json")
        updates = {}
        for path, component in self.components.items():
            value: Any = values
            for part in path.split("."):
                value = value[part]
            updates[component] = text_of(value)
        return updates


def nested(values: dict[str, Any]) -> dict[str, Any]:
    """Convert settings by path to nested sections."""
    sections: dict[str, Any] = {}
    for path, value in values.items():
        section, _, name = path.rpartition(".")
        (sections.setdefault(section, {}) if section else sections)[name] = value
    return sections


def merge(parts: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Merge the nested settings of several forms."""
    whole: dict[str, Any] = {}
    for part in parts:
        for key, value in part.items():
            if isinstance(value, dict) and isinstance(whole.get(key), dict):
                whole[key] = merge([whole[key], value])
            else:
                whole[key] = value
    return whole


def _component(path: str, info: FieldInfo, overrides: dict[str, Any]) -> Any:
    unit = _extra(info, "unit")
    settings: dict[str, Any] = {
        "label": f"{info.title} ({unit})" if unit else info.title,
        "info": " ".join(filter(None, [info.description, f"({limits})" if (limits := range_of(info)) else ""])),
        "interactive": True,
        "min_width": 170,
    }
    choices = overrides.pop("choices", _CHOICES.get(path))
    kind = kind_of(info.annotation)
    default = overrides.pop("value", info.get_default(call_default_factory=True))
    if typing.get_origin(kind) is Literal:
        return gr.Dropdown(choices or list(typing.get_args(kind)), value=default, **settings | overrides)
    if choices is not None:
        return gr.Dropdown(choices, value=default or "", allow_custom_value=True, **settings | overrides)
    if kind is bool:
        return gr.Checkbox(default, **settings | overrides)
    if kind in (int, float):
        # Text, not gr.Number: gr.Number shows an empty value as 0 and silently rounds 2.5 to a whole number.
        # config.py validates, and its messages state what is allowed.
        shape = {"placeholder": text_of(default) if default is not None else "empty"}
        return gr.Textbox(text_of(default), max_lines=1, **settings | shape | overrides)
    if kind is str:
        return gr.Textbox(default or "", max_lines=3, **settings | overrides)
    return gr.Textbox(text_of(default), lines=2, placeholder=_YAML_EXAMPLES[path], **settings | overrides)


def _may_be_none(annotation: Any) -> bool:
    return type(None) in typing.get_args(annotation)


def _read(path: str, value: Any) -> Any:
    if isinstance(value, str):
        value = value.strip()
        if not value:
            return None
        if path in _YAML_EXAMPLES:
            return _yaml(path, value)
    return value


def _yaml(path: str, text: str) -> dict[str, Any] | list[Any]:
    info = fields()[path]
    title, kind = info.title, typing.get_origin(kind_of(info.annotation))
    value = parse_yaml(text, f"{title} ({path})")
    if not isinstance(value, kind):
        wanted = "a list, one line starting with `- ` per item" if kind is list else "lines of `name: value`"
        raise InputError(f"{title} ({path}) takes {wanted}", given=text, try_=_YAML_EXAMPLES[path].splitlines()[0])
    return value


def text_of(value: Any) -> Any:
    """A setting as its component shows it: numbers become text."""
    if value is None:
        return ""
    if isinstance(value, dict | list):
        return yaml.safe_dump(value, sort_keys=False, allow_unicode=True).strip() if value else ""
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, bool | str) else str(value)


def whole_number(name: str, typed: str | None) -> int | None:
    """The number typed into the field `name`; None if it is empty. Raises InputError."""
    text = (typed or "").strip()
    if not text:
        return None
    if not (text.isascii() and text.isdigit()):
        raise InputError(f"{name} cannot take this value", given=text, allowed="a whole number, or empty")
    return int(text)


def price(name: str, typed: str | None) -> float | None:
    """The price typed into the field `name`; None if it is empty. Raises InputError."""
    text = (typed or "").strip().replace(",", ".")
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{name} cannot take this value", given=text, allowed="a number, or empty") from None


def pager(name: str) -> tuple[gr.Button, gr.Number, gr.Button]:
    """Previous, the number of the page, and Next; elem_ids begin with `name`."""
    return (
        gr.Button("Previous", elem_id=f"{name}_previous", size="sm", scale=0, min_width=100),
        gr.Number(1, label="Page", precision=0, elem_id=f"{name}_page", scale=0, min_width=110),
        gr.Button("Next", elem_id=f"{name}_next", size="sm", scale=0, min_width=100),
    )
