"""Names of input columns: dots reach into JSON objects and structs, backticks quote a name that has a dot itself."""

import re

_STEP = re.compile(r"`((?:[^`]|``)+)`|([^`.]+)")


def column_path(name: str) -> tuple[str, ...]:
    """Split the name of a column into its steps, from the outermost object to the value.

    A step in backticks is taken as it is, with `` `` `` for a backtick.

    Raises:
        ValueError: an empty step, or a backtick that is not closed.

    >>> column_path("doc.text")
    ('doc', 'text')
    >>> column_path("`doc.text`")
    ('doc.text',)
    """
    steps, position = [], 0
    while step := _STEP.match(name, position):
        steps.append(step[2] if step[1] is None else step[1].replace("``", "`"))
        position = step.end()
        if position == len(name):
            return tuple(steps)
        if name[position] != ".":
            break
        position += 1
    raise ValueError(
        f"'{name}' is not the name of a column; write a name that contains a dot or a backtick in backticks, "
        "with two backticks for each backtick in it"
    )


def checked_column(name: str) -> str:
    """Return the name itself if `column_path` accepts it."""
    column_path(name)
    return name


def quoted(step: str) -> str:
    """Quote one step, so that dots and backticks in it have no meaning.

    >>> quoted("doc.text")
    '`doc.text`'
    """
    return "`" + step.replace("`", "``") + "`"


def path_name(path: tuple[str, ...]) -> str:
    """Write a path as the configuration does, with backticks only where they are necessary.

    >>> path_name(("doc", "a.b"))
    'doc.`a.b`'
    """
    return ".".join(quoted(step) if set(step) & {".", "`"} else step for step in path)
