"""Where the pipeline may read and write: files below PIPELINE_ROOTS, named by URL."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import SplitResult, unquote, urlsplit

from django.conf import settings

from jobs.effects import RunningJob
from jobs.errors import Abandon

# What opens files is loaded when the first one is opened: most workers run no pipeline.
if TYPE_CHECKING:
    import fsspec

# What fsspec can open besides could reach beyond the roots: other hosts, archives, chained URLs.
SCHEMES = ("file", "memory", "s3")
FORMATS = (".csv", ".jsonl", ".ndjson")


def checked(url: str) -> str:
    """The URL, if its text stays below a root; raises ValueError saying what is allowed."""
    path = _path(url)
    if PurePosixPath(path).suffix.lower() not in FORMATS:
        raise ValueError(f"{url!r} must end in {', '.join(FORMATS[:-1])} or {FORMATS[-1]}")
    if not any(_is_below(path, root) for root in _roots(url)):
        allowed = ", ".join(settings.PIPELINE_ROOTS) or "nothing, until PIPELINE_ROOTS lists a URL"
        raise ValueError(f"{url!r} is outside of what PIPELINE_ROOTS allows: {allowed}")
    return url


@dataclass(frozen=True)
class Place:
    """One end of the pipeline. `field` is the argument that named it; every refusal names it too."""

    field: str
    url: str

    def is_same_as(self, other: "Place") -> bool:
        return (self._scheme, self.path) == (other._scheme, other.path)

    @property
    def suffix(self) -> str:
        return PurePosixPath(_path(self.url)).suffix.lower()

    @cached_property
    def path(self) -> str:
        """What the filesystem opens. For files no link is left in it, and it was checked again without them."""
        path = _path(self.url)
        if self._scheme != "file":
            return path
        real = str(Path(path).resolve())
        if not any(_is_below(real, str(Path(root).resolve())) for root in _roots(self.url)):
            raise Abandon(f"{self.field}: {self.url} leads out of PIPELINE_ROOTS through a link.")
        return real

    @contextmanager
    def reading(self) -> Iterator[tuple[BinaryIO, int]]:
        """The file opened, and its size in bytes."""
        try:
            about = self._files.info(self.path)
        except FileNotFoundError:
            raise Abandon(f"{self.field}: {self.url} does not exist; check the URL, then replay this job.") from None
        if about["type"] != "file":
            raise Abandon(f"{self.field}: {self.url} is not a file.")
        with self._files.open(self.path, "rb") as file:
            yield file, about["size"]

    @contextmanager
    def writing(self, job: RunningJob) -> Iterator[BinaryIO]:
        """A file to write to; the place changes only when the block ends without an error."""
        from jobs.tasks.publishing import published

        if self._files.isdir(self.path):
            raise Abandon(f"{self.field}: {self.url} is a folder.")
        with published(self._files, self.path, job) as file:
            yield file

    @property
    def _scheme(self) -> str:
        return urlsplit(self.url).scheme

    @cached_property
    def _files(self) -> "fsspec.AbstractFileSystem":
        import fsspec

        try:
            return fsspec.filesystem(self._scheme)
        except ImportError as error:
            raise Abandon(
                f"{self.field}: {self._scheme} URLs cannot be opened here. {error}, then replay this job."
            ) from None


def _path(url: str) -> str:
    """The path a URL names, in the form it will be opened in; raises ValueError for a URL with two readings."""
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES:
        raise ValueError(f"{url!r} must be a URL that starts with {', '.join(f'{name}://' for name in SCHEMES)}")
    path = _file_path(parts) if parts.scheme == "file" else _object_path(parts)
    if not (url.isprintable() and path.isprintable()) or "\\" in path or "::" in path:
        raise ValueError(f"{url!r} contains a character that is not allowed here")
    if parts.query or parts.fragment:
        raise ValueError(f"{url!r} must be a plain path, without ? or #")
    if any(name in ("", ".", "..") for name in path.split("/")[1:]):
        raise ValueError(f"{url!r} must not contain '.', '..' or empty path segments")
    return path


def _file_path(parts: SplitResult) -> str:
    """A file URL's path, decoded once; nothing decodes it again."""
    if parts.netloc not in ("", "localhost"):
        raise ValueError(f"{parts.geturl()!r} must name a file of this machine, like file:///path/to/file.csv")
    if "%2f" in parts.path.lower():
        raise ValueError(f"{parts.geturl()!r} must not contain an encoded slash")
    return unquote(parts.path, errors="strict")


def _object_path(parts: SplitResult) -> str:
    if "@" in parts.netloc or "%" in parts.netloc + parts.path:
        raise ValueError(f"{parts.geturl()!r} must contain neither credentials nor percent-encoding")
    return f"/{parts.netloc}{parts.path}"


def _roots(url: str) -> list[str]:
    """The paths of those PIPELINE_ROOTS that share the URL's scheme."""
    scheme = urlsplit(url).scheme
    found = [root.partition("://") for root in settings.PIPELINE_ROOTS]
    return ["/" + unquote(path).strip("/") for name, _, path in found if name == scheme]


def _is_below(path: str, root: str) -> bool:
    return path.startswith(root if root == "/" else root + "/")
