"""What the long trials of tests/nightly share: where programs are, and one line a piece of work in tests/results/faults.jsonl,
by which a later run of the same revision knows what is done."""
import json
import os
import pathlib
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARIES = ROOT / "build/release/bin"
CUDA_BINARIES = ROOT / "build/cuda/bin"
RESULTS = ROOT / "tests/results/faults.jsonl"
ENVIRONMENT = {**os.environ, "DM_NIGHTLY": "1", "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
               "OMPI_MCA_rmaps_base_oversubscribe": "1"}


def revision():
    """That was built: changes that are not committed make another one of it."""
    words = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


REVISION = os.environ.get("DM_REVISION") or revision()


def is_done(row, test, seed=0):
    if not RESULTS.exists():
        return False
    wanted = {"row": row, "test": test, "seed": seed, "revision": REVISION, "outcome": "ok"}
    return any(wanted.items() <= json.loads(line).items() for line in RESULTS.read_text().splitlines())


def record(row, test, how, trials, outcome, seed=0):
    line = {"row": row, "test": test, "how": how, "trials": trials, "outcome": outcome, "seed": seed, "revision": REVISION,
            "date": time.strftime("%Y-%m-%d")}
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("a") as file:
        print(json.dumps(line), file=file)
    print(f"row {row}: {test} {seed or ''}: {trials} trials, {outcome}", flush=True)
    return outcome == "ok"
