"""Outlives a supervisor that dies without a word, just long enough to kill the process groups it left behind.

It reads `+GROUP` and `-GROUP` lines; the end of its input is the supervisor's end. A signal on a parent's death
reaches a service's own process only, while a worker's children may be in the middle of a long job.
"""

import os
import signal
import sys
from contextlib import suppress


def main() -> None:
    groups: set[int] = set()
    for line in sys.stdin:
        change = groups.add if line.startswith("+") else groups.discard
        change(int(line[1:]))
    for group in groups:
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    main()
