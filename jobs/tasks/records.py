"""Summarise a batch of records given in the payload: short work for the processor, no world outside."""

import math
from collections import Counter
from typing import Annotated, Any

from celery import shared_task
from pydantic import BaseModel, ConfigDict, Field

from jobs.task import JobTask

DUPLICATES_NAMED = 100
# Within these the sum of a full payload is finite.
Value = Annotated[int, Field(ge=-(10**15), le=10**15)] | Annotated[float, Field(ge=-1e15, le=1e15)]


class Record(BaseModel):
    """One record; fields beyond these are allowed and ignored."""

    model_config = ConfigDict(extra="ignore")

    id: int | Annotated[str, Field(min_length=1, max_length=200)]
    value: Value | None = None


@shared_task(base=JobTask, name="process_data")
def process_data(records: list[Record]) -> dict[str, Any]:
    """Count the records, sum up their values, and name ids that occur more than once."""
    values = [record.value for record in records if record.value is not None]
    duplicates = [identity for identity, times in Counter(record.id for record in records).items() if times > 1]
    return {
        "status": "processed",
        "count": len(records),
        "missing_values": len(records) - len(values),
        "duplicates": len(duplicates),
        "duplicate_ids": duplicates[:DUPLICATES_NAMED],
        **_summary(values),
    }


def _summary(values: list[int | float]) -> dict[str, int | float | None]:
    if not values:
        return {"total": 0, "min": None, "max": None, "mean": None}
    total = sum(values) if all(isinstance(value, int) for value in values) else math.fsum(values)
    return {"total": total, "min": min(values), "max": max(values), "mean": total / len(values)}
