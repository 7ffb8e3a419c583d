"""Which launcher the instance gets, and what it refuses to start without."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest
from dagster._core.launcher import DefaultRunLauncher, LaunchRunContext

from kb_pipeline.definitions import defs
from kb_pipeline.defs.instance import open_instance
from kb_pipeline.defs.launchers import RunsElsewhere
from kb_pipeline.errors import InvalidSetting
from kb_pipeline.settings import load_settings

pytestmark = pytest.mark.upgrade("dagster")


@pytest.fixture
def docker(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Return an environment from which runs could be launched in containers."""
    secret = tmp_path / "database_url"
    secret.write_text("postgresql://kb:hunter2@127.0.0.1:9/kb")
    values = {
        "KB_DATABASE_URL_FILE": str(secret),
        "KB_RUN_LAUNCHER": "docker",
        "KB_RUN_IMAGE": "kb:1",
        "KB_DOCKER_NETWORK": "kb",
        "KB_RUN_VOLUMES": f"kb_home:{home},{secret}:{secret}:ro",
    }
    monkeypatch.delenv("KB_DATABASE_URL", raising=False)
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def launcher() -> object:
    from dagster._serdes import ConfigurableClassData

    data = ConfigurableClassData("kb_pipeline.defs.launchers", "EnvRunLauncher", "{}")
    return data.rehydrate(as_type=object)


def test_runs_are_child_processes_by_default(home: Path) -> None:
    with open_instance(load_settings()) as instance:
        assert isinstance(instance.run_launcher, DefaultRunLauncher)


def test_a_role_that_launches_nothing_cancels_by_marking_the_run(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KB_RUN_LAUNCHER", "elsewhere")
    with open_instance(load_settings()) as instance:
        assert isinstance(instance.run_launcher, RunsElsewhere)
        run = instance.create_run_for_job(defs.resolve_job_def("housekeeping"), status=dg.DagsterRunStatus.STARTED)
        with pytest.raises(InvalidSetting, match="launches no runs"):
            instance.run_launcher.launch_run(LaunchRunContext(run, None))
        assert instance.run_launcher.terminate(run.run_id)
        assert instance.get_run_by_id(run.run_id).status == dg.DagsterRunStatus.CANCELING  # type: ignore[union-attr]
        instance.report_run_canceled(run)
        assert not instance.run_launcher.terminate(run.run_id)
        assert not instance.run_launcher.terminate("unknown")


def test_containers_need_a_control_plane_they_can_share(docker: pytest.MonkeyPatch) -> None:
    docker.delenv("KB_DATABASE_URL_FILE")
    with pytest.raises(InvalidSetting, match="KB_DATABASE_URL: KB_RUN_LAUNCHER=docker needs postgresql"):
        launcher()


@pytest.mark.parametrize(
    ("volumes", "missing"),
    [("", "KB_HOME"), ("kb_home:{home}", "KB_DATABASE_URL_FILE"), ("{secret}:{secret}", "KB_HOME")],
)
def test_what_a_run_would_not_find_in_its_container_is_named(
    docker: pytest.MonkeyPatch, home: Path, tmp_path: Path, volumes: str, missing: str
) -> None:
    docker.setenv("KB_RUN_VOLUMES", volumes.format(home=home, secret=tmp_path / "database_url"))
    with pytest.raises(InvalidSetting, match=f"KB_RUN_VOLUMES: must mount what {missing} names") as caught:
        launcher()
    assert "hunter2" not in str(caught.value)


def test_a_seccomp_profile_is_passed_whole(docker: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from dagster_docker import DockerRunLauncher

    docker.setenv("KB_RUN_SECCOMP", str(tmp_path / "profile.json"))
    with pytest.raises(InvalidSetting, match=r"KB_RUN_SECCOMP: .*cannot be read: No such file"):
        launcher()
    (tmp_path / "profile.json").write_text('{"defaultAction": "SCMP_ACT_ALLOW"}')
    made = launcher()
    assert isinstance(made, DockerRunLauncher)
    options = made.container_kwargs["security_opt"]
    assert options == ["no-new-privileges", 'seccomp={"defaultAction": "SCMP_ACT_ALLOW"}']


def test_only_named_variables_are_passed_on(docker: pytest.MonkeyPatch) -> None:
    from dagster_docker import DockerRunLauncher

    docker.setenv("KB_FILE_VARIABLES", "TOKEN,UNSET")
    docker.setenv("TOKEN", "t0ken")
    docker.setenv("KB_UNKNOWN", "x")
    made = launcher()
    assert isinstance(made, DockerRunLauncher)
    assert made.env_vars == [
        "KB_HOME", "KB_DATABASE_URL_FILE", "KB_ALLOW_PRIVATE_NETWORKS", "KB_FILE_VARIABLES", "TOKEN",
        "KB_RUN_LAUNCHER=elsewhere",
    ]  # fmt: skip


def test_dagster_writes_to_the_home_wherever_its_dagster_yaml_lies(home: Path, tmp_path: Path) -> None:
    brought = tmp_path / "opt"
    brought.mkdir()
    (brought / "dagster.yaml").write_bytes((Path(__file__).parents[2] / "dagster.yaml").read_bytes())
    with dg.DagsterInstance.from_config(str(brought)) as instance:
        assert Path(instance.storage_directory()) == home / "dagster" / "storage"
        with instance.compute_log_manager.capture_logs(["run", "compute_logs", "step"]):
            pass
    assert [path.name for path in brought.iterdir()] == ["dagster.yaml"]
    assert list((home / "dagster" / "storage").rglob("step.*"))
