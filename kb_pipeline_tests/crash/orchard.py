"""A home with one published version of a small site that has changed since, copied for every trial."""

from __future__ import annotations

import json
import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.db.models import Lease
from kb_pipeline.control.kbs.versions import live_manifest
from kb_pipeline.embed.models import describe_model, model_fingerprint
from kb_pipeline.embed.refresh import vectors_table
from kb_pipeline.index.documents import list_documents
from kb_pipeline.index.reader import VersionReader
from kb_pipeline.model import EmbeddingModel, KbKey
from kb_pipeline.store.kb_store import KbStore
from kb_pipeline.store.paths import KbPaths
from kb_pipeline_tests import warm
from kb_pipeline_tests.databases import control_url, copy_home, home_environment
from kb_pipeline_tests.site import Site

KEY = KbKey("acme", "docs")
MODEL = "all-MiniLM-L6-v2"
FRUITS = ("apple", "pear", "plum", "quince", "cherry", "medlar", "mulberry", "apricot", "peach", "fig")


def plant(site: Site) -> None:
    """Write the site of the first version."""
    for fruit in FRUITS:
        site.put(f"/{fruit}", fruit.title(), f"The {fruit} is picked late and kept in the cellar until spring.")
    site.put("/", "Orchard", "The handbook of our orchard.", tuple(f"/{fruit}" for fruit in FRUITS))


def grow(site: Site) -> None:
    """Change a page, remove one, add two."""
    site.put("/plum", "Plum", "Plums are distilled into a clear brandy that is called slivovitz.")
    del site.pages["/fig"]
    site.put("/sloe", "Sloe", "Sloes are bitter until the first frost has been over them.")
    site.put("/hazel", "Hazel", "Hazelnuts are roasted and ground, or eaten as they come.")
    links = (*(f"/{fruit}" for fruit in FRUITS if fruit != "fig"), "/sloe", "/hazel")
    site.put("/", "Orchard", "The handbook of our larger orchard.", links)


@dataclass
class Orchard:
    """One home."""

    home: Path

    def copy(self, to: Path) -> Orchard:
        copy_home(self.home, to)
        return Orchard(to)

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | home_environment(self.home)

    def start(self, run_id: str, **environment: str) -> warm.Running:
        refresh_once = "kb_pipeline_tests.crash.refresh_once"
        return warm.start(refresh_once, [str(KEY), run_id], self.environment | environment)

    def refresh(self, run_id: str, **environment: str) -> tuple[int | None, Any, str]:
        """Exit status, what it printed, and its errors."""
        run = self.start(run_id, **environment)
        out, err = run.communicate()
        return run.returncode, json.loads(out) if out else None, err

    def kb(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return warm.run("kb_pipeline", arguments, self.environment)

    @property
    def db(self) -> Database:
        return Database(control_url(self.home))

    @property
    def store(self) -> KbStore:
        return KbStore(KbPaths(self.home / "data", KEY))

    def expire_lease(self) -> None:
        """As if a minute had passed since the kill."""
        with self.db.write_all() as session:
            row = session.get(Lease, (KEY.tenant, KEY.kb))
            if row is not None:
                row.expires_at = time.time() - 1

    def wait_for_children(self) -> None:
        """Until what a killed run had started is gone: a crawl brings its requests to an end first."""
        mine = f"KB_HOME={self.home}".encode()
        while any(mine in _environment(process) for process in Path("/proc").glob("[0-9]*/environ")):
            time.sleep(0.05)

    def live_content(self) -> str:
        """Read every column of every row of the live version; its content hash."""
        manifest = live_manifest(self.db, KEY)
        for pin in manifest.tables.values():
            table = self.store.tables.open(pin.name, pin.version)
            for batch in table.stream(table.schema.names):
                batch.validate(full=True)
        return manifest.content.sha256

    def live_keys(self) -> list[str]:
        return sorted(row.key for row in list_documents(VersionReader(self.store, live_manifest(self.db, KEY))))

    def cached_vectors(self) -> int:
        """Distinct texts whose vectors are on disk."""
        model = EmbeddingModel(MODEL, model_fingerprint(MODEL), describe_model(MODEL).dimension)
        return vectors_table(self.store, model).read_columns(["text_hash"])["text_hash"].n_unique()


def _environment(file: Path) -> list[bytes]:
    try:
        return file.read_bytes().split(b"\0")
    except OSError:  # gone meanwhile, or not ours to look at
        return []
