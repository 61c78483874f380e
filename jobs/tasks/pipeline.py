"""Copy records from one file to another, as CSV or JSON Lines, without ever holding more than one."""

from collections.abc import Callable
from typing import Annotated, Any

from celery import shared_task
from pydantic import AfterValidator, Field

from jobs.errors import Abandon
from jobs.task import JobTask
from jobs.tasks.formats import Lines, Malformed, Numbered, Output, Record, reader, writer
from jobs.tasks.places import Place, checked

# How often to say how far it is, and to ask whether to stop.
RECORDS_BETWEEN = 1000

Url = Annotated[str, Field(max_length=2000), AfterValidator(checked)]


@shared_task(base=JobTask, name="data_pipeline", bind=True)
def data_pipeline(
    self: JobTask, source: Url, destination: Url, record_count: Annotated[int, Field(ge=0)] | None = None
) -> dict[str, Any]:
    """Stream every record of the source into the destination, converting between the formats of their suffixes."""
    here, there = Place("source", source), Place("destination", destination)
    if here.is_same_as(there):
        raise Abandon(f"destination: {destination} is the source; give it a name of its own.")
    with here.reading() as (incoming, size), there.writing(self.job) as outgoing:
        lines, output = Lines(incoming), Output(outgoing)
        copied = _Copied(self, lines, size=size, expected=record_count)
        try:
            _copy(reader(here.suffix, lines), writer(there.suffix, output), copied)
        except Malformed as error:
            raise Abandon(f"source: {source} {error}; correct the file, then replay this job.") from error
        copied.check()
    return {
        "status": "done",
        "source": source,
        "destination": destination,
        "records": copied.records,
        "bytes": output.bytes_written,
    }


class _Copied:
    """How much of the source has been copied, told to the job now and then."""

    def __init__(self, task: JobTask, lines: Lines, *, size: int, expected: int | None) -> None:
        self.records = 0
        self._task, self._lines, self._size, self._expected = task, lines, size, expected

    def one_more(self) -> None:
        self.records += 1
        if self.records % RECORDS_BETWEEN == 0:
            self._tell()

    def check(self) -> None:
        """All is copied: say so, unless it is not as much as was announced."""
        if self._expected not in (None, self.records):
            raise Abandon(
                f"record_count: {self._expected} records were announced and the source holds {self.records};"
                " nothing was written. Correct one of them, then replay this job."
            )
        self._task.job.progress(self.records, self.records, "copied")

    def _tell(self) -> None:
        if self._task.job.cancelled():
            raise Abandon("Stopped because it was cancelled; nothing was written.")
        share = 100 * self._lines.bytes_read // max(self._size, 1)
        self._task.job.progress(self.records, self._expected, f"{share} % of the source read")


def _copy(records: Numbered, write: Callable[[Record], None], copied: _Copied) -> None:
    """Raises Malformed for a record that cannot be read, or that the destination's format cannot hold."""
    for line, record in records:
        try:
            write(record)
        except ValueError as error:
            raise Malformed(line, str(error)) from None
        copied.one_more()
