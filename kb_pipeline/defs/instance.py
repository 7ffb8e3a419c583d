"""The Dagster instance: its storage by environment, its pools, its home."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.storage.base_storage import DagsterStorage
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage
from dagster._serdes import ConfigurableClass, ConfigurableClassData

from kb_pipeline.settings import Settings, load_settings

POOLS = frozenset({"crawl", "embed"})


class EnvStorage(DagsterStorage, ConfigurableClass):
    """Chooses Dagster's storage by KB_DATABASE_URL, since dagster.yaml has no conditions."""

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """Nothing to configure: the environment says it."""
        return {}

    @classmethod
    def from_config_value(  # type: ignore[override]  # Dagster allows another storage class than this one here
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> DagsterStorage[Any]:
        """Postgres when the control plane is there, else SQLite in the home."""
        settings = load_settings()
        if settings.is_postgres:
            from dagster_postgres import DagsterPostgresStorage

            # dagster-postgres sends NOTIFY with a parameter, which psycopg 3 refuses: name the driver of version 2.
            _, _, rest = settings.database_url.partition("://")
            return DagsterPostgresStorage(postgres_url=f"postgresql+psycopg2://{rest}", inst_data=inst_data)
        return DagsterSqliteStorage(str(settings.dagster_dir), inst_data=inst_data)


def prepare_dagster_home(settings: Settings) -> Path:
    """Put this project's dagster.yaml into the home, for whatever reads DAGSTER_HOME; returns the folder."""
    settings.dagster_dir.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(Path(__file__).with_name("dagster.yaml"), settings.dagster_dir / "dagster.yaml")
    return settings.dagster_dir


def prepare_pools(instance: dg.DagsterInstance) -> None:
    """Give the pools of the assets their limits before runs need them.

    Of two runs that meet a pool for the first time at once Dagster 1.13 fails one: it reconciles its two tables
    of limits without a lock.
    """
    storage = instance.event_log_storage
    for pool in POOLS - storage.get_concurrency_keys():
        storage.initialize_concurrency_limit_to_default(pool)


def open_instance(settings: Settings) -> dg.DagsterInstance:
    """The instance of this home; use it as a context manager."""
    return dg.DagsterInstance.from_config(str(prepare_dagster_home(settings)))
