"""How texts are compared: exact match, classes, numbers, JSON fields, ROUGE and BLEU, row by row or over a corpus."""

from __future__ import annotations

import ast
import json
import re
import string
import unicodedata
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ftlab.core.words import composed
from ftlab.data.final_number import NUMBER, find_number, quantity, same_quantity
from ftlab.data.tool_calls import Call, parts_of
from ftlab.errors import InputError, nearest, shorten

if TYPE_CHECKING:
    import numpy as np

EXACT_MATCH_RULE = (
    "white space at both ends and the Unicode form of letters ignored; where the reference is a JSON object or list, "
    "or one number (1,000 = 1000 = 1e3; not 007, +49 or more than 15 digits; 3.10 is not 3.1), compared by value; a "
    "tool call by name and arguments, whatever stands beside it"
)
PROBE_RULE = (
    "upper and lower case, white space, Unicode forms and a final full stop, question or exclamation mark ignored"
)
TOKEN_F1_RULE = (
    "as SQuAD: lower case, Unicode forms, punctuation and the articles a, an, the left out; words by white space, each "
    "character a word in scripts without spaces"
)
# Invisible: soft hyphen, zero-width space, word joiner, byte order mark. Joiners that shape letters stay.
_UNSEEN = str.maketrans("", "", "\u00ad\u200b\u2060\ufeff")
# Kana, Han, Thai, Lao, Khmer and Myanmar are written without spaces between words.
_UNSPACED = re.compile("([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff])")
_PUNCTUATION = re.compile(f"[{re.escape(string.punctuation)}]")
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_GRAM = 3  # words


def is_exact(prediction: str, reference: str) -> bool:
    """Whether an answer equals its reference as defined in EXACT_MATCH_RULE."""
    prediction, reference = (composed(text) for text in (prediction, reference))
    if prediction == reference:
        return True
    if "<tool_call>" in reference and (calls := parts_of(reference).calls):
        return same_calls(parts_of(prediction).calls, calls)
    wanted = json_value(reference)
    if wanted is not None:
        value = json_value(prediction)
        return value is not None and same_value(value, wanted)
    return same_quantity(prediction, reference)


def same_calls(left: Sequence[Call], right: Sequence[Call]) -> bool:
    """Whether the calls are the same, in any order, comparing arguments by value."""
    rest = list(right)
    for call in left:
        match = next((c for c in rest if c.name == call.name and same_value(c.arguments, call.arguments)), None)
        if match is None:
            return False
        rest.remove(match)
    return not rest


def is_general_match(prediction: str, reference: str) -> bool:
    """Whether a short answer equals its reference, ignoring case, spacing and the final punctuation mark."""
    return plain(prediction) == plain(reference)


def token_f1(prediction: str, reference: str) -> float:
    """The F1 of the words that answer and reference share, 0 to 1 (Rajpurkar et al., 2016, arXiv 1606.05250)."""
    tokens, wanted = _squad_words(prediction), _squad_words(reference)
    if not tokens or not wanted:
        return float(tokens == wanted)
    shared = sum((Counter(tokens) & Counter(wanted)).values())
    # 2PR / (P + R), expanded.
    return 2 * shared / (len(tokens) + len(wanted))


def repetition(text: str) -> float:
    """The share of the word triples of `text` that occurred in it before, 0 to 1; 0 for short texts.

    Rep-3 of Welleck et al. 2020 (arXiv 1908.04319), with words for tokens.
    """
    tokens = words(text)
    grams = Counter(tuple(tokens[at : at + _GRAM]) for at in range(len(tokens) - _GRAM + 1))
    total = sum(grams.values())
    return 1 - len(grams) / total if total else 0.0


def words(text: str) -> list[str]:
    """Words separated by white space; in scripts without spaces, each character counts as one."""
    return _UNSPACED.sub(r" \1 ", text).split()


def has_spaces(texts: list[str]) -> bool:
    """Whether most letters of `texts` belong to scripts that put spaces between words."""
    letters = sum(sum(character.isalpha() for character in text) for text in texts)
    return 2 * sum(len(_UNSPACED.findall(text)) for text in texts) <= letters


def folded(text: str) -> str:
    """`text` in Unicode form NFKC, without invisible characters and case-folded."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).translate(_UNSEEN).casefold())


def is_unspaced(character: str) -> bool:
    """Whether `character` belongs to a script that puts no spaces between words."""
    return _UNSPACED.match(character) is not None


def plain(text: str) -> str:
    """`text` without what PROBE_RULE ignores."""
    return " ".join(folded(text).split()).rstrip(".!?").rstrip()


def json_value(text: str) -> dict[str, Any] | list[Any] | None:
    """The JSON object or list in `text`, else None: a bare number or word is text."""
    if not text.startswith(("{", "[")):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict | list) else None


def same_value(left: Any, right: Any) -> bool:
    """Equality of JSON values: 4 equals 4.0, but true does not equal 1, unlike in Python. A numeric text equals a
    number ("1,000", 1000); two texts are equal only as written ("1e3" and "1000" are not)."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same_value(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(same_value(a, b) for a, b in zip(left, right, strict=True))
    if isinstance(left, str) and isinstance(right, str):
        return unicodedata.normalize("NFC", left) == unicodedata.normalize("NFC", right)
    if isinstance(left, str) != isinstance(right, str):
        text, number = (left, right) if isinstance(left, str) else (right, left)
        return isinstance(number, int | float) and not isinstance(number, bool) and quantity(text) == number
    return isinstance(left, bool) == isinstance(right, bool) and left == right


def _squad_words(text: str) -> list[str]:
    return words(_ARTICLES.sub(" ", _PUNCTUATION.sub("", folded(text))))


LABEL_RULE = (
    "the whole answer must be a label; case, white space, Unicode forms and a final full stop, question or exclamation "
    "mark ignored"
)
LIKELIHOOD_RULE = "the label that the model finds likeliest as its answer"
NO_LABEL = "no label"
_MOST_LABELS = 50
_LONGEST_LABEL = 60  # characters


def find_labels(references: Sequence[str]) -> list[str] | None:
    """The labels that the references consist of: few, short and recurring; else None."""
    counts = Counter(composed(reference) for reference in references)
    short = all(label and len(label) <= _LONGEST_LABEL and label[0] not in "{[" for label in counts)
    # Five rows per label on average; with fewer, recurring short answers would pass for classes.
    if not short or not 2 <= len(counts) <= _MOST_LABELS or len(references) < 5 * len(counts):
        return None
    return find_all_labels(references)


def find_all_labels(references: Iterable[str]) -> list[str]:
    """The distinct references: the labels of data known to be a classification.

    Of several Unicode forms of a label, the most common one stays.
    """
    forms = {composed(text): text for text, _ in reversed(Counter(map(str.strip, references)).most_common())}
    return sorted(forms.values())


def label_numbers(texts: Sequence[str], labels: Sequence[str]) -> list[int]:
    """The index in `labels` of each text; -1 if it is not a label."""
    keys = [plain(label) for label in labels]
    read = plain if len(set(keys)) == len(keys) else composed
    place = {read(label): at for at, label in enumerate(labels)}
    return [place.get(read(text), -1) for text in texts]


def check_labels(labels: Sequence[str], references: Sequence[str]) -> None:
    """Raise InputError if there are fewer than two `labels` or a reference is not among them."""
    if len(set(labels)) < 2:
        raise InputError("A classification needs at least two labels", given=", ".join(labels) or "none")
    for reference, number in zip(references, label_numbers(references, labels), strict=True):
        if number < 0:
            meant = nearest(reference.strip(), labels)
            raise InputError(
                "An answer in the data is not one of the labels",
                given=reference,
                allowed=shorten(", ".join(labels)),
                try_=f"{'did you mean ' + meant + '? Else ' if meant else ''}add it to the labels, or leave them empty",
            )


def baselines(true: Sequence[int], labels: Sequence[str], commonest: str | None) -> dict[str, Any]:
    """Accuracies that need no model: of always giving `commonest` (the most common answer in training; None if it is
    not a label), as `label` and `always`, and of guessing among the labels, `chance`."""
    [place] = label_numbers([commonest or ""], labels)
    shares: dict[str, Any] = {"chance": 1 / len(labels)}
    return shares if place < 0 else shares | {"label": labels[place], "always": list(true).count(place) / len(true)}


def class_counts(true: Sequence[int], answered: Sequence[int], labels: int) -> np.ndarray:
    """For each row and label: right, given, true. Shape (rows, 3 * labels); the sums over rows give F1 and all other
    figures."""
    import numpy as np

    wanted, named = np.zeros((len(true), labels)), np.zeros((len(true), labels))
    for row, (right, answer) in enumerate(zip(true, answered, strict=True)):
        wanted[row, right] = 1
        if answer >= 0:
            named[row, answer] = 1
    return np.concatenate([wanted * named, named, wanted], axis=1)


def macro_f1(sums: np.ndarray, present: np.ndarray) -> np.ndarray:
    """The mean F1 over the classes `present` (in the references), for each line of summed counts."""
    import numpy as np

    right, named, wanted = np.split(sums, 3, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        # A class missing from a bootstrap sample has no F1 there.
        scores = (2 * right / (named + wanted))[:, present]
    return np.nanmean(scores, axis=1)


def class_detail(
    true: Sequence[int], answered_by: Mapping[str, Sequence[int]], labels: Sequence[str]
) -> dict[str, Any]:
    """Precision, recall and F1 of each label, and the confusion matrix, for each side.

    Matrix rows are true labels, columns are answers: the labels, then "no label".
    """
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    every = range(len(labels))
    detail: dict[str, Any] = {"labels": list(labels), "columns": [*labels, NO_LABEL]}
    for side, numbers in answered_by.items():
        scores = precision_recall_fscore_support(true, numbers, labels=every, zero_division=0)
        answered = [len(labels) if number < 0 else number for number in numbers]
        confusion = confusion_matrix(true, answered, labels=range(len(labels) + 1))[:-1]
        detail[side] = {
            "per_class": [
                {"label": label, "precision": float(p), "recall": float(r), "f1": float(f), "rows": int(rows)}
                for label, p, r, f, rows in zip(labels, *scores, strict=True)
            ],
            "confusion": confusion.tolist(),
        }
    return detail


NUMBER_RULE = (
    "the last number of the answer counts, by value; commas, apostrophes or unbroken spaces between thousands "
    "(ordinary ones where the number stands alone), a point before decimals (1.000 is 1); fractions, times, dates, "
    "ranges (10-20), decimal commas, and figures with a word or letter for thousands or millions (2 million, 2k) are "
    "no numbers"
)


def is_number(text: str) -> bool:
    """Whether `text` is one number, optionally with a currency sign before it or a short unit after it."""
    return bool(re.fullmatch(rf"[$€£]?\s*(?:{NUMBER.pattern})\s*(?:%|[^\W\d]{{1,8}}\.?)?", text.strip()))


def absolute_error(answer: str, reference: str) -> float | None:
    """The absolute difference between answer and reference. None if either has no number."""
    value, wanted = find_number(answer), find_number(reference)
    return None if value is None or wanted is None else abs(value - wanted)


def gives_number(answer: str, reference: str) -> float | None:
    """1 or 0: whether the answer has a number. None if the reference has none."""
    return None if find_number(reference) is None else float(find_number(answer) is not None)


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
    """A validator for `schema` that reads nothing from the network. Raises InputError for an invalid schema."""
    from jsonschema import SchemaError, validators
    from referencing import Registry

    if not isinstance(schema, dict):
        raise InputError("A JSON schema must be an object", given=schema, try_='{"type": "object", "required": [...]}')
    kind = validators.validator_for(schema, default=validators.Draft202012Validator)
    try:
        kind.check_schema(schema)
    except SchemaError as error:
        raise InputError(f"The JSON schema is not valid: {error.message}", given=list(error.absolute_path)) from None
    # A separate registry: the default one would fetch the target of a $ref.
    return kind(schema, registry=Registry())


def is_valid_json(answer: str, validator: Any = None) -> bool:
    """Whether an answer is usable JSON: valid under the schema, or an object or list if there is none.

    A bare number or word is also valid JSON, but then any short answer would pass.
    """
    try:
        value = json.loads(answer, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, (dict, list)) if validator is None else is_valid(value, validator)


def is_valid(value: Any, validator: Any) -> bool:
    """Whether `value` is valid. Raises InputError if the schema refers to one that is not available."""
    from referencing.exceptions import Unresolvable

    try:
        return bool(validator.is_valid(value))
    except Unresolvable as error:
        raise InputError(
            "The JSON schema refers to another schema, which is not fetched",
            given=error.ref,
            try_="write what it refers to under $defs",
        ) from None
    except RecursionError:
        return False


def fields_right(answer: str, reference: str, validator: Any = None) -> dict[str, bool] | None:
    """For each field of the reference (a JSON object or list), whether the answer has it with the same value.

    If the reference is not one, the schema decides: each of its properties must be valid, and present if required. None
    if neither names a field. Names are paths: who.name, items[0].price, and items[] for the number of items.
    """
    wanted, answered = (json_value(composed(text)) for text in (reference, answer))
    if wanted is not None:
        leaves = {} if answered is None else dict(_leaves(answered))
        return {path: path in leaves and same_value(leaves[path], value) for path, value in _leaves(wanted)} or None
    properties = validator.schema.get("properties") if validator is not None else None
    if not isinstance(properties, dict) or not properties:
        return None
    if not isinstance(answered, dict):
        return dict.fromkeys(properties, False)
    required = validator.schema.get("required", [])
    return {
        name: is_valid(answered[name], validator.evolve(schema=rule)) if name in answered else name not in required
        for name, rule in properties.items()
    }


def code_parses(answer: str) -> bool:
    """Whether an answer is Python code that parses. False for an empty one."""
    fenced = _FENCE.fullmatch(answer)
    code = fenced[1] if fenced else answer
    if not code.strip():
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an odd escape in someone's string is not our concern
            ast.parse(code.strip("\n"))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def looks_like_code(text: str) -> bool:
    """Whether `text` parses and is more than a name: a single word is also valid Python."""
    if not code_parses(text):
        return False
    fenced = _FENCE.fullmatch(text)
    kinds = (ast.FunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom, ast.Assign, ast.For, ast.If, ast.With, ast.Call)
    return any(isinstance(node, kinds) for node in ast.walk(ast.parse((fenced[1] if fenced else text).strip("\n"))))


def field_name(path: str) -> str:
    """The field that a path of `fields_right` belongs to, regardless of the list index: items[].price."""
    return re.sub(r"\[\d+\]", "[]", path)


def _leaves(value: Any, path: str = "") -> list[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        pairs = [(f"{path}.{key}" if path else key, inner) for key, inner in value.items()]
    elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        pairs = [(f"{path}[{place}]", inner) for place, inner in enumerate(value)]
        return [(f"{path}[]", len(value)), *(leaf for name, inner in pairs for leaf in _leaves(inner, name))]
    else:
        return [(path or "[]", value)] if path or isinstance(value, list) else []
    return [leaf for name, inner in pairs for leaf in _leaves(inner, name)]


def _refuse(constant: str) -> None:
    # NaN and Infinity, which Python accepts and JSON does not.
    raise ValueError(constant)


_WORD = re.compile(r"[^\W_]+")


class _Words:
    """rouge-score's own tokenizer drops every letter outside a to z. On plain English this one gives the same words."""

    def tokenize(self, text: str) -> list[str]:
        return words(" ".join(_WORD.findall(folded(text))))


def rouge_rows(
    names: Sequence[str], answers: Mapping[str, Sequence[str]], references: Sequence[str]
) -> dict[str, dict[str, list[float]]]:
    """F1 of ROUGE (Lin, 2004) for each row: {name: {side: [0 to 1]}}; names are rouge1, rouge2, rougeL."""
    scorer = _scorer(names)
    scores: dict[str, dict[str, list[float]]] = {name: {side: [] for side in answers} for name in names}
    for side, texts in answers.items():
        for answer, reference in zip(texts, references, strict=True):
            for name, score in scorer.score(reference, answer).items():
                scores[name][side].append(float(score.fmeasure))
    return scores


def rouge_rule() -> str:
    from importlib.metadata import version

    return f"F1, rouge-score {version('rouge-score')}, lower case, one Unicode form, no stemming"


def _scorer(names: Sequence[str]) -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(list(names), tokenizer=_Words())


def corpus_metric(name: str, references: Sequence[str]) -> Any:
    """sacrebleu's metric for `name` (bleu or chrf). BLEU uses characters if the script has no spaces between words."""
    from sacrebleu.metrics import BLEU, CHRF

    if name == "chrf":
        return CHRF()
    return BLEU(force=True, tokenize="13a" if has_spaces(list(references)) else "char")


def row_counts(metric: Any, answers: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """sacrebleu's counts for each row, shape (rows, counts); the counts of a corpus are their sum.

    Raises ValueError if answers and references are not paired, which sacrebleu would score without complaint.
    """
    import numpy as np

    if len(answers) != len(references):
        raise ValueError(f"{len(answers)} answers, {len(references)} references: they must be paired")
    # sacrebleu's own significance test uses these two methods of its metrics; its public ones only take texts.
    return np.asarray(metric._extract_corpus_statistics(list(answers), [list(references)]), dtype=np.float64)


def score_of_counts(metric: Any, counts: np.ndarray) -> np.ndarray:
    """The corpus score, 0 to 100, for each line of summed `counts`: sacrebleu's formulas, vectorized over lines."""
    from sacrebleu.metrics import BLEU

    if isinstance(metric, BLEU):
        return _bleu(counts, effective_order=metric.effective_order)
    return _chrf(counts, metric.beta**2)


def _bleu(counts: np.ndarray, *, effective_order: bool) -> np.ndarray:
    """BLEU with exponential smoothing, from counts: lengths of answers and references, matching and total n-grams of 1
    to 4."""
    import numpy as np

    made, wanted, right, total = counts[:, 0], counts[:, 1], counts[:, 2:6], counts[:, 6:10]
    reached = np.logical_and.accumulate(total > 0, axis=1)
    # Each order without a match counts half as much as the one before it.
    halved = 2.0 ** -np.cumsum(reached & (right == 0), axis=1)
    precision = np.where(reached, np.where(right > 0, right, halved) / total.clip(min=1), 1.0)
    orders = reached.sum(axis=1).clip(min=1) if effective_order else np.full(len(counts), 4)
    shorter = np.exp(1 - np.maximum(wanted / made.clip(min=1), 1))
    score = 100 * shorter * np.exp(np.log(precision).sum(axis=1) / orders)
    known = right.any(axis=1) & (reached.all(axis=1) | effective_order)
    # Rounding can put a perfect score at 100.00000000000004.
    return np.where(known, np.minimum(score, 100.0), 0.0)


def _chrf(counts: np.ndarray, weight: float) -> np.ndarray:
    """chrF from counts: for each order the n-grams of answers, of references and of both. `weight` is beta squared."""
    import numpy as np

    made, wanted, both = counts[:, 0::3], counts[:, 1::3], counts[:, 2::3]
    known = (made > 0) & (wanted > 0)
    orders = known.sum(axis=1).clip(min=1)
    precision = np.where(known, both / made.clip(min=1), 0).sum(axis=1) / orders
    recall = np.where(known, both / wanted.clip(min=1), 0).sum(axis=1) / orders
    divisor = weight * precision + recall
    score = 100 * (1 + weight) * precision * recall / np.where(divisor > 0, divisor, 1)
    return np.minimum(score, 100.0)


def row_scores(metric: Any, counts: np.ndarray) -> list[float]:
    """The score of each row alone, for sorting and display. The corpus score is not their mean."""
    from sacrebleu.metrics import BLEU

    # Short rows have no sequences of four words: without the effective order, nearly all would score close to zero.
    alone = BLEU(effective_order=True) if isinstance(metric, BLEU) else metric
    return score_of_counts(alone, counts).tolist()
