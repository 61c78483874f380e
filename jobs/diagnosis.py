"""What an operator reads about a failure: code, message, traceback, and a fingerprint that groups like with like."""

import hashlib
import re
import sys
import traceback
from pathlib import Path

from django.conf import settings

from jobs.outcomes import ErrorReport
from jobs.storable import clean

MESSAGE_LIMIT = 2000
VARYING = re.compile(
    r"0x[0-9a-f]+|[0-9a-f]{8}-[0-9a-f-]{27}|[0-9a-f]{16,}|\d+(\.\d+)?|'[^']*'|\"[^\"]*\"|\S+@\S+", re.IGNORECASE
)
LIBRARIES = (sys.prefix, sys.base_prefix, str(Path(__file__).parent / "execution.py"))


def report(error: BaseException, *, code: str | None = None) -> ErrorReport:
    """An exception as cleaned and capped text; nothing of it can stop the settlement that stores it."""
    name = code or type(error).__name__
    message = clean(_text(error), limit=MESSAGE_LIMIT)
    whole = "".join(traceback.format_exception(error)).replace(f"{settings.BASE_DIR}/", "")
    trace = clean(whole, limit=settings.ERROR_LIMIT_CHARACTERS)
    return ErrorReport(name[:100], message, trace, fingerprint(name, message, _own_frame(error)))


def plain(code: str, message: str) -> ErrorReport:
    """A failure without an exception: a death, a time limit, an unknown task."""
    return ErrorReport(code, clean(message, limit=MESSAGE_LIMIT), "", fingerprint(code, message, ""))


def fingerprint(code: str, message: str, frame: str) -> str:
    """Equal for failures that are one problem: same kind, same words apart from values, same place in our code."""
    words = VARYING.sub("?", message.splitlines()[0] if message else "")
    return hashlib.sha256("\n".join([code, words, frame]).encode()).hexdigest()[:16]


def _text(error: BaseException) -> str:
    """A task's own exception may fail at anything, also at being text; the traceback module has an answer to that."""
    return str(traceback.TracebackException(type(error), error, None, compact=True))


def _own_frame(error: BaseException) -> str:
    """File and function of the innermost frame that is neither a library's nor ours around the body."""
    own = ""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if not frame.f_code.co_filename.startswith(LIBRARIES):
            own = f"{Path(frame.f_code.co_filename).name}:{frame.f_code.co_name}"
    return own
