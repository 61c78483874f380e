import pytest

from jobs.errors import InvalidJob
from jobs.submission import submit


def test_a_batch_is_counted_and_its_values_summed_up(run):
    records = [{"id": 1, "value": 10}, {"id": "b", "value": 32.5}, {"id": 3}, {"id": 4, "value": None, "name": "x"}]
    job = run("process_data", {"records": records})
    assert job.result == {
        "status": "processed",
        "count": 4,
        "total": 42.5,
        "min": 10,
        "max": 32.5,
        "mean": 21.25,
        "missing_values": 2,
        "duplicates": 0,
        "duplicate_ids": [],
    }


def test_ids_that_occur_twice_are_named_and_a_number_is_not_its_text(run):
    job = run("process_data", {"records": [{"id": 1}, {"id": "1"}, {"id": 2}, {"id": 2}, {"id": 2}]})
    assert (job.result["duplicates"], job.result["duplicate_ids"]) == (1, [2])


def test_whole_numbers_stay_whole_and_fractions_add_up_without_noise(run):
    assert run("process_data", {"records": [{"id": n, "value": n} for n in (1, 2)]}).result["total"] == 3
    assert run("process_data", {"records": [{"id": n, "value": 0.1} for n in range(10)]}).result["total"] == 1.0


def test_an_empty_batch_has_a_summary_too(run):
    result = run("process_data", {"records": []}).result
    assert (result["count"], result["total"], result["mean"]) == (0, 0, None)


def test_the_largest_values_still_make_a_result_that_can_be_stored(run):
    job = run("process_data", {"records": [{"id": n, "value": 1e15} for n in range(1000)]})
    assert job.result["total"] == 1e18


@pytest.mark.parametrize(
    ("records", "field"),
    [
        ([{"value": 1}], "/payload/records/0/id"),
        ([{"id": 1}, {"id": 2, "value": "many"}], "/payload/records/1/value"),
        ([{"id": 1, "value": True}], "/payload/records/0/value"),
        ([{"id": 1, "value": 10**400}], "/payload/records/0/value"),
        ([5], "/payload/records/0"),
        ("text", "/payload/records"),
        ({}, "/payload/records"),
    ],
)
@pytest.mark.django_db
def test_records_that_are_none_are_refused_at_submit_by_their_place(records, field):
    with pytest.raises(InvalidJob) as refused:
        submit("process_data", {"records": records})
    assert refused.value.field.startswith(field)
