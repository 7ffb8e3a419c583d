"""Reads a version while others are published and cleaned away."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.kbs.versions import manifest_as_of
from kb_pipeline.errors import DamagedStore
from kb_pipeline.model import KbKey
from kb_pipeline.store.manifest import Manifest

_Result = TypeVar("_Result")


def read_version(
    db: Database, key: KbKey, as_of: str | None, read: Callable[[Manifest], _Result]
) -> tuple[Manifest, _Result]:
    """The manifest of a version, and what `read` makes of it.

    A reader slower than the grace may find its version cleaned away. If another one is live by then, that is read,
    once; else the data is damaged.

    Raises:
        UnknownKb, NoLiveVersion, UnknownVersion, UsageError: see `manifest_as_of`.
        DamagedStore: the version cannot be read, and no other has taken its place.
    """
    manifest = manifest_as_of(db, key, as_of)
    try:
        return manifest, read(manifest)
    except DamagedStore:
        newer = manifest_as_of(db, key, as_of)
        if newer.data_identity == manifest.data_identity:
            raise
        return newer, read(newer)
