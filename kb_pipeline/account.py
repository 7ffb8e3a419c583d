"""The account of a KB: what became of every key that its sources are known to have, in numbers that add up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from kb_pipeline.json_fields import JsonFields
from kb_pipeline.model import JsonObject, Record

Category = Literal["file", "site", "limits", "request", "failed", "not_asked"]
"""By whose will, or by what mishap, a key has no document of its own.

`file`: the KB file leaves it out. `site`: its server or its page says so, or it is no page. `limits`: a limit or
setting of the KB file that may be raised. `request`: it was erased. `failed`: asking or reading failed. `not_asked`:
its turn has not come.
"""
CATEGORIES: tuple[Category, ...] = get_args(Category)


@dataclass(frozen=True, slots=True)
class ReasonCount(Record):
    """Keys of one source that have no document of their own, for one reason."""

    stage: str
    """`fetch` or `clean`: where it was decided."""
    reason: str
    """A reason code, such as `too_deep`."""
    category: Category
    keys: int


@dataclass(frozen=True, slots=True)
class SourceAccount(Record):
    """What became of the keys of one source."""

    source: str
    known: int
    """All its keys, counted apart from what follows."""
    documents: int
    aliases: int
    """Keys that redirect to another one."""
    duplicates: int
    """Keys with the text of another document, which stands for them."""
    reasons: tuple[ReasonCount, ...]
    """Why the others are none, the most common first."""

    @property
    def adds_up(self) -> bool:
        """Whether every known key is accounted for, once."""
        return self.known == self.documents + self.aliases + self.duplicates + sum(each.keys for each in self.reasons)


@dataclass(frozen=True, slots=True)
class Account(Record):
    """What became of every known key of a KB."""

    sources: tuple[SourceAccount, ...]
    not_recorded: int = 0
    """Addresses in scope that were met and are not among the known keys, because there were too many."""
    cut_listings: int = 0
    """Pages and sitemaps that name more than was read of them: they may lead to keys that nobody has met."""

    @property
    def known(self) -> int:
        """All known keys."""
        return sum(source.known for source in self.sources)

    @property
    def documents(self) -> int:
        """Keys that are documents of their own."""
        return sum(source.documents for source in self.sources)

    @property
    def aliases(self) -> int:
        """Keys that redirect to another one."""
        return sum(source.aliases for source in self.sources)

    @property
    def duplicates(self) -> int:
        """Keys with the text of another document."""
        return sum(source.duplicates for source in self.sources)

    @property
    def adds_up(self) -> bool:
        """Whether every known key is accounted for, once."""
        return all(source.adds_up for source in self.sources)

    @property
    def at_least(self) -> bool:
        """Whether there may be more keys than are known, because a listing was cut."""
        return self.not_recorded > 0 or self.cut_listings > 0

    def missing(self, category: Category) -> Counter[str]:
        """Return the keys without a document of one category, by reason code."""
        found: Counter[str] = Counter()
        for each in (each for source in self.sources for each in source.reasons):
            if each.category == category:
                found[each.reason] += each.keys
        return found

    def as_json(self) -> JsonObject:
        """Return the sums over all sources, then each source."""
        return {
            "known": self.known,
            "documents": self.documents,
            "aliases": self.aliases,
            "duplicates": self.duplicates,
            **{category: self.missing(category).total() for category in CATEGORIES},
            "not_recorded": self.not_recorded,
            "cut_listings": self.cut_listings,
            "at_least": self.at_least,
            "sources": [source.as_json() for source in self.sources],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, object]) -> Account:
        """Read what as_json gave; raises ValueError."""
        return cls.read(JsonFields(value))

    @classmethod
    def read(cls, fields: JsonFields) -> Account:
        """Read an account from a JSON object whose sums must be those of its sources; raises ValueError."""
        account = cls(
            tuple(_read_source(each) for each in fields.inner_list("sources")),
            fields.number("not_recorded"),
            fields.number("cut_listings"),
        )
        for name, written in account.as_json().items():
            if isinstance(written, int) and name != "at_least":
                fields.require(name, written)
        fields.flag("at_least")
        fields.require_known()
        return account


def _read_source(fields: JsonFields) -> SourceAccount:
    source = SourceAccount(
        fields.text("source"),
        fields.number("known"),
        fields.number("documents"),
        fields.number("aliases"),
        fields.number("duplicates"),
        tuple(_read_reason(each) for each in fields.inner_list("reasons")),
    )
    fields.require_known()
    return source


def _read_reason(fields: JsonFields) -> ReasonCount:
    category = fields.text("category")
    known = next((each for each in CATEGORIES if each == category), None)
    if known is None:
        raise ValueError(f"category is {category!r}, not one of {', '.join(CATEGORIES)}")
    read = ReasonCount(fields.text("stage"), fields.text("reason"), known, fields.number("keys"))
    fields.require_known()
    return read
