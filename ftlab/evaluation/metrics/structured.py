"""Answers that a program reads: JSON, by a schema or by the reference, and Python code."""

from __future__ import annotations

import ast
import json
import re
import warnings
from typing import Any

from ftlab.errors import InputError
from ftlab.evaluation.metrics.text import json_value, same_value
from ftlab.wording import composed

JSON_RULE = "valid JSON, an object or a list, and nothing around it"
FIELDS_RULE = (
    "share of the fields of the reference that the answer has with the same value; numbers by value, also of a text "
    'against a number ("1,000", 1000), two texts as they are written; fields inside fields count one by one, also '
    "those of objects in a list, by their place in it, and how many they are; another list counts as a whole, fields "
    "of the answer alone are not counted"
)
SCHEMA_FIELDS_RULE = "share of the fields of the schema that are valid, or left out where they may be"
CODE_RULE = "Python's own parser reads it; a Markdown fence around it is ignored; nothing is run"
_FENCE = re.compile(r"\s*```[\w+.-]*[ \t]*\n(.*?)\n?[ \t]*```\s*", re.DOTALL)


def schema_validator(schema: dict[str, Any]) -> Any:
    """A validator of `schema`, which reads nothing from the network. Raises InputError for a schema that is none."""
    from jsonschema import SchemaError, validators
    from referencing import Registry

    if not isinstance(schema, dict):
        raise InputError("A JSON schema must be an object", given=schema, try_='{"type": "object", "required": [...]}')
    kind = validators.validator_for(schema, default=validators.Draft202012Validator)
    try:
        kind.check_schema(schema)
    except SchemaError as error:
        raise InputError(f"The JSON schema is not valid: {error.message}", given=list(error.absolute_path)) from None
    # An own registry: the default one would fetch what a $ref names.
    return kind(schema, registry=Registry())


def is_valid_json(answer: str, validator: Any = None) -> bool:
    """Whether an answer is JSON that a program can use: valid under the schema, or without one an object or a list.

    A bare number or word is valid JSON too, but any short answer would be.
    """
    try:
        value = json.loads(answer, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, (dict, list)) if validator is None else is_valid(value, validator)


def is_valid(value: Any, validator: Any) -> bool:
    """Whether `value` is valid. Raises InputError when the schema refers to one that is not at hand."""
    from referencing.exceptions import Unresolvable

    try:
        return bool(validator.is_valid(value))
    except Unresolvable as error:
        raise InputError(
            "The JSON schema refers to another one, and nothing is fetched",
            given=error.ref,
            try_="write what it refers to under $defs",
        ) from None
    except RecursionError:
        return False


def fields_right(answer: str, reference: str, validator: Any = None) -> dict[str, bool] | None:
    """For each field of the reference (a JSON object or list) whether the answer has it with the same value.

    Where the reference is none, the schema decides: each of its properties must be valid, and there where required.
    None where neither names a field. Names are paths: who.name, items[0].price, and items[] for how many there are.
    """
    wanted, given = (json_value(composed(text)) for text in (reference, answer))
    if wanted is not None:
        found = {} if given is None else dict(_leaves(given))
        return {path: path in found and same_value(found[path], value) for path, value in _leaves(wanted)} or None
    properties = validator.schema.get("properties") if validator is not None else None
    if not isinstance(properties, dict) or not properties:
        return None
    if not isinstance(given, dict):
        return dict.fromkeys(properties, False)
    required = validator.schema.get("required", [])
    return {
        name: is_valid(given[name], validator.evolve(schema=rule)) if name in given else name not in required
        for name, rule in properties.items()
    }


def code_parses(answer: str) -> bool:
    """Whether an answer is Python code that parses; an empty one is not."""
    fenced = _FENCE.fullmatch(answer)
    code = fenced[1] if fenced else answer
    if not code.strip():
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an odd escape in somebody's string is no matter of ours
            ast.parse(code.strip("\n"))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def looks_like_code(text: str) -> bool:
    """Whether `text` parses and does more than name something: a single word is valid Python too."""
    if not code_parses(text):
        return False
    fenced = _FENCE.fullmatch(text)
    kinds = (ast.FunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom, ast.Assign, ast.For, ast.If, ast.With, ast.Call)
    return any(isinstance(node, kinds) for node in ast.walk(ast.parse((fenced[1] if fenced else text).strip("\n"))))


def field_name(path: str) -> str:
    """The field that a path of `fields_right` belongs to, whatever the place in a list: items[].price."""
    return re.sub(r"\[\d+\]", "[]", path)


def _leaves(value: Any, path: str = "") -> list[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        pairs = [(f"{path}.{key}" if path else key, inner) for key, inner in value.items()]
    elif isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
        pairs = [(f"{path}[{place}]", inner) for place, inner in enumerate(value)]
        return [(f"{path}[]", len(value)), *(leaf for name, inner in pairs for leaf in _leaves(inner, name))]
    else:
        return [(path or "[]", value)] if path or isinstance(value, list) else []
    return [leaf for name, inner in pairs for leaf in _leaves(inner, name)]


def _refuse(constant: str) -> None:
    # NaN and Infinity, which Python reads and JSON does not know.
    raise ValueError(constant)
