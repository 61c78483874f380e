"""`python3 dev.py chaos`: real processes under a seeded monkey, and what came of it."""

import argparse
import random
import sys
from collections.abc import Callable

from local.children import stop_on_sigterm
from tests.chaos import mutations
from tests.chaos.monkey.baseline import Plain
from tests.chaos.monkey.plan import ANYTHING, MONKEY, RESTARTS, Plan, Recipe, make_plan
from tests.chaos.monkey.production import PRODUCTION
from tests.chaos.monkey.run import perform
from tests.chaos.monkey.snapshot import old_snapshot
from tests.chaos.monkey.stage import stage
from tests.chaos.monkey.switchyard import LEASE, Switchyard
from tests.chaos.monkey.table import as_text, rows_of
from tests.chaos.monkey.verdict import judge

SCENARIOS = {
    "monkey": "every kind of fault in random order (the default)",
    "restarts": "scenario 43: PostgreSQL and Redis restarted, workers killed, as densely as they come",
    "anything": "scenario 42: submits, cancels, kills, flushes and restarts in random order; --minutes 1 --jobs 200",
}
SCRIPTS = {**PRODUCTION, "old-snapshot": old_snapshot}
SCENARIOS |= {name: (script.__doc__ or "").strip() for name, script in SCRIPTS.items()}
SCENARIOS["mutations"] = "scenario 44: take each guard out of a copy and see the tests named for it fail"
RECIPES: dict[str, Recipe] = {"monkey": MONKEY, "restarts": RESTARTS, "anything": ANYTHING}
DEFAULTS = {"anything": (1.0, 200)}


def main(arguments: list[str]) -> int:
    options = _parse(arguments)
    stop_on_sigterm()
    if options.scenario == "mutations":
        return mutations.main()
    if options.scenario in SCRIPTS:
        return _run_script(options)
    return _run_plan(options)


def _run_script(options: argparse.Namespace) -> int:
    """A scenario without chance: its checks, each with what was found and what it must be."""
    print(f"{options.scenario}: {SCENARIOS[options.scenario]}", flush=True)
    with stage(keep_logs=options.keep_logs) as here:
        checks = list(SCRIPTS[options.scenario](here, options.minutes or 10.0))
    print(*checks, sep="\n")
    return 0 if all(check.holds for check in checks) else 1


def _run_plan(options: argparse.Namespace) -> int:
    minutes, jobs = DEFAULTS.get(options.scenario, (3.0, 500))
    plan = make_plan(
        RECIPES[options.scenario],
        seed=options.seed,
        seconds=60 * (options.minutes or minutes),
        jobs=options.jobs or jobs,
    )
    print(plan, flush=True)
    if options.plan:
        return 0
    return (_baseline if options.baseline else _switchyard)(plan, options)


def _switchyard(plan: Plan, options: argparse.Namespace) -> int:
    with stage(keep_logs=options.keep_logs) as here:
        run = perform(plan, Switchyard(here), patience=LEASE + 60)
        _tell(run.monkey.done)
        print(f"\nSwitchyard, seed {plan.seed}:\n{as_text(rows_of(run, recorded=True))}\n")
        findings = judge(run.evidence)
        print(*findings, sep="\n")
    return 1 if any(finding.broken_by for finding in findings) else 0


def _baseline(plan: Plan, options: argparse.Namespace) -> int:
    with stage(keep_logs=options.keep_logs) as here:
        run = perform(plan, Plain(here), patience=LEASE + 60)
        _tell(run.monkey.done)
        print(f"\n{Plain.name}, seed {plan.seed}:\n{as_text(rows_of(run, recorded=False))}")
    return 0


def _tell(done: list[str]) -> None:
    print("\nWhat the monkey did:", *done, sep="\n")


def _parse(arguments: list[str]) -> argparse.Namespace:
    width: Callable[[str], argparse.HelpFormatter] = argparse.RawDescriptionHelpFormatter
    names = "\n".join(f"  {name:<14}{text}" for name, text in SCENARIOS.items())
    parser = argparse.ArgumentParser(
        prog="dev.py chaos", description=f"{__doc__}\n\nscenarios:\n{names}", formatter_class=width
    )
    parser.add_argument("--scenario", choices=SCENARIOS, default="monkey", metavar="NAME")
    parser.add_argument(
        "--minutes", type=float, help="how long faults strike (default 3; deep-queue, old-snapshot: 10)"
    )
    parser.add_argument("--jobs", type=int, help="how many jobs are submitted meanwhile (default 500)")
    parser.add_argument("--seed", type=int, default=random.randrange(10_000), help="the same seed makes the same plan")
    parser.add_argument("--baseline", action="store_true", help="the same plan against plain Celery + Redis")
    parser.add_argument("--plan", action="store_true", help="print the plan and stop")
    parser.add_argument("--keep-logs", action="store_true", help="leave the logs and the ledger behind")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    # Progress is for now, also when it goes through a pipe.
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
