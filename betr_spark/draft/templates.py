"""The template of a benchmark's examples, guessed from the names of its fields and their values.

An example is the question, the answer and what belongs to them. Wrong options of a choice are left out.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

Rows = Sequence[Mapping[str, Any]]
_QUESTION = (
    "question", "question_stem", "query", "problem", "prompt", "goal", "ctx", "instruction", "input", "sentence", "premise",
    "claim",
)  # fmt: skip
_ANSWER = (
    "answer", "answers", "correct_answer", "best_answer", "final_answer", "solution", "canonical_solution", "response",
    "output", "completion", "target", "targets", "hypothesis", "summary", "highlights", "text",
)  # fmt: skip
_BEFORE = ("context", "passage", "support", "story", "article", "paragraph", "background", "document")
_AFTER = ("facts", "fact", "fact1", "explanation", "rationale", "reasoning", "evidence", "hint")
_TEXT = ("text", "content", "sentence", "passage", "story", "body")
_CHOICES = ("choices", "options", "endings", "candidates", "answer_choices")
_CORRECT = ("answerKey", "answer_key", "answer", "label", "gold", "correct", "cop")
_OPTIONS = (  # of fields that are an option each, with the label of the first
    ("sol1", "sol2"), ("option1", "option2"), ("ending0", "ending1", "ending2", "ending3"), ("A", "B", "C", "D"),
    ("opa", "opb", "opc", "opd"),
)  # fmt: skip
_FROM_ZERO = "'{}' is taken to count the options from 0; with no 0 and no last number in it, it can also count from 1"
_FROM_ONE = "'{}' is taken to count the options from 1; with no 0 and no last number in it, it can also count from 0"
_CODE = ("canonical_solution", "completion")
_LETTERS = "ABCDEFGHIJ"


class Candidate(NamedTuple):
    """A template, as `template` or `jinja`, the fields that it uses, whether they are known names, and what is a guess."""

    key: str
    template: str
    fields: tuple[str, ...]
    is_known: bool = True
    doubt: str = ""


def candidates(rows: Rows) -> Iterator[Candidate]:
    """Yield templates that the fields suggest, the best first."""
    fields = list(dict.fromkeys(field for row in rows for field in row))
    question = _first(fields, _QUESTION, rows)
    yield from _choices(fields, question, rows)
    yield from _nested_answers(fields, question, rows)
    yield from _messages(fields, rows)
    answer = _first([field for field in fields if field != question], _ANSWER, rows)
    if question is not None:
        before, after = ([f for f in names if f in fields and _is_text(f, rows)] for names in (_BEFORE, _AFTER))
        core = [question, *([answer] if answer else [])]
        for chosen in dict.fromkeys([(*before, *core, *after), tuple(core)]):
            yield from _joined(chosen, "" if answer in _CODE and len(chosen) == len(core) else "\n", rows)
    if (text := _first(fields, _TEXT, rows)) is not None:
        yield from _joined((text,), "\n", rows)
    strings = [field for field in fields if any(isinstance(row.get(field), str) for row in rows) and _is_plain(field)]
    spaced = [field for field in strings if any(" " in str(row.get(field)).strip() for row in rows)]  # no ids
    for candidate in _joined(tuple(spaced or strings), "\n", rows) if strings else ():
        yield candidate._replace(is_known=False)


def _first(fields: Sequence[str], names: Sequence[str], rows: Rows) -> str | None:
    """The first of the names, in any case, that is a field of text, numbers, or lists of them."""
    by_lower = {field.lower(): field for field in reversed(fields)}
    return next((by_lower[name] for name in names if name in by_lower and _is_text(by_lower[name], rows)), None)


def _is_text(field: str, rows: Rows) -> bool:
    values = [row[field] for row in rows if row.get(field) is not None]
    parts = [part for value in values for part in (value if isinstance(value, list) else [value])]
    return bool(parts) and all(isinstance(part, str | int | float | bool) for part in parts)


def _is_plain(field: str) -> bool:
    """Whether a `template` can name the field."""
    return not field.isdigit() and not set(field) & set("{}:!")


def _joined(fields: tuple[str, ...], between: str, rows: Rows) -> Iterator[Candidate]:
    """The fields one after the other; if some rows lack one of them, by Jinja."""
    yield Candidate("template", between.join(f"{{{field}}}" for field in fields), fields)
    lacking = {field for field in fields if any(row.get(field) is None for row in rows)}
    if not lacking or not all(field.isidentifier() for field in fields):
        return
    parts = []
    for number, field in enumerate(fields):
        value = f"{field}|join('\\n')" if any(isinstance(row.get(field), list) for row in rows) else field
        part = f"{between if number else ''}{{{{ {value} }}}}"
        parts.append(
            f"{{% if {field} is defined and {field} is not none %}}{part}{{% endif %}}" if field in lacking else part
        )
    yield Candidate("jinja", "".join(parts), fields)


def _choices(fields: Sequence[str], question: str | None, rows: Rows) -> Iterator[Candidate]:
    """The question and the right one of several options, which a key or a number names."""
    correct = [field for field in _CORRECT if field in fields]
    for name in (field for field in _CHOICES if field in fields):
        for key in correct:
            if (right := _right_option(name, key, rows)) and question is not None:
                doubt = _FROM_ZERO.format(key) if _may_count_from_one(rows, key, name) else ""
                yield Candidate("jinja", f"{{{{ {question} }}}}\n{{{{ {right} }}}}", (question, name, key), doubt=doubt)
    for options in _OPTIONS:
        for key in correct:
            if question is None or not set(options) <= set(fields) or key in options:
                continue
            values = {str(row.get(key)) for row in rows}
            is_open = values.isdisjoint({"0", str(len(options))}) and all(value.isdigit() for value in values)
            if values <= {"0", "1", "2", "3"} and ("0" in values or not _one_based(options)):
                position = f"{key}|int"
            elif values <= {str(number + 1) for number in range(len(options))}:
                position = f"{key}|int - 1"
            elif values <= set(_LETTERS[: len(options)]):
                position = f"'{_LETTERS}'.index({key})"
            else:
                continue
            right = f"[{', '.join(options)}][{position}]"
            doubt = (_FROM_ONE if position.endswith("- 1") else _FROM_ZERO).format(key) if is_open else ""
            yield Candidate("jinja", f"{{{{ {question} }}}}\n{{{{ {right} }}}}", (question, *options, key), doubt=doubt)


def _one_based(options: Sequence[str]) -> bool:
    return options[0].endswith("1")


def _may_count_from_one(rows: Rows, key: str, name: str) -> bool:
    """Whether the answers are numbers that are positions in the list of options from 0 and also from 1."""
    options = [(str(row.get(key)), row.get(name)) for row in rows]
    counts = [(answer, len(each)) for answer, each in options if isinstance(each, list)]
    return all(answer.isdigit() and 0 < int(answer) < count for answer, count in counts) and bool(counts)


def _right_option(name: str, key: str, rows: Rows) -> str | None:
    """An expression of Jinja for the right option."""
    options, answers = [row.get(name) for row in rows], [row.get(key) for row in rows]
    if all(isinstance(each, Mapping) and {"text", "label"} <= set(each) for each in options):
        return f"{name}.text[{name}.label.index({key})]"
    if not all(isinstance(each, list) and each for each in options):
        return None
    parts = [part for each in options if isinstance(each, list) for part in each]
    if all(isinstance(part, Mapping) and {"text", "label"} <= set(part) for part in parts):
        return f"({name}|selectattr('label', 'equalto', {key})|first).text"
    if not all(isinstance(part, str) for part in parts):
        return None
    counts = [len(each) for each in options if isinstance(each, list)]
    if all(str(answer).isdigit() and int(str(answer)) < count for answer, count in zip(answers, counts, strict=True)):
        return f"{name}[{key}|int]"
    letters = zip(answers, counts, strict=True)
    if all(len(str(answer)) == 1 and str(answer) in _LETTERS[:count] for answer, count in letters):
        return f"{name}['{_LETTERS}'.index({key})]"
    return None  # the answer is a text, as in a question without options


def _nested_answers(fields: Sequence[str], question: str | None, rows: Rows) -> Iterator[Candidate]:
    """Answers in an object: `answers.text` is a list (SQuAD), `answer.value` a text (TriviaQA)."""
    for name in (field for field in ("answers", "answer") if field in fields and question is not None):
        values = [row.get(name) for row in rows]
        context = next((field for field in _BEFORE if field in fields and _is_text(field, rows)), None)
        before = f"{{{{ {context} }}}}\n" if context else ""
        used = (*([context] if context else []), str(question), name)
        if all(isinstance(value, Mapping) and isinstance(value.get("text"), list) for value in values):
            answer = f"{{% if {name}.text %}}\n{{{{ {name}.text[0] }}}}{{% endif %}}"
            yield Candidate("jinja", f"{before}{{{{ {question} }}}}{answer}", used)
        elif all(isinstance(value, Mapping) and isinstance(value.get("value"), str) for value in values):
            yield Candidate("jinja", f"{before}{{{{ {question} }}}}\n{{{{ {name}.value }}}}", used)


def _messages(fields: Sequence[str], rows: Rows) -> Iterator[Candidate]:
    """A conversation: a list of objects with a text each."""
    for name in (field for field in ("messages", "conversations", "conversation") if field in fields):
        turns = [turn for row in rows for turn in (row.get(name) or [])]
        for key in ("content", "value"):
            if turns and all(isinstance(turn, Mapping) and isinstance(turn.get(key), str) for turn in turns):
                loop = f"{{% for turn in {name} %}}{{{{ turn.{key} }}}}{{% if not loop.last %}}\n{{% endif %}}{{% endfor %}}"
                yield Candidate("jinja", loop, (name,))
