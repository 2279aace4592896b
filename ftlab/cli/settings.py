"""The settings of a run on the command line: a YAML file, `--set`, an option for each setting, and `--column`.

Each option is generated from its field in RunConfig, which defines title, help, unit, range and default once. Columns
that `--column` names are remembered for the data (`ftlab.data.load`), so later commands need not name them again.
"""

from __future__ import annotations

import argparse
import functools
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ftlab.cli.parser import Parser
from ftlab.config import RunConfig, load_config
from ftlab.config.presets import PRESET, PRESETS, with_preset
from ftlab.config.sections import is_advanced_field, kind_of, range_of, unit_of
from ftlab.core.workspace import Workspace
from ftlab.data.load import forget, named_in, remember
from ftlab.errors import InputError

_DETECT = "auto"


def add_settings(parser: Parser) -> None:
    """Add the YAML file, `--set`, `--column`, and `--SECTION.FIELD VALUE` for every setting of a run."""
    parser.usage = f"{parser.prog} [config] [--SECTION.FIELD VALUE ...] [options]"
    parser.add_argument("config", nargs="?", help="YAML file (default: the default settings)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.FIELD=VALUE",
        help="change one setting (repeatable); the same as --SECTION.FIELD VALUE",
    )
    parser.add_argument(
        "--preset",
        choices=list(PRESETS),
        help=f"epochs, learning rate, rank and evaluation at once, where no setting says otherwise (default: {PRESET})",
    )
    add_columns(parser)
    advanced = [_add_section(parser, *section) for section in _sections()]
    parser.add_argument(
        "--help-all",
        action=_HelpAll,
        advanced=[option for section in advanced for option in section],
        help="show this help with the advanced settings",
    )


def _sections() -> Iterator[tuple[str, str, dict[str, FieldInfo]]]:
    """Title, prefix and fields of each group of settings, starting with the fields outside any section."""
    sections = {
        name: info.annotation
        for name, info in RunConfig.model_fields.items()
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel)
    }
    yield "Run", "", {name: info for name, info in RunConfig.model_fields.items() if name not in sections}
    for name, section in sections.items():
        yield str(RunConfig.model_fields[name].title), f"{name}.", section.model_fields


def _add_section(parser: Parser, title: str, prefix: str, fields: dict[str, FieldInfo]) -> list[tuple[Any, str]]:
    """Add an option for each of `fields`; returns the advanced ones, which are hidden at first, with their help."""
    group = parser.add_argument_group(title)
    hidden = []
    for name, info in fields.items():
        is_advanced, text = is_advanced_field(info), _help(info)
        option = group.add_argument(
            f"--{prefix}{name}",
            dest=f"{prefix}{name}",
            action=_Setting,
            default=argparse.SUPPRESS,
            is_text=kind_of(info.annotation) is str,
            metavar=_metavar(info),
            help=argparse.SUPPRESS if is_advanced else text,
        )
        if is_advanced:
            hidden.append((option, text))
    return hidden


def add_fields(parser: Parser, section: str, flags: Mapping[str, str], description: str) -> None:
    """Add an option for each of `flags`, drawn from the field of `section` that it names; None where it is not set."""
    of_run: Any = RunConfig.model_fields[section]
    group = parser.add_argument_group(of_run.title, description)
    for flag, name in flags.items():
        info = of_run.annotation.model_fields[name]
        kind = kind_of(info.annotation)
        reads: dict[str, Any] = {"action": "store_true"}
        if kind is not bool:
            reads = {"type": kind if kind in (int, float) else str, "metavar": _metavar(info)}
        group.add_argument(flag, dest=name, default=None, help=_help(info, usual=False), **reads)


def _help(info: FieldInfo, *, usual: bool = True) -> str:
    kind = kind_of(info.annotation)
    default = info.get_default(call_default_factory=True) if usual else None
    choices = f"One of {', '.join(get_args(kind))}" if get_origin(kind) is Literal else ""
    value = str(default).lower() if kind is bool else default
    stated = "" if default in (None, "", [], {}) else f"Default: {value}"
    text = ". ".join(
        filter(None, [info.title, (info.description or "").rstrip("."), choices, range_of(info).capitalize(), stated])
    )
    return f"{text}.".replace("%", "%%")


def _metavar(info: FieldInfo) -> str:
    unit = unit_of(info)
    names = {bool: "true|false", int: "N", float: "X"}
    return unit.upper() if unit else names.get(kind_of(info.annotation), "VALUE")


class _Setting(argparse.Action):
    """Reads `--section.field VALUE` as `--set section.field=VALUE`; text needs no YAML quotes."""

    def __init__(self, *, is_text: bool, **settings: Any) -> None:
        super().__init__(**settings)
        self._is_text = is_text

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        value = json.dumps(values, ensure_ascii=False) if self._is_text and values not in ("", "null") else values
        namespace.set = [*namespace.set, f"{self.dest}={value}"]


class _HelpAll(argparse.Action):
    def __init__(self, *, advanced: list[tuple[argparse.Action, str]], **settings: Any) -> None:
        super().__init__(nargs=0, default=argparse.SUPPRESS, **settings)
        self._advanced = advanced

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        for option, text in self._advanced:
            option.help = text
        parser.print_help()
        parser.exit()


def add_columns(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--column",
        action="append",
        default=[],
        metavar="ROLE=COLUMN",
        help="column of the prompt, completion, text, label, ... (repeatable; remembered for this data; "
        f"--column {_DETECT} detects the columns again)",
    )


def named_columns(args: argparse.Namespace) -> dict[str, str]:
    """The columns that `--column` names, by role. Raises InputError unless each is ROLE=COLUMN."""
    columns = {}
    for text in args.column:
        role, _, column = text.partition("=")
        if text == _DETECT:
            continue
        if not role.strip() or not column.strip():
            raise InputError(
                "--column takes ROLE=COLUMN", given=text, allowed=f'for example prompt="Guest writes"; {_DETECT}'
            )
        columns[role.strip()] = column
    return columns


def overrides(args: argparse.Namespace) -> list[str]:
    """The settings of `--set` and `--column`; `--column` wins."""
    columns = named_columns(args)
    return [*args.set, *([f"data.columns={json.dumps(columns, ensure_ascii=False)}"] if columns else [])]


def read_config(args: argparse.Namespace, workspace: Workspace) -> RunConfig:
    """The run described by the YAML file, `--set`, `--column` and `--preset`. Raises InputError as `load_config`
    does."""
    from ftlab.evaluation.metrics.own import name_files_of
    from ftlab.models.load import shape_of

    config = load_config(args.config, overrides(args))
    if args.preset:
        config = with_preset(config, args.preset, shape_of(config.model))
    name_files_of(config)
    if _DETECT in args.column:
        forget(config.data, workspace)
    return config


def keeping(command: Callable[[argparse.Namespace], int], read: Callable[..., Any]) -> Callable[..., int]:
    """`command`; if it succeeds, the workspace remembers the columns named in the data that `read(args)` returns."""

    @functools.wraps(command)
    def run(args: argparse.Namespace) -> int:
        data = read(args)
        if _DETECT in args.column:
            forget(data, Workspace.open(args.workspace))
        code = command(args)
        if code == 0 and named_in(data):
            remember(data, Workspace.open(args.workspace))
        return code

    return run
