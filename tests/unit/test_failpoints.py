"""Failpoints: off unless armed, known by name, and they really kill."""

import signal
import subprocess
import sys

import pytest

from streams.errors import SettingsError
from streams.failpoints import FAILPOINTS, arm, disarm, parse_failpoint, reach
from streams.settings import load_settings


def test_an_unarmed_failpoint_does_nothing() -> None:
    for name in FAILPOINTS:
        reach(name)


def test_an_armed_failpoint_calls_what_it_was_given_until_disarmed() -> None:
    seen: list[str] = []
    arm("after_fcall", seen.append)
    try:
        reach("before_fcall")
        reach("after_fcall")
    finally:
        disarm()
    reach("after_fcall")
    assert seen == ["after_fcall"]


def test_the_third_time_kills() -> None:
    program = (
        "from streams.failpoints import arm_from_text, reach\n"
        "arm_from_text('after_fcall:kill@3')\n"
        "for turn in range(5):\n"
        "    reach('after_fcall')\n"
        "    print(turn, flush=True)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL
    assert done.stdout.split() == [b"0", b"1"]


@pytest.mark.parametrize("text", ["nowhere:kill@1", "after_fcall", "after_fcall:kill@0", "x:y@z"])
def test_a_wrong_failpoint_is_refused_by_the_settings(text: str) -> None:
    with pytest.raises(ValueError, match="failpoint"):
        parse_failpoint(text)
    with pytest.raises(SettingsError):
        load_settings(failpoint=text)
