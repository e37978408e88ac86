"""A fleet of 20 recordings on a local Ray cluster of two workers, one of which is killed at a task:
nothing is lost and nothing doubled.

    FRAGSCOPE_REPLAY=PROGRAM fleet_test.py DIR

DIR receives the recordings (`traces`) and the results (`results`), which the notebook on fleets
shows.
"""

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import psutil
import ray

HOSTS = 20
WORKERS = 2
PROGRAM = os.environ["FRAGSCOPE_REPLAY"]
HERE = Path(__file__).parent
# Results after which a worker is killed: in the middle.
BEFORE_THE_KILL = 5


def make_traces(into: Path) -> None:
    """Short recordings of hosts that differ in size, load and seed."""
    for number in range(HOSTS):
        folder = into / f"host=db{number:02}" / "start=2026-01-01T00:00:00Z"
        folder.mkdir(parents=True)
        workload, memory_gib = ("headline-16g", "half-used")[number % 2], 2 + number % 2
        subprocess.run(
            [PROGRAM, "synth", "--workload", workload, "--memory", f"{memory_gib}G", "--duration", "0.5s", "--rate", str(4 * memory_gib),
             "--seed", str(number + 1), "--output", str(folder / "trace.fst")],
            check=True, capture_output=True,
        )


@contextmanager
def cluster():
    """A Ray cluster of its own, below this process. Gives its address."""
    context = ray.init(address="local", num_cpus=WORKERS, include_dashboard=False, log_to_driver=False, logging_level="error")
    try:
        yield context.address_info["gcs_address"]
    finally:
        ray.shutdown()


def at_a_task() -> list[psutil.Process]:
    """Workers of this cluster that are at a task: Ray names them after it."""
    below = psutil.Process().children(recursive=True)
    return [process for process in below if arguments(process)[:1] and arguments(process)[0].startswith("ray::replay")]


def arguments(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def results_in(out: Path) -> int:
    return len(list(out.glob("host=*/start=*/tracks.parquet")))


def kill_in_the_middle(fleet: subprocess.Popen, out: Path) -> int:
    """Kills one worker that is at a task after the first results. Returns how many results there were."""
    while fleet.poll() is None:
        workers = at_a_task() if results_in(out) >= BEFORE_THE_KILL else []
        if workers:
            workers[0].kill()
            return results_in(out)
        time.sleep(0.1)
    sys.exit(f"the fleet ended before a worker could be killed: {fleet.communicate()[1]}")


def fleet_command(traces: Path, out: Path, address: str) -> list[str]:
    return [sys.executable, str(HERE / "fleet.py"), str(traces), str(out), "--replay", PROGRAM, "--address", address]


def check(out: Path) -> None:
    """Every host has the same tracks, each once."""
    tracks = pl.read_parquet(out / "host=*/start=*/tracks.parquet", hive_partitioning=False)
    hosts = tracks.group_by("host").agg(rows=pl.len(), different=pl.struct("policy", "start", "seed").n_unique())
    assert hosts.height == HOSTS, hosts
    assert hosts["rows"].n_unique() == 1 and (hosts["rows"] == hosts["different"]).all(), hosts
    assert not list(out.rglob("*.tmp")), "an unfinished result was left"
    print(f"{HOSTS} recordings, {tracks.height} tracks: none lost, none doubled")


def main() -> None:
    folder = Path(sys.argv[1])
    traces, out = folder / "traces", folder / "results"
    make_traces(traces)
    with cluster() as address:
        fleet = subprocess.Popen(fleet_command(traces, out, address), stderr=subprocess.PIPE, text=True)
        there = kill_in_the_middle(fleet, out)
        said = fleet.communicate()[1]
        assert fleet.returncode == 0, said
        print(f"a worker was killed after {there} of {HOSTS} results")
        check(out)
        # A fleet that has all its results does nothing; one that lost some makes those anew.
        lost = sorted(out.glob("host=*/start=*/tracks.parquet"))[7]
        ages = {path: path.stat().st_mtime_ns for path in out.glob("host=*/start=*/tracks.parquet")}
        lost.unlink()
        subprocess.run(fleet_command(traces, out, address), check=True, stdout=subprocess.DEVNULL)
        again = {path for path, age in ages.items() if path.stat().st_mtime_ns != age}
        assert again == {lost}, again
    check(out)


if __name__ == "__main__":
    main()
