"""A check stops what does not end, and leaves the notebook as it was."""

import io
import os
import signal
import sys
import threading
import time
from contextlib import redirect_stdout, suppress

import pytest
import torch

import vit_edu
from tests.unit.exercises.look import look, right
from vit_edu import layers
from vit_edu.exercises.guard import Stopped


def hangs(q, k, v):
    while True:
        with suppress(BaseException):
            pass


def test_an_endless_loop_is_stopped():
    start = time.monotonic()
    verdict, text = look(hangs)
    assert verdict.status == "timeout"
    assert "did not return" in text
    assert time.monotonic() - start < 30


def test_an_answer_that_waits_outside_python_is_left_behind(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("vit_edu.exercises.guard.TIME_LIMIT", 0.3)
        verdict, text = look(lambda q, k, v: time.sleep(5))
    assert verdict.status == "timeout"
    assert "restart the kernel" in text
    assert look(right)[0].passed  # while the other still waits


def test_what_was_left_behind_puts_no_old_stdout_back_when_it_ends(monkeypatch):
    seconds, before = iter([3.0]), set(threading.enumerate())
    with monkeypatch.context() as patch:
        patch.setattr("vit_edu.exercises.guard.TIME_LIMIT", 0.3)
        assert look(lambda q, k, v: time.sleep(next(seconds, 0)))[0].status == "timeout"
    (left,) = set(threading.enumerate()) - before
    with redirect_stdout(io.StringIO()) as later:
        left.join(60)
        assert not left.is_alive() and sys.stdout is later


def test_an_answer_that_is_stopped_while_it_deletes_objects_ends_in_silence(monkeypatch):
    def work(seconds):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            pass

    class Slow:
        def __del__(self):
            work(0.1)

    def mine(q, k, v):
        for _ in range(50):
            Slow()
            work(0.05)  # one that is stopped while it deletes goes on

    told = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)
    with monkeypatch.context() as patch:
        patch.setattr("vit_edu.exercises.guard.TIME_LIMIT", 0.3)
        verdict, _ = look(mine)
    assert verdict.status == "timeout"
    assert told == []


def test_an_answer_may_not_end_the_check():
    def mine(q, k, v):
        raise Stopped

    verdict, _ = look(mine)
    assert verdict.status == "error"


def test_the_notebook_is_left_as_it_was():
    def mine(q, k, v):
        print("one line a call")
        torch.manual_seed(0)
        torch.set_default_dtype(torch.float64)
        return right(q, k, v)

    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    threads = torch.get_num_threads()
    with redirect_stdout(io.StringIO()) as out:
        _, text = look(mine)
    assert torch.get_default_dtype() == torch.float32
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == threads
    assert out.getvalue() == ""
    assert "one line a call" in text


@pytest.mark.skipif(os.name == "nt", reason="os.kill sends no SIGINT on Windows")
def test_an_interrupt_stops_the_answer_and_leaves_the_notebook_as_it_was(capsys, monkeypatch):
    monkeypatch.setattr("vit_edu.exercises.guard.TIME_LIMIT", 60.0)  # on a busy machine the interrupt comes late

    def mine(q, k, v):
        torch.set_default_dtype(torch.float64)
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
        while True:
            pass

    stdout, threads = sys.stdout, threading.active_count()
    assert vit_edu.check("attention", mine) is layers.scaled_dot_product_attention
    assert "You stopped the check" in capsys.readouterr().out
    assert sys.stdout is stdout
    assert torch.get_default_dtype() == torch.float32
    assert threading.active_count() == threads
