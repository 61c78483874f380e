import json
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from local.mailbox import falls_within

ORDER = {"user_id": "usr_1", "amount": 49.9, "currency": "EUR"}
KEYS = [f"key-{n}" for n in range(1000)]
CHARGED_FIRST = [key for key in KEYS if not falls_within(key, 0.2)]
FAILS_FIRST = [key for key in KEYS if falls_within(key, 0.2)]
LOSES_ITS_ANSWER = [key for key in FAILS_FIRST if falls_within("lost:" + key, 0.5)]
ONLY_FAILS = [key for key in FAILS_FIRST if not falls_within("lost:" + key, 0.5)]


@pytest.fixture
def start(spawn, port, place):
    def start():
        process = spawn("-m", "local.gateway", "--port", str(port), "--directory", str(place / "gateway"))
        assert "listening" in process.stdout.readline()
        return process

    return start


@pytest.fixture
def gateway(start, port):
    start()
    with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        yield client


def charge(gateway, key, **changes):
    return gateway.post("/charges", json={**ORDER, **changes}, headers={"Idempotency-Key": key})


def test_a_charge_is_made_once_for_a_key(gateway):
    first, second = charge(gateway, CHARGED_FIRST[0]), charge(gateway, CHARGED_FIRST[0])
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json() == second.json()
    assert first.json()["status"] == "charged"
    assert first.json()["amount"] == ORDER["amount"]
    asked = gateway.get(f"/charges/{CHARGED_FIRST[0]}").json()
    assert asked == {"key": CHARGED_FIRST[0], "charged": 1, "calls": 2}


def test_a_lost_answer_has_charged_and_its_retry_charges_nothing(gateway):
    assert charge(gateway, LOSES_ITS_ANSWER[0]).status_code == 503
    assert gateway.get(f"/charges/{LOSES_ITS_ANSWER[0]}").json()["charged"] == 1
    assert charge(gateway, LOSES_ITS_ANSWER[0]).status_code == 200
    assert gateway.get(f"/charges/{LOSES_ITS_ANSWER[0]}").json()["charged"] == 1


def test_a_plain_failure_has_not_charged_and_its_retry_does(gateway):
    assert charge(gateway, ONLY_FAILS[0]).status_code == 503
    assert gateway.get(f"/charges/{ONLY_FAILS[0]}").json()["charged"] == 0
    assert charge(gateway, ONLY_FAILS[0]).status_code == 201


def test_about_half_of_the_failures_say_when_to_come_back(gateway):
    answers = [charge(gateway, key) for key in FAILS_FIRST[:100]]
    assert {answer.status_code for answer in answers} == {503}
    assert {answer.headers.get("Retry-After") for answer in answers} == {None, "1"}
    assert 30 < sum("Retry-After" in answer.headers for answer in answers) < 70


def test_calls_at_the_same_moment_charge_once(gateway):
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: charge(gateway, CHARGED_FIRST[0]), range(16)))
    assert sorted(answer.status_code for answer in answers) == [200] * 15 + [201]
    totals = gateway.get("/charges").json()
    assert totals == {"keys": 1, "charges": 1, "charged_twice": 0, "calls": 16}


def test_a_key_with_another_body_is_refused(gateway):
    charge(gateway, CHARGED_FIRST[0])
    assert charge(gateway, CHARGED_FIRST[0], amount=1).status_code == 422
    assert gateway.get(f"/charges/{CHARGED_FIRST[0]}").json()["charged"] == 1


def test_a_large_amount_is_declined(gateway):
    answer = charge(gateway, CHARGED_FIRST[0], amount=1_000_001)
    assert answer.status_code == 402
    assert "declined" in answer.json()["error"]
    assert gateway.get("/charges").json()["charges"] == 0


@pytest.mark.parametrize(
    ("content", "headers"),
    [
        (json.dumps(ORDER), {}),
        ("{", {"Idempotency-Key": "key"}),
        (json.dumps({"user_id": "usr_1", "amount": 1}), {"Idempotency-Key": "key"}),
        (json.dumps({**ORDER, "amount": "many"}), {"Idempotency-Key": "key"}),
    ],
    ids=["no key", "no JSON", "no currency", "no number"],
)
def test_a_bad_request_is_refused_and_not_counted(gateway, content, headers):
    assert gateway.post("/charges", content=content, headers=headers).status_code == 400
    assert gateway.get("/charges").json()["calls"] == 0


def test_a_restart_remembers_its_charges(start, port):
    address = f"http://127.0.0.1:{port}"
    process = start()
    with httpx.Client(base_url=address) as gateway:
        charge_id = charge(gateway, CHARGED_FIRST[0]).json()["charge_id"]
    process.terminate()
    assert process.wait() == 0
    start()
    with httpx.Client(base_url=address) as gateway:
        again = charge(gateway, CHARGED_FIRST[0])
    assert (again.status_code, again.json()["charge_id"]) == (200, charge_id)


def test_a_webhook_is_received_with_its_headers(gateway, place):
    answer = gateway.post("/webhooks", json={"event": "x"}, headers={"X-Signature": "sha256=abc"})
    assert answer.status_code == 204
    received = json.loads((place / "gateway" / "webhooks.jsonl").read_text())
    assert received["headers"]["x-signature"] == "sha256=abc"
    assert json.loads(received["body"]) == {"event": "x"}
