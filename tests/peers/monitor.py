"""A run's event files read by TensorBoard itself, and its report by a browser.

    monitor.py DIFFMAMBA

Trains two small runs, one of them in two attempts. Needs `chromium` on the PATH (Debian: apt-get install chromium).
"""
import json
import math
import pathlib
import random
import re
import shutil
import subprocess
import sys
import tempfile

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util import tensor_util

WORDS = "the model reads a long story of rivers and mountains while two branches differ slowly under northern light".split()


def call(*words):
    return subprocess.run([str(word) for word in words], check=True, capture_output=True, text=True)


def train(diffmamba, folder, name, steps, **more):
    options = {"data": folder / "data/train", "eval-data": folder / "data/heldout", "eval-every": 10, "run-dir": folder / name, "pattern": "DMD", "d-model": 32, "d-state": 16,
               "head-dim": 16, "head-dim-plain": 32, "length": 64, "global-batch": 6, "threads": 1, "schedule": "constant", "steps": steps, "telemetry-every": 5, **more}
    call(diffmamba, "train", *(word for option, value in options.items() for word in (f"--{option}", value)))


def check(what, good):
    print(f"{what}{'' if good else '  WRONG'}")
    return good


def events(run):
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    accumulator = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0, "histograms": 0, "tensors": 0})
    accumulator.Reload()
    tags = accumulator.Tags()
    good = True
    for key in ("loss", "lr", "gradient_norm", "tokens_per_second", "tokens_seen"):
        expected = [(line["step"], line[key]) for line in metrics if "loss" in line]
        found = [(scalar.step, scalar.value) for scalar in accumulator.Scalars(f"train/{key}")]
        good &= check(f"train/{key}: {len(found)} scalars of {len(expected)}", len(found) == len(expected)
                      and all(a[0] == b[0] and math.isclose(a[1], b[1], rel_tol=1e-6) for a, b in zip(expected, found)))
    held = [(scalar.step, scalar.value) for scalar in accumulator.Scalars("eval/nats_per_token")]
    expected = [(line["step"], line["eval"]["nats_per_token"]) for line in metrics if "eval" in line]
    good &= check(f"eval/nats_per_token after {[step for step, _ in held]}", [s for s, _ in held] == [s for s, _ in expected])
    telemetry = [line for line in metrics if "difference" in line]
    histograms = accumulator.Histograms("lambda over the layers")
    for histogram, line in zip(histograms, telemetry, strict=True):
        lambdas, value = [layer["lambda"] for layer in line["difference"]], histogram.histogram_value
        good &= math.isclose(value.min, min(lambdas)) and math.isclose(value.max, max(lambdas)) and value.num == len(lambdas) == sum(value.bucket)
    good &= check(f"{len(histograms)} histograms of λ", len(histograms) > 0)
    texts = [tensor_util.make_ndarray(event.tensor_proto)[0].decode() for event in accumulator.Tensors("config")] if "config" in tags["tensors"] else []
    return check(f"{len(texts)} texts of the options", any("    d_model = 32" in text for text in texts)) and good


def report(diffmamba, folder):
    page = folder / "report.html"
    call(diffmamba, "report", folder / "a", folder / "b", "--output", page)
    browser = shutil.which("chromium")
    if browser is None:
        sys.exit("chromium is not on the PATH; Debian: apt-get install chromium")
    shown = call(browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1320,2400", "--dump-dom", f"file://{page}").stdout
    charts, paths = shown.count("<svg"), re.findall(r'<path d="M([^"]+)"', shown)
    good = check(f"the report has {charts} charts", charts >= 10)
    good &= check(f"{len(paths)} curves, none of them with a number that is none", len(paths) >= 10 and not any("NaN" in path or "Infinity" in path for path in paths))
    return check("it lists the option that differs", "optimizer.lr" in shown) and good


def main():
    diffmamba = sys.argv[1]
    random.seed(3)
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        (folder / "text").write_text("\n\n".join(" ".join(random.choices(WORDS, k=random.randint(20, 80))) for _ in range(400)))
        call(diffmamba, "prepare", "--input", folder / "text", "--output", folder / "data", "--documents", "blank-line", "--heldout", "0.1")
        train(diffmamba, folder, "a", 15)
        train(diffmamba, folder, "a", 30)  # goes on
        train(diffmamba, folder, "b", 30, lr=2e-3)
        sys.exit(0 if all([events(folder / "a"), events(folder / "b"), report(diffmamba, folder)]) else 1)


if __name__ == "__main__":
    main()
