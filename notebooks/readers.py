"""Every table of an export is read alike by polars, pyarrow and DuckDB: rows, columns, and the sum of each number.

    readers.py EXPORT..
"""

import sys
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

NUMBERS = (pl.UInt32, pl.UInt64, pl.Int64)


def by_polars(path: Path, numbers: list[str]) -> list:
    sums = pl.scan_parquet(path).select(pl.len().alias("rows"), *(pl.col(name).cast(pl.Int128).sum() for name in numbers))
    return [int(value) for value in sums.collect().row(0)]


def by_pyarrow(path: Path, numbers: list[str]) -> list:
    table = pq.read_table(path)
    return [table.num_rows, *(int(pc.sum(table[name].cast(pa.decimal128(38, 0))).as_py() or 0) for name in numbers)]


def by_duckdb(path: Path, numbers: list[str]) -> list:
    sums = ", ".join(f'coalesce(sum("{name}"::HUGEINT), 0)' for name in numbers)
    (row,) = duckdb.sql(f"SELECT count(*), {sums or 0} FROM '{path}'").fetchall()
    return [int(value) for value in row[: 1 + len(numbers)]]


def main() -> None:
    for export in map(Path, sys.argv[1:]):
        tables = sorted(export.glob("*.parquet"))
        assert tables, f"no table in {export}"
        rows = 0
        for path in tables:
            schema = pl.read_parquet_schema(path)
            assert list(schema) == pq.read_schema(path).names == duckdb.sql(f"SELECT * FROM '{path}'").columns, path
            numbers = [name for name, dtype in schema.items() if dtype in NUMBERS]
            read = by_polars(path, numbers)
            assert read == by_pyarrow(path, numbers) == by_duckdb(path, numbers), path
            rows += read[0]
        print(f"{export.name}: {len(tables)} tables, {rows} rows: polars, pyarrow and DuckDB agree")


if __name__ == "__main__":
    main()
