"""Read and write records as CSV or JSON Lines, one at a time."""

import csv
import io
import json
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, NoReturn

Record = dict[str, Any]
Numbered = Iterator[tuple[int, Record]]
# A file without line ends must not be read into memory whole.
LONGEST_LINE = 4 * 1024 * 1024


class Malformed(ValueError):
    """A line that is no record."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"line {line}: {reason}")


class Lines:
    """The lines of a UTF-8 file, and how many bytes of it have been read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = io.BufferedReader(file, io.DEFAULT_BUFFER_SIZE * 8)  # type: ignore[type-var]
        self.number = 0
        self.bytes_read = 0

    def __iter__(self) -> Iterator[str]:
        while raw := self._file.readline(LONGEST_LINE + 1):
            self.number += 1
            self.bytes_read += len(raw)
            text = self._decoded(raw)
            yield text.removeprefix("\ufeff") if self.number == 1 else text

    def _decoded(self, raw: bytes) -> str:
        if len(raw) > LONGEST_LINE:
            raise Malformed(self.number, f"is longer than {LONGEST_LINE} bytes")
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise Malformed(self.number, "is not UTF-8") from None


class Output:
    """Text in, UTF-8 bytes out, counted."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.bytes_written = 0

    def write(self, text: str) -> int:
        self.bytes_written += self._file.write(text.encode())
        return len(text)


def reader(suffix: str, lines: Lines) -> Numbered:
    """Every record with the number of the line it ends on; raises Malformed."""
    return _from_csv(lines) if suffix == ".csv" else _from_json_lines(lines)


def writer(suffix: str, output: Output) -> Callable[[Record], None]:
    """A function that writes one record; raises ValueError for one the format cannot hold."""
    return _CsvWriter(output) if suffix == ".csv" else _json_lines_writer(output)


def _from_csv(lines: Lines) -> Numbered:
    rows = _rows(lines)
    names = _column_names(*next(rows, (1, [])))
    for number, row in rows:
        if len(row) != len(names):
            raise Malformed(number, f"has {len(row)} fields, the header has {len(names)}")
        yield number, dict(zip(names, row, strict=True))


def _rows(lines: Lines) -> Iterator[tuple[int, list[str]]]:
    rows = csv.reader(lines, strict=True)
    try:
        for row in rows:
            if row:
                yield rows.line_num, row
    except csv.Error as error:
        raise Malformed(rows.line_num, str(error)) from None


def _column_names(number: int, names: list[str]) -> list[str]:
    if not names:
        raise Malformed(number, "a CSV file starts with a line of column names")
    if "" in names or len(set(names)) != len(names):
        raise Malformed(number, "column names must not be empty or occur twice")
    return names


def _from_json_lines(lines: Lines) -> Numbered:
    for text in lines:
        if text.strip():
            yield lines.number, _object(lines.number, text)


def _object(number: int, text: str) -> Record:
    try:
        found = _decode(text)
    except json.JSONDecodeError as error:
        raise Malformed(number, f"is not JSON ({error.msg} at column {error.colno})") from None
    except (ValueError, RecursionError) as error:
        raise Malformed(number, f"is not JSON ({error})") from None
    if not isinstance(found, dict):
        raise Malformed(number, f"must be a JSON object, not {type(found).__name__}")
    return found


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON number")


_decode = json.JSONDecoder(parse_constant=_refuse).decode
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def _json_lines_writer(output: Output) -> Callable[[Record], None]:
    def write(record: Record) -> None:
        output.write(_encode(record) + "\n")

    return write


class _CsvWriter:
    """Columns are the first record's fields. A later record may lack some; one more would be lost, and is refused."""

    def __init__(self, output: Output) -> None:
        self._rows = csv.writer(output, lineterminator="\n")
        self._names: list[str] = []

    def __call__(self, record: Record) -> None:
        if not self._names:
            self._names = _column_names(1, list(record))
            self._rows.writerow(self._names)
        if unknown := record.keys() - set(self._names):
            raise ValueError(f"has the field {min(unknown)!r}, which the first record lacks")
        self._rows.writerow([_cell(record.get(name)) for name in self._names])


def _cell(value: Any) -> str:
    """Text as it is, nothing for null, JSON for the rest."""
    if isinstance(value, str):
        return value
    return "" if value is None else _encode(value)
