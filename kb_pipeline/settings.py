"""What the environment says, read once."""

from __future__ import annotations

import getpass
import ipaddress
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kb_pipeline import __version__
from kb_pipeline.errors import InvalidSetting

_PROXY = re.compile(r"http://(?:[A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\]):\d{1,5}/?")
_LONGEST_ACTOR = 100
_LOG_FORMATS: dict[str, Literal["text", "json"]] = {"text": "text", "json": "json"}


@dataclass(frozen=True, slots=True)
class Settings:
    """Where things live and what the operator allows."""

    home: Path
    """`KB_HOME`, absolute."""
    database_url: str
    """SQLAlchemy URL of the control plane."""
    data_dir: Path
    contact: str
    """`KB_CONTACT`: e-mail or URL put into the User-Agent; empty when unset."""
    allowed_networks: tuple[str, ...]
    """`KB_ALLOW_PRIVATE_NETWORKS`: CIDRs the operator opens to fetching."""
    log_format: Literal["text", "json"]
    browser: str = ""
    """`KB_BROWSER`: the executable of Chromium for pages that need their scripts; empty for the first one found."""

    proxy: str = ""
    """`KB_PROXY`: the HTTP proxy through which everything is fetched; empty for none. Those that the environment names
    for other programs are ignored."""

    actor: str = "unknown"
    """Who changes something, for the audit log: `KB_ACTOR`, else the user of the machine."""

    @property
    def models_dir(self) -> Path:
        """Where converted embedding models are cached."""
        return self.home / "models"

    @property
    def logs_dir(self) -> Path:
        """What the processes of runs printed, one file a run."""
        return self.home / "logs"

    @property
    def dagster_dir(self) -> Path:
        """Where Dagster keeps runs, events and schedules while it is on SQLite."""
        return self.home / "dagster"

    @property
    def user_agent(self) -> str:
        """The honest name under which pages are asked for."""
        return f"kb_pipeline/{__version__}" + (f" (+{self.contact})" if self.contact else "")

    @property
    def is_postgres(self) -> bool:
        """Whether control plane and Dagster run on Postgres."""
        return self.database_url.startswith("postgresql")


def load_settings() -> Settings:
    """Read the environment; raises InvalidSetting naming the variable and what is allowed."""
    home = Path(os.environ.get("KB_HOME") or ".kb").expanduser().resolve()
    return Settings(
        home=home,
        database_url=_database_url(os.environ.get("KB_DATABASE_URL", ""), home),
        data_dir=_data_dir(os.environ.get("KB_STORAGE_URI", ""), home),
        contact=_contact(os.environ.get("KB_CONTACT", "")),
        allowed_networks=_networks(os.environ.get("KB_ALLOW_PRIVATE_NETWORKS", "")),
        log_format=_log_format(os.environ.get("KB_LOG_FORMAT") or "text"),
        browser=os.environ.get("KB_BROWSER", "").strip(),
        actor=_actor(os.environ.get("KB_ACTOR", "").strip()),
        proxy=_proxy(os.environ.get("KB_PROXY", "").strip()),
    )


def _database_url(given: str, home: Path) -> str:
    if not given:
        return f"sqlite:///{home / 'control.db'}"
    scheme, separator, rest = given.partition("://")
    if not separator or scheme.split("+")[0] not in {"postgresql", "postgres", "sqlite"}:
        # The value may hold a password: it is not repeated.
        raise InvalidSetting("KB_DATABASE_URL", "allowed are postgresql://... and sqlite:///PATH")
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
    networks = [part.strip() for part in given.split(",") if part.strip()]
    for network in networks:
        try:
            ipaddress.ip_network(network)
        except ValueError as error:
            raise InvalidSetting(
                "KB_ALLOW_PRIVATE_NETWORKS", f"comma-separated CIDRs such as 127.0.0.0/8,10.1.0.0/16; {error}"
            ) from None
    return tuple(networks)


def _actor(given: str) -> str:
    if len(given) > _LONGEST_ACTOR or not given.isprintable():
        raise InvalidSetting("KB_ACTOR", f"must be one printable line of at most {_LONGEST_ACTOR} characters")
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


def _log_format(given: str) -> Literal["text", "json"]:
    if given not in _LOG_FORMATS:
        raise InvalidSetting("KB_LOG_FORMAT", f"got {given!r}; allowed are {' and '.join(_LOG_FORMATS)}")
    return _LOG_FORMATS[given]
