"""The types of sources that there are: a type is added with its module, its class in spec.sources and one line here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kb_pipeline.fetch import files
from kb_pipeline.fetch.web import source as web

if TYPE_CHECKING:
    from kb_pipeline.fetch.source import SourceType

SOURCE_TYPES: Mapping[str, SourceType[Any]] = {
    "web": web,
    "files": files,
}
"""By the word that a KB file has for it."""
