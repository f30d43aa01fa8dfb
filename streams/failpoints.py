"""Named places where a test can make a worker die, stop or fail. Off in production.

``TSUIDE_FAILPOINT=after_fcall:kill@3`` kills the process the third time that it comes by. The
simulation arms the same names in its own process, with a function that it brings along, so that
what was found by one rig can be tried by the other.
"""

import os
import signal
from collections.abc import Callable
from typing import Final

#: Name -> what has happened, and what has not, when a worker comes by.
FAILPOINTS: Final = {
    "after_claim": "the token is stored; our output is not read back",
    "before_fcall": "a batch is decided; nothing of it is stored",
    "after_fcall": "a batch is stored as a whole; nothing of it is sent",
    "before_publish": "records left the outbox's queue; the producer has not got them",
    "after_publish_before_ack": "the broker has records; the relay has not counted them as sent",
    "after_dlq_before_offset": "dead letters are acknowledged; the outbox still holds them",
    "before_trim": "everything is acknowledged; the store was not told",
}

Act = Callable[[str], None]

_armed: dict[str, Act] = {}


def reach(name: str) -> None:
    """Come by a failpoint: nothing happens unless it is armed."""
    if _armed and (act := _armed.get(name)) is not None:
        act(name)


def arm(name: str, act: Act) -> None:
    """Let ``act`` be called each time that ``name`` is reached."""
    if name not in FAILPOINTS:
        raise ValueError(f"failpoint: {name!r} is none of {', '.join(FAILPOINTS)}")
    _armed[name] = act


def disarm() -> None:
    """Let every failpoint do nothing again."""
    _armed.clear()


def parse_failpoint(text: str) -> tuple[str, signal.Signals, int]:
    """Name, signal and turn of ``NAME:kill@N`` or ``NAME:stop@N``; raises ``ValueError``."""
    name, _, what = text.partition(":")
    kind, _, turn = what.partition("@")
    signals = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}
    if name not in FAILPOINTS:
        raise ValueError(f"failpoint: {name!r} is none of {', '.join(FAILPOINTS)}")
    if kind not in signals or not turn.isdecimal() or int(turn) < 1:
        raise ValueError(f"failpoint: {text!r} is not NAME:kill@N or NAME:stop@N")
    return name, signals[kind], int(turn)


def arm_from_text(text: str) -> None:
    """Arm ``NAME:kill@N`` or ``NAME:stop@N``: the signal to this process, the Nth time."""
    name, number, left = parse_failpoint(text)

    def act(_: str) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), number)

    arm(name, act)
