"""What is shown while work goes on."""

from __future__ import annotations

import threading

import pytest

from releve.progress import quiet_progress, say


def test_a_quiet_thread_leaves_the_others_their_voice(capsys: pytest.CaptureFixture[str]) -> None:
    inside, leave = threading.Event(), threading.Event()

    def work() -> None:
        with quiet_progress():
            say("unheard")
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=work)
    thread.start()
    inside.wait(10)
    with quiet_progress():
        say("unheard as well")
    say("heard while another is quiet")
    leave.set()
    thread.join()
    say("heard afterwards")
    shown = capsys.readouterr().err
    assert "unheard" not in shown
    assert "heard while another is quiet" in shown and "heard afterwards" in shown
