from io import StringIO

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command

from api.models import ApiToken
from tests.commands.running import manage


def create(*arguments: str) -> list[str]:
    out = StringIO()
    call_command("create_api_token", *arguments, stdout=out)
    return out.getvalue().splitlines()


@pytest.fixture
def admin() -> User:
    User.objects.create_user("early bird")
    first = User.objects.create_superuser("admin")
    User.objects.create_superuser("a later one")
    return first


def test_the_last_line_is_a_token_that_works(admin: User) -> None:
    lines = create("--name", "shop", "--scopes", "submit,read")
    token = ApiToken.authenticate(lines[-1])
    assert token is not None
    assert (token.name, token.owner, token.scopes) == ("shop", admin, ["read", "submit"])
    assert "shop" in lines[0]
    assert "admin" in lines[0]


def test_the_token_can_belong_to_somebody_else(admin: User) -> None:
    create("--name", "shop", "--scopes", "read", "--owner", "early bird")
    assert ApiToken.objects.get().owner.username == "early bird"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--scopes", "read,fly"], r"unknown scope 'fly'; there are read, submit, operate, metrics"),
        (["--scopes", " , "], "no scope given"),
        (["--scopes", "read", "--owner", "nobody"], "no active user 'nobody'"),
        (["--scopes", "read", "--name", "x" * 101], "--name must be 1 to 100"),
    ],
)
def test_what_cannot_be_is_refused_by_name(admin: User, arguments: list[str], told: str) -> None:
    with pytest.raises(CommandError, match=told):
        create("--name", "shop", *arguments)
    assert not ApiToken.objects.exists()


def test_without_a_superuser_it_says_what_to_do() -> None:
    with pytest.raises(CommandError, match=r"--owner.*createsuperuser"):
        create("--name", "shop", "--scopes", "read")


def test_as_a_process_stdout_ends_with_the_token_alone(admin: User) -> None:
    done = manage("create_api_token", "--name", "shop", "--scopes", "read")
    assert done.returncode == 0
    assert ApiToken.authenticate(done.stdout.strip().splitlines()[-1]) is not None
    assert manage("create_api_token", "--name", "shop", "--scopes", "fly").returncode == 2
