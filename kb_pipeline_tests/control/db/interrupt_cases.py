"""Ctrl-C amid a statement: the statement ends first, the interrupt is raised as it is, the pool stays usable."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest
from sqlalchemy import text

from kb_pipeline.control.db.engine import Database


class Cancelled(BaseException):
    """What Dagster raises in a step is no KeyboardInterrupt either."""


@pytest.fixture
def cancelling() -> Iterator[None]:
    def cancel(*_: object) -> None:
        raise Cancelled

    before = signal.signal(signal.SIGINT, cancel)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("cancelling")
def test_an_interrupt_of_any_kind_leaves_no_connection_amid_a_statement(fresh_postgres: str) -> None:
    db = Database(fresh_postgres)
    press = threading.Timer(0.1, signal.raise_signal, [signal.SIGINT])
    with db.read_all() as session:
        driver = session.connection().connection.driver_connection
        assert driver is not None
        cursor = driver.cursor()
        press.start()
        with pytest.raises(Cancelled):
            cursor.execute("SELECT pg_sleep(0.5)")
        assert driver.info.transaction_status.name == "INTRANS"
    press.join()
    with db.read_all() as session:
        assert session.scalar(text("SELECT 1")) == 1
    db.dispose()


@pytest.mark.usefixtures("cancelling")
def test_a_second_interrupt_does_not_wait_for_the_statement(fresh_postgres: str) -> None:
    db = Database(fresh_postgres)
    presses = [threading.Timer(delay, signal.raise_signal, [signal.SIGINT]) for delay in (0.1, 0.5)]
    with pytest.raises(Cancelled), db.read_all() as session:  # noqa: PT012 - what comes before is needed
        # Connected first: two presses while a library is in C are one to Python, which then waits for the statement.
        session.execute(text("SELECT 1"))
        for press in presses:
            press.start()
        session.execute(text("SELECT pg_sleep(600)"))
    for press in presses:
        press.join()
    with db.read_all() as session:
        assert session.scalar(text("SELECT 1")) == 1
    db.dispose()
