"""`python3 dev.py bench`: Switchyard beside its peers on this machine, in one run, interleaved."""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks import growth, report, spending, sustained
from benchmarks.race import ROOT, SETTINGS, Place, Result, measure
from benchmarks.systems import PLAIN, SYSTEMS, System
from local.postgres import Postgres
from local.readiness import free_port
from local.valkey import Valkey

PEERS = ROOT / ".data" / "peers"
DOCUMENT = ROOT / "docs" / "benchmarks.md"
POLICIES = """
[bench_each]
max_retries = 3

[bench_batch]
max_retries = 3
delivery = "batch"

[bench_flaky_each]
max_retries = 3

[bench_flaky_batch]
max_retries = 3
delivery = "batch"
"""


def main() -> None:
    options = _options()
    # Ended in any way, it ends its servers and workers.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with place(Path(options.directory)) as here:
        if options.growth or options.profile or options.sustained:
            print(_aside(options, here))
            return
        chosen = [each for each in SYSTEMS if each is PLAIN or options.only.lower() in each.name.lower()]
        results = race(chosen, here, rounds=options.rounds)
        text = report.table(results)
        print(text)
        if not options.only:
            _write(text, options)


def _aside(options: argparse.Namespace, here: Place) -> str:
    """The measurements that are not a race."""
    if options.sustained:
        return sustained.sustained(here, minutes=options.minutes)
    ours = [each for each in SYSTEMS if not each.peer]
    if options.profile:
        return spending.table([PLAIN, *ours], here)
    return growth.growth(ours, here, rows=options.rows, rounds=options.rounds)


def race(systems: Sequence[System], here: Place, *, rounds: int) -> dict[System, list[Result]]:
    """Every system once a round, so that what the machine does meanwhile falls on all of them."""
    results: dict[System, list[Result]] = {each: [] for each in systems}
    for number in range(rounds):
        for system in systems:
            found = measure(system, here)
            print(f"round {number + 1}: {system.name}: {found}", file=sys.stderr)
            results[system].append(found)
    return results


@contextmanager
def place(parent: Path) -> Iterator[Place]:
    """Fresh servers and the peers' own virtual environment."""
    _install_peers()
    with tempfile.TemporaryDirectory(dir=parent, prefix="switchyard-bench-") as name:
        directory = Path(name)
        directory.chmod(0o711)
        (directory / "marks").mkdir()
        policies = directory / "policies.toml"
        policies.write_text((ROOT / "config" / "policies.toml").read_text() + POLICIES)
        postgres = Postgres(directory / "postgres", port=free_port(), settings=SETTINGS)
        with postgres, Valkey(directory / "valkey", port=free_port(), persistence=False) as valkey:
            environment = {**os.environ, "DATABASE_URL": postgres.url, "REDIS_URL": valkey.url, "PGDSN": postgres.url}
            environment |= {"SECRET_KEY": "bench", "DEBUG": "0", "LOG_LEVEL": "WARNING", "POLICIES_FILE": str(policies)}
            environment["CELERY_SKIP_CHECKS"] = "1"
            yield Place(environment, Path(sys.executable), PEERS / "bin" / "python", directory)


def _install_peers() -> None:
    """Once; what is compared with is no part of what we ship."""
    pins = ROOT / "benchmarks" / "peers.txt"
    stamp = PEERS / "installed"
    if stamp.exists() and stamp.read_text() == pins.read_text():
        return
    print("Installing the peers ...", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "venv", str(PEERS)], check=True)
    pip = [str(PEERS / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "-r", str(pins)], check=True)
    stamp.write_text(pins.read_text())


def _write(text: str, options: argparse.Namespace) -> None:
    """Between its marks the document is ours; what people wrote around it stays."""
    begin, end = "<!-- bench: begin -->", "<!-- bench: end -->"
    said = f"{report.machine()}; {report.versions()}. PostgreSQL's data under `{options.directory}`, "
    said += f"Redis without persistence, log level WARNING, medians of {options.rounds} interleaved rounds.\n\n"
    before = DOCUMENT.read_text() if DOCUMENT.exists() else f"# Benchmarks\n\n{begin}\n{end}\n"
    head, _, rest = before.partition(begin)
    DOCUMENT.write_text(f"{head}{begin}\n{said}{text}\n{end}{rest.partition(end)[2]}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="dev.py bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="a part of a name; plain Celery always runs, as the yardstick")
    parser.add_argument("--growth", action="store_true", help="ours beside no and beside --rows finished jobs")
    parser.add_argument("--rows", type=int, default=10_000_000, help="for --growth")
    parser.add_argument("--sustained", action="store_true", help="12,000 jobs a minute: does the queue stay flat?")
    parser.add_argument("--minutes", type=float, default=5, help="for --sustained")
    parser.add_argument("--profile", action="store_true", help="processor time a job, by kind of process")
    parser.add_argument("--directory", default=tempfile.gettempdir(), help="where PostgreSQL keeps its data")
    return parser.parse_args()


if __name__ == "__main__":
    main()
