"""What is installed, under which licence, and which faults of it PyPI knows."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import Distribution, distributions
from typing import Any

import httpx

INDEX = "https://pypi.org"
PATIENCE_SECONDS = 20.0


@dataclass(frozen=True, order=True)
class Package:
    name: str
    version: str
    licence: str = ""


@dataclass(frozen=True)
class Audit:
    """Faults as text, and the packages about which the index said nothing."""

    faults: list[str]
    unanswered: list[Package]


def installed() -> list[Package]:
    return sorted({Package(each.name.lower(), each.version, licence(each)) for each in distributions()})


def licence(package: Distribution) -> str:
    """As the package itself says: an SPDX expression, else its classifiers, else the first line of free text."""
    about: Any = package.metadata
    if expression := about.get("License-Expression"):
        return str(expression)
    classifiers = [
        each.split(" :: ")[-1] for each in about.get_all("Classifier") or [] if each.startswith("License ::")
    ]
    return ", ".join(classifiers) or (about.get("License") or "not stated").splitlines()[0]


def audit(packages: Sequence[Package], index: str = INDEX) -> Audit:
    """Ask an index with PyPI's JSON API about each package in its version."""
    with httpx.Client(timeout=PATIENCE_SECONDS, follow_redirects=True) as client, ThreadPoolExecutor(8) as asking:
        answers = list(asking.map(lambda package: _faults(client, index.rstrip("/"), package), packages))
    told = list(zip(packages, answers, strict=True))
    faults = [f"{package.name} {package.version}: {fault}" for package, found in told for fault in found or ()]
    return Audit(faults, [package for package, found in told if found is None])


def _faults(client: httpx.Client, index: str, package: Package) -> list[str] | None:
    """Those that were not withdrawn; None when the index does not answer, or does not know the package."""
    try:
        found = client.get(f"{index}/pypi/{package.name}/{package.version}/json").raise_for_status().json()
        return [_described(each) for each in found["vulnerabilities"] if not each.get("withdrawn")]
    except (httpx.HTTPError, ValueError, LookupError, TypeError):
        return None


def _described(fault: dict[str, Any]) -> str:
    fixed = ", ".join(fault.get("fixed_in") or ())
    remedy = f"fixed in {fixed}" if fixed else "no fixed version"
    return f"{fault['id']} ({remedy}) {fault.get('summary') or ''}".rstrip()
