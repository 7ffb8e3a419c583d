"""Walks the files beneath a folder and reads them, never outside of it; what cannot be read has a reason code."""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kb_pipeline.fetch.source import ERASED, ERASED_MESSAGE, QUOTA, QUOTA_MESSAGE

_SETTLED_NS = 2_000_000_000
"""A file that changed so shortly before it was read may change again within the same tick of its clock."""
_TRIES = 3
REASONS = {
    "root_missing": "the folder is not there",
    "root_unreadable": "the folder cannot be listed",
    "root_not_allowed": "a tenant may name folders only beneath those that the operator opens (KB_FILE_ROOTS)",
    "empty_folder": "no file matches any more; what is stored stays until one does, or the source leaves the KB file",
    "folder_unreadable": "the folder that it lies in cannot be listed",
    "folder_link": "links to folders are not followed",
    "name_not_utf8": "its name is not UTF-8",
    "outside_root": "it is a link that leads out of the source's folder",
    "not_allowed": "it belongs to the installation",
    "not_a_file": "it is a device, a pipe or a socket",
    "too_large": "it is larger than max_file_mb",
    "max_files": "max_files files come before it",
    "empty": "it is empty; it may be being written",
    "changing": "it was changed each time while it was read",
    "unreadable": "it cannot be read",
    ERASED: ERASED_MESSAGE,
    QUOTA: QUOTA_MESSAGE,
}
"""Every reason code of a key or folder."""
_REJECTED = frozenset({"outside_root", "not_allowed", "not_a_file", "too_large", "max_files", "folder_link", ERASED})
"""Those that give the same when asked again."""


class Refused(Exception):
    """A file or folder that gives no bytes: a reason code, and maybe what the system said."""

    def __init__(self, reason: str, said: str | None = None) -> None:
        super().__init__(reason, said)
        self.reason = reason
        self.outcome = "rejected" if reason in _REJECTED else "failed"
        self.message = f"{REASONS[reason]}: {said}" if said else REASONS[reason]


@dataclass(frozen=True, slots=True)
class File:
    """A file whose path the globs match."""

    key: str
    path: Path
    is_link: bool


class FileTree:
    """The files beneath a folder that the globs match, in the order of their keys, one folder in memory at a time."""

    def __init__(
        self, root: str, paths: Sequence[str], exclude: Sequence[str], refuse: Callable[[str, Refused], None]
    ) -> None:
        self._root, self._refuse = root, refuse
        self._paths = [compile_glob(glob) for glob in paths]
        self._exclude = [compile_glob(glob) for glob in exclude]
        self._heads = [_literal_head(glob) for glob in paths]
        self._names_hidden = any(_is_hidden(glob) for glob in paths)

    def files(self, folder: str = "") -> Iterator[File]:
        """Yield the files beneath a folder; what cannot be listed is told to `refuse`."""
        for name, entry in self._entries(folder):
            key = folder + name
            is_link = entry.is_symlink()
            if not is_link and entry.is_dir(follow_symlinks=False):
                yield from self.files(f"{key}/") if self._may_hold(f"{key}/") else ()
            elif is_link and _leads_to_folder(entry):
                if self._may_hold(f"{key}/") and not self._is_excluded(key):
                    self._refuse(key, Refused("folder_link"))
            elif any(glob.fullmatch(key) for glob in self._paths) and not self._is_excluded(key):
                yield File(key, Path(entry.path), is_link)

    def _entries(self, folder: str) -> list[tuple[str, os.DirEntry[str]]]:
        """Return what a folder holds, so that paths come in the order of their characters."""
        try:
            with os.scandir(Path(self._root, folder)) as found:
                entries = list(found)
        except FileNotFoundError:  # removed since it was listed itself
            return []
        except OSError as error:
            if not folder:
                raise Refused("root_unreadable", error.strerror) from None
            self._refuse(folder.removesuffix("/"), Refused("folder_unreadable", error.strerror))
            return []
        return sorted(
            ((entry.name, entry) for entry in entries if self._is_text(folder, entry.name)),
            key=lambda item: item[0] + "/" * item[1].is_dir(follow_symlinks=False),
        )

    def _is_text(self, folder: str, name: str) -> bool:
        try:
            name.encode()
        except UnicodeEncodeError:
            written = os.fsencode(folder + name).decode("utf-8", "backslashreplace")
            self._refuse(written, Refused("name_not_utf8"))
            return False
        return True

    def _is_excluded(self, key: str) -> bool:
        return any(glob.fullmatch(key) for glob in self._exclude)

    def _may_hold(self, folder: str) -> bool:
        """Return whether a glob may match something beneath a folder."""
        is_on_the_way = any(head.startswith(folder) or folder.startswith(head) for head in self._heads)
        return is_on_the_way and (self._names_hidden or not _is_hidden(folder))


def _leads_to_folder(link: os.DirEntry[str]) -> bool:
    try:
        return link.is_dir()
    except OSError:  # links in a circle, or through a folder that is closed
        return False


def compile_glob(glob: str) -> re.Pattern[str]:
    """Compile a glob for whole relative paths: `**` stands for folders, and nothing but a dot matches a leading dot."""
    *folders, name = glob.split("/")
    pieces = ["(?:[^/.][^/]*/)*" if part == "**" else f"{_segment(part)}/" for part in folders]
    last = "(?:[^/.][^/]*/)*[^/.][^/]*" if name == "**" else _segment(name)
    return re.compile("".join(pieces) + last, re.DOTALL)


def _is_hidden(path: str) -> bool:
    return any(part.startswith(".") for part in path.split("/"))


def _segment(part: str) -> str:
    pieces = (
        {"*": "[^/]*", "?": "[^/]"}.get(character) or re.escape(character) for character in part
    )  # fmt: skip
    return ("" if part.startswith(".") else r"(?!\.)") + "".join(pieces)


def _literal_head(glob: str) -> str:
    """Return the folders that everything lies in that a glob matches."""
    folders = glob.split("/")[:-1]
    plain = next((number for number, part in enumerate(folders) if re.search(r"[*?]", part)), len(folders))
    return "".join(f"{part}/" for part in folders[:plain])


def check_place(real_path: str, root: str, closed: Sequence[str]) -> None:
    """Raise Refused for a file that lies outside of the root, or in what is closed."""
    if not is_beneath(real_path, root):
        raise Refused("outside_root")
    if any(is_beneath(real_path, each) for each in closed):
        raise Refused("not_allowed")


def is_beneath(path: str, folder: str) -> bool:
    """Return whether a path is a folder's or one beneath it, by their names."""
    return Path(path).is_relative_to(folder)


def read_settled(path: Path, root: str, closed: Sequence[str], max_bytes: int) -> tuple[bytes, str | None]:
    """Return the bytes of a file, and its hint unless it may change unseen; raise Refused."""
    for _ in range(_TRIES):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
            with os.fdopen(descriptor, "rb") as file:
                # Where it really lies, now that nobody can swap it any more.
                check_place(str(Path(f"/proc/self/fd/{descriptor}").readlink()), root, closed)
                before = os.fstat(descriptor)
                if not stat.S_ISREG(before.st_mode):
                    raise Refused("not_a_file")
                body = file.read(max_bytes + 1)
                after = os.fstat(descriptor)
        except OSError as error:
            raise Refused("unreadable", error.strerror) from None
        if len(body) > max_bytes:
            raise Refused("too_large", f"more than {max_bytes} bytes")
        if hint_of(before) == hint_of(after) and len(body) == after.st_size:
            if not body:
                raise Refused("empty")
            is_settled = time.time_ns() - after.st_mtime_ns > _SETTLED_NS
            return body, hint_of(after) if is_settled else None
    raise Refused("changing")


def hint_of(found: os.stat_result) -> str:
    """Return what changes when a file does, as far as its size and its clock tell."""
    return f"{found.st_size}-{found.st_mtime_ns}"
