"""What the environment says, read once."""

from __future__ import annotations

import getpass
import ipaddress
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from kb_pipeline.access_settings import AccessSettings, read_access_settings
from kb_pipeline.errors import InvalidSetting
from kb_pipeline.service_settings import ServiceSettings, read_service_settings
from kb_pipeline.version import __version__

VARIABLES = (
    "KB_HOME",
    "KB_DATABASE_URL",
    "KB_DATABASE_URL_FILE",
    "KB_STORAGE_URI",
    "KB_ACTOR",
    "KB_CONTACT",
    "KB_ALLOW_PRIVATE_NETWORKS",
    "KB_LOG_FORMAT",
    "KB_BROWSER",
    "KB_PROXY",
    "KB_FILE_VARIABLES",
    "KB_FILE_ROOTS",
    "KB_SECRET_KEYS",
    "KB_SECRET_KEYS_FILE",
    "KB_PUBLIC_URL",
    "KB_ALLOWED_HOSTS",
)
"""What a run in a container must be given to see the same settings."""
COMMAND_VARIABLES = ("KB_KEY", "KB_KEY_FILE")
"""Variables that only the command line reads: runs act for the operator, whoever requested them."""

_PROXY = re.compile(r"http://(?:[A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\]):\d{1,5}/?")
_HOST = re.compile(r"\*|[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?")
_ORIGIN = re.compile(r"https?://(?:[A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\])(?::\d{1,5})?/?", re.IGNORECASE)
_VARIABLE = re.compile(r"(?!KB_)[A-Za-z_][A-Za-z0-9_]*")
_MAX_ACTOR_CHARS = 100
_LOG_FORMATS: dict[str, Literal["text", "json"]] = {"text": "text", "json": "json"}


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of an installation: where its data is, and what the operator allows."""

    home: Path
    """`KB_HOME`, absolute."""
    database_url: str = field(repr=False)
    """SQLAlchemy URL of the control plane; it may hold a password."""
    data_dir: Path
    contact: str
    """`KB_CONTACT`: e-mail or URL put into the User-Agent; empty when unset."""
    allowed_networks: tuple[str, ...]
    """`KB_ALLOW_PRIVATE_NETWORKS`: CIDRs the operator opens to fetching."""
    log_format: Literal["text", "json"]
    database_url_file: Path | None = None
    """`KB_DATABASE_URL_FILE`: the file that the URL was read from."""
    browser: str = ""
    """`KB_BROWSER`: the executable of Chromium for pages that need their scripts; empty for the first one found."""

    proxy: str = ""
    """`KB_PROXY`: the HTTP proxy through which everything is fetched; empty for none. Those that the environment names
    for other programs are ignored."""

    actor: str = "unknown"
    """Who changes something, for the audit log: `KB_ACTOR`, else the user of the machine."""

    file_variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    """What `${NAME}` in any tenant's KB file may take from the environment: the variables `KB_FILE_VARIABLES` lists."""

    file_roots: tuple[Path, ...] = ()
    """`KB_FILE_ROOTS`: the folders beneath which a KB file applied with an API key may name a folder to read."""

    secret_keys: tuple[str, ...] = field(default=(), repr=False)
    """`KB_SECRET_KEYS`: Fernet keys that tenants' secrets are encrypted with, newest first."""

    secret_keys_file: Path | None = None
    """`KB_SECRET_KEYS_FILE`: a file that holds them."""

    public_url: str = ""
    """`KB_PUBLIC_URL`: where clients reach the service, without a path or closing slash; empty for where they ask."""

    allowed_hosts: tuple[str, ...] = ()
    """`KB_ALLOWED_HOSTS`: names, without ports, by which the service is reached too; `*` for any."""

    access: AccessSettings = field(default_factory=AccessSettings)
    """Which tokens of others are accepted; runs, which act for the operator, are not told."""

    service: ServiceSettings = field(default_factory=ServiceSettings)
    """Limits of the HTTP service, and which pages elsewhere may send requests."""

    @property
    def models_dir(self) -> Path:
        """The folder of converted embedding models."""
        return self.home / "models"

    @property
    def logs_dir(self) -> Path:
        """The folder of the runs' output, one file a run."""
        return self.home / "logs"

    @property
    def dagster_dir(self) -> Path:
        """The folder of Dagster's runs, events and schedules while it is on SQLite."""
        return self.home / "dagster"

    @property
    def user_agent(self) -> str:
        """The User-Agent of all requests."""
        return f"kb_pipeline/{__version__}" + (f" (+{self.contact})" if self.contact else "")

    @property
    def is_postgres(self) -> bool:
        """Whether control plane and Dagster run on Postgres."""
        return self.database_url.startswith("postgresql")


def load_settings(home: str | Path | None = None) -> Settings:
    """Read the environment, with another home if one is given.

    Raises:
        InvalidSetting: naming the variable and what is allowed.
    """
    home = Path(home or os.environ.get("KB_HOME") or ".kb").expanduser().resolve()
    return Settings(
        home=home,
        database_url=_database_url(*_from_file_or_environment("KB_DATABASE_URL"), home),
        data_dir=_data_dir(os.environ.get("KB_STORAGE_URI", ""), home),
        contact=_contact(os.environ.get("KB_CONTACT", "")),
        allowed_networks=_networks(os.environ.get("KB_ALLOW_PRIVATE_NETWORKS", "")),
        log_format=_log_format(os.environ.get("KB_LOG_FORMAT") or "text"),
        database_url_file=_path(os.environ.get("KB_DATABASE_URL_FILE", "")),
        browser=os.environ.get("KB_BROWSER", "").strip(),
        actor=_actor(os.environ.get("KB_ACTOR", "").strip()),
        proxy=_proxy(os.environ.get("KB_PROXY", "").strip()),
        file_variables=_file_variables(_listed(os.environ.get("KB_FILE_VARIABLES", ""))),
        file_roots=_file_roots(_listed(os.environ.get("KB_FILE_ROOTS", ""))),
        secret_keys=_listed(os.environ.get("KB_SECRET_KEYS", "")),
        secret_keys_file=_path(os.environ.get("KB_SECRET_KEYS_FILE", "")),
        public_url=_public_url(os.environ.get("KB_PUBLIC_URL", "").strip()),
        allowed_hosts=_hosts(_listed(os.environ.get("KB_ALLOWED_HOSTS", ""))),
        access=read_access_settings(os.environ, *_from_file_or_environment("KB_JWT_SECRET")),
        service=read_service_settings(os.environ),
    )


def as_environment(settings: Settings) -> dict[str, str]:
    """Return the variables from which a child process reads the same settings."""
    database = {"KB_DATABASE_URL": settings.database_url, "KB_DATABASE_URL_FILE": ""}
    if settings.database_url_file is not None:  # a secret that lies in a file stays there
        database = {"KB_DATABASE_URL": "", "KB_DATABASE_URL_FILE": str(settings.database_url_file)}
    keys_file = settings.secret_keys_file
    return {
        **settings.file_variables,
        **database,
        "KB_HOME": str(settings.home),
        "KB_STORAGE_URI": str(settings.data_dir),
        "KB_ACTOR": settings.actor,
        "KB_CONTACT": settings.contact,
        "KB_ALLOW_PRIVATE_NETWORKS": ",".join(settings.allowed_networks),
        "KB_FILE_ROOTS": ",".join(map(str, settings.file_roots)),
        "KB_LOG_FORMAT": settings.log_format,
        "KB_BROWSER": settings.browser,
        "KB_PROXY": settings.proxy,
        "KB_FILE_VARIABLES": ",".join(settings.file_variables),
        "KB_SECRET_KEYS": ",".join(settings.secret_keys),
        "KB_SECRET_KEYS_FILE": "" if keys_file is None else str(keys_file),
        "KB_PUBLIC_URL": settings.public_url,
        "KB_ALLOWED_HOSTS": ",".join(settings.allowed_hosts),
    }


def load_api_key() -> str:
    """Return the API key that commands run as, from `KB_KEY` or the file `KB_KEY_FILE`; empty for the operator."""
    return _from_file_or_environment("KB_KEY")[1].strip()


def set_variables(names: Iterable[str]) -> list[str]:
    """Return those of these variables that the environment sets."""
    return [name for name in names if name in os.environ]


def _from_file_or_environment(name: str) -> tuple[str, str]:
    """Return the name of the variable that a secret comes from, itself or `NAME_FILE`, and the secret."""
    in_file, value, path = f"{name}_FILE", os.environ.get(name, ""), os.environ.get(f"{name}_FILE", "")
    if not path:
        return name, value
    if value:
        raise InvalidSetting(in_file, f"{name} is set too; set one of the two")
    try:
        value = Path(path).read_text(encoding="utf-8").strip()
    except UnicodeDecodeError:
        raise InvalidSetting(in_file, f"{path} is not UTF-8 text") from None
    except OSError as error:
        raise InvalidSetting(in_file, f"{path} cannot be read: {error.strerror}") from None
    if not value:
        raise InvalidSetting(in_file, f"{path} is empty; it must hold what {name} would")
    return in_file, value


def _listed(given: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in given.split(",") if part.strip())


def _path(given: str) -> Path | None:
    return Path(given).expanduser().resolve() if given else None


def _file_variables(names: tuple[str, ...]) -> dict[str, str]:
    """Return the listed variables; refuse settings of this project, which may hold its passwords."""
    if wrong := [name for name in names if not _VARIABLE.fullmatch(name)]:
        raise InvalidSetting(
            "KB_FILE_VARIABLES", f"comma-separated names of variables, none of ours (KB_...); got {', '.join(wrong)}"
        )
    return {name: os.environ[name] for name in names if name in os.environ}


def _file_roots(paths: tuple[str, ...]) -> tuple[Path, ...]:
    roots = tuple(Path(path) for path in paths)
    if wrong := [path for path in roots if not path.is_absolute() or ".." in path.parts]:
        raise InvalidSetting(
            "KB_FILE_ROOTS", f"comma-separated absolute paths of folders; got {', '.join(str(path) for path in wrong)}"
        )
    return roots


def _database_url(name: str, given: str, home: Path) -> str:
    if not given:
        return f"sqlite:///{home / 'control.db'}"
    scheme, separator, rest = given.partition("://")
    if not separator or scheme.split("+")[0] not in {"postgresql", "postgres", "sqlite"}:
        # The value may hold a password: it is not repeated.
        raise InvalidSetting(name, "allowed are postgresql://... and sqlite:///PATH")
    if scheme.startswith("sqlite"):
        return given
    return f"postgresql+psycopg://{rest}"  # psycopg 3, whatever driver was named


def _data_dir(given: str, home: Path) -> Path:
    if not given:
        return home / "data"
    scheme, separator, rest = given.partition("://")
    if separator and scheme != "file":
        raise InvalidSetting("KB_STORAGE_URI", f"{scheme}:// is not supported yet; give a directory or file:///PATH")
    return Path(rest if separator else given).expanduser().resolve()


def _contact(given: str) -> str:
    if any(not c.isprintable() for c in given):
        raise InvalidSetting("KB_CONTACT", "must be one printable line, an e-mail address or a URL")
    return given.strip()


def _networks(given: str) -> tuple[str, ...]:
    networks = _listed(given)
    for network in networks:
        try:
            ipaddress.ip_network(network)
        except ValueError as error:
            raise InvalidSetting(
                "KB_ALLOW_PRIVATE_NETWORKS", f"comma-separated CIDRs such as 127.0.0.0/8,10.1.0.0/16; {error}"
            ) from None
    return networks


def _actor(given: str) -> str:
    if len(given) > _MAX_ACTOR_CHARS or not given.isprintable():
        raise InvalidSetting("KB_ACTOR", f"must be one printable line of at most {_MAX_ACTOR_CHARS} characters")
    if given:
        return given
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user need not have a name
        return f"uid {os.getuid()}"


def _proxy(given: str) -> str:
    if given and not _PROXY.fullmatch(given):
        # The value may hold a password: it is not repeated.
        raise InvalidSetting("KB_PROXY", "allowed is http://HOST:PORT, without a user name")
    return given.rstrip("/")


def _public_url(given: str) -> str:
    if given and not _ORIGIN.fullmatch(given):
        raise InvalidSetting(
            "KB_PUBLIC_URL", f"got {given!r}; allowed is https://HOST or http://HOST:PORT, without a path"
        )
    return given.rstrip("/").lower()


def _hosts(names: tuple[str, ...]) -> tuple[str, ...]:
    if wrong := [name for name in names if not _HOST.fullmatch(name)]:
        raise InvalidSetting(
            "KB_ALLOWED_HOSTS", f"comma-separated names of hosts, without ports, or *; got {', '.join(wrong)}"
        )
    return tuple(name.lower() for name in names)


def _log_format(given: str) -> Literal["text", "json"]:
    if given not in _LOG_FORMATS:
        raise InvalidSetting("KB_LOG_FORMAT", f"got {given!r}; allowed are {' and '.join(_LOG_FORMATS)}")
    return _LOG_FORMATS[given]
