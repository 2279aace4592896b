"""`python .ci/reference.py` writes the generated files of the documentation, from docstrings, settings and types.

api.md                 the names of `ftlab.__all__`, with signatures and docstrings
settings.md            every setting of a run, with default, range and help, from `RunConfig`
comparison.schema.json the JSON schema of comparison.json, from the types in ftlab/core/comparison.py
json.schema.json       the JSON schema of what each command prints with --json, from ftlab/cli/json_forms.py
json.md                its table of keys

It also copies the address of the repository (`Repository` in pyproject.toml: the one place to set it) to the badges and
install cells of the notebooks and to the other project URLs.

`--check` writes nothing and ends with 1 where a file is not what it would write.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "ftlab" / "docs"
HANDLES = {"Run": "run", "BlindTest": "test"}  # classes with a part of their own; the other names are functions


def api_page() -> str:
    import ftlab

    names = [name for name in ftlab.__all__ if name not in (*HANDLES, "RunConfig")]
    parts = [
        "# API",
        "The verbs of a notebook. `import ftlab` is light; each name is loaded on first use, as `ftlab.train(...)`. "
        "The settings of `RunConfig` are on the page [Settings](settings.md). Generated from the docstrings by "
        "`.ci/reference.py`.",
    ]
    for name in names:
        parts += [f"## {name}", *_entry(name, getattr(ftlab, name))]
    for handle, variable in HANDLES.items():
        kind = getattr(ftlab, handle)
        parts += [f"## {handle}", _prose(inspect.getdoc(kind) or "")]
        for name, member in vars(kind).items():
            if not name.startswith("_") and (callable(member) or isinstance(member, property | classmethod)):
                parts += [f"### {handle}.{name}", *_entry(name, getattr(member, "__func__", member), variable)]
    return "\n\n".join(filter(None, parts)) + "\n"


def _entry(name: str, member: Any, variable: str = "") -> list[str]:
    if isinstance(member, property):
        returns = inspect.signature(member.fget).return_annotation
        return [f"```python\n{variable}.{name}  # {returns}\n```", _prose(inspect.getdoc(member) or "")]
    signature = inspect.signature(member)
    kept = [one for one in signature.parameters.values() if one.name not in ("self", "cls")]
    returns = "" if signature.return_annotation is inspect.Signature.empty else f" -> {signature.return_annotation}"
    plain = [_plain(one) for one in _with_star(kept)]
    line = f"def {name}({', '.join(plain)}){returns}: ..."
    if len(line) > 110:
        line = f"def {name}(\n" + "".join(f"    {one},\n" for one in plain) + f"){returns}: ..."
    return [f"```python\n{line}\n```", _prose(inspect.getdoc(member) or "")]


def _with_star(parameters: list[inspect.Parameter]) -> Iterator[inspect.Parameter | str]:
    starred = False
    for one in parameters:
        if one.kind is one.KEYWORD_ONLY and not starred:
            starred = True
            yield "*"
        yield one


def _plain(parameter: inspect.Parameter | str) -> str:
    if isinstance(parameter, str):
        return parameter
    stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
    default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
    return f"{stars}{parameter.name}: {parameter.annotation}{default}"


def comparison_schema() -> str:
    from pydantic import TypeAdapter

    from ftlab.core.comparison import ComparisonJson

    return json.dumps(TypeAdapter(ComparisonJson).json_schema(), indent=1) + "\n"


def json_schema() -> str:
    """A property for each command; what has names has no others. A line for each property and definition."""
    commands, definitions = _forms()
    whole = {
        "title": "What each command of ftlab prints with --json on success",
        "type": "object",
        "properties": {
            command: next(iter(forms.values())) if len(forms) == 1 else {"anyOf": list(forms.values())}
            for command, forms in commands.items()
        },
        "$defs": definitions,
    }
    parts = []
    for name, part in _closed(whole).items():
        each = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in part.items()] if name in _BY_LINE else []
        parts.append(f"{json.dumps(name)}: " + ("{\n " + ",\n ".join(each) + "\n}" if each else json.dumps(part)))
    return "{" + ",\n".join(parts) + "}\n"


# Read whole, a comparison has the scores of every side under its name, and scores those of every kind of drift.
_OPEN = ("ComparisonJson", "ScoresJson")
_BY_LINE = ("properties", "$defs")


def _forms() -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """The schema of each form by command and by what sets it apart, and what they refer to."""
    from pydantic import TypeAdapter
    from pydantic.json_schema import GenerateJsonSchema

    from ftlab.cli.json_forms import FORMS, forms_of

    class Printed(GenerateJsonSchema):
        def field_is_required(self, field: Any, total: bool) -> bool:  # a default is printed, too
            return field["type"] != "typed-dict-field" or super().field_is_required(field, total)

        def field_title_should_be_set(self, schema: Any) -> bool:
            return False

    adapters = [
        ((command, case), "serialization", TypeAdapter(form))
        for command in FORMS
        for case, form in forms_of(command).items()
    ]
    schemas, whole = TypeAdapter.json_schemas(adapters, schema_generator=Printed)
    commands: dict[str, dict[str, Any]] = {}
    for ((command, case), _), schema in schemas.items():
        commands.setdefault(command, {})[case] = schema
    return commands, whole["$defs"]


def _closed(schema: Any) -> Any:
    """`schema` with no other keys where it names some."""
    if isinstance(schema, list):
        return [_closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    named = isinstance(schema.get("properties"), dict) and schema.get("title") not in _OPEN
    named = named and schema.get("type") == "object"
    return {name: _closed(part) for name, part in schema.items()} | ({"additionalProperties": False} if named else {})


def json_page() -> str:
    """json.md with the table of keys between its markers."""
    from ftlab.cli.json_forms import forms_of

    commands, definitions = _forms()
    lines = ["| command | keys |", "|---|---|"]
    for command, forms in commands.items():
        for case, form in forms_of(command).items():
            lines.append(f"| `{command}`{_case(case)} | {_keys(forms[case], definitions)}{_note(form)} |")
    before, _, after = (FOLDER / "json.md").read_text(encoding="utf-8").partition(_BEGIN)
    return f"{before}{_BEGIN}\n" + "\n".join(lines) + f"\n{_END}{after.partition(_END)[2]}"


_BEGIN, _END = "<!-- keys, by .ci/reference.py -->", "<!-- end of keys -->"
_MOST_KEYS = 12


def _case(case: str) -> str:
    return f" {case}" if case.startswith("`--") else f", {case}" if case else ""


def _note(form: Any) -> str:
    """The docstring of a form that belongs to the command line alone; of other types the schema has them."""
    words = vars(form).get("__doc__") if isinstance(form, type) and form.__module__ == "ftlab.cli.json_forms" else None
    return f". {_cell(words)}" if words else ""


def _keys(schema: dict[str, Any], definitions: dict[str, Any]) -> str:
    whole = definitions[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    names = [f"`{name}`" + ("" if name in whole["required"] else "?") for name in whole["properties"]]
    return ", ".join(names if len(names) <= _MOST_KEYS else [*names[:8], "…", *names[-4:]])  # its own are the last


def settings_page() -> str:
    from pydantic import BaseModel

    from ftlab.config import RunConfig

    parts = [
        "# Settings",
        "Every setting of a run, as it is written in a YAML file, after `--set` on the command line, and in Python "
        '(`ftlab.train(data={"source": "my.csv"})`). Unknown settings and values out of range are refused. Generated '
        "from `RunConfig` by `.ci/reference.py`.",
        "## Run",
        _table("", {name: one for name, one in RunConfig.model_fields.items() if not _section(one, BaseModel)}),
    ]
    for name, one in RunConfig.model_fields.items():
        if section := _section(one, BaseModel):
            parts += [f"## {name}", _table(f"{name}.", section.model_fields)]
    return "\n\n".join(parts) + "\n"


def _section(one: Any, base: type) -> Any:
    return one.annotation if isinstance(one.annotation, type) and issubclass(one.annotation, base) else None


def _table(before: str, fields: dict[str, Any]) -> str:
    lines = ["| setting | default | |", "|---|---|---|"]
    for name, one in fields.items():
        lines.append(f"| `{before}{name}` | {_default(one)} | {_cell(_words(one))} |")
    return "\n".join(lines)


def _default(one: Any) -> str:
    value = one.get_default(call_default_factory=True)
    return "" if value is None or value == "" else f"`{_cell(str(value))}`"


def _words(one: Any) -> str:
    extra = one.json_schema_extra or {}
    unit = f" In {extra['unit']}." if extra.get("unit") else ""
    title = f"**{one.title}.** " if one.title else ""
    return f"{title}{one.description or ''}{unit}{_range(one)}"


def _range(one: Any) -> str:
    choices = [value for value in getattr(one.annotation, "__args__", ()) if isinstance(value, str)]
    if choices:
        return " One of " + ", ".join(f"`{value}`" for value in choices) + "."
    said = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    limits = [
        f"{words} {getattr(rule, name)}"
        for rule in one.metadata
        for name, words in said.items()
        if getattr(rule, name, None) is not None
    ]
    return f" Allowed: {', '.join(limits)}." if limits else ""


def _cell(text: str) -> str:
    return _prose(" ".join(text.split())).replace("|", "\\|")


def _prose(text: str) -> str:
    """`text` with `<id>` outside of code kept from being read as HTML."""
    parts = text.split("`")
    return "`".join(part if number % 2 else part.replace("<", "\\<") for number, part in enumerate(parts))


PAGES = {"api.md": api_page, "settings.md": settings_page, "comparison.schema.json": comparison_schema}
PAGES |= {"json.schema.json": json_schema, "json.md": json_page}
# What stands before and after "owner/name" in the files that name the repository.
_ADDRESS = re.compile(
    r"(/github/|git\+https://github\.com/|(?:Documentation|Changelog) = \"https://github\.com/)"
    r"[\w.-]+/[\w.-]+(?=[/\"\\])"
)


def repository() -> str:
    """The owner and name of the repository on GitHub."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return str(project["urls"]["Repository"]).removeprefix("https://github.com/")


def files() -> dict[Path, str]:
    """The text of every file that is written."""
    written = {FOLDER / name: page() for name, page in PAGES.items()}
    for path in (ROOT / "pyproject.toml", ROOT / "ftlab/report/notebook.py", *sorted(ROOT.glob("notebooks/*.ipynb"))):
        written[path] = _ADDRESS.sub(rf"\g<1>{repository()}", path.read_text(encoding="utf-8"))
    return written


def outdated() -> list[str]:
    """The files that are not what would be written now."""
    return [
        str(path.relative_to(ROOT))
        for path, text in files().items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    if "--check" in sys.argv:
        sys.exit(f"Run `python .ci/reference.py`: {', '.join(late)}" if (late := outdated()) else 0)
    for path, text in files().items():
        path.write_text(text, encoding="utf-8")
