"""Schedules requests to each host across all runs of the installation, with the hosts' states in the control plane."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice

from sqlalchemy import Select, delete, select
from sqlalchemy.exc import IntegrityError

from kb_pipeline.control.db.engine import Database, database_now
from kb_pipeline.control.db.models import HostClient, HostState
from kb_pipeline.host_scheduler import Permit, Report, decide

_HOST_IDLE_S = 30 * 24 * 3600.0
_CLIENT_IDLE_S = 24 * 3600.0
_BATCH = 500
"""Hosts in one transaction."""


class SharedHostScheduler:
    """Hands out permits to one crawl; see host_scheduler.HostScheduler. A run and its source make the client's id."""

    def __init__(self, db: Database, tenant: str, client_id: str) -> None:
        self._db, self._tenant, self._client_id = db, tenant, client_id
        self._hosts: set[str] = set()

    def exchange(self, reports: Mapping[str, Report]) -> dict[str, Permit]:
        """Return a permit for every host reported on."""
        permits: dict[str, Permit] = {}
        for batch in _batches(reports):
            try:
                permits |= self._decide(batch, reports)
            except IntegrityError:  # another crawl inserted one of the hosts at the same moment
                permits |= self._decide(batch, reports)
        self._hosts.update(reports)
        return permits

    def close(self) -> None:
        """Release the crawl's slots; the request of its last one may have been sent until now."""
        for batch in _batches(self._hosts):
            with self._db.write_all(durably=False) as session:
                now = database_now(session)
                for host in session.scalars(_locked(batch).where(HostState.holder == self._client_id)):
                    host.holder, host.last_at = "", max(host.last_at, now)
                is_own = HostClient.client_id == self._client_id
                session.execute(delete(HostClient).where(HostClient.host.in_(batch), is_own))
        self._hosts.clear()

    def _decide(self, hosts: list[str], reports: Mapping[str, Report]) -> dict[str, Permit]:
        with self._db.write_all(durably=False) as session:
            states = {state.host: state for state in session.scalars(_locked(hosts))}
            clients: dict[str, dict[str, HostClient]] = {host: {} for host in hosts}
            for client in session.scalars(select(HostClient).where(HostClient.host.in_(hosts))):
                clients[client.host][client.client_id] = client
            for host in hosts:
                if host not in states:
                    states[host] = HostState(host=host)
                    session.add(states[host])
                if self._client_id not in clients[host]:
                    clients[host][self._client_id] = self._new_client(host)
                    session.add(clients[host][self._client_id])
            session.flush()  # fills in defaults; a newly inserted host is locked from here on
            now = database_now(session)
            return {
                host: decide(states[host], clients[host].values(), clients[host][self._client_id], reports[host], now)
                for host in hosts
            }

    def _new_client(self, host: str) -> HostClient:
        return HostClient(host=host, client_id=self._client_id, tenant=self._tenant)


def delete_idle_hosts(db: Database) -> None:
    """Delete hosts that no crawl requested from for a month, and clients that never closed."""
    with db.write_all() as session:
        now = database_now(session)
        session.execute(delete(HostClient).where(HostClient.seen_until < now - _CLIENT_IDLE_S))
        session.execute(delete(HostState).where(HostState.last_at < now - _HOST_IDLE_S, HostState.retry_at < now))


def _locked(hosts: Sequence[str]) -> Select[HostState]:
    # Always in the same order, so that no two transactions deadlock.
    return select(HostState).where(HostState.host.in_(hosts)).order_by(HostState.host).with_for_update()


def _batches(hosts: Iterable[str]) -> Iterator[list[str]]:
    ordered = iter(sorted(hosts))
    while batch := list(islice(ordered, _BATCH)):
        yield batch
