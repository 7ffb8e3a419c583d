"""Reads the fields of a JSON object one by one, checking the type of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TypeVar

_Value = TypeVar("_Value", str, int, bool)


class JsonFields:
    """The fields of one JSON object; every method raises ValueError with the name of the field that is wrong."""

    def __init__(self, value: object, name: str = "") -> None:
        if not isinstance(value, dict):
            raise ValueError(f"{name or 'it'} is {_kind(value)}, not an object")
        self._value, self._name = value, name
        self._asked: set[str] = set()

    def has(self, name: str) -> bool:
        """Whether the field is there and not null."""
        return self._value.get(name) is not None

    def names(self) -> list[str]:
        """Return the names of all fields."""
        return list(self._value)

    def text(self, name: str) -> str:
        """Read a string."""
        return self._typed(name, str)

    def number(self, name: str, default: int | None = None) -> int:
        """Read an integer that is not negative."""
        if default is not None and not self.has(name):
            return default
        value = self._typed(name, int)
        if value < 0:
            raise ValueError(f"{self._path(name)} is {value}, less than 0")
        return value

    def flag(self, name: str) -> bool:
        """Read true or false."""
        return self._typed(name, bool)

    def moment(self, name: str) -> datetime:
        """Read a time in ISO 8601, with its zone."""
        text = self.text(name)
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise ValueError(f"{self._path(name)} is {text!r}, not a time") from None
        if moment.tzinfo is None:
            raise ValueError(f"{self._path(name)} is {text!r}, a time without its zone")
        return moment

    def inner(self, name: str) -> JsonFields:
        """Read an object."""
        return JsonFields(self._get(name), self._path(name))

    def texts(self, name: str, default: Mapping[str, str] | None = None) -> Mapping[str, str]:
        """Read an object whose values are strings."""
        if default is not None and not self.has(name):
            return default
        inner = self.inner(name)
        return {each: inner.text(each) for each in inner.names()}

    def numbers(self, name: str) -> Mapping[str, int]:
        """Read an object whose values are integers that are not negative."""
        inner = self.inner(name)
        return {each: inner.number(each) for each in inner.names()}

    def figures(self, name: str, default: Mapping[str, float]) -> Mapping[str, float]:
        """Read an object whose values are numbers."""
        if not self.has(name):
            return default
        return {each: self.inner(name)._figure(each) for each in self.inner(name).names()}

    def inner_list(self, name: str, default: Sequence[JsonFields] | None = None) -> list[JsonFields]:
        """Read a list of objects."""
        if default is not None and not self.has(name):
            return list(default)
        value = self._get(name)
        if not isinstance(value, list):
            raise ValueError(f"{self._path(name)} is {_kind(value)}, not a list")
        return [JsonFields(each, f"{self._path(name)}[{n}]") for n, each in enumerate(value)]

    def number_list(self, name: str) -> tuple[int, ...]:
        """Read a list of integers."""
        value = self._get(name)
        if not isinstance(value, list) or not all(type(each) is int for each in value):
            raise ValueError(f"{self._path(name)} is not a list of integers")
        return tuple(value)

    def text_list(self, name: str, default: Sequence[str] | None = None) -> tuple[str, ...]:
        """Read a list of strings."""
        if default is not None and not self.has(name):
            return tuple(default)
        value = self._get(name)
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise ValueError(f"{self._path(name)} is not a list of strings")
        return tuple(value)

    def scalars(self) -> dict[str, str | int | float | bool | None]:
        """Read all fields, each of which is a string, a number, true, false or null."""
        for name, value in self._value.items():
            if value is not None and not isinstance(value, (str, int, float)):
                raise ValueError(f"{self._path(name)} is {_kind(value)}, not a plain value")
        return dict(self._value)

    def require(self, name: str, wanted: str | int) -> None:
        """Make sure that the field has that value."""
        if (found := self._get(name)) != wanted:
            raise ValueError(f"{self._path(name)} is {found!r}, not {wanted!r}")

    def require_known(self) -> None:
        """Make sure that every field was asked for."""
        if unknown := sorted(set(self._value) - self._asked):
            raise ValueError(f"{self._path(unknown[0])} is not a field that this release knows")

    def _typed(self, name: str, kind: type[_Value]) -> _Value:
        value = self._get(name)
        if type(value) is not kind:  # not isinstance: true is an integer
            raise ValueError(f"{self._path(name)} is {_kind(value)}, not {_KINDS[kind]}")
        return value

    def _figure(self, name: str) -> float:
        value = self._get(name)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValueError(f"{self._path(name)} is {_kind(value)}, not a number")
        return value

    def _get(self, name: str) -> object:
        self._asked.add(name)
        if name not in self._value:
            raise ValueError(f"{self._path(name)} is missing")
        value: object = self._value[name]
        return value

    def _path(self, name: str) -> str:
        return f"{self._name}.{name}" if self._name else name


_KINDS = {
    str: "a string",
    int: "an integer",
    bool: "true or false",
    float: "a number",
    list: "a list",
    dict: "an object",
}


def _kind(value: object) -> str:
    return "null" if value is None else _KINDS.get(type(value), type(value).__name__)
