"""Replays the recordings of many hosts, one Ray task for each.

    fleet.py TRACES OUT [--replay PROGRAM] [--seeds N] [--address RAY]

TRACES holds `host=NAME/start=TIME/*.fst`, as a tree or as an object store that is mounted on every
node. OUT, reached by every node as well, receives `host=NAME/start=TIME/tracks.parquet` with one
row for each replay. A recording has one result file, which appears whole or not at all, so a task
that is run again (Ray does that when a worker dies) neither loses nor doubles anything, and a fleet
that was interrupted goes on where it stopped. Without an address Ray runs on this machine.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import ray

BOUNDS = ["free_1g", "evacuable_1g", "obtainable_1g", "tainted_1g"]
COUNTS = ["whole_1g", "floor_1g", "free_pages", "unmovable_pages", "moved_pages", "refused", "dropped_pages", "lost_events"]
# A task is tried again this often when its worker dies; errors of the replay itself are final.
RETRIES = 3


def key(trace: Path) -> tuple[str, str]:
    """Host and start of a recording, from its path."""
    parts = dict(part.split("=", 1) for part in trace.parts if "=" in part)
    return parts["host"], parts["start"]


def result_of(trace: Path, out: Path) -> Path:
    host, start = key(trace)
    return out / f"host={host}" / f"start={start}" / "tracks.parquet"


def rows(trace: Path, comparison: dict) -> list[dict]:
    """One row for each run of each track."""
    host, started = key(trace)
    span_ns = comparison["trace"]["duration_ns"]
    return [
        {"host": host, "started": started, "duration_ns": span_ns}
        | {name: run[name] for name in ("policy", "start", "seed")}
        | {f"{name}_{end}": run[name][end] for name in BOUNDS for end in ("min", "max")}
        | {name: run[name] for name in COUNTS}
        for track in comparison["tracks"]
        for run in track["runs"]
    ]


def replay(program: str, seeds: int, trace: Path, out: Path) -> str:
    """Replays one recording and writes its result. Returns an error, or nothing."""
    command = [program, "compare", str(trace), "--seeds", str(seeds), "--jobs", "1", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return done.stderr.strip() or f"{program}: exit status {done.returncode}"
    result = result_of(trace, out)
    result.parent.mkdir(parents=True, exist_ok=True)
    unfinished = result.with_suffix(f".{os.getpid()}.tmp")
    pl.DataFrame(rows(trace, json.loads(done.stdout)), infer_schema_length=None).write_parquet(unfinished)
    unfinished.rename(result)
    return ""


def run(traces: list[Path], out: Path, program: str, seeds: int) -> dict[Path, str]:
    """Replays what has no result yet, on the Ray that is connected. Returns errors by recording."""
    task = ray.remote(max_retries=RETRIES)(replay)
    todo = [trace for trace in traces if not result_of(trace, out).exists()]
    waiting = {task.remote(program, seeds, trace, out): trace for trace in todo}
    errors = {}
    while waiting:
        done, _ = ray.wait(list(waiting), num_returns=1)
        for reference in done:
            trace = waiting.pop(reference)
            try:
                error = ray.get(reference)
            except ray.exceptions.RayError as lost:
                error = f"{type(lost).__name__} after {RETRIES} more tries"
            if error:
                errors[trace] = error
            if sys.stderr.isatty():
                print(f"\r{len(todo) - len(waiting)} of {len(todo)} recordings", end="", file=sys.stderr)
    return errors


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("traces", type=Path)
    arguments.add_argument("out", type=Path)
    arguments.add_argument("--replay", default="fragscope-replay", help="the program")
    arguments.add_argument("--seeds", type=int, default=1, help="histories from boot to draw")
    arguments.add_argument("--address", help="of a Ray cluster; this machine if not given")
    typed = arguments.parse_args()
    traces = sorted(typed.traces.resolve().glob("host=*/start=*/*.fst"))
    if not traces:
        sys.exit(f"fleet.py: {typed.traces}: expected recordings host=NAME/start=TIME/*.fst below it, found none")
    twice = len(traces) - len({key(trace) for trace in traces})
    if twice:
        sys.exit(f"fleet.py: {typed.traces}: expected one recording for each host and start, found {twice} more")
    # "local" means: do not look for a cluster that happens to run here.
    own = {} if typed.address else {"include_dashboard": False}
    ray.init(address=typed.address or "local", log_to_driver=False, logging_level="error", **own)
    errors = run(traces, typed.out.resolve(), typed.replay, typed.seeds)
    for trace, error in errors.items():
        print(f"{trace}: {error}", file=sys.stderr)
    print(f"{len(traces) - len(errors)} of {len(traces)} recordings have a result in {typed.out}")
    sys.exit(1 if errors else 0)


if __name__ == "__main__":
    main()
