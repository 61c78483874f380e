from datetime import timedelta

import pytest
from django.db import connection

from api import readfirst
from api.masking import masked
from api.readfirst import EstimatedPaginator, duration
from jobs.models import Job
from tests.making import make_job


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.61, "610 ms"),
        (4.4, "4.4 s"),
        (41, "41 s"),
        (59.7, "1 min 0 s"),
        (239.8, "4 min 0 s"),
        (372, "6 min 12 s"),
        (1320, "22 min"),
        (7300, "2 h"),
        (260_000, "3 d"),
    ],
)
def test_durations_are_said_as_people_say_them(seconds: float, said: str) -> None:
    assert duration(timedelta(seconds=seconds)) == said


def test_secrets_are_masked_at_any_depth_and_the_original_stays() -> None:
    payload = {"card": {"number": "4111", "name": "Ada"}, "cards": [{"number": "4222"}], "total": 3}
    shown = masked(payload, ("number",))
    assert shown == {"card": {"number": "••••", "name": "Ada"}, "cards": [{"number": "••••"}], "total": 3}
    assert payload["card"] == {"number": "4111", "name": "Ada"}


def test_a_big_table_is_estimated_and_a_filtered_list_is_counted_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readfirst, "COUNTED_EXACTLY", 3)
    for _ in range(6):
        make_job()
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE jobs_job")
    make_job(queue="low")
    assert EstimatedPaginator(Job.objects.all(), 50).count == 6
    assert EstimatedPaginator(Job.objects.filter(queue="low"), 50).count == 1
    assert EstimatedPaginator(Job.objects.filter(queue="default"), 50).count == 4
