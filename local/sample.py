"""Writes the sample: jobs of every task, and the file that one of them reads."""

import csv
import datetime
from pathlib import Path
from string import Template

TEMPLATE = Path(__file__).with_name("sample.jsonl")
CITIES = ("Lisbon", "Turku", "Graz", "Ghent", "Brno")
PEOPLE = 1000


def write_sample(state: Path, *, gateway_port: int) -> Path:
    """Return a job file for this run: its keys are new, so every `up` shows fresh jobs."""
    sandbox = state / "sandbox"
    sandbox.mkdir(exist_ok=True)
    write_people(sandbox / "people.csv")
    jobs = state / "sample.jsonl"
    run = f"sample-{datetime.datetime.now():%Y%m%dT%H%M%S}"
    gateway = f"http://127.0.0.1:{gateway_port}"
    template = Template(TEMPLATE.read_text())
    jobs.write_text(template.substitute(run=run, sandbox=sandbox.as_uri(), gateway=gateway))
    return jobs


def write_people(path: Path) -> None:
    first_day = datetime.date(2024, 1, 1)
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "name", "email", "city", "signed_up"])
        for number in range(1, PEOPLE + 1):
            day = first_day + datetime.timedelta(days=number % 365)
            city = CITIES[number % len(CITIES)]
            rows.writerow([number, f"Person {number}", f"person{number}@example.com", city, day])
