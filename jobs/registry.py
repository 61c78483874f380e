"""The tasks that exist, and what their functions accept.

Arguments are checked when a job is submitted, against a pydantic model made from the function's
signature: Celery's own check happens in the worker, when nobody is there to correct the call.
"""

import inspect
from collections.abc import Iterator
from functools import cache
from typing import Any, get_type_hints

from celery import current_app
from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from jobs.errors import InvalidJob, UnknownTask
from jobs.storable import escape


def tasks() -> dict[str, Any]:
    """Every registered JobTask by name."""
    return {name: task for name, task in current_app.tasks.items() if getattr(task, "is_job", False)}


def find(name: str) -> Any:
    """The JobTask of that name; raises UnknownTask naming near ones."""
    task = _registered().get(name) if isinstance(name, str) else None
    if not getattr(task, "is_job", False):
        known = ", ".join(sorted(tasks()))
        raise UnknownTask("/task", f"no task is called {name!r}; there are {known}")
    return task


@cache
def _registered() -> dict[str, Any]:
    """The application's own registry, not a copy: a way past two proxies, which cost more than the look-up."""
    return current_app.tasks


def arguments(task: Any) -> type[BaseModel]:
    """The model of what the task's function accepts, made once per task."""
    model = task.__dict__.get("arguments_model")
    if model is None:
        model = task.arguments_model = _model_of(task)
    return model


def summary(task: Any) -> str:
    """What the task does: the first line of its docstring."""
    return (task.__doc__ or "").strip().partition("\n")[0]


def check(task: Any, payload_text: str) -> None:
    """Check a payload, as JSON text, against the task's arguments; raises InvalidJob naming the field.

    Strict: a string is not a number, but what JSON has no type for (dates, decimals) may be a string.
    """
    try:
        # What model_validate_json calls, without making its arguments anew for every job.
        arguments(task).__pydantic_validator__.validate_json(payload_text, strict=True)
    except ValidationError as error:
        raise _readable(error) from None


def converted(task: Any, payload: dict[str, Any]) -> dict[str, Any]:
    """A checked payload as keyword arguments of the function's own types; raises InvalidJob."""
    try:
        checked = arguments(task).model_validate(payload)
    except ValidationError as error:
        raise _readable(error) from None
    return {name: getattr(checked, name) for name in checked.model_fields_set}


def bound(task: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Positional and keyword arguments as one payload by name; raises InvalidJob."""
    try:
        return dict(_signature(task).bind_partial(*args, **kwargs).arguments)
    except TypeError as error:
        raise InvalidJob("/payload", str(error)) from None


def _model_of(task: Any) -> type[BaseModel]:
    return create_model(
        f"{task.name}_arguments",
        __config__=ConfigDict(extra="forbid", arbitrary_types_allowed=True, coerce_numbers_to_str=False),
        **dict(_fields(task)),
    )


def _fields(task: Any) -> Iterator[tuple[str, Any]]:
    hints = get_type_hints(inspect.unwrap(_function(task)), include_extras=True)
    for name, parameter in _signature(task).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise TypeError(f"Task {task.name}: parameter '{parameter}' cannot be stored by name.")
        default = ... if parameter.default is parameter.empty else parameter.default
        yield name, (hints.get(name, Any), default)


def _signature(task: Any) -> inspect.Signature:
    return inspect.signature(_function(task))


def _function(task: Any) -> Any:
    """What the user wrote; autoretry_for keeps it as _orig_run."""
    return getattr(task, "_orig_run", task.run)


def _readable(error: ValidationError) -> InvalidJob:
    """The first thing wrong, by JSON Pointer; pydantic's own text would repeat the payload."""
    first = error.errors(include_url=False, include_input=False)[0]
    pointer = "".join(f"/{escape(part)}" for part in first["loc"])
    others = error.error_count() - 1
    more = f" (and {others} more)" if others else ""
    return InvalidJob(f"/payload{pointer}", first["msg"].removeprefix("Value error, ") + more)
