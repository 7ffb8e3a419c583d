"""Reads one YAML document of a file that a person wrote, and knows on which line each of its fields stands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from kb_pipeline.errors import Position, Problem

if TYPE_CHECKING:
    import yaml

Place = tuple[str | int, ...]
"""Where a field stands: `("sources", 0, "max_pages")`."""

_MAX_VALUES = 100_000
"""Values that a document may come to, with what its aliases repeat: nine lines of aliases can stand for billions."""
_HINTS = {
    "found character '\\t'": "YAML is indented with spaces: replace the tab",
    "found another document": "a file holds one document: take the line of --- out, and put the rest into another file",
    "mapping values are not allowed": "a text that holds ': ' stands in quotes, and the fields of one mapping stand "
    "below each other",
    "could not find expected ':'": "a field is written as name: value, with a space after the colon",
    "expected <block end>": "the fields of one mapping are indented alike: this line is not like those above",
    "expected ',' or": "this list or mapping is not closed",
    "expected the node content": "this list or mapping is not closed",
    "unexpected end of stream": "this quote is not closed",
    "scanning an alias": "a text that begins with * stands in quotes",
    "scanning an anchor": "a text that begins with & stands in quotes",
    "special characters are not allowed": "this is no text: save it as UTF-8",
}
"""By words of what YAML's parser says."""
_UNCLOSED = ("expected ',' or", "unexpected end of stream")
"""Where it ends is of no help: where it begins is."""


class YamlProblem(ValueError):
    """A text is not the one YAML document that is wanted."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("; ".join(map(str, problems)))
        self.problems = tuple(problems)


@dataclass(frozen=True)
class YamlDocument:
    """A YAML document: its value, and where each part of it stands in the file."""

    file: str
    text: str
    value: Any
    root: yaml.Node | None
    """None of an empty document."""

    def position(self, place: Sequence[str | int], *, of_name: bool = False) -> Position:
        """Return where a field stands, or else the nearest thing around it.

        Args:
            place: the names and numbers that lead to it.
            of_name: whether its name is meant, rather than its value.
        """
        node, mark = self.root, None if self.root is None else self.root.start_mark
        for part in place:
            found = _child(node, part)
            if found is None:
                break
            name, node = found
            mark = (node if name is None else name).start_mark if of_name or node is None else node.start_mark
            if name is not None and node is not None and _is_block(node):
                mark = name.start_mark  # the field, and not the first line of what is below it
        line, column = (mark.line, mark.column) if mark is not None else (0, 0)
        return Position(self.file, line + 1, column + 1, self.line(line))

    @cached_property
    def _lines(self) -> list[str]:
        return self.text.split("\n")  # as YAML's marks count; splitlines() ends lines at more characters

    def line(self, number: int) -> str:
        """Return a line of the text, counted from 0."""
        return self._lines[number].rstrip("\r") if number < len(self._lines) else ""


def read_document(text: str, file: str, *, may_repeat: bool = False) -> YamlDocument:
    """Read a text that holds one YAML document; raise YamlProblem.

    Args:
        text: what the file holds.
        file: what errors call it.
        may_repeat: whether a name may stand twice in a mapping, so that the last one counts.
    """
    import yaml

    loader: Any = None
    try:
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
        document = YamlDocument(file, text, None, root)
        if root is None:
            return document
        if not may_repeat and (problems := list(_duplicates(document, root))):
            raise YamlProblem(problems)
        if _values(root) > _MAX_VALUES:
            allowed = f"aliases may repeat values until there are {_MAX_VALUES:,} of them"
            raise YamlProblem([Problem("(file)", "a document that comes to more", allowed)])
        return YamlDocument(file, text, loader.construct_document(root), root)
    except yaml.MarkedYAMLError as error:
        raise YamlProblem([_syntax_problem(error, text, file)]) from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        if isinstance(error, YamlProblem):
            raise
        said = "it is nested too deeply" if isinstance(error, RecursionError) else " ".join(str(error).split())
        raise YamlProblem([Problem("(file)", "no valid YAML", _hint(said))]) from None
    finally:
        if loader is not None:
            loader.dispose()


def _child(node: yaml.Node | None, part: str | int) -> tuple[yaml.Node | None, yaml.Node] | None:
    """Return the name and the value of a field, or None and an item of a list; None if there is none."""
    import yaml

    if isinstance(node, yaml.MappingNode):
        pairs = ((name, value) for name, value in node.value if name.value == str(part))
        return next(pairs, None)
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return None, node.value[part]
    return None


def _is_block(node: yaml.Node) -> bool:
    import yaml

    return isinstance(node, yaml.CollectionNode) and not node.flow_style


def _duplicates(document: YamlDocument, root: yaml.Node) -> Iterator[Problem]:
    """Yield the names that stand twice in one mapping: YAML's parser would take the last without a word."""
    import yaml

    waiting: list[tuple[yaml.Node, str]] = [(root, "")]
    seen: set[int] = set()
    while waiting:
        node, place = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += [(item, f"{place}{number}.") for number, item in reversed(list(enumerate(node.value)))]
        if not isinstance(node, yaml.MappingNode):
            continue
        firsts: dict[tuple[str, str], yaml.Node] = {}
        for name, _ in node.value:
            if not isinstance(name, yaml.ScalarNode):
                continue
            first = firsts.setdefault((name.tag, name.value), name)
            if first is not name:
                mark = name.start_mark
                where = Position(document.file, mark.line + 1, mark.column + 1, document.line(mark.line))
                given = f"the same field as in line {first.start_mark.line + 1}"
                yield Problem(f"{place}{name.value}", given, "a field may be given once", position=where)
        waiting += [(value, f"{place}{name.value}.") for name, value in reversed(node.value)]


def _values(root: yaml.Node) -> int:
    """Return to how many values a document comes when each alias stands for what it repeats."""
    import yaml

    sizes: dict[int, int] = {}
    open_nodes: set[int] = set()

    def size(node: yaml.Node) -> int:
        if not isinstance(node, yaml.CollectionNode):
            return 1
        if id(node) in open_nodes:
            raise ValueError("a value that holds itself is none")
        if id(node) not in sizes:
            open_nodes.add(id(node))
            parts = (
                node.value if isinstance(node, yaml.SequenceNode) else [part for pair in node.value for part in pair]
            )
            sizes[id(node)] = 1 + sum(map(size, parts))
            open_nodes.discard(id(node))
        return sizes[id(node)]

    return size(root)


def _syntax_problem(error: yaml.MarkedYAMLError, text: str, file: str) -> Problem:
    said = f"{error.context or ''} {error.problem or ''}".strip()
    mark = error.problem_mark or error.context_mark
    if error.context_mark is not None and any(words in said for words in _UNCLOSED):
        mark = error.context_mark
    problem = Problem("(file)", "no valid YAML", _hint(said))
    if mark is None:
        return problem
    line = YamlDocument(file, text, None, None).line(mark.line)
    return replace(problem, position=Position(file, mark.line + 1, mark.column + 1, line))


def _hint(said: str) -> str:
    return next((hint for words, hint in _HINTS.items() if words in said), said)
