"""One clock a host for the whole installation: the turns of every run's crawls, decided in the control plane."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice

from sqlalchemy import Select, delete, select
from sqlalchemy.exc import IntegrityError

from kb_pipeline.control.db.engine import Database, database_now
from kb_pipeline.control.db.models import HostClient, HostState
from kb_pipeline.host_scheduler import Permit, Report, decide

_HOST_IDLE_S = 30 * 24 * 3600.0
_GUEST_IDLE_S = 24 * 3600.0
_BATCH = 500
"""Hosts in one transaction."""


class SharedHostScheduler:
    """The turns of one crawl; see turns.HostScheduler. A run, its tenant and the source it crawls make the guest."""

    def __init__(self, db: Database, tenant: str, guest: str) -> None:
        self._db, self._tenant, self._guest = db, tenant, guest
        self._visited: set[str] = set()

    def exchange(self, reports: Mapping[str, Report]) -> dict[str, Permit]:
        """A grant for every host reported on."""
        grants: dict[str, Permit] = {}
        for some in _batches(reports):
            try:
                grants |= self._decide(some, reports)
            except IntegrityError:  # another crawl met one of the hosts for the first time in the same moment
                grants |= self._decide(some, reports)
        self._visited.update(reports)
        return grants

    def leave(self) -> None:
        """The crawl is over, or dead: a request of its last turn may have been sent until now."""
        for some in _batches(self._visited):
            with self._db.write_all(durably=False) as session:
                now = database_now(session)
                for host in session.scalars(_locked(some).where(HostState.holder == self._guest)):
                    host.holder, host.last_at = "", max(host.last_at, now)
                session.execute(delete(HostClient).where(HostClient.host.in_(some), HostClient.guest == self._guest))
        self._visited.clear()

    def _decide(self, hosts: list[str], reports: Mapping[str, Report]) -> dict[str, Permit]:
        with self._db.write_all(durably=False) as session:
            clocks = {clock.host: clock for clock in session.scalars(_locked(hosts))}
            guests: dict[str, dict[str, HostClient]] = {host: {} for host in hosts}
            for guest in session.scalars(select(HostClient).where(HostClient.host.in_(hosts))):
                guests[guest.host][guest.guest] = guest
            for host in hosts:
                if host not in clocks:
                    clocks[host] = HostState(host=host)
                    session.add(clocks[host])
                if self._guest not in guests[host]:
                    guests[host][self._guest] = HostClient(host=host, guest=self._guest, tenant=self._tenant)
                    session.add(guests[host][self._guest])
            session.flush()  # fills in defaults; a host met for the first time is locked from here on
            now = database_now(session)
            return {
                host: decide(clocks[host], guests[host].values(), guests[host][self._guest], reports[host], now)
                for host in hosts
            }


def forget_idle_hosts(db: Database) -> None:
    """Remove hosts that nobody has asked for a month, and guests that never left."""
    with db.write_all() as session:
        now = database_now(session)
        session.execute(delete(HostClient).where(HostClient.seen_until < now - _GUEST_IDLE_S))
        session.execute(delete(HostState).where(HostState.last_at < now - _HOST_IDLE_S, HostState.retry_at < now))


def _locked(hosts: Sequence[str]) -> Select[HostState]:
    # In one order for everybody, so that no two transactions wait for each other.
    return select(HostState).where(HostState.host.in_(hosts)).order_by(HostState.host).with_for_update()


def _batches(hosts: Iterable[str]) -> Iterator[list[str]]:
    ordered = iter(sorted(hosts))
    while batch := list(islice(ordered, _BATCH)):
        yield batch
