"""Files and folders written, removed and moved so that a power cut leaves the old or the new, never half of it."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from kb_pipeline.failpoints import failpoint


def write_durably(path: Path, content: bytes) -> None:
    """Write a small file so that a crash leaves the old one or the new one, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path, path.with_name(f".{path.name}.{os.getpid()}.tmp")) as file:
        file.write(content)


@contextmanager
def atomic_write(path: Path, beside: Path) -> Iterator[IO[bytes]]:
    """Open a file that appears under its name whole and durably, or not at all; a crash leaves at most `beside`."""
    with beside.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    fsync_path(path.parent)


def fsync_path(path: Path) -> None:
    """Force a file's or directory's content to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_tree(root: Path, since_ns: int = 0) -> int:
    """Force every file below `root` changed at or after `since_ns` to disk, and all directories; returns the files."""
    synced = 0
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder, name)
            if path.stat().st_mtime_ns >= since_ns:
                fsync_path(path)
                synced += 1
        fsync_path(Path(folder))
    return synced


def remove_folder(folder: Path) -> None:
    """Remove a folder for good: gone under its name at once, and after a crash the same call removes the rest."""
    leaving = folder.with_name(f".leaving-{folder.name}")
    shutil.rmtree(leaving, ignore_errors=True)
    if folder.exists():
        folder.rename(leaving)
        failpoint("folder.leaving")
        shutil.rmtree(leaving)
    if folder.parent.exists():
        fsync_path(folder.parent)


def files_beneath(folder: Path) -> list[Path]:
    """List every file of a folder, and of what a killed removal of it left; none when there is neither."""
    roots = [folder, folder.with_name(f".leaving-{folder.name}")]
    return [Path(where, name) for root in roots for where, _, names in os.walk(root) for name in names]


def folder_bytes(root: Path) -> int:
    """Return the bytes of all files below `root`; 0 when there is no such folder."""
    return sum(Path(folder, name).stat().st_size for folder, _, names in os.walk(root) for name in names)


def move_to_quarantine(path: Path, quarantine: Path) -> None:
    """Move a damaged file or folder into the quarantine, under a name of its own."""
    quarantine.mkdir(parents=True, exist_ok=True)
    path.replace(quarantine / f"{time.time_ns():x}-{path.parent.parent.stem}-{path.name}")
    fsync_path(quarantine)
