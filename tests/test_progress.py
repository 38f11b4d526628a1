"""The line that a terminal shows while something takes long."""

import io
import threading
import time
from contextlib import redirect_stderr

import numpy as np
import pytest

import fastad as fad
from fastad import _progress
from fastad._progress import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(_progress, "PATIENCE", 0.02)
    monkeypatch.setattr(_progress, "REFRESH", 0.01)


def wait_for(text, terminal):
    end = time.monotonic() + 20
    while text not in terminal.getvalue():
        assert time.monotonic() < end, repr(terminal.getvalue())
        time.sleep(0.002)


def test_what_takes_long_is_shown_and_wiped():
    seen = iter(range(1000, 10**9))
    with redirect_stderr(Terminal()) as terminal, progress("counting", lambda: next(seen), "nodes"):
        wait_for("\rcounting: 1,001 nodes, 0.", terminal)
    *_, last, wiped, end = terminal.getvalue().split("\r")
    assert end == "" and wiped.isspace() and len(wiped) >= len(last.rstrip())


def test_what_is_quick_is_not_shown(monkeypatch):
    monkeypatch.setattr(_progress, "PATIENCE", 60)
    threads = threading.active_count()
    with redirect_stderr(Terminal()) as terminal, progress("counting", int, "nodes"):
        pass
    assert terminal.getvalue() == "" and threading.active_count() == threads


def test_no_terminal_no_line():
    with redirect_stderr(io.StringIO()) as stream, progress("counting", int, "nodes"):
        time.sleep(0.1)
    assert stream.getvalue() == ""


def test_it_ends_with_the_work_that_fails():
    threads = threading.active_count()
    with redirect_stderr(Terminal()), pytest.raises(KeyError), progress("counting", int, "nodes"):
        raise KeyError
    assert threading.active_count() == threads


def test_compile_shows_a_long_recording():
    terminal = Terminal()

    @fad.compile
    def slow(x):
        for _ in range(500):
            x = x + 1.0
        wait_for("\rfastad.compile: recording: 50", terminal)
        return np.sum(x)

    with redirect_stderr(terminal):
        assert slow(np.zeros(2)) == 1000.0
