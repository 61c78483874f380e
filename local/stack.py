"""The servers a command needs, and the environment that leads the Django project to them."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from local.embedded import EmbeddedServer
from local.place import write_private
from local.postgres import Postgres, Settings
from local.valkey import Valkey

Environment = dict[str, str]


@dataclass
class Servers:
    """Where the two servers answer, and those of them that are ours."""

    urls: Environment = field(default_factory=dict)
    embedded: list[EmbeddedServer] = field(default_factory=list)


@contextlib.contextmanager
def servers(directory: Path, *, persistence: bool = True, settings: Settings | None = None) -> Iterator[Servers]:
    """Start the embedded servers that no URL in our environment stands for."""
    found = {name: os.environ[name] for name in ("DATABASE_URL", "REDIS_URL") if os.environ.get(name)}
    with contextlib.ExitStack() as running:
        started = Servers(urls=found)
        if "DATABASE_URL" not in found:
            postgres = running.enter_context(Postgres(directory / "postgres", settings=settings))
            started.embedded.append(postgres)
            found["DATABASE_URL"] = postgres.url
        if "REDIS_URL" not in found:
            valkey = running.enter_context(Valkey(directory / "valkey", persistence=persistence))
            started.embedded.append(valkey)
            found["REDIS_URL"] = valkey.url
        yield started


def secret_key(state: Path) -> str:
    """The SECRET_KEY of this checkout: made once, because sessions and signatures depend on it."""
    path = state / "secret_key"
    if not path.exists():
        write_private(path, secrets.token_urlsafe(48))
    return path.read_text()


def project_environment(state: Path, *, port: int, mailbox: int, gateway: int) -> Environment:
    """The settings that every process of the project gets; what the user's environment sets stands."""
    defaults = {
        "SECRET_KEY": secret_key(state),
        "DEBUG": "1",
        "ALLOWED_HOSTS": "127.0.0.1,localhost",
        "SITE_URL": f"http://127.0.0.1:{port}",
        "EMAIL_URL": f"smtp://127.0.0.1:{mailbox}",
        "PAYMENT_GATEWAY_URL": f"http://127.0.0.1:{gateway}",
        "WEBHOOK_ALLOWED_HOSTS": f"127.0.0.1:{gateway}",
        "DATA_DIR": str(state),
    }
    return {name: os.environ.get(name) or value for name, value in defaults.items()}
