"""What every part of a refresh works with: one run and the KB whose lease it holds."""

from __future__ import annotations

from typing import Literal

from kb_pipeline.control.coordination.leases import HeldLease, check_lease, release_lease
from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.kbs import versions
from kb_pipeline.control.runs import refreshes
from kb_pipeline.errors import NoLiveVersion
from kb_pipeline.model import KbKey
from kb_pipeline.settings import Settings
from kb_pipeline.spec.kb_file import KbSpec
from kb_pipeline.store.kb_store import KbStore
from kb_pipeline.store.manifest import Manifest
from kb_pipeline.store.paths import KbPaths


class RunContext:
    """One run on one KB, opened for writing: its store refuses a change once the lease is lost.

    Args:
        settings: of the installation.
        db: its control plane.
        lease: of the KB, which the run holds.
        run_id: the run.
        spec: the KB file as it was when the step began.
    """

    def __init__(self, settings: Settings, db: Database, lease: HeldLease, run_id: str, spec: KbSpec) -> None:
        self.settings, self.db = settings, db
        self.lease, self.run_id = lease, run_id
        self.spec = spec
        self.store = KbStore(KbPaths(settings.data_dir, lease.key), lambda: check_lease(db, lease))
        self._live: Manifest | None = None

    @property
    def key(self) -> KbKey:
        """The KB."""
        return self.lease.key

    def live_manifest(self) -> Manifest | None:
        """Return the manifest of the live version, None without one; read once: only this run moves the pointer."""
        if self._live is None:
            try:
                self._live = versions.live_manifest(self.db, self.key)
            except NoLiveVersion:
                return None
        return self._live

    def publish_version(self, number: int, expected: Literal["candidate", "held"], actor: str | None) -> None:
        """Move the pointer to a version; see `versions.publish_version`."""
        versions.publish_version(self.db, self.lease, number, expected, actor)
        self._live = None

    def check_lease(self) -> None:
        """Raise LeaseLost if another run has taken over."""
        check_lease(self.db, self.lease)

    def end(self, status: refreshes.RefreshStatus, version: int | None, message: str | None) -> None:
        """Record how the refresh ended and release the KB's lease."""
        refreshes.end_refresh(self.db, self.key, self.run_id, status, version, message)
        release_lease(self.db, self.lease)
