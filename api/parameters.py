"""Query parameters: those that every list has, and the refusal of those that an operation does not have."""

from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any, TypeVar

from django.http import HttpRequest
from ninja import Query

from api.problems import invalid_parameter

MOST_PER_PAGE = 200
Limit = Annotated[int, Query(50, ge=1, le=MOST_PER_PAGE, description="Entries per page.")]
Cursor = Annotated[str | None, Query(None, max_length=300, description="`next` of the page before.")]
View = TypeVar("View", bound=Callable[..., Any])


def also_under(prefix: str) -> Callable[[View], View]:
    """Mark a view that reads parameters whose names only begin with something known."""

    def mark(view: View) -> View:
        view.parameter_prefix = prefix  # type: ignore[attr-defined]
        return view

    return mark


def only_known_parameters(view: Any) -> Any:
    """Refuse with 422 what the operation does not read; whoever misspells a filter must not get the whole list."""
    models = view._ninja_operation.models
    known = {name for model in models if model.__ninja_param_source__ == "query" for name in _names(model)}
    prefix = getattr(view, "parameter_prefix", None)

    @wraps(view)
    def refusing(request: HttpRequest, *arguments: Any, **values: Any) -> Any:
        for name in request.GET:
            if name not in known and not (prefix and name.startswith(prefix)):
                raise invalid_parameter(name, _unknown(known))
        return view(request, *arguments, **values)

    return refusing


def _names(model: Any) -> list[str]:
    return list(model.__ninja_flatten_map__)


def _unknown(known: set[str]) -> str:
    return f"is no parameter here; there are {', '.join(sorted(known))}" if known else "is no parameter here"
