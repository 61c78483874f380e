"""The OpenAPI document: tried out whole against the running stack, and made into a client that works."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import httpx

from jobs import registry
from tests.api.calling import Api
from tests.waiting import eventually

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent
SEED, EXAMPLES = "20261120", "4"


def test_the_document_is_complete(api: Api) -> None:
    document = api.get("openapi.json").json()
    assert document["openapi"] == "3.1.0" and set(document["components"]["securitySchemes"]) == {"Token", "Session"}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert operation["security"] and operation["description"], f"{method} {path}"
            refusals = {status for status in operation["responses"] if status >= "400"}
            assert refusals >= {"401", "403", "404", "413", "415", "422", "429", "503"}, f"{method} {path}"
            for status in refusals:
                assert set(operation["responses"][status]["content"]) == {"application/problem+json"}
    submission = document["components"]["schemas"]["Submission"]["properties"]
    # Other modules of tests may have registered tasks in this process, which the server knows nothing of.
    shipped = sorted(name for name, task in registry.tasks().items() if not task.__module__.startswith("tests."))
    assert submission["task_type"]["enum"] == shipped


def test_a_generator_makes_a_client_that_works(api: Api, tmp_path: Path) -> None:
    document, target = tmp_path / "openapi.json", tmp_path / "switchyard_client"
    document.write_text(api.get("openapi.json").text)
    options = ["--path", document, "--output-path", target, "--meta", "none", "--config", HERE / "generator.yaml"]
    command = [BIN / "openapi-python-client", "generate", *options, "--fail-on-warning"]
    environment = {"PATH": f"{BIN}:/usr/bin:/bin"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    package = _imported(target)
    client = package.AuthenticatedClient(base_url=api.address, token=api.token, httpx_args={"trust_env": False})
    models = importlib.import_module("switchyard_client.models")
    submit = importlib.import_module("switchyard_client.api.tasks.submit_task")
    follow = importlib.import_module("switchyard_client.api.tasks.wait_for_task")
    payload = models.SubmissionPayload.from_dict({"failures": 0})
    order = models.Submission(task_type=models.SubmissionTaskType.FLAKY, payload=payload)
    accepted = submit.sync(client=client, body=order, idempotency_key="from the generated client")
    assert accepted.message == "Task 'flaky' queued on 'default' queue."
    finished = follow.sync(task_id=accepted.task_id, client=client, timeout=60.0)
    assert (finished.status, finished.task_id) == ("SUCCESS", accepted.task_id)
    assert finished.idempotency_key == "from the generated client", "the header did not arrive"
    refused = submit.sync(client=client, body=models.Submission(task_type=models.SubmissionTaskType.SEND_EMAIL))
    assert refused.type_ == "urn:switchyard:problem:invalid" and refused.status == httpx.codes.UNPROCESSABLE_ENTITY


def test_every_operation_answers_as_the_document_says(api: Api, tmp_path: Path) -> None:
    """Schemathesis, all its checks, every operation, valid and invalid data, chains of calls; a fixed seed.

    The last test of this directory: it leaves every queue full of jobs that crash.
    """
    eventually(lambda: api.get("workers/health").is_success, within=60, what="every part to work")
    address = f"{api.address}/api/openapi.json"
    command = [BIN / "schemathesis", "--config-file", HERE / "schemathesis.toml", "run", address, "--checks", "all"]
    options = ["--seed", SEED, "--max-examples", EXAMPLES, "-H", f"Authorization: Bearer {api.token}"]
    limits = ["--request-timeout", "30", "--generation-database", "none", "--no-color"]
    everything = [*command, *options, *limits]
    done = subprocess.run(everything, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=170)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def _imported(directory: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        directory.name, directory / "__init__.py", submodule_search_locations=[str(directory)]
    )
    assert spec is not None and spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    sys.modules[directory.name] = package
    spec.loader.exec_module(package)
    return package
