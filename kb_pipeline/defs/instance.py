"""Opens the Dagster instance: its storage and files by the environment, its pools, its home."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._config import Field
from dagster._core.instance.ref import InstanceRef
from dagster._core.storage.base_storage import DagsterStorage
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager
from dagster._core.storage.root import LocalArtifactStorage
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage
from dagster._serdes import ConfigurableClass, ConfigurableClassData

from kb_pipeline.settings import Settings, load_settings

POOLS = frozenset({"crawl", "embed"})


class CancellableInstance(dg.DagsterInstance):
    """Has the worker of a run in a container check by itself whether the run was cancelled.

    So every process that may write to the instance can cancel a run, and only the launcher needs to reach containers.
    """

    @classmethod
    def config_schema(cls) -> Mapping[str, Field]:
        """Return no configuration beyond that of every instance."""
        return {}

    @classmethod
    def config_defaults(cls, base_dir: str) -> Mapping[str, ConfigurableClassData | None]:
        """Return the defaults of every instance."""
        return InstanceRef.config_defaults(base_dir)

    @property
    def should_start_background_run_thread(self) -> bool:
        """Whether to check for cancellation; only `dagster api execute_run` reads it, which runs in containers."""
        return True


class EnvStorage(DagsterStorage, ConfigurableClass):
    """Chooses Dagster's storage by KB_DATABASE_URL, since dagster.yaml has no conditions."""

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """Return an empty configuration: the environment decides."""
        return {}

    @classmethod
    def from_config_value(  # type: ignore[override]  # Dagster allows another storage class than this one here
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> DagsterStorage[Any]:
        """Return a storage on Postgres if the control plane is there, else on SQLite in the home."""
        settings = load_settings()
        if settings.is_postgres:
            from dagster_postgres import DagsterPostgresStorage

            # dagster-postgres sends NOTIFY with a parameter, which psycopg 3 refuses: name the driver of version 2.
            _, _, rest = settings.database_url.partition("://")
            return DagsterPostgresStorage(postgres_url=f"postgresql+psycopg2://{rest}", inst_data=inst_data)
        return DagsterSqliteStorage(str(settings.dagster_dir), inst_data=inst_data)


class EnvComputeLogs(LocalComputeLogManager):
    """Keeps the output of runs in KB_HOME, which containers share, not in DAGSTER_HOME, which an image may contain."""

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """Return an empty configuration: the environment decides."""
        return {}

    @classmethod
    def from_config_value(  # type: ignore[override]  # as above
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> LocalComputeLogManager:
        """Return the log manager on `KB_HOME/dagster`, which is DAGSTER_HOME without containers."""
        return LocalComputeLogManager(str(load_settings().dagster_dir / "storage"), inst_data=inst_data)


class EnvArtifacts(LocalArtifactStorage):
    """Keeps Dagster's own files in KB_HOME, for the same reason as EnvComputeLogs."""

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """Return an empty configuration: the environment decides."""
        return {}

    @classmethod
    def from_config_value(  # type: ignore[override]  # as above
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> LocalArtifactStorage:
        """Return the storage on `KB_HOME/dagster`, which is DAGSTER_HOME without containers."""
        return LocalArtifactStorage(str(load_settings().dagster_dir), inst_data=inst_data)


def prepare_dagster_home(settings: Settings) -> Path:
    """Put this project's dagster.yaml into the home, for processes that read DAGSTER_HOME; return the folder."""
    settings.dagster_dir.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(Path(__file__).with_name("dagster.yaml"), settings.dagster_dir / "dagster.yaml")
    return settings.dagster_dir


def prepare_pools(instance: dg.DagsterInstance) -> None:
    """Set the limits of the assets' pools before runs need them.

    If two runs use a pool for the first time at once, Dagster 1.13 fails one of them: it reconciles its two tables of
    limits without a lock.
    """
    storage = instance.event_log_storage
    for pool in POOLS - storage.get_concurrency_keys():
        storage.initialize_concurrency_limit_to_default(pool)


def open_instance(settings: Settings) -> dg.DagsterInstance:
    """Open the instance of this home; use it as a context manager."""
    return dg.DagsterInstance.from_config(str(prepare_dagster_home(settings)))
