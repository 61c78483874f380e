"""How the panel's templates say times and errors."""

from datetime import datetime, timedelta
from typing import Any

from django import template
from django.utils.safestring import SafeString

from api import readable, readfirst

register = template.Library()


@register.filter
def ago(moment: datetime | None) -> str | SafeString:
    return readfirst.ago(moment)


@register.filter
def traceback(text: str) -> SafeString:
    return readable.readable_traceback(text)


@register.filter
def json(value: Any) -> SafeString:
    return readable.readable_json(value)


@register.filter
def seconds(length: float) -> str:
    return readfirst.duration(timedelta(seconds=length))
