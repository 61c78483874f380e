"""`manage.py watch` as a process: it has a row, and it reports a PostgreSQL that no longer answers."""

from jobs.models import Worker
from tests.operations.hooks import Hook, hook
from tests.site import Site, forget_connections
from tests.waiting import eventually


def test_a_frozen_database_is_told_and_so_is_its_return(site: Site) -> None:
    with hook() as ears:
        _freeze_and_listen(site, ears)


def _freeze_and_listen(site: Site, ears: Hook) -> None:
    site.fleet.environment |= {"WATCH_WEBHOOK_URL": ears.url, "WATCH_SECONDS": "1", "LEASE_SECONDS": "30"}
    row = site.fleet.start("watch", ["manage.py", "watch", "--name", "watch@test"], row="watch@test")
    assert row.kind == Worker.Kind.WATCH
    forget_connections()
    site.postgres.pause()
    try:
        eventually(lambda: ears.told("FIRING DatabaseDown"), within=120, what="the notice")
    finally:
        site.postgres.resume()
    assert site.fleet.processes["watch"].poll() is None
    beat = row.heartbeat_at
    eventually(lambda: Worker.objects.get(pk=row.pk).heartbeat_at > beat, within=30, what="watch to beat again")
    assert site.fleet.kill("watch", 15) == 0
    eventually(lambda: Worker.objects.get(pk=row.pk).state == "DEAD", within=15, what="watch to sign off")
