"""Under which account, and where, a root user's PostgreSQL runs: it refuses to run as root."""

import hashlib
import os
import pwd
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT_STATE = Path("/var/lib/switchyard")
SOCKET_PATH_LIMIT = 107


@dataclass(frozen=True)
class Account:
    uid: int
    gid: int

    def owns(self, path: Path) -> None:
        os.chown(path, self.uid, self.gid)

    def can_enter(self, directory: Path) -> bool:
        """Ask the kernel, by trying: modes alone do not know about access lists and mount options."""
        return self.can_run(["/bin/sh", "-c", 'cd "$1"', "sh", str(directory)])

    def can_run(self, command: list[str]) -> bool:
        try:
            return not subprocess.run(
                command, user=self.uid, group=self.gid, extra_groups=[], cwd="/", capture_output=True, check=False
            ).returncode
        except PermissionError:
            return False


def server_account(data: Path) -> Account | None:
    """The unprivileged account to use when we are root; None when we are not."""
    if os.geteuid() != 0:
        return None
    if data.exists() and (owner := data.stat()).st_uid != 0:
        return Account(owner.st_uid, owner.st_gid)
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    entry = known.get("postgres") or known["nobody"]
    return Account(entry.pw_uid, entry.pw_gid)


def reachable_home(directory: Path) -> Path:
    """The directory itself, or a stand-in under /var/lib when no account but root can get there."""
    directory = directory.absolute()
    account = server_account(directory / "data")
    if account is None:
        return directory
    directory.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
    return directory if account.can_enter(directory.parent) else _root_state() / _digest(str(directory))


def reachable_binaries(binaries: Path, account: Account) -> Path:
    """The program directory itself, or a copy that the account can reach."""
    if account.can_run([str(binaries / "postgres"), "--version"]):
        return binaries
    program = (binaries / "postgres").stat()
    copy = _root_state() / f"programs-{_digest(f'{binaries}:{program.st_size}:{program.st_mtime_ns}')}"
    # The wheel's libraries are found relative to the programs, so both keep their places.
    package = binaries.parent.parent
    if not copy.exists():
        draft = Path(tempfile.mkdtemp(dir=copy.parent))
        shutil.copytree(binaries.parent, draft / package.name / binaries.parent.name, symlinks=True)
        shutil.copytree(package.parent / f"{package.name}.libs", draft / f"{package.name}.libs", symlinks=True)
        draft.chmod(0o755)
        draft.replace(copy)
    return copy / package.name / binaries.parent.name / "bin"


def private_directory(path: Path, account: Account | None) -> Path:
    """Make a directory that only the server's account may enter; one of somebody else is refused."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if account and path.lstat().st_uid == 0:
        account.owns(path)
    owner = account.uid if account else os.geteuid()
    if path.is_symlink() or path.stat().st_uid != owner:
        raise PermissionError(f"{path} belongs to somebody else: remove it, or run as its owner.")
    return path


def socket_directory(home: Path, socket_name: str) -> Path:
    """A directory for a socket: a short one when the home is too deep for the kernel's limit."""
    direct = home / "run"
    if len(os.fsencode(direct / socket_name)) <= SOCKET_PATH_LIMIT:
        return direct
    return Path("/tmp") / f"switchyard-{_digest(str(home))}"


def _root_state() -> Path:
    ROOT_STATE.mkdir(parents=True, exist_ok=True)
    ROOT_STATE.chmod(0o755)
    return ROOT_STATE


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
