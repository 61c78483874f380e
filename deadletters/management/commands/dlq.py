"""`manage.py dlq list | show | replay | drop | purge`: dead letters from the command line."""

import getpass
import json
import os
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError

from api.tally import Tally, on_each
from deadletters import drop, purge, replay, resolution
from deadletters.management import showing
from deadletters.management.selecting import USAGE, add_filters, chosen, refuse_without_choice
from deadletters.models import DeadLetter
from jobs.drafting import draft
from jobs.errors import InvalidJob
from jobs.storable import check_text

NOTHING_MATCHED = 3
REASON_LIMIT = 2000
EPILOG = """\
Without --open, --resolved or --all: list, replay and drop take open letters, purge takes resolved ones.
--json: list prints one JSON object a line; the others print one JSON document.
exit codes: 0 done; 1 some letters were skipped; 2 bad usage; 3 nothing matched"""
WHY_NOT = {"replay": replay.why_not, "drop": resolution.why_not, "purge": purge.why_not}


class Command(BaseCommand):
    help = "Lists, shows, replays, drops and purges dead letters."

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> Any:
        kwargs |= {"epilog": EPILOG, "formatter_class": RawDescriptionHelpFormatter}
        return super().create_parser(prog_name, subcommand, **kwargs)

    def add_arguments(self, parser: ArgumentParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True, metavar="list | show | replay | drop | purge")
        listing = verbs.add_parser("list", help="letters, newest first")
        add_filters(listing, limit=50)
        showing_one = verbs.add_parser("show", help="a letter with its job, payload and attempts")
        showing_one.add_argument("letter", type=int, metavar="ID")
        for each in (listing, showing_one):
            each.add_argument("--json", action="store_true")
        _add_changing(verbs.add_parser("replay", help="run the jobs of letters again"))
        _add_changing(verbs.add_parser("drop", help="close letters for good"))
        _add_changing(verbs.add_parser("purge", help="delete resolved letters with their jobs"), needs_reason=False)
        verbs.choices["replay"].add_argument("--payload", metavar="JSON", help="other arguments, for one letter")

    def handle(self, *args: Any, verb: str, **options: Any) -> None:
        try:
            match verb:
                case "list":
                    self._list(options)
                case "show":
                    self._show(options)
                case _:
                    self._change(verb, options)
        except OperationalError as error:
            raise CommandError(f"PostgreSQL did not answer: {str(error).strip().splitlines()[0]}") from None
        except BrokenPipeError:
            # The reader, `head` say, has what it wanted; the interpreter must not try to flush the rest.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def _list(self, options: dict[str, Any]) -> None:
        letters = _found(options, status="open")
        if not options["json"]:
            showing.write_list(letters, self.stdout)
            return
        for letter in letters:
            self.stdout.write(json.dumps(showing.as_json(letter), ensure_ascii=False))

    def _show(self, options: dict[str, Any]) -> None:
        letter = DeadLetter.objects.select_related("job__key").filter(pk=options["letter"]).first()
        if letter is None:
            raise CommandError(f"There is no dead letter {options['letter']}.", returncode=NOTHING_MATCHED)
        told = showing.in_full(letter)
        if options["json"]:
            self.stdout.write(json.dumps(told, ensure_ascii=False, indent=2))
        else:
            showing.write_letter(told, self.stdout)

    def _change(self, verb: str, options: dict[str, Any]) -> None:
        refuse_without_choice(options)
        letters = _found(options, status="resolved" if verb == "purge" else "open")
        payload = _payload(options.get("payload"), letters)
        reason = _checked(options["reason"])
        if options["dry_run"]:
            tally = _preview(verb, letters)
        else:
            _confirm(verb, len(letters), yes=options["yes"])
            tally = _act(verb, letters, reason, payload)
        self._report(verb, tally, options)

    def _report(self, verb: str, tally: Tally, options: dict[str, Any]) -> None:
        jobs = {"jobs": tally.jobs} if isinstance(tally, purge.Purged) else {}
        if options["json"]:
            told = {"verb": verb, "dry_run": options["dry_run"], "done": tally.done, "skipped": tally.skipped, **jobs}
            self.stdout.write(json.dumps(told, ensure_ascii=False, indent=2))
        else:
            did = {"replay": "replayed", "drop": "dropped", "purge": "purged"}[verb]
            self.stdout.write(f"{'would be ' if options['dry_run'] else ''}{did}: {len(tally.done):,}")
            for name, number in jobs.items():
                self.stdout.write(f"{name} deleted with them: {number:,}")
            for why in tally.skipped.values():
                self.stderr.write(why)
        if tally.skipped:
            raise CommandError(f"{len(tally.skipped):,} of {len(tally.done) + len(tally.skipped):,} were skipped.")


def _add_changing(parser: ArgumentParser, *, needs_reason: bool = True) -> None:
    add_filters(parser, limit=None)
    parser.add_argument(
        "--reason", required=needs_reason, default="", help="kept with the letter and in the audit trail"
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would happen, change nothing")
    parser.add_argument("--yes", action="store_true", help="change more than one letter without asking")
    parser.add_argument("--json", action="store_true")


def _found(options: dict[str, Any], *, status: str) -> list[DeadLetter]:
    """Exactly the letters that were chosen; a number nobody has is refused before anything is done."""
    letters = list(chosen(options, status=status))
    unknown = set(options["letters"]) - {letter.pk for letter in letters}
    if unknown and options["limit"] is None:
        numbers = ", ".join(map(str, sorted(unknown)))
        raise CommandError(f"No dead letter matches with number {numbers}.", returncode=NOTHING_MATCHED)
    if not letters:
        raise CommandError("No dead letter matches.", returncode=NOTHING_MATCHED)
    return letters


def _payload(text: str | None, letters: list[DeadLetter]) -> Any:
    """The edited payload, checked before anything happens, so that --dry-run tells the truth about it too."""
    if text is None:
        return None
    if len(letters) != 1:
        raise CommandError(f"--payload is for one letter; {len(letters)} match.", returncode=USAGE)
    try:
        return draft(letters[0].task, json.loads(text)).payload
    except (ValueError, RecursionError) as error:
        raise CommandError(f"--payload is not JSON: {error}", returncode=USAGE) from None
    except InvalidJob as error:
        raise CommandError(f"{error}; nothing was changed.", returncode=USAGE) from None


def _checked(reason: str) -> str:
    try:
        return check_text(reason, field="--reason", limit=REASON_LIMIT)
    except InvalidJob as error:
        raise CommandError(str(error), returncode=USAGE) from None


def _preview(verb: str, letters: list[DeadLetter]) -> Tally:
    whys = {letter.pk: WHY_NOT[verb](letter) for letter in letters}
    skipped = {pk: f"Dead letter {pk}: {why}." for pk, why in whys.items() if why}
    return Tally([pk for pk in whys if pk not in skipped], skipped)


def _confirm(verb: str, count: int, *, yes: bool) -> None:
    if count <= 1 or yes:
        return
    if not sys.stdin.isatty():
        raise CommandError(f"This would {verb} {count:,} dead letters: say --yes, or try --dry-run.", returncode=USAGE)
    if input(f"{verb.capitalize()} {count:,} dead letters? [y/N] ").strip().lower() not in ("y", "yes"):
        raise CommandError("Nothing was changed.")


def _act(verb: str, letters: list[DeadLetter], reason: str, payload: Any) -> Tally:
    # In the order in which they failed.
    letters = letters[::-1]
    actor = _actor()
    match verb:
        case "drop":
            return drop.drop_all(letters, actor=actor, reason=reason)
        case "purge":
            return purge.purge(letters, actor=actor, reason=reason)
    return on_each(
        letters,
        lambda letter: replay.replay(letter, actor=actor, reason=reason, payload=payload),
        refusals=resolution.REFUSALS,
    )


def _actor() -> str:
    """Who is at the keyboard, for the audit trail; a container's user may have no name."""
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):
        return f"cli:{os.getuid()}"
