"""The flags that there are: what each one decides, between which variants; whatever else is called a flag is a typo."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kb_pipeline.errors import UnknownFlag, UnknownVariant

FlagValue = bool | str


@dataclass(frozen=True, slots=True)
class KnownFlag:
    """A choice that the operator makes while everything runs; every variant of it is good behaviour."""

    name: str
    about: str
    variants: Mapping[str, FlagValue]
    default: str
    """The variant of whoever was given no other."""

    def check_variant(self, variant: str) -> str:
        """Return the variant if the flag has it; raise UnknownVariant."""
        if variant not in self.variants:
            raise UnknownVariant(self.name, variant, list(self.variants))
        return variant


CLEAN_FOCUS = KnownFlag(
    "clean-focus",
    "What extraction does with blocks that may not belong to an article: weigh, keep (recall) or drop them (precision)",
    {"balanced": "balanced", "recall": "recall", "precision": "precision"},
    "balanced",
)
JOIN_SECTIONS = KnownFlag(
    "chunk-join-sections",
    "Whether sections too small to be found alone share a chunk with a neighbour; off suits glossaries and FAQs",
    {"on": True, "off": False},
    "on",
)
KNOWN_FLAGS: Mapping[str, KnownFlag] = {flag.name: flag for flag in (CLEAN_FOCUS, JOIN_SECTIONS)}


def known_flag(name: str) -> KnownFlag:
    """Return the flag of that name; raise UnknownFlag."""
    if name not in KNOWN_FLAGS:
        raise UnknownFlag(name, list(KNOWN_FLAGS))
    return KNOWN_FLAGS[name]
