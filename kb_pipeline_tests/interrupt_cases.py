"""Ctrl-C waits for the end of a short piece of work, and is never lost."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest

from kb_pipeline.interrupts import deferred_interrupts


class Cancelled(BaseException):
    """What somebody else's handler raises, as Dagster's does."""


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """SIGINT raises KeyboardInterrupt and SIGTERM Cancelled, whoever runs the tests."""

    def cancel(*_: object) -> None:
        raise Cancelled

    before = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, cancel)
    yield
    for signum, handler in before.items():
        signal.signal(signum, handler)


@pytest.mark.parametrize(("signum", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Cancelled)])
def test_an_interrupt_is_raised_after_the_block(signum: signal.Signals, error: type[BaseException]) -> None:
    done = []
    with pytest.raises(error):  # noqa: PT012 - what comes between is what is tested
        with deferred_interrupts():
            signal.raise_signal(signum)
            done.append("all of it")
        done.append("nothing after it")
    assert done == ["all of it"]


def test_the_handlers_are_as_before() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), deferred_interrupts():
        signal.raise_signal(signal.SIGINT)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    with deferred_interrupts():
        assert signal.getsignal(signal.SIGINT) != before[0]


def test_a_nested_block_waits_for_the_outer_one() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), deferred_interrupts():  # noqa: PT012 - as above
        with deferred_interrupts():
            signal.raise_signal(signal.SIGINT)
        done.append("outer")
    assert done == ["outer"]


def test_the_second_interrupt_does_not_wait() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), deferred_interrupts():  # noqa: PT012 - as above
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        done.append("never")
    assert done == []
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_interrupt_wins_over_an_error_of_the_block() -> None:
    with pytest.raises(KeyboardInterrupt) as raised, deferred_interrupts():  # noqa: PT012 - as above
        signal.raise_signal(signal.SIGINT)
        raise OSError("the disk is full")
    assert isinstance(raised.value.__context__, OSError)


def test_blocks_that_end_out_of_order_lose_nothing() -> None:
    def hold() -> Iterator[None]:
        with deferred_interrupts():
            yield

    first, second = hold(), hold()
    next(first)
    next(second)
    next(first, None)
    signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        next(second, None)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ignored_signals_stay_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with deferred_interrupts():
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
        signal.raise_signal(signal.SIGINT)


def test_other_threads_leave_the_handlers_alone() -> None:
    seen = []

    def look() -> None:
        with deferred_interrupts():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]
