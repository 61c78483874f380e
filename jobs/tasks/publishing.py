"""Write a file so that its name only ever stands for the whole of it."""

import os
import posixpath
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import fsspec
from fsspec.implementations.local import LocalFileSystem

from jobs.effects import RunningJob


@contextmanager
def published(files: fsspec.AbstractFileSystem, path: str, job: RunningJob) -> Iterator[BinaryIO]:
    """A file to write to; it takes its name when the block ends without an error, and vanishes otherwise."""
    is_local = isinstance(files, LocalFileSystem)
    if is_local:
        files.makedirs(posixpath.dirname(path), exist_ok=True)
    _forget_earlier_attempts(files, path, job)
    draft = _draft(path, job, job.attempt)
    try:
        with files.open(draft, "wb") as file:
            yield file
            if is_local:
                file.flush()
                os.fsync(file.fileno())
        _rename(files, draft, path)
    finally:
        if files.exists(draft):
            files.rm_file(draft)


def _draft(path: str, job: RunningJob, attempt: int) -> str:
    return posixpath.join(posixpath.dirname(path), f".{job.id}.{attempt}.part")


def _forget_earlier_attempts(files: fsspec.AbstractFileSystem, path: str, job: RunningJob) -> None:
    """A killed attempt cannot clean up; one that is still alive somewhere must no longer publish."""
    for attempt in range(1, job.attempt):
        if files.exists(left := _draft(path, job, attempt)):
            files.rm_file(left)


def _rename(files: fsspec.AbstractFileSystem, draft: str, path: str) -> None:
    """Object stores have no rename, but their copies appear whole or not at all."""
    if not isinstance(files, LocalFileSystem):
        files.mv(draft, path)
        return
    folder = Path(draft).replace(path).parent
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
