"""Where the data of a KB lies on disk: nobody else joins paths under the data directory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kb_pipeline.model import KbKey

LINKS_FILE = "links.parquet"
"""Name of the file of links between a source's pages, within its notes."""


@dataclass(frozen=True, slots=True)
class KbPaths:
    """Every path of one KB."""

    data_dir: Path
    key: KbKey

    @property
    def root(self) -> Path:
        """The KB's own folder."""
        return tenant_folder(self.data_dir, self.key.tenant) / self.key.kb

    @property
    def raw(self) -> Path:
        """Immutable Parquet segments with the exact bytes of everything fetched."""
        return self.root / "raw"

    @property
    def lance(self) -> Path:
        """The Lance tables of the stages and of the index."""
        return self.root / "lance"

    @property
    def versions(self) -> Path:
        """One manifest file a version."""
        return self.root / "versions"

    @property
    def of_tenant(self) -> Path:
        """The folder of the tenant, with all its KBs."""
        return self.root.parent

    @property
    def vectors(self) -> Path:
        """The tenant's embedding cache; no KB can be named so, since a slug has no leading dot."""
        return tenant_folder(self.data_dir, self.key.tenant) / ".vectors"

    @property
    def quarantine(self) -> Path:
        """Damaged files, moved there for whoever wants to look at them."""
        return self.root / "quarantine"

    @property
    def journals(self) -> Path:
        """The unfinished fetches of all sources, and a note beside each."""
        return self.root / "journal"

    def journal(self, source: str) -> Path:
        """Return the folder in which an unfinished fetch of that source keeps what it has."""
        return self.journals / source

    def site_notes(self, source: str) -> Path:
        """Return the folder of the notes on that source's sites, kept from one fetch to the next."""
        return self.root / "site_notes" / source

    def links(self, source: str) -> Path:
        """Return the file of the links between that source's pages."""
        return self.site_notes(source) / LINKS_FILE

    def checks(self, source: str) -> Path:
        """Return the file that says when each page of that source was last asked for."""
        return self.root / "checks" / f"{source}.parquet"


def tenant_folder(data_dir: Path, tenant: str) -> Path:
    """Return the folder of everything stored of one tenant."""
    return data_dir / tenant


def staging_folder(data_dir: Path) -> Path:
    """Return the folder in which a backup keeps links to files while it copies them; no tenant can be named so."""
    return data_dir / ".backup"


def tenants_with_files(data_dir: Path) -> list[str]:
    """Return the names of the tenants' folders, sorted."""
    return sorted(path.name for path in data_dir.glob("*") if not path.name.startswith("."))
