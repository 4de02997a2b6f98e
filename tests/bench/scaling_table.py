#!/usr/bin/env python3
"""The table of tests/bench/scaling from the JSON files of a folder."""
import glob
import json
import sys

folder = sys.argv[1]


def load(path):
    text = open(path).read()
    return json.loads(text) if text.strip() else None


steps = {}  # (what, model, axis, ranks)
for path in glob.glob(f"{folder}/step-*.json"):
    what, model, axis, ranks = path.rsplit("/", 1)[1][len("step-"):-len(".json")].split("-")
    if step := load(path):
        steps[what, model, axis, int(ranks)] = step

print("| | model | layout | tokens/s a rank | of one rank's | step ms | exposed reduction ms | exposed gather ms | GiB a rank |")
print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
for (what, model, axis, ranks), step in sorted(steps.items()):
    alone = steps.get((what, model, "dp", 1)) or steps.get(("data", model, "dp", 1))
    efficiency = f"{step['tokens_per_second'] / alone['tokens_per_second']:.1%}" if alone else "-"
    print(f"| {what} | {model} | {axis}{ranks} | {step['tokens_per_second']:,.0f} | {efficiency} | {step['median_ms']:.1f} | "
          f"{step['reduce_exposed_ms']:.2f} | {step['gather_exposed_ms']:.2f} | {step['peak_gib']:.1f} |")
for path in sorted(glob.glob(f"{folder}/exchange-*.json") + glob.glob(f"{folder}/plain-*.json")):
    for name, value in (load(path) or {}).items():
        if isinstance(value, dict):
            print(f"{path.rsplit('/', 1)[1][:-5]}: {name} {value['bus_gb_s']:.1f} GB/s ({value['ms']:.2f} ms)")
