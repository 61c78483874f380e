"""What `up` says when everything runs."""

import json
from dataclasses import asdict, dataclass

from local.first_run import ADMIN, Access


@dataclass(frozen=True)
class Banner:
    url: str
    access: Access
    flower_port: int | None
    flower_login: str
    metrics_port: int | None = None

    def as_text(self) -> str:
        bearer = f"-H 'Authorization: Bearer {self.access.token}'"
        lines = [
            "",
            "Switchyard is running. Ctrl-C stops everything.",
            "",
            f"  Panel    {self.url}/   {self._login()}",
            f"  Token    {self.access.token}   (kept in .data/api-token)",
            *self._flower(),
            *self._metrics(),
            "",
            f"  curl {bearer} {self.url}/api/workers/stats",
            f"  curl {bearer} {self.url}/api/queues",
            "",
            "Try next, in another terminal:",
            "  python3 dev.py manage submit_jobs --mix 1000 --wait",
            "  python3 dev.py manage submit_jobs --task flaky --payload '{\"failures\": 2}' --count 5 --wait",
            "  python3 dev.py manage dlq list",
            "",
        ]
        return "\n".join(lines)

    def farewell(self) -> str:
        """For `--once`: what a later `up` will not show again."""
        return f"Panel of the next `python3 dev.py up`: {self._login()}"

    def as_json(self) -> str:
        return json.dumps({"service": "switchyard", "msg": "running", **asdict(self)})

    def _flower(self) -> list[str]:
        if self.flower_port is None:
            return []
        return [f"  Flower   http://127.0.0.1:{self.flower_port}/   login {self.flower_login}"]

    def _metrics(self) -> list[str]:
        return [f"  Metrics  http://127.0.0.1:{self.metrics_port}/   (Prometheus)"] if self.metrics_port else []

    def _login(self) -> str:
        if self.access.password:
            return f"login {ADMIN} / {self.access.password}   (shown this once)"
        return f"login {ADMIN}   (new password: python3 dev.py manage changepassword {ADMIN})"
