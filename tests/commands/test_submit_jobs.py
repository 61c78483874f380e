import json
import re
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from jobs import registry
from jobs.execution import execute
from jobs.management import following, progress, sources
from jobs.models import IdempotencyKey, Job
from tests.commands.running import manage
from tests.making import make_job

FLAKY = {"task": "flaky", "payload": {"failures": 0}}


def write_lines(path: Path, *lines: Any) -> str:
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return str(path)


def submit(*arguments: str, fails: str = "") -> tuple[str, str]:
    out, err = StringIO(), StringIO()
    if fails:
        with pytest.raises(CommandError, match=fails):
            call_command("submit_jobs", *arguments, stdout=out, stderr=err)
    else:
        call_command("submit_jobs", *arguments, stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


def test_every_field_of_a_line_arrives(tmp_path: Path) -> None:
    line = FLAKY | {
        "priority": "low",
        "idempotency_key": "k",
        "run_at": "2030-01-01T00:00:00Z",
        "tags": ["a", "b"],
        "callback_url": "https://example.com/done",
    }
    submit(write_lines(tmp_path / "jobs.jsonl", line))
    job = Job.objects.get()
    assert (job.task, job.payload, job.queue, job.idempotency_key) == ("flaky", {"failures": 0}, "low", "k")
    assert (job.run_at.year, job.tags, job.callback_url) == (2030, ["a", "b"], "https://example.com/done")
    assert IdempotencyKey.objects.get().scope == ""


def test_csv_means_the_same_as_json_lines(tmp_path: Path) -> None:
    file = tmp_path / "jobs.csv"
    file.write_text(
        "task,payload,priority,idempotency_key,tags,run_at\n"
        'flaky,"{""failures"": 2}",low,k,a; b,2030-01-01T00:00:00Z\n'
        "always_fails,,,,,\n"
    )
    submit(str(file))
    flaky, plain = Job.objects.get(task="flaky"), Job.objects.get(task="always_fails")
    assert (flaky.payload, flaky.queue, flaky.idempotency_key) == ({"failures": 2}, "low", "k")
    assert (flaky.tags, flaky.run_at.year) == (["a", "b"], 2030)
    assert (plain.payload, plain.queue, plain.tags) == ({}, "default", [])


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "line 2: the line: is not JSON: Expecting property name"),
        ("[1]", "line 2: must be an object with the fields task, payload"),
        ({"payload": {}}, "line 2: task: no task is called None"),
        ({"task": "nope"}, "line 2: task: no task is called 'nope'"),
        ({"task": "flaky", "payload": {"failures": "x"}}, "line 2: payload/failures: "),
        ({"task": "flaky", "payload": [1]}, "line 2: payload: must be an object"),
        ({"task": "flaky", "priority": "urgent"}, "line 2: priority: 'urgent' is unknown"),
        ({"task": "flaky", "run_at": "tomorrow"}, "line 2: run_at: 'tomorrow' is not a time"),
        ({"task": "flaky", "colour": "red"}, "line 2: colour: is not a field of a job"),
        ({"task": "flaky", "tags": "a"}, "line 2: tags: must be a list"),
        ('{"task": "flaky", "payload": {"failures": NaN}}', "line 2: payload/failures: nan is not a JSON number"),
        ('{"task": "always_fails", "payload": {"message": "\\u0000"}}', "line 2: payload/message: contains a NUL"),
        ("[" * 100_000, "line 2: the line: is not JSON that can be read"),
        ('{"task": "flaky", "payload": {"failures": ' + "1" * 5000 + "}}", "line 2: the line: is not JSON that can"),
    ],
)
def test_a_bad_line_is_named_and_the_good_ones_are_submitted(tmp_path: Path, line: Any, told: str) -> None:
    file = write_lines(tmp_path / "jobs.jsonl", FLAKY, line, "", FLAKY)
    out, err = submit(file, fails="1 bad line; the others were submitted")
    assert told in err
    assert Job.objects.count() == 2
    assert "bad lines: 1" in out


def test_bytes_that_are_no_utf8_spoil_their_line_only(tmp_path: Path) -> None:
    file = tmp_path / "jobs.jsonl"
    bad = b'{"task": "always_fails", "payload": {"message": "\xff"}}\n'
    file.write_bytes(json.dumps(FLAKY).encode() + b"\n" + bad)
    _, err = submit(str(file), fails="1 bad line")
    assert "line 2: payload/message: contains a lone surrogate" in err
    assert Job.objects.count() == 1


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("flaky,{", "line 2: payload: is not JSON"),
        ("flaky,{},extra", "line 2: has more cells than the header"),
        ('flaky,"{}', "line 2: is not CSV"),
        (",{}", "line 2: task: no task is called None"),
    ],
)
def test_a_bad_row_of_csv_is_named(tmp_path: Path, row: str, told: str) -> None:
    file = tmp_path / "jobs.csv"
    file.write_text(f"task,payload\n{row}\n")
    _, err = submit(str(file), fails="1 bad line")
    assert told in err


@pytest.mark.parametrize(
    ("header", "told"),
    [
        ("task,colour", "'colour'.*is unknown"),
        ("payload", "'task'.*missing"),
        ("task,task", "twice"),
        ('task,"payload', "the header in line 1: is not CSV"),
        ("task," + "x" * 3_000_000, "the header in line 1: is not CSV: field larger"),
    ],
)
def test_a_csv_header_that_cannot_be_is_refused_at_once(tmp_path: Path, header: str, told: str) -> None:
    file = tmp_path / "jobs.csv"
    file.write_text(f"{header}\nflaky,\n")
    submit(str(file), fails=told)
    assert not Job.objects.exists()


def test_with_atomic_one_bad_line_means_none(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "jobs.jsonl", *[FLAKY] * 600, {"task": "nope"})
    out, err = submit(file, "--atomic", fails="1 bad line; nothing was submitted")
    assert "line 601" in err
    assert "submitted: 0" in out
    assert not Job.objects.exists()


def test_the_same_file_again_submits_nothing_twice(tmp_path: Path) -> None:
    lines = [FLAKY | {"idempotency_key": f"k{number}"} for number in range(510)]
    file = write_lines(tmp_path / "jobs.jsonl", *lines)
    submit(file)
    out, _ = submit(file)
    assert "already submitted: 510" in out
    assert Job.objects.count() == 510


def test_a_key_twice_in_one_file_makes_one_job(tmp_path: Path) -> None:
    line = FLAKY | {"idempotency_key": "k"}
    out, _ = submit(write_lines(tmp_path / "jobs.jsonl", line, line))
    assert "submitted: 1 in" in out
    assert "already submitted: 1" in out
    assert Job.objects.count() == 1


def test_a_key_with_another_body_is_a_bad_line(tmp_path: Path) -> None:
    other = {"task": "flaky", "payload": {"failures": 1}, "idempotency_key": "k"}
    file = write_lines(tmp_path / "jobs.jsonl", FLAKY | {"idempotency_key": "k"}, other)
    _, err = submit(file, fails="1 bad line")
    assert "line 2: idempotency_key 'k' was already used" in err


def test_one_task_many_times() -> None:
    submit("--task", "flaky", "--payload", '{"failures": 0}', "--count", "501")
    assert Job.objects.filter(task="flaky", payload={"failures": 0}).count() == 501


def test_the_mix_is_that_of_a_load_test_and_every_payload_is_accepted() -> None:
    drafts = [line for line in sources.mix(100) if not isinstance(line, sources.Refused)]
    tasks = [draft.task for _, draft in drafts]
    counts = {name: tasks.count(name) for name in sources.MIXED}
    assert counts == {"process_data": 60, "send_email": 20, "generate_report": 20}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "Give one of"),
        (["x.jsonl", "--mix", "3"], "Give one of"),
        (["/nowhere/x.jsonl"], "No such file"),
        (["x.txt"], "say --format"),
        (["--mix", "0"], "--mix must be 1 or more"),
        (["--task", "nope"], "no task is called 'nope'"),
        (["--task", "flaky", "--payload", "{"], "--payload: is not JSON"),
    ],
)
def test_bad_usage_exits_2_and_submits_nothing(arguments: list[str], told: str) -> None:
    with pytest.raises(CommandError, match=told) as refused:
        call_command("submit_jobs", *arguments)
    assert refused.value.returncode == 2
    assert not Job.objects.exists()


def test_standard_input_that_is_closed_is_bad_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(CommandError, match="-: standard input is closed") as refused:
        call_command("submit_jobs", "-")
    assert refused.value.returncode == 2


def test_waiting_ends_at_the_deadline_and_counts_the_lost() -> None:
    out, _ = submit("--task", "flaky", "--count", "3", "--wait", "--timeout", "0.1", fails="3 jobs are lost")
    assert re.search(r"submitted: 3 in \d+\.\d s \([\d,]+ a second\)", out)
    assert re.search(r"finished: 0 in \d+\.\d s after that \(0\.0 a second\)", out)
    *_, head, row, _ = [line.split() for line in out.splitlines() if line.strip()]
    columns = ["queue", "task", "submitted", "succeeded", "retried", "dead-lettered", "revoked", "still", "open"]
    assert (head, row) == (columns, ["default", "flaky", "3", "0", "0", "0", "0", "3"])
    assert out.rstrip().endswith("lost = 3")


def test_where_nobody_looks_progress_is_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress.progress("Submitting", 2000) as tell:
        tell(1)
        monkeypatch.setattr(progress.time, "monotonic", lambda: float("inf"))
        tell(1500)
    assert capsys.readouterr().err == "Submitting: 1,500 of 2,000\n"


def test_what_became_of_jobs_is_counted_by_queue_and_task() -> None:
    done, dead, retried, revoked = [make_job("flaky", {"failures": n}) for n in (0, 9, 9, 0)]
    Job.objects.filter(pk=dead.pk).update(max_retries=0)
    Job.objects.filter(pk=revoked.pk).cancel_waiting()
    for job in (done, dead, retried):
        execute(registry.find("flaky"), job.pk)
    gone = make_job("always_fails", queue="low")
    ids = [job.pk for job in (done, dead, retried, revoked, gone)]
    Job.objects.filter(pk=gone.pk).delete()
    followed = following.follow(ids, timeout=0.1, tell=lambda _: None)
    assert followed.rows == [
        following.Row("default", "flaky", 4, succeeded=1, retried=1, dead_lettered=1, revoked=1, still_open=1)
    ]
    assert (followed.missing, followed.lost) == (1, 2)


def test_as_a_process_it_reads_standard_input_and_answers_in_json() -> None:
    done = manage("submit_jobs", "-", "--json", stdin=json.dumps(FLAKY) + "\n" + '{"task": "nope"}\n')
    assert done.returncode == 1
    told = json.loads(done.stdout)
    assert (told["submitted"], told["already_submitted"], told["bad_lines"]) == (1, 0, 1)
    assert "line 2: task" in done.stderr


def test_as_a_process_it_exits_0_when_all_is_well_and_2_when_called_badly() -> None:
    assert manage("submit_jobs", "--task", "flaky").returncode == 0
    assert manage("submit_jobs").returncode == 2


def test_a_database_that_is_away_is_one_line() -> None:
    done = manage("submit_jobs", "--task", "flaky", DATABASE_URL="postgresql://nobody@127.0.0.1:1/none")
    assert done.returncode == 1
    assert "PostgreSQL did not answer" in done.stderr
