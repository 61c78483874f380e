"""An upgrade under way: processes of the last release on the schema of this one, beside processes of this one."""

import subprocess
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from django.db import connection, migrations, models, transaction
from django.db.migrations.loader import MigrationLoader

from deadletters.models import DeadLetter
from deadletters.replay import replay
from jobs.models import Job
from jobs.submission import submit
from local.readiness import free_port
from local.valkey import Valkey
from tests.fleet import Fleet, database_url
from tests.operations import last_release
from tests.operations.expanding import breaches
from tests.site import broken, pointed_at, prepare
from tests.waiting import eventually, settled, started

OURS = ("api", "jobs", "deadletters", "monitoring")
QUEUES = "high,default,low,solo,system"
MAKE_THE_TABLES = ("0001_", "0002_")
RECORD = {"records": [{"id": 1, "value": 1}]}


@pytest.fixture(scope="module")
def elsewhere(django_db_setup: None, django_db_blocker: Any, tmp_path_factory: Any) -> Iterator[None]:
    """An empty database beside that of the run, and a Redis of its own."""
    name = f"upgrade_{uuid4().hex}"
    place: Any = SimpleNamespace(url=urlsplit(database_url())._replace(path=f"/{name}").geturl())
    with django_db_blocker.unblock(), Valkey(tmp_path_factory.mktemp("valkey"), port=free_port()) as valkey:
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {name}")
        with pointed_at(place, valkey):
            yield
        with connection.cursor() as cursor:
            cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="module")
def fleets(elsewhere: None, tmp_path_factory: Any) -> Iterator[tuple[Fleet, Fleet]]:
    """The last release, which made the tables and works on them; and this one."""
    root = last_release.unpack(tmp_path_factory.mktemp("release"))
    old = Fleet(tmp_path_factory.mktemp("old"), root=root, PYTHONPATH=str(root))
    new = Fleet(tmp_path_factory.mktemp("new"))
    try:
        manage(old, "migrate", "--noinput")
        old.launch_worker("old", queues=QUEUES, size=2)
        old.dispatcher("old-dispatcher")
        old.enlisted("old")
        yield old, new
    finally:
        old.stop()
        new.stop()


def manage(fleet: Fleet, *arguments: str) -> None:
    subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=fleet.root, env=fleet._environment(), check=True, capture_output=True,
    )  # fmt: skip


def test_a_worker_of_the_last_release_goes_on_while_this_one_takes_over(fleets: tuple[Fleet, Fleet]) -> None:
    old, new = fleets
    manage(old, "submit_jobs", "--task", "flaky", "--count", "20", "--payload", '{"failures": 0}')
    prepare()
    mixed = [
        submit("flaky", {"failures": 1}, key="k"), submit("process_data", RECORD), submit("crash", {"times": 1}),
    ]  # fmt: skip
    replayed_letter()
    assert {settled(job, within=90).state for job in mixed} == {"SUCCESS"}
    by_old = set(Job.objects.filter(pk__in=[job.pk for job in mixed]).values_list("worker_id", flat=True))

    running = started(submit("slow", {"seconds": 3}))
    new.worker("new")
    assert old.kill("old", 15) == 0
    assert settled(running).state == "SUCCESS"
    late = settled(submit("flaky", {"failures": 1}), within=90)
    assert late.state == "SUCCESS" and by_old == {running.worker_id} and late.worker_id not in by_old
    eventually(lambda: not Job.objects.unfinished().exists(), within=60, what="the jobs of the last release")
    assert broken(list(Job.objects.values_list("pk", flat=True))) == []
    assert "does not exist" not in old.log("old") + old.log("old-dispatcher")


def replayed_letter() -> None:
    """A job whose stored arguments make no sense, mended and replayed by this release."""
    with transaction.atomic():
        job = submit("flaky", {"failures": 0})
        Job.objects.filter(pk=job.pk).update(payload={"failures": "many"})
    assert settled(job).state == "FAILURE"
    replay(DeadLetter.objects.get(job=job), actor="t", reason="t", payload={"failures": 0})
    assert settled(job).state == "SUCCESS"


def told(operation: Any) -> str:
    return str(getattr(operation, "sql", operation.describe()))[:60]


@pytest.fixture(scope="module")
def loader() -> MigrationLoader:
    return MigrationLoader(None)


def test_every_migration_only_adds(loader: MigrationLoader) -> None:
    found = []
    for app, name in sorted(each for each in loader.graph.nodes if each[0] in OURS):
        before = loader.project_state((app, name), at_end=False)
        for operation in loader.graph.nodes[app, name].operations:
            if name.startswith(MAKE_THE_TABLES) and isinstance(operation, migrations.RunSQL):
                continue
            found += [f"{app}.{name}: {why}" for why in breaches(app, operation, before)]
    assert found == []


@pytest.mark.parametrize(
    "operation",
    [
        migrations.RemoveField("job", "trace"),
        migrations.RenameField("job", "trace", "origin"),
        migrations.DeleteModel("Effect"),
        migrations.AddField("job", "region", models.CharField(max_length=5)),
        migrations.AddField("job", "region", models.CharField(max_length=5, default="eu")),
        migrations.AlterField("job", "error_code", models.CharField(max_length=50, null=True)),
        migrations.AlterField("job", "callback_url", models.TextField()),
        migrations.AlterField("job", "trace", models.TextField(null=True)),
        migrations.AddConstraint("job", models.CheckConstraint(condition=models.Q(attempt__lt=9), name="few")),
        migrations.SeparateDatabaseAndState([migrations.RunSQL("ALTER TABLE jobs_job RENAME trace TO origin")]),
        *map(
            migrations.RunSQL,
            [
                "ALTER TABLE jobs_job DROP COLUMN trace",
                "ALTER TABLE jobs_job DROP trace",
                "ALTER TABLE jobs_job ALTER COLUMN trace DROP DEFAULT",
                "DROP FUNCTION jobs_job_guard",
                "ALTER TABLE jobs_job ADD COLUMN region text NOT NULL",
                "ALTER TABLE jobs_job ADD region text NOT NULL",
                "ALTER TABLE jobs_job ADD COLUMN price numeric(5,2) NOT NULL",
                "ALTER TABLE jobs_job ADD CONSTRAINT few CHECK (attempt < 9)",
                "ALTER TABLE jobs_job ADD UNIQUE (queue)",
                "CREATE UNIQUE INDEX one ON jobs_job (queue)",
                'ALTER TABLE jobs_job ALTER COLUMN "queue" TYPE varchar(5)',
                "ALTER TABLE jobs_job ALTER queue SET DATA TYPE varchar(5)",
            ],
        ),
    ],
    ids=told,
)
def test_a_migration_that_takes_something_away_is_refused(operation: Any, loader: MigrationLoader) -> None:
    assert list(breaches("jobs", operation, loader.project_state()))


@pytest.mark.parametrize(
    "operation",
    [
        migrations.AddField("job", "region", models.CharField(max_length=5, null=True)),
        migrations.AddField("job", "region", models.CharField(max_length=5, db_default="eu")),
        migrations.AlterField("job", "error_code", models.CharField(max_length=200, null=True)),
        migrations.RunSQL("ALTER TABLE jobs_job ADD COLUMN region text NOT NULL DEFAULT 'eu'"),
        migrations.RunSQL("ALTER TABLE jobs_job ADD COLUMN price numeric(5,2) NOT NULL DEFAULT 0, ADD region text"),
        migrations.RunSQL("ALTER TABLE jobs_job ALTER queue DROP NOT NULL"),
        migrations.RunSQL("CREATE INDEX some ON jobs_job (queue)"),
        migrations.RunSQL("ALTER TABLE jobs_effect DROP CONSTRAINT jobs_effect_goes_with_its_job"),
    ],
    ids=told,
)
def test_a_migration_that_adds_is_not(operation: Any, loader: MigrationLoader) -> None:
    assert list(breaches("jobs", operation, loader.project_state())) == []
