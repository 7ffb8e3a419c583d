"""How many requests are answered at once: a tenant never takes the room of all, and those that wait take turns."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque

from kb_pipeline.service.problems import ServiceBusy, TooManyAtOnce

_MAX_WAITING = 100
"""Of one tenant; more are refused at once."""
_MAX_WAIT_S = 20.0
OPERATOR = ""
"""In place of the tenant for the operator's own requests."""


class Concurrency:
    """Room for requests, and for streams, of one process; used on its event loop alone.

    A stream is idle most of the time: once its answer has begun, it gives back its room among the requests and is
    counted among the streams.
    """

    def __init__(self, max_requests: int, max_streams: int) -> None:
        self._max_requests, self._max_of_tenant = max_requests, max(1, max_requests * 2 // 3)
        self._max_streams, self._max_streams_of_tenant = max_streams, max(1, max_streams // 2)
        self._requests: Counter[str] = Counter()
        self._streams: Counter[str] = Counter()
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    async def enter(self, tenant: str) -> Place:
        """Wait for room for a request of a tenant, and have it until its place is left.

        Raises:
            TooManyAtOnce: the tenant has as many requests waiting as it may, or waited too long for its own.
            ServiceBusy: others' requests left no room for too long.
        """
        await self._wait(tenant)
        return Place(self, tenant)

    async def _wait(self, tenant: str) -> None:
        if tenant not in self._waiting and self._has_room(tenant):
            self._requests[tenant] += 1
            return
        queue = self._waiting.setdefault(tenant, deque())
        if len(queue) >= _MAX_WAITING:
            raise TooManyAtOnce
        turn = asyncio.get_running_loop().create_future()
        queue.append(turn)
        try:
            async with asyncio.timeout(_MAX_WAIT_S):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self.leave(tenant)  # its turn had come
            elif turn in queue:
                queue.remove(turn)
            if not queue and self._waiting.get(tenant) is queue:
                del self._waiting[tenant]
            if isinstance(error, TimeoutError):
                raise (TooManyAtOnce if self._requests[tenant] >= self._max_of_tenant else ServiceBusy) from None
            raise

    def _has_room(self, tenant: str) -> bool:
        return self._requests.total() < self._max_requests and self._requests[tenant] < self._max_of_tenant

    def leave(self, tenant: str) -> None:
        """Give room back; whose turn it is takes it."""
        self._requests -= Counter({tenant: 1})
        for waiting in list(self._waiting):
            queue = self._waiting[waiting]
            while queue and self._has_room(waiting):
                turn = queue.popleft()
                if turn.done():  # it waits no longer
                    continue
                self._requests[waiting] += 1
                turn.set_result(None)
                self._waiting.move_to_end(waiting)  # others before its next one
                break
            if not queue:
                del self._waiting[waiting]

    def open_stream(self, tenant: str) -> None:
        """Count a stream; raise TooManyAtOnce or ServiceBusy where there is no room for it."""
        if self._streams[tenant] >= self._max_streams_of_tenant:
            raise TooManyAtOnce
        if self._streams.total() >= self._max_streams:
            raise ServiceBusy
        self._streams[tenant] += 1

    def close_stream(self, tenant: str) -> None:
        """Count a stream no longer."""
        self._streams -= Counter({tenant: 1})


class Place:
    """The room of one request, which becomes that of a stream when its answer turns out to be one."""

    def __init__(self, concurrency: Concurrency, tenant: str) -> None:
        self._concurrency, self._tenant = concurrency, tenant
        self._is_request, self._is_stream = True, False

    def become_stream(self) -> None:
        """Give back the room among the requests; raise TooManyAtOnce or ServiceBusy where there is none for streams."""
        if self._is_stream:
            return
        self._concurrency.open_stream(self._tenant)
        self._is_stream, self._is_request = True, False
        self._concurrency.leave(self._tenant)

    def leave(self) -> None:
        """Give back whatever room is held."""
        if self._is_request:
            self._is_request = False
            self._concurrency.leave(self._tenant)
        if self._is_stream:
            self._is_stream = False
            self._concurrency.close_stream(self._tenant)
