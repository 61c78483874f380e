"""procrastinate with its psycopg connector."""

import os

import procrastinate
import psycopg

from benchmarks.marks import mark
from benchmarks.peers.driving import drive

URL = os.environ["DATABASE_URL"]
app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=URL))


@app.task(name="noop")
def noop(number: int, text: str, at: float) -> dict[str, int]:
    mark(at)
    return {"number": number}


def prepare() -> None:
    with psycopg.connect(URL, autocommit=True) as connection:
        there = connection.execute("SELECT to_regclass('procrastinate_jobs')").fetchone()
        if there == (None,):
            with sync.open():
                sync.schema_manager.apply_schema()
        connection.execute("TRUNCATE procrastinate_jobs CASCADE")


sync = app.with_connector(procrastinate.SyncPsycopgConnector(conninfo=URL))
if __name__ == "__main__":
    task = sync.tasks["noop"]

    def in_session(work):
        def done(*args):
            with sync.open():
                return work(*args)

        return done

    sync.open()
    drive(
        prepare=prepare,
        submit=lambda payload: task.defer(**payload),
        bulk=lambda payloads: task.batch_defer(*payloads),
    )
