import csv
import json
import os
import tracemalloc

import fsspec
import pytest

from jobs import effects
from jobs.effects import RunningJob
from jobs.models import Job
from jobs.submission import submit

PEOPLE = "id,name\n1,Ada\n2,Grace\n"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def json_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_hundred_thousand_rows_of_csv_become_the_same_records_as_json_lines_in_constant_memory(copy, sandbox):
    rows = [{"id": str(n), "name": f'Zoë, "{n}"\nSmith', "empty": ""} for n in range(100_000)]
    with (sandbox / "people.csv").open("w", newline="") as file:
        people = csv.DictWriter(file, ["id", "name", "empty"])
        people.writeheader()
        people.writerows(rows)
    tracemalloc.start()
    job = copy("people.csv", "people.jsonl", record_count=100_000)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert job.state == "SUCCESS", job.error
    assert json_lines(sandbox / "people.jsonl") == rows
    assert job.result["records"] == 100_000
    assert job.result["bytes"] == (sandbox / "people.jsonl").stat().st_size
    assert job.progress["done"] == job.progress["total"] == 100_000
    assert most < 8_000_000


def test_json_lines_become_csv_with_text_as_it_is_and_json_for_the_rest(copy, sandbox):
    records = [{"id": 1, "name": "Ada", "tags": ["a", "b"], "ok": True}, {"id": 2.5, "name": None}]
    (sandbox / "in.ndjson").write_text("\n".join(json.dumps(record) for record in records) + "\n\n")
    assert copy("in.ndjson", "out.csv").state == "SUCCESS"
    with (sandbox / "out.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["id", "name", "tags", "ok"],
            ["1", "Ada", '["a","b"]', "true"],
            ["2.5", "", "", ""],
        ]


@pytest.mark.parametrize("text", [PEOPLE, "\ufeff" + PEOPLE, PEOPLE.replace("\n", "\r\n"), PEOPLE + "\n"])
def test_byte_order_marks_line_ends_and_blank_lines_are_no_part_of_a_record(copy, sandbox, text):
    (sandbox / "in.csv").write_bytes(text.encode())
    assert copy("in.csv", "new/folder/out.jsonl").result["records"] == 2
    assert json_lines(sandbox / "new/folder/out.jsonl")[0] == {"id": "1", "name": "Ada"}


def test_what_is_already_there_is_replaced_as_a_whole(copy, sandbox):
    (sandbox / "in.csv").write_text(PEOPLE)
    (sandbox / "out.csv").write_text("old")
    assert copy("in.csv", "out.csv").state == "SUCCESS"
    assert (sandbox / "out.csv").read_text() == PEOPLE


def test_other_filesystems_than_files_work_alike(run, sandbox):
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/in/people.csv", PEOPLE.encode())
    job = run("data_pipeline", {"source": "memory://in/people.csv", "destination": "memory://out/people.jsonl"})
    assert job.result["records"] == 2
    assert memory.ls("/out", detail=False) == ["/out/people.jsonl"]
    memory.rm("/", recursive=True)


def test_a_missing_source_is_a_dead_letter_that_names_it(copy, sandbox):
    job = copy("missing.csv", "out.jsonl")
    assert (job.state, job.retries, job.error_code) == ("FAILURE", 0, "Abandon")
    assert (
        job.error
        == f"source: {(sandbox / 'missing.csv').as_uri()} does not exist; check the URL, then replay this job."
    )
    assert names(sandbox) == []


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("in.csv", b"id,name\n1,Ada\n2\n", "line 3: has 1 fields, the header has 2"),
        ("in.csv", b"id,name\n1,Ada,x\n", "line 2: has 3 fields"),
        ("in.csv", b'id,name\n1,"Ada\n', "line 2: unexpected end of data"),
        ("in.csv", b"", "line 1: a CSV file starts with a line of column names"),
        ("in.csv", b"id,id\n1,2\n", "line 1: column names must not be empty or occur twice"),
        ("in.csv", b"id,name\n1,Ad\xff\n", "line 2: is not UTF-8"),
        ("in.jsonl", b'{"id": 1}\n{"id": \n', "line 2: is not JSON (Expecting value"),
        ("in.jsonl", b'{"id": 1}\n[1]\n', "line 2: must be a JSON object, not list"),
        ("in.jsonl", b'{"id": NaN}\n', "line 1: is not JSON (NaN is not a JSON number)"),
        ("in.jsonl", b'{"id": 1e999}\n', "line 1: Out of range float"),
        ("in.jsonl", b'{"id": "\\ud800"}\n', "line 1: 'utf-8' codec can't encode"),
        ("in.jsonl", b'{"a":' * 100_000 + b"\n", "line 1: is not JSON (maximum recursion depth"),
        ("in.jsonl", b" " * (4 * 1024 * 1024 + 1), "line 1: is longer than 4194304 bytes"),
    ],
)
def test_a_line_that_is_no_record_is_a_dead_letter_that_names_it_and_leaves_no_file(
    copy, sandbox, name, content, complaint
):
    (sandbox / name).write_bytes(content)
    job = copy(name, "out.jsonl")
    assert (job.state, job.retries) == ("FAILURE", 0)
    assert complaint in job.error
    assert names(sandbox) == [name]


def test_a_field_that_csv_has_no_column_for_is_refused_rather_than_dropped(copy, sandbox):
    (sandbox / "in.jsonl").write_text('{"id": 1}\n{"id": 2, "name": "Ada"}\n')
    job = copy("in.jsonl", "out.csv")
    assert "line 2: has the field 'name', which the first record lacks" in job.error
    assert names(sandbox) == ["in.jsonl"]


@pytest.mark.parametrize("announced", [1, 3])
def test_another_number_of_records_than_announced_publishes_nothing(copy, sandbox, announced):
    (sandbox / "in.csv").write_text(PEOPLE)
    (sandbox / "out.csv").write_text("old")
    job = copy("in.csv", "out.csv", record_count=announced)
    assert job.state == "FAILURE"
    assert f"{announced} records were announced and the source holds 2" in job.error
    assert (sandbox / "out.csv").read_text() == "old"
    assert names(sandbox) == ["in.csv", "out.csv"]


def test_a_cancelled_copy_stops_and_leaves_no_file(copy, sandbox, monkeypatch):
    (sandbox / "in.csv").write_text("id\n" + "1\n" * 5000)
    said = []

    def cancel_while_it_runs(running, done, total=None, note=""):
        said.append(done)
        Job.objects.filter(pk=running.id).ask_running_to_stop()

    monkeypatch.setattr(effects, "SAY_EVERY", 0.0)
    monkeypatch.setattr(RunningJob, "progress", cancel_while_it_runs)
    assert copy("in.csv", "out.csv").state == "REVOKED"
    assert said == [1000]
    assert names(sandbox) == ["in.csv"]


def test_what_a_killed_attempt_left_behind_is_removed_by_the_next(attempt, sandbox):
    (sandbox / "in.csv").write_text(PEOPLE)
    ends = {"source": (sandbox / "in.csv").as_uri(), "destination": (sandbox / "out.csv").as_uri()}
    job = submit("data_pipeline", ends)
    Job.objects.filter(pk=job.pk).update(attempt=1)
    (sandbox / f".{job.id}.1.part").write_text("half")
    assert attempt(job).state == "SUCCESS"
    assert names(sandbox) == ["in.csv", "out.csv"]


def test_a_full_disk_is_tried_again_and_leaves_no_file(copy, sandbox):
    (sandbox / "in.csv").write_text(PEOPLE)
    (sandbox / "out").write_text("a file where a folder is needed")
    assert copy("in.csv", "out/out.csv").state == "RETRY"
    assert names(sandbox) == ["in.csv", "out"]


@pytest.mark.parametrize("name", ["folder.csv", "pipe.csv"])
def test_what_is_not_a_file_is_not_read(copy, sandbox, name):
    (sandbox / "folder.csv").mkdir()
    os.mkfifo(sandbox / "pipe.csv")
    assert "is not a file" in copy(name, "out.csv").error


def test_a_source_is_not_its_own_destination_nor_a_folder_one(copy, sandbox):
    (sandbox / "in.csv").write_text(PEOPLE)
    (sandbox / "folder.csv").mkdir()
    assert "is the source" in copy("in.csv", "in.csv").error
    assert "is a folder" in copy("in.csv", "folder.csv").error


def test_a_missing_extra_is_a_dead_letter_that_names_the_package(run, sandbox):
    (sandbox / "in.csv").write_text(PEOPLE)
    ends = {"source": (sandbox / "in.csv").as_uri(), "destination": "s3://bucket/incoming/out.csv"}
    job = run("data_pipeline", ends)
    assert (job.state, job.error) == (
        "FAILURE",
        "destination: s3 URLs cannot be opened here. Install s3fs to access S3, then replay this job.",
    )


def test_names_with_spaces_and_letters_of_any_language_are_decoded_once(copy, sandbox):
    (sandbox / "Größe 100%25 #1.csv").write_text(PEOPLE)
    assert copy("Größe 100%25 #1.csv", "ü.jsonl").state == "SUCCESS"
    assert "ü.jsonl" in names(sandbox)
