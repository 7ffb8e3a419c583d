"""Room for requests: bounded, and never all of it one tenant's."""

from __future__ import annotations

import asyncio

import pytest

from kb_pipeline.service import concurrency
from kb_pipeline.service.concurrency import Concurrency, Place
from kb_pipeline.service.problems import ServiceBusy, TooManyAtOnce


def started(room: Concurrency, tenant: str) -> asyncio.Task[Place]:
    return asyncio.create_task(room.enter(tenant))


async def settle() -> None:
    """Let every task that can go on do so."""
    for _ in range(5):
        await asyncio.sleep(0)


def test_a_tenant_has_two_thirds_and_the_rest_stays_for_others() -> None:
    async def run() -> None:
        room = Concurrency(6, 10)
        ours = [started(room, "acme") for _ in range(6)]
        await settle()
        assert [task.done() for task in ours] == [True] * 4 + [False] * 2
        theirs = [started(room, "globex") for _ in range(3)]
        await settle()
        assert [task.done() for task in theirs] == [True, True, False], "six in all"
        ours[0].result().leave()
        await settle()
        assert sum(task.done() for task in ours) + sum(task.done() for task in theirs) == 7
        for task in (*ours, *theirs):
            task.cancel()

    asyncio.run(run())


def test_those_that_wait_take_turns_by_tenant() -> None:
    async def run() -> None:
        room, order = Concurrency(2, 10), []

        async def request(tenant: str) -> None:
            place = await room.enter(tenant)
            order.append(tenant)
            await asyncio.sleep(0)
            place.leave()

        holding = [await room.enter("x"), await room.enter("y")]
        many = [asyncio.create_task(request("acme")) for _ in range(6)]
        await settle()
        few = [asyncio.create_task(request("globex")) for _ in range(2)]
        await settle()
        for place in holding:
            place.leave()
        await asyncio.gather(*many, *few)
        assert order.index("globex") <= 2, "not after all of the other's"
        assert order[:5].count("globex") == 2

    asyncio.run(run())


def test_room_is_given_back_once_and_by_those_that_gave_up_waiting() -> None:
    async def run() -> None:
        room = Concurrency(3, 10)
        first, second = await room.enter("acme"), await room.enter("acme")
        waiting = started(room, "acme")
        await settle()
        waiting.cancel()
        await settle()
        first.leave()
        first.leave()
        third = await room.enter("acme")
        blocked = started(room, "acme")
        await settle()
        assert not blocked.done()
        second.leave()
        (await blocked).leave()
        third.leave()
        assert (await room.enter("acme")) is not None

    asyncio.run(run())


def test_who_waits_too_long_or_with_too_many_is_told_whose_fault_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(concurrency, "_MAX_WAIT_S", 0.01)
    monkeypatch.setattr(concurrency, "_MAX_WAITING", 2)

    async def run() -> None:
        room = Concurrency(3, 10)
        ours = [await room.enter("acme"), await room.enter("acme")]
        with pytest.raises(TooManyAtOnce):
            await room.enter("acme")
        theirs = await room.enter("globex")
        with pytest.raises(ServiceBusy):
            await room.enter("initech")
        waiting = [started(room, "acme"), started(room, "acme")]
        await asyncio.sleep(0)
        with pytest.raises(TooManyAtOnce):
            await room.enter("acme")
        assert {type(error) for error in await asyncio.gather(*waiting, return_exceptions=True)} == {TooManyAtOnce}
        for place in (*ours, theirs):
            place.leave()
        assert not room._requests.total()
        assert not room._waiting

    asyncio.run(run())


def test_streams_leave_room_for_requests_and_have_limits_of_their_own() -> None:
    async def run() -> None:
        room = Concurrency(3, 4)
        places = []
        for _ in range(2):
            place = await room.enter("acme")
            place.become_stream()
            place.become_stream()
            places.append(place)
        third = await room.enter("acme")
        with pytest.raises(TooManyAtOnce):
            third.become_stream()
        for tenant in ("globex", "initech"):
            place = await room.enter(tenant)
            place.become_stream()
            places.append(place)
        with pytest.raises(ServiceBusy):
            (await room.enter("umbrella")).become_stream()
        places[0].leave()
        third.become_stream()
        for place in (*places, third):
            place.leave()
        assert not room._streams.total()

    asyncio.run(run())
