"""`python -m tests.operations.last_release [REVISION]`: keep what was released, for tests/operations/test_upgrade.py.

A release is kept as an archive because a checkout may have no history. Until the first release it is an earlier
commit: 0c6f6cd.
"""

import argparse
import lzma
import subprocess
import tarfile
from pathlib import Path

ARCHIVE = Path(__file__).with_suffix(".tar.xz")
KEPT = ("api", "config", "deadletters", "jobs", "monitoring", "manage.py", ":(exclude)config/static")


def keep(revision: str) -> None:
    content = subprocess.run(["git", "archive", revision, *KEPT], capture_output=True, check=True).stdout
    ARCHIVE.write_bytes(lzma.compress(content, preset=9))


def unpack(directory: Path) -> Path:
    """The released code, ready to run, in `directory`."""
    with tarfile.open(ARCHIVE) as archive:
        # The safe filter, where this Python has it: 3.11 came without until its fourth patch.
        archive.extraction_filter = getattr(tarfile, "data_filter", lambda member, _: member)
        archive.extractall(directory)
    return directory


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="tests.operations.last_release")
    parser.add_argument("revision", nargs="?", default="HEAD", help="what was released, as git names it")
    keep(parser.parse_args().revision)
