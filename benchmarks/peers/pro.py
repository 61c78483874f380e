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
        if connection.execute("SELECT to_regclass('procrastinate_jobs')").fetchone() == (None,):
            app.schema_manager.apply_schema()
        connection.execute("TRUNCATE procrastinate_jobs CASCADE")


if __name__ == "__main__":
    with app.open():
        drive(
            prepare=prepare,
            submit=lambda payload: noop.defer(**payload),
            bulk=lambda payloads: noop.batch_defer(*payloads),
        )
