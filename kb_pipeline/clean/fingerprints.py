"""Derives from a document's text what it is compared and recognised by, without reading the text again."""

from __future__ import annotations

from typing import Any

from kb_pipeline.clean.address import read_address
from kb_pipeline.clean.duplicates import content_sha256
from kb_pipeline.clean.segments import segments_of, template_hash
from kb_pipeline.clean.simhash import simhash
from kb_pipeline.link_text import strip_link_targets
from kb_pipeline.model import digest


def comparisons_of(key: str, title: str, markdown: str) -> dict[str, Any]:
    """Return `sketch`, `segments` and `template`: fields of `Document` and columns of its table."""
    address = read_address(key)
    return {
        "sketch": simhash(markdown),
        "segments": segments_of(address, title, markdown).to_bytes(),
        "template": template_hash(key, address, title, strip_link_targets(markdown)),
    }


def hashes_of(key: str, title: str, language: str, markdown: str) -> dict[str, str]:
    """Return the columns that say whether two documents have the same content, and whether one has changed."""
    return {
        "content_sha256": content_sha256(key, title, markdown),
        "document_hash": digest("document", title, language, markdown),
    }
