"""A worker whose process dies whenever a certain event is in hand: the id is the argument."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from streams import worker
from streams.codec import Door
from streams.settings import load_settings


class DeadlyDoor(Door):
    """Ends the process, as a crash in a library would."""

    def decode(self, *args: Any) -> Any:
        event = super().decode(*args)
        if event.id == sys.argv[1]:
            os.kill(os.getpid(), signal.SIGKILL)
        return event


if __name__ == "__main__":
    vars(worker)["Door"] = DeadlyDoor
    sys.exit(worker.run_worker(load_settings()))
