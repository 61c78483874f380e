"""huey on Redis: it pops a job before running it, so a crash loses it."""

from benchmarks.peers.driving import drive
from benchmarks.peers.hue_app import huey, noop

if __name__ == "__main__":
    drive(prepare=huey.flush, submit=lambda payload: noop(**payload))
