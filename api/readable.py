"""JSON and tracebacks as people read them."""

import json
import re
from typing import Any

from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe

# A string with the colon that makes it a name, a string, a number or a word of JSON.
TOKEN = re.compile(r'("(?:\\.|[^"\\])*")(\s*:)?|(-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null)')
FRAME = re.compile(r'^  File "(?P<path>[^"]+)", line (?P<line>\d+), in (?P<name>.+)$')
# Frames of the house and its libraries lead to the body, but are not where the fault is.
MACHINERY = re.compile(r"(^|/)(site-packages|lib/python3[^/]*|jobs/(?!tasks/))")


def readable_json(value: Any) -> SafeString:
    """JSON with names, texts and numbers told apart."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    parts, end = [], 0
    for found in TOKEN.finditer(text):
        parts += [escape(text[end : found.start()]), _coloured(found)]
        end = found.end()
    # Every piece above and below is escaped; the markup between them is ours.
    return mark_safe("".join([*parts, escape(text[end:])]))


def readable_traceback(text: str) -> SafeString:
    """A traceback in which the frames of our own machinery stand back."""
    lines, is_ours = [], False
    for line in text.splitlines():
        if frame := FRAME.match(line):
            is_ours = bool(MACHINERY.search(frame["path"]))
        elif not line.startswith("    "):
            is_ours = line.startswith("Traceback")
        lines.append(f'<span class="f">{escape(line)}</span>' if is_ours else str(escape(line)))
    return mark_safe("\n".join(lines))


def _coloured(found: re.Match[str]) -> str:
    text, colon, word = found.groups()
    if text is None:
        return f'<span class="n">{escape(word)}</span>'
    kind = "k" if colon else "s"
    return f'<span class="{kind}">{escape(text)}</span>{colon or ""}'
