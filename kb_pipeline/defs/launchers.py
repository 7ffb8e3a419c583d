"""Run launchers, chosen by KB_RUN_LAUNCHER: a process, a Docker container or a Kubernetes job for each run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from dagster._core.launcher import DefaultRunLauncher, LaunchRunContext, RunLauncher
from dagster._serdes import ConfigurableClass, ConfigurableClassData

from kb_pipeline.defs.launch_settings import LaunchSettings, Mount, load_launch_settings
from kb_pipeline.errors import InvalidSetting
from kb_pipeline.settings import VARIABLES, Settings, load_settings, set_variables

if TYPE_CHECKING:
    from dagster_docker import DockerRunLauncher
    from dagster_k8s import K8sRunLauncher

STOP_TIMEOUT_S = 60
"""How long a cancelled run has, before it is killed, to finish its requests and close everything."""
IMAGE_GROUP = 10001
"""The group of the image's user, which must be able to read secrets and write to the home."""
_MOST_PROCESSES = 512
_LAUNCHES_NOTHING = "KB_RUN_LAUNCHER=elsewhere"
"""Set for every run, which needs neither an engine nor the settings of launching."""


class EnvRunLauncher(RunLauncher, ConfigurableClass):
    """Chooses the run launcher by KB_RUN_LAUNCHER, since dagster.yaml has no conditions."""

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """Return an empty configuration: the environment decides."""
        return {}

    @classmethod
    def from_config_value(  # type: ignore[override]  # Dagster allows another launcher than this one here
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> RunLauncher:
        """Return the launcher that the environment names; raise InvalidSetting if a setting is missing."""
        launch = load_launch_settings()
        if launch.launcher == "process":
            return DefaultRunLauncher(inst_data=inst_data)
        if launch.launcher == "elsewhere":
            return RunsElsewhere(inst_data)
        settings = load_settings()
        _check_shared(settings, launch)
        if launch.launcher == "docker":
            return _docker(settings, launch, inst_data)
        return _kubernetes(launch, inst_data)


class RunsElsewhere(RunLauncher, ConfigurableClass):
    """Launches no runs, for roles such as a web UI beside a daemon that does: it can only cancel them."""

    def __init__(self, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._inst_data = inst_data

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """Return an empty configuration."""
        return {}

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> RunsElsewhere:
        """Return an instance, for a dagster.yaml that names this class directly."""
        return cls(inst_data)

    @property
    def inst_data(self) -> ConfigurableClassData | None:
        """Its entry in dagster.yaml."""
        return self._inst_data

    def launch_run(self, context: LaunchRunContext) -> None:
        """Raise InvalidSetting: the daemon launches queued runs."""
        raise InvalidSetting("KB_RUN_LAUNCHER", "this process launches no runs; submit it to the queue instead")

    def terminate(self, run_id: str) -> bool:
        """Mark the run as being cancelled; its worker checks that and ends (see CancellableInstance)."""
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            return False
        self._instance.report_run_canceling(run)
        return True


def _check_shared(settings: Settings, launch: LaunchSettings) -> None:
    """Raise InvalidSetting unless a run's container would find the same control plane and the same data."""
    if not settings.is_postgres:
        raise InvalidSetting("KB_DATABASE_URL", f"KB_RUN_LAUNCHER={launch.launcher} needs postgresql://...")
    needed = {"KB_HOME": settings.home, "KB_STORAGE_URI": settings.data_dir}
    files = {"KB_DATABASE_URL_FILE": settings.database_url_file, "KB_SECRET_KEYS_FILE": settings.secret_keys_file}
    needed |= {name: path for name, path in files.items() if path}
    for name, path in needed.items():
        if not any(mount.holds(PurePosixPath(path)) for mount in launch.mounts):
            raise InvalidSetting("KB_RUN_VOLUMES", f"must mount what {name} names, {path}, into the run's container")


def _docker(settings: Settings, launch: LaunchSettings, inst_data: ConfigurableClassData | None) -> DockerRunLauncher:
    try:
        from dagster_docker import DockerRunLauncher
    except ImportError:
        raise InvalidSetting("KB_RUN_LAUNCHER", "docker needs: pip install 'kb-pipeline[docker]'") from None
    return DockerRunLauncher(
        inst_data=inst_data,
        image=launch.image,
        network=launch.network,
        # By name, not the whole environment: the daemon's holds secrets that a run must not have.
        env_vars=[*set_variables((*VARIABLES, *settings.file_variables)), _LAUNCHES_NOTHING],
        container_kwargs={
            "auto_remove": True,
            "volumes": [_bind(mount) for mount in launch.mounts],
            "mem_limit": f"{launch.memory_mb}m",
            "nano_cpus": round(launch.cpus * 1e9),
            "pids_limit": _MOST_PROCESSES,
            "cap_drop": ["ALL"],
            "security_opt": ["no-new-privileges", *_seccomp(launch)],
            "read_only": True,
            "tmpfs": {"/tmp": "mode=1777"},  # noqa: S108 - of the container, its own
            "stop_timeout": STOP_TIMEOUT_S,
        },
    )


def _bind(mount: Mount) -> str:
    return f"{mount.source}:{mount.target}:{'ro' if mount.read_only else 'rw'}"


def _seccomp(launch: LaunchSettings) -> list[str]:
    """Return the option with the profile itself, since the engine takes no file name."""
    if not launch.seccomp:
        return []
    try:
        return [f"seccomp={Path(launch.seccomp).read_text(encoding='utf-8')}"]
    except OSError as error:
        raise InvalidSetting("KB_RUN_SECCOMP", f"{launch.seccomp} cannot be read: {error.strerror}") from None


def _kubernetes(launch: LaunchSettings, inst_data: ConfigurableClassData | None) -> K8sRunLauncher:
    try:
        from dagster_k8s import K8sRunLauncher
    except ImportError:
        raise InvalidSetting("KB_RUN_LAUNCHER", "kubernetes needs: pip install 'kb-pipeline[kubernetes]'") from None
    resources = {"cpu": f"{launch.cpus:g}", "memory": f"{launch.memory_mb}Mi"}
    volumes = [(f"volume-{number}", mount) for number, mount in enumerate(launch.mounts)]
    return K8sRunLauncher(
        inst_data=inst_data,
        load_incluster_config=launch.in_cluster,
        job_image=launch.image,
        job_namespace=launch.namespace,
        service_account_name=launch.service_account,
        # The image has DAGSTER_HOME and its dagster.yaml, so no config map is mounted over it.
        instance_config_map="",
        dagster_home="",
        # Config maps and secrets, not values, which everyone who may list jobs could read.
        env_config_maps=list(launch.config_maps),
        env_secrets=list(launch.secrets),
        env_vars=[_LAUNCHES_NOTHING],
        volumes=[_volume(name, mount) for name, mount in volumes] + [{"name": "tmp", "emptyDir": {}}],
        volume_mounts=[
            {"name": name, "mountPath": str(mount.target), "readOnly": mount.read_only} for name, mount in volumes
        ]
        + [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108 - of the container, its own
        resources={"requests": resources, "limits": resources},
        security_context={
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        run_k8s_config={
            "pod_template_spec_metadata": {"labels": {"app.kubernetes.io/part-of": "kb-pipeline"}},
            "pod_spec_config": {
                "automount_service_account_token": False,
                "security_context": {
                    "run_as_non_root": True,
                    "fs_group": IMAGE_GROUP,
                    "seccomp_profile": _node_profile(launch),
                },
                "termination_grace_period_seconds": STOP_TIMEOUT_S,
            },
            "job_spec_config": {"ttl_seconds_after_finished": 24 * 3600},
        },
        # Users of the web UI can tag runs: no tag may change the pod.
        only_allow_user_defined_k8s_config_fields={},
        only_allow_user_defined_env_vars=[],
    )


def _node_profile(launch: LaunchSettings) -> dict[str, str]:
    if not launch.seccomp:
        return {"type": "RuntimeDefault"}
    return {"type": "Localhost", "localhost_profile": launch.seccomp}


def _volume(name: str, mount: Mount) -> dict[str, Any]:
    kind, _, source = mount.source.partition("/")
    if kind == "secret":
        return {"name": name, "secret": {"secretName": source, "defaultMode": 0o440}}
    return {"name": name, "persistentVolumeClaim": {"claimName": source}}
