import json
from dataclasses import replace
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from deadletters.drop import drop
from deadletters.models import DeadLetter
from jobs import policies
from jobs.models import Event, Job
from tests.commands.running import manage
from tests.deadletters.making import exhaust, make_letter
from tests.making import make_job

OK, SKIPPED, USAGE, NOTHING = 0, 1, 2, 3


def dlq(*arguments: Any, exits: int = OK, told: str = "") -> str:
    out = StringIO()
    if exits == OK:
        call_command("dlq", *map(str, arguments), stdout=out, stderr=StringIO())
        return out.getvalue()
    with pytest.raises(CommandError, match=told or None) as refused:
        call_command("dlq", *map(str, arguments), stdout=out, stderr=StringIO())
    assert refused.value.returncode == exits
    return out.getvalue()


def listed(*arguments: Any) -> list[int]:
    return [json.loads(line)["letter"] for line in dlq("list", "--json", *arguments).splitlines()]


def test_list_shows_open_letters_newest_first() -> None:
    first, second, dropped = make_letter("a"), make_letter("b"), make_letter("c")
    drop(dropped, actor="mira", reason="x")
    assert listed() == [second.pk, first.pk]
    assert listed("--resolved") == [dropped.pk]
    assert listed("--all") == [dropped.pk, second.pk, first.pk]
    assert listed("--limit", 1) == [second.pk]
    assert listed(dropped.pk) == [dropped.pk]


def test_list_can_be_narrowed_by_everything_a_letter_says() -> None:
    flaky = exhaust(make_job("flaky", {"failures": 9}, queue="low"))
    other = make_letter()
    assert listed("--task", "flaky") == [flaky.pk]
    assert listed("--queue", "low") == [flaky.pk]
    assert listed("--fingerprint", other.fingerprint) == [other.pk]
    assert listed("--job", flaky.job_id) == [flaky.pk]
    assert listed("--cause", "exhausted", "--since", "1h") == [other.pk, flaky.pk]
    dlq("list", "--until", "1h", exits=NOTHING, told="No dead letter matches")
    dlq("list", "--since", "2999-01-01", exits=NOTHING)


def test_list_without_a_terminal_is_one_line_a_letter() -> None:
    letter = make_letter("first line\nsecond line")
    header, line = dlq("list").splitlines()
    assert header.split("\t")[:3] == ["letter", "created", "task"]
    assert line.split("\t")[0] == str(letter.pk)
    assert line.endswith("RuntimeError: first line second line")


def test_show_tells_the_whole_story_with_secrets_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    hiding = replace(policies.policy("always_fails"), redacted=("message",))
    monkeypatch.setitem(policies._load(policies.Path(policies.settings.POLICIES_FILE)), "always_fails", hiding)
    letter = make_letter("s3cret", key="order-1")
    told = json.loads(dlq("show", letter.pk, "--json"))
    assert told["job"]["payload"] == {"message": "••••"}
    assert told["job"]["idempotency_key"] == "order-1"
    [attempt] = told["attempts"]
    assert attempt["error_code"] == "RuntimeError"
    assert "always_fails" in attempt["traceback"]
    text = dlq("show", letter.pk)
    assert '"message": "••••"' in text
    assert "Traceback (most recent call last)" in text


def test_replay_runs_the_job_again_and_keeps_the_reason() -> None:
    letter = make_letter()
    out = dlq("replay", letter.pk, "--reason", "gateway is back")
    letter.refresh_from_db()
    assert "replayed: 1" in out
    assert letter.resolved_reason == "gateway is back"
    assert letter.resolved_by.startswith("cli:")
    assert Job.objects.get().state == "PENDING"


def test_replay_takes_an_edited_payload_for_one_letter() -> None:
    letter = exhaust(make_job("flaky", {"failures": 9}))
    dlq("replay", letter.pk, "--reason", "x", "--payload", '{"failures": 0}')
    assert Job.objects.get().payload == {"failures": 0}


@pytest.mark.parametrize("payload", ['{"failures": "x"}', "{", "[1]"])
def test_replay_refuses_a_payload_the_task_does_not_take_even_in_a_dry_run(payload: str) -> None:
    letter = exhaust(make_job("flaky", {"failures": 9}))
    for extra in ([], ["--dry-run"]):
        dlq("replay", letter.pk, "--reason", "x", "--payload", payload, *extra, exits=USAGE, told="payload")
    assert DeadLetter.objects.open().count() == 1


def test_a_payload_for_many_letters_is_bad_usage() -> None:
    make_letter("a"), make_letter("b")
    dlq("replay", "--open", "--reason", "x", "--payload", "{}", "--yes", exits=USAGE, told="for one letter; 2 match")


def test_nothing_named_means_nothing_done() -> None:
    make_letter()
    for verb in ("replay", "drop", "purge"):
        dlq(verb, "--reason", "x", exits=USAGE, told="Say which")
    assert DeadLetter.objects.open().count() == 1


def test_a_number_nobody_has_is_refused_before_anything_is_done() -> None:
    letter = make_letter()
    dlq("replay", letter.pk, letter.pk + 1, "--reason", "x", "--yes", exits=NOTHING, told=str(letter.pk + 1))
    assert DeadLetter.objects.open().count() == 1


def test_a_dry_run_tells_what_would_happen_and_changes_nothing() -> None:
    letter, dropped = make_letter("a"), make_letter("b")
    drop(dropped, actor="mira", reason="x")
    events = Event.objects.count()
    out = dlq("replay", "--all", "--reason", "x", "--dry-run", "--json", exits=SKIPPED, told="1 of 2 were skipped")
    told = json.loads(out)
    assert (told["dry_run"], told["done"], list(told["skipped"])) == (True, [letter.pk], [str(dropped.pk)])
    assert DeadLetter.objects.open().count() == 1
    assert Event.objects.count() == events


def test_skipped_letters_are_told_and_exit_1() -> None:
    letter, dropped = make_letter("a"), make_letter("b")
    drop(dropped, actor="mira", reason="x")
    out = dlq("drop", "--all", "--reason", "y", "--yes", "--json", exits=SKIPPED, told="1 of 2 were skipped")
    assert json.loads(out)["done"] == [letter.pk]


def test_purge_takes_resolved_letters_with_their_jobs() -> None:
    dropped, left = make_letter("a"), make_letter("b")
    drop(dropped, actor="mira", reason="x")
    out = dlq("purge", "--task", "always_fails")
    assert "jobs deleted with them: 1" in out
    assert DeadLetter.objects.get() == left
    assert Job.objects.get().pk == left.job_id


def test_as_a_process_many_letters_need_a_yes_without_a_terminal() -> None:
    make_letter("a"), make_letter("b")
    asked = manage("dlq", "replay", "--open", "--reason", "x")
    assert (asked.returncode, DeadLetter.objects.open().count()) == (USAGE, 2)
    assert "say --yes" in asked.stderr
    told = manage("dlq", "replay", "--open", "--reason", "x", "--yes", "--json")
    assert (told.returncode, DeadLetter.objects.open().count()) == (OK, 0)
    assert len(json.loads(told.stdout)["done"]) == 2


def test_as_a_process_every_exit_code_is_kept() -> None:
    letter = make_letter()
    assert manage("dlq", "replay", str(letter.pk)).returncode == USAGE
    assert manage("dlq", "show", str(letter.pk + 1)).returncode == NOTHING
    assert manage("dlq", "purge", str(letter.pk)).returncode == SKIPPED
    assert manage("dlq", "replay", str(10**30), "--reason", "x").returncode == NOTHING
