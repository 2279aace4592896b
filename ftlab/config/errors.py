"""Readable messages for the validation errors of pydantic."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from ftlab.errors import InputError, nearest


def explain(error: ValidationError, model: type[BaseModel]) -> InputError:
    """The first validation error of `model` as an InputError: the field, its value, what is allowed."""
    problem = error.errors()[0]
    path = [str(part) for part in problem["loc"]]
    name = ".".join(path)
    section = _section_at(path[:-1], model)
    if problem["type"] == "extra_forbidden":
        known = list(section.model_fields) if section else []
        close = nearest(path[-1], known) or _field_elsewhere(path[-1], model)
        return InputError(
            f"Unknown setting {name!r}",
            given=f"{path[-1]}: {problem['input']!r}",
            allowed=", ".join(known) or None,
            try_=f"did you mean {close!r}?" if close else None,
        )
    field = section.model_fields.get(path[-1]) if section else None
    title = f"{field.title} ({name})" if field is not None and field.title else name
    return InputError(f"{title} cannot take this value", given=repr(problem["input"]), allowed=allowed_by(problem))


def allowed_by(problem: Any) -> str:
    """What one of pydantic's errors would have accepted, in words."""
    context = problem.get("ctx") or {}
    match problem["type"]:
        case "literal_error":
            return str(context["expected"])
        case "greater_than":
            return f"a number above {context['gt']}"
        case "greater_than_equal":
            return f"a number of at least {context['ge']}"
        case "less_than":
            return f"a number below {context['lt']}"
        case "less_than_equal":
            return f"a number of at most {context['le']}"
        case "finite_number":
            return "a finite number"
        case "int_parsing" | "int_type" | "int_from_float" | "int_parsing_size":
            return "a whole number"
        case "float_parsing" | "float_type":
            return "a number"
        case "bool_parsing" | "bool_type":
            return "true or false"
        case "string_too_short":
            return "non-empty text"
        case "list_type":
            return "a list, such as [{...}, {...}]"
        case "missing":
            return "a value; this setting is required"
        case "string_type":
            return "text"
        case "dict_type" | "model_type" | "model_attributes_type":
            return "a group of settings (key: value)"
        case _:
            return str(problem["msg"]).removeprefix("Value error, ")


def _section_at(path: list[str], model: type[BaseModel]) -> type[BaseModel] | None:
    section = model
    for part in path:
        if part.isdigit():  # an index into a list of groups, all of one type
            continue
        field = section.model_fields.get(part)
        inner = next(iter(get_args(field.annotation)), field.annotation) if field is not None else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return None
        section = inner
    return section


def _field_elsewhere(name: str, model: type[BaseModel]) -> str | None:
    """The path of a setting given at the wrong level: `learning_rate` means `optimisation.learning_rate`."""
    paths = {
        f"{section}.{field}"
        for section, info in model.model_fields.items()
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel)
        for field in info.annotation.model_fields
    }
    exact = sorted(path for path in paths if path.split(".")[1] == name)
    if exact:
        return exact[0]
    close = nearest(name, [path.split(".")[1] for path in sorted(paths)])
    return next((path for path in sorted(paths) if path.split(".")[1] == close), None) if close else None
