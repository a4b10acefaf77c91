"""Files of one record a line, plain or gzipped, parsed by a process pool with bounded memory.

One process decompresses and cuts the text into chunks of whole lines; the others parse them. Few chunks are
under way at once, results are taken in file order, and the first bad line ends it all.
"""

from __future__ import annotations

import gzip
import multiprocessing
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from data_scripts._errors import PreparationError

CHUNK = 4 << 20  # bytes of decompressed text parsed at once
LONGEST_LINE = 64 << 20  # bytes; a longer "line" is another kind of file

# one line -> one row, or None for a line that is no record; raises ValueError with the reason
Parser = Callable[[bytes], tuple | None]


def parsing_pool(workers: int) -> Executor:
    """The parsing processes, for one file after the other; one alone is a thread of this process."""
    if workers == 1:
        return ThreadPoolExecutor(1)
    # Spawned, not forked: the caller may hold threads (DuckDB, a notebook), which a fork would copy half-alive.
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))


def parse_lines(
    path: Path, parser: Parser, schema: pa.Schema, target: Path, pool: Executor, ahead: int, end: bytes = b""
) -> int:
    """Parse every line of a file to a parquet file, one row a record, in file order; blank lines are none.

    Args:
        path: the file, gzipped where its name ends in .gz.
        parser: a top-level function from one line to a tuple of values in the order of ``schema``.
        schema: columns of the result.
        target: the parquet file to write.
        pool: the parsing processes.
        ahead: how many chunks may be under way, waiting ones included.
        end: what the last line must end with, in a format that says so.

    Returns:
        The number of rows.

    Raises:
        PreparationError: not gzip, truncated, damaged, empty, or a line the parser refuses (named by number).
    """
    rows, tail = 0, b""
    with pq.ParquetWriter(target, schema) as writer:
        pending: deque[Future[pa.RecordBatch]] = deque()
        try:
            for first_line, chunk in _chunks(path):
                tail = (chunk.rstrip() or tail)[-len(end) :]
                pending.append(pool.submit(_parse_chunk, str(path), first_line, chunk, parser, schema))
                if len(pending) > ahead:
                    rows += _write(writer, pending.popleft())
            while pending:
                rows += _write(writer, pending.popleft())
        finally:
            for waiting in pending:
                waiting.cancel()
    if not tail.endswith(end):
        raise PreparationError(f"{path}: does not end with {end.decode()}, so it is truncated; fetch it again")
    if rows == 0:
        raise PreparationError(f"{path}: empty, not a single record; fetch it again")
    return rows


def _write(writer: pq.ParquetWriter, parsed: Future[pa.RecordBatch]) -> int:
    batch = parsed.result()
    writer.write_batch(batch)
    return batch.num_rows


def _chunks(path: Path) -> Iterator[tuple[int, bytes]]:
    """Pairs of (1-based number of the first line, whole lines)."""
    line, rest = 1, b""
    try:
        with (
            path.open("rb") as raw,
            gzip.GzipFile(fileobj=raw) if path.suffix.lower() == ".gz" else nullcontext(raw) as text,
            tqdm(total=path.stat().st_size, unit="B", unit_scale=True, desc=path.name, disable=None) as bar,
        ):
            while block := text.read(CHUNK):
                bar.update(raw.tell() - bar.n)
                end = block.rfind(b"\n") + 1
                if end == 0:
                    rest += block
                    if len(rest) > LONGEST_LINE:
                        raise PreparationError(
                            f"{path}, line {line}: longer than {LONGEST_LINE:,} bytes; this is not one record a line"
                        )
                    continue
                chunk, rest = rest + block[:end], block[end:]
                yield line, chunk
                line += chunk.count(b"\n")
    except gzip.BadGzipFile as error:
        raise PreparationError(
            f"{path}, near line {line}: not a sound gzip file ({error}); delete it and fetch it again"
        ) from error
    except EOFError as error:
        raise PreparationError(
            f"{path}, near line {line}: the gzip file is truncated; delete it and fetch it again"
        ) from error
    except zlib.error as error:
        raise PreparationError(
            f"{path}, near line {line}: damaged gzip data ({error}); delete it and fetch it again"
        ) from error
    if rest:
        yield line, rest


def _parse_chunk(path: str, first_line: int, chunk: bytes, parser: Parser, schema: pa.Schema) -> pa.RecordBatch:
    rows = []
    for number, line in enumerate(chunk.split(b"\n"), first_line):
        if not line or line.isspace():
            continue
        try:
            row = parser(line)
        except ValueError as error:
            start = line[:80].decode("utf-8", "replace")
            raise PreparationError(f"{path}, line {number}: {error}. The line begins {start!r}") from None
        if row is not None:
            rows.append(row)
    columns = zip(*rows, strict=True) if rows else [()] * len(schema)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.record_batch(arrays, schema=schema)
