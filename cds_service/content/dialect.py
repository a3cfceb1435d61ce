"""YAML: how the service reads it, and the style in which the content is written.

``read_yaml`` reads every YAML file of the product: content, vignettes, and the file of clients. It
follows the core schema of YAML 1.2: only ``true`` and ``false`` are booleans, so that ``yes`` and
``no`` are answers; dates, times and codes stay text; numbers are decimal.

``dialect_faults`` lists the places where a file differs from the style that docs/content.md
describes. Such a file is read all the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import yaml


class NotYamlError(ValueError):
    """A text is not valid YAML. ``line`` is the line of the error; 0 if it is not known."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"line {line}: {reason}" if line else reason)
        self.line = line
        self.reason = reason


DEEPEST = 50  # levels of nesting of a document; ours have a dozen


class WrittenMapping(dict[str, object]):
    """A mapping that keeps the file and the line in which it is written, and those of its keys."""

    file = "?"
    line = 0
    lines: Mapping[str, int] = {}


def read_yaml(data: str | bytes, file: str = "?") -> object:
    """The value of a YAML document: a ``WrittenMapping``, a list, a text, a number, or the like.

    ``file`` is the name of the file that each mapping keeps, for messages. Raises ``NotYamlError``
    if the text is not YAML, gives a key twice, or is nested deeper than ``DEEPEST``.
    """
    try:
        loader = _Loader(data)
        loader.file = file
        try:
            document = loader.get_single_data()
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        reason = getattr(error, "problem", None) or "it is no text in UTF-8"
        raise NotYamlError(mark.line + 1 if mark is not None else 0, reason) from None
    _must_not_be_deep(document, set(), 0)
    return document


def _must_not_be_deep(value: object, looked_at: set[tuple[int, int]], depth: int) -> None:
    """Raises ``NotYamlError`` if a value is nested too deep, as one that contains itself is."""
    if depth > DEEPEST:
        raise NotYamlError(0, f"it is nested deeper than {DEEPEST} levels, or contains itself")
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for each in inner:
        # An anchor can be used in many places: what was looked at on a level is so only once.
        if isinstance(each, dict | list) and (id(each), depth) not in looked_at:
            looked_at.add((id(each), depth))
            _must_not_be_deep(each, looked_at, depth + 1)


class _Loader(yaml.CSafeLoader):
    file = "?"


def _construct_mapping(loader: _Loader, node: yaml.MappingNode) -> Iterator[WrittenMapping]:
    mapping = WrittenMapping()
    mapping.file, mapping.line = loader.file, node.start_mark.line + 1
    yield mapping
    lines: dict[str, int] = {}
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            continue
        if key.value in lines:
            raise yaml.constructor.ConstructorError(
                None, None, f"'{key.value}' is given twice", key.start_mark
            )
        lines[key.value] = key.start_mark.line + 1
    mapping.lines = lines
    mapping.update({str(key): value for key, value in loader.construct_mapping(node).items()})


# The types of plain scalars, with the characters that one can begin with; any other is text.
_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"true|false", "tf"),
    ("null", r"null|~|", ["n", "~", ""]),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("merge", r"<<", "<"),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first)
    )
_Loader.add_constructor("tag:yaml.org,2002:int", lambda _, node: int(node.value))
_Loader.add_constructor("tag:yaml.org,2002:float", lambda _, node: float(node.value))
_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _construct_mapping)


# --- the style ----------------------------------------------------------------------------------

# Plain scalars that other YAML readers read differently, or that could be written in another way.
_AMBIGUOUS = (
    (r"(?i:true|false)", "a boolean is 'true' or 'false'"),
    (r"(?i:null)|~", "what is not there is left out"),
    (r"Yes|YES|No|NO|On|ON|Off|OFF", "an answer is 'yes' or 'no', and any other text has quotes"),
    (r"[-+]?0[0-9_]+|0[xo][0-9a-fA-F_]+", "a code has quotes, and a number begins with no 0"),
    (r"[-+]?[0-9][0-9_]*_[0-9_]*(\.[0-9_]*)?", "a number has no '_'"),
    (r"[-+]?[0-9]+(:[0-5]?[0-9])+(\.[0-9]*)?", "a time of day has quotes"),
    (r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", "a number has digits"),
)
_AMBIGUOUS_PATTERNS = [(re.compile(pattern), reason) for pattern, reason in _AMBIGUOUS]
_NOT_USED = {
    yaml.DirectiveToken: "no directive: a file begins with its comment or its first key",
    yaml.DocumentStartToken: "no '---': a file is one document",
    yaml.DocumentEndToken: "no '...': a file is one document",
    yaml.AnchorToken: "no anchor: write it out where it is needed",
    yaml.AliasToken: "no alias: write it out",
    yaml.TagToken: "no tag: what something is, is said by its key",
}


def dialect_faults(text: str) -> Iterator[tuple[int, str]]:
    """The places where a text differs from our style: the line of each, and what is right there.

    Raises ``NotYamlError`` if the text is not YAML.
    """
    for number, line in enumerate(text.split("\n"), 1):
        if "\t" in line or "\r" in line:
            yield number, "no tabs, and lines end with a line feed alone"
        if line != line.rstrip():
            yield number, "no spaces at the end of a line"
    blocks: list[tuple[int, bool]] = []  # the open ones: column, and whether it is a list
    try:
        for token in yaml.scan(text, Loader=yaml.CSafeLoader):
            yield from _faults_of(token, blocks)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = mark.line + 1 if mark is not None else 0
        raise NotYamlError(where, str(error.problem)) from None


def _faults_of(token: yaml.Token, blocks: list[tuple[int, bool]]) -> Iterator[tuple[int, str]]:
    line, column = token.start_mark.line + 1, token.start_mark.column
    if type(token) in _NOT_USED:
        yield line, _NOT_USED[type(token)]
    elif isinstance(token, yaml.BlockMappingStartToken | yaml.BlockSequenceStartToken):
        if blocks and column != blocks[-1][0] + 2:
            yield line, "what is within something stands two columns further in"
        blocks.append((column, isinstance(token, yaml.BlockSequenceStartToken)))
    elif isinstance(token, yaml.BlockEndToken):
        blocks.pop()
    elif isinstance(token, yaml.BlockEntryToken):
        if not blocks[-1][1]:
            yield line, "a list stands two columns further in than its key"
    elif isinstance(token, yaml.ScalarToken):
        yield from ((line, reason) for reason in _faults_of_scalar(token))


def _faults_of_scalar(token: yaml.ScalarToken) -> Iterator[str]:
    if token.style == "'":
        yield "quotes are double ones"
    elif token.style == "|":
        yield "a long text is folded: '>' in place of '|'"
    elif token.plain and token.value not in ("true", "false"):
        for pattern, reason in _AMBIGUOUS_PATTERNS:
            if pattern.fullmatch(token.value):
                yield f"'{token.value}': {reason}"
