"""Compares two recordings of the same time, exported: which allocations and frees does only one have?

    agree.py EXPORT OTHER

Every CPU is compared within the time that both have of it: recorders begin and end at different
times, and not on all CPUs at once. The first and last 0.1 ms of that are left out, since text has
microseconds only.
"""

import json
import sys
from pathlib import Path

import polars as pl

MARGIN_NS = 100_000
SAME = ["kind", "pfn", "order", "gfp"]


def events(export: Path) -> pl.DataFrame:
    started_ns = json.loads(pl.read_parquet(export / "trace.parquet")["header"][0])["started_ns"]
    table = pl.scan_parquet(export / "events.parquet").with_columns(time_ns=started_ns + pl.col("dt_ns").cum_sum())
    return table.filter(pl.col("kind").is_in(["alloc", "free"])).select("time_ns", "cpu", *SAME).collect()


def on_cpu(cpu: int, one: pl.DataFrame, other: pl.DataFrame) -> dict:
    """Events in the common time of a CPU, and those that only one side has."""
    sides = [side.filter(pl.col("cpu") == cpu) for side in (one, other)]
    begin = max(side["time_ns"].min() for side in sides) + MARGIN_NS
    end = min(side["time_ns"].max() for side in sides) - MARGIN_NS
    here, there = (side.filter(pl.col("time_ns").is_between(begin, end)).group_by(SAME).len() for side in sides)
    both = here.join(there, on=SAME, how="full", coalesce=True, suffix="_other").fill_null(0)
    more = pl.col("len").cast(pl.Int64) - pl.col("len_other").cast(pl.Int64)
    only, only_other = both.select(more.clip(lower_bound=0).sum().alias("only"), (-more).clip(lower_bound=0).sum().alias("other")).row(0)
    return {"cpu": cpu, "seconds": (end - begin) / 1e9, "events": here["len"].sum(), "events_other": there["len"].sum(),
            "only": only, "only_other": only_other}


def main() -> None:
    one, other = (events(Path(path)) for path in sys.argv[1:3])
    cpus = sorted(set(one["cpu"]) & set(other["cpu"]))
    table = pl.DataFrame([on_cpu(cpu, one, other) for cpu in cpus])
    print(table)
    sys.exit(1 if table["only"].sum() + table["only_other"].sum() else 0)


if __name__ == "__main__":
    main()
