"""A self-hosted knowledge-base factory: sources become atomic, versioned, searchable indexes, run by Dagster.

`open` is the Python API's entrance; docs/python.md shows what it leads to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kb_pipeline.version import __version__

if TYPE_CHECKING:
    from pathlib import Path

    from kb_pipeline.installation import Installation
    from kb_pipeline.settings import Settings

__all__ = ["__version__", "open"]


def open(
    home: str | Path | None = None, *, settings: Settings | None = None, api_key: str | None = None
) -> Installation:
    """Open an installation: as its operator, or as the holder of an API key.

    Args:
        home: its home folder; without it `KB_HOME`, else `.kb` in the working folder. The rest of the settings comes
            from the environment, which is read once, here.
        settings: all settings, instead of the environment's.
        api_key: acts as that key's holder, who sees one tenant's things and may do what the key's scopes allow.

    Raises:
        InvalidSetting: a variable of the environment has an impossible value.
        KeyRefused, TenantInactive: nobody may call with that key.
        SchemaTooNew: a newer release has migrated the control plane.
    """
    from kb_pipeline.installation import open_installation  # everything else is loaded when it is used

    return open_installation(home, settings=settings, api_key=api_key)
