import os
from urllib.parse import unquote

import pytest
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st

from jobs.errors import InvalidJob
from jobs.models import Job
from jobs.submission import submit
from jobs.tasks.places import checked

PEOPLE = "id,name\n1,Ada\n"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("field", ["source", "destination"])
def test_a_link_out_of_the_root_is_refused_when_it_runs(run, sandbox, tmp_path, field):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.csv").write_text(PEOPLE)
    (sandbox / "in.csv").write_text(PEOPLE)
    (sandbox / "folder").symlink_to(outside)
    (sandbox / "secret.csv").symlink_to(outside / "secret.csv")
    for name in ("secret.csv", "folder/secret.csv", "folder/new.csv"):
        other = "destination" if field == "source" else "source"
        ends = {field: (sandbox / name).as_uri(), other: (sandbox / "in.csv").as_uri()}
        job = run("data_pipeline", ends)
        assert job.state == "FAILURE"
        assert job.error.startswith(f"{field}: ") and "leads out of PIPELINE_ROOTS through a link" in job.error
    assert names(outside) == ["secret.csv"]
    assert (outside / "secret.csv").read_text() == PEOPLE


@pytest.mark.parametrize(
    "forbidden",
    [
        "file:///etc/passwd.csv",
        "file://{root}/../outside/secret.csv",
        "file://{root}/%2e%2e/outside/secret.csv",
        "file://{root}/..%2foutside/secret.csv",
        "file://{root}/%252e%252e/secret.csv/../x.csv",
        "file://{root}//in.csv",
        "file://{root}/./in.csv",
        "file://{root}-beside/in.csv",
        "file://{root}/in.csv?x",
        "file://{root}/in.csv#x",
        "file://{root}/in%00.csv",
        "file://{root}/in\n.csv",
        "file://{root}/in%FF.csv",
        "file://{root}\\..\\in.csv",
        "file://elsewhere{root}/in.csv",
        "{root}/in.csv",
        "in.csv",
        "http://127.0.0.1/in.csv",
        "ftp://example.com/in.csv",
        "zip://in.csv::file://{root}/archive.zip",
        "simplecache::file://{root}/in.csv",
        "memory://a/../b.csv",
        "s3://bucket/other/in.csv",
        "s3://bucket/incoming-too/in.csv",
        "s3://key:secret@bucket/incoming/in.csv",
        "s3://bucket/incoming/%2e%2e/in.csv",
        "file://{root}/in.txt",
        "file://{root}/",
        "file://[/in.csv",
    ],
)
@pytest.mark.parametrize("field", ["source", "destination"])
@pytest.mark.django_db
def test_a_url_outside_of_the_roots_is_refused_at_submit_by_the_fields_name(sandbox, field, forbidden):
    ends = {"source": "memory://a/in.csv", "destination": "memory://a/out.csv"}
    with pytest.raises(InvalidJob) as refused:
        submit("data_pipeline", ends | {field: forbidden.replace("{root}", str(sandbox))})
    assert refused.value.field == f"/payload/{field}"
    assert Job.objects.count() == 0


@pytest.mark.django_db
def test_the_refusal_of_a_root_says_what_is_allowed(sandbox):
    with pytest.raises(InvalidJob, match=r"outside of what PIPELINE_ROOTS allows: file:///.*, memory://, s3://bucket"):
        submit("data_pipeline", {"source": "file:///etc/passwd.csv", "destination": "memory://out.csv"})


def test_a_root_that_shrinks_between_submit_and_run_is_obeyed(attempt, sandbox, settings):
    job = submit("data_pipeline", {"source": "memory://a/in.csv", "destination": "memory://a/out.csv"})
    settings.PIPELINE_ROOTS = [sandbox.as_uri()]
    job = attempt(job)
    assert (job.state, job.error_code) == ("FAILURE", "Abandon")


@given(st.text(alphabet="./%2eEfF\\a:?#@~", max_size=30))
@override_settings(PIPELINE_ROOTS=["file:///srv/sandbox/"])
def test_no_spelling_leads_a_path_out_of_its_root(tail):
    url = f"file:///srv/sandbox/{tail}.csv"
    try:
        checked(url)
    except ValueError:
        return
    assert os.path.normpath(unquote(url.removeprefix("file://"))).startswith("/srv/sandbox/")
