"""`manage.py create_api_token`: a token for a client, shown once."""

from argparse import ArgumentParser
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractBaseUser
from django.core.management.base import BaseCommand, CommandError

from api.models import SCOPES, ApiToken

USAGE = 2


class Command(BaseCommand):
    help = "Creates an API token and prints it, alone, on the last line. It cannot be shown again."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--name", required=True, help="what the token is for")
        parser.add_argument("--scopes", required=True, metavar="a,b", help=f"of {', '.join(SCOPES)}")
        parser.add_argument("--owner", metavar="USER", help="default: the first superuser")

    def handle(self, *args: Any, name: str, scopes: str, owner: str | None, **options: Any) -> None:
        _check_name(name)
        chosen = _scopes(scopes)
        user = _owner(owner)
        _, secret = ApiToken.issue(name=name, owner=user, scopes=chosen)
        self.stdout.write(f"API token '{name}' for {user.get_username()}, scopes {', '.join(chosen)}:")
        self.stdout.write(secret)


def _check_name(name: str) -> None:
    limit = ApiToken._meta.get_field("name").max_length
    if not name.strip() or "\0" in name or len(name) > (limit or 0):
        raise CommandError(f"--name must be 1 to {limit} characters long.", returncode=USAGE)


def _scopes(text: str) -> list[str]:
    """The scopes asked for, each once, in their own order."""
    asked = [part.strip() for part in text.split(",") if part.strip()]
    unknown = [scope for scope in asked if scope not in SCOPES]
    if unknown or not asked:
        wrong = f"unknown scope {', '.join(map(repr, unknown))}" if unknown else "no scope given"
        raise CommandError(f"--scopes: {wrong}; there are {', '.join(SCOPES)}.", returncode=USAGE)
    return [scope for scope in SCOPES if scope in asked]


def _owner(name: str | None) -> AbstractBaseUser:
    users: Any = get_user_model()._default_manager.filter(is_active=True)
    if name is not None:
        found = users.filter(**{get_user_model().USERNAME_FIELD: name}).first()
        if found is None:
            raise CommandError(f"--owner: there is no active user '{name}'.", returncode=USAGE)
        return found
    first = users.filter(is_superuser=True).order_by("pk").first()
    if first is None:
        raise CommandError("There is no superuser yet: name an owner with --owner, or run createsuperuser first.")
    return first
