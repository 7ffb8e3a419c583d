"""The tags of a table: names that keep one of its versions from being cleaned up."""

from __future__ import annotations

from kb_pipeline.store.table_handle import TableHandle


class TableTags:
    """The tags of one table."""

    def __init__(self, handle: TableHandle) -> None:
        self._handle = handle

    def versions(self) -> dict[str, int]:
        """Return the name of every tag and the version that it keeps."""
        return {name: int(tag["version"]) for name, tag in self._handle.table.tags.list().items()}

    def put(self, name: str, version: int) -> None:
        """Keep that version until the tag is removed; a tag of that name is moved."""
        tags = self._handle.table.tags
        with self._handle.commit("tag"):
            (tags.update if name in tags.list() else tags.create)(name, version)

    def remove(self, name: str) -> None:
        """Let cleanup take the version; no such tag is fine."""
        if name in self._handle.table.tags.list():
            with self._handle.commit("untag"):
                self._handle.table.tags.delete(name)
