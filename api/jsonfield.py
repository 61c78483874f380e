"""A form field for JSON that may stay empty."""

from typing import Any

from django import forms


class JsonField(forms.JSONField):
    """JSON; with `takes_text`, what is no JSON is a text. Nothing is shown as nothing, not as null."""

    def __init__(self, *, takes_text: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.takes_text = takes_text

    def prepare_value(self, value: Any) -> Any:
        return "" if value is None else super().prepare_value(value)

    def to_python(self, value: Any) -> Any:
        try:
            return super().to_python(value)
        except forms.ValidationError:
            if self.takes_text:
                return value
            raise
