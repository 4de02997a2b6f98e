#!/usr/bin/env python3
"""The table of tests/bench/scaling from the JSON files of a folder."""
import glob
import json
import sys

folder = sys.argv[1]
steps = {}
for path in glob.glob(f"{folder}/step-*.json"):
    model, ranks = path.rsplit("/", 1)[1][5:-5].rsplit("-", 1)
    steps[model, int(ranks)] = json.load(open(path))
print("| model | ranks | tokens/s a rank | efficiency | step ms | exposed reduction ms | gather ms | GiB a rank |")
print("| --- | --- | --- | --- | --- | --- | --- | --- |")
for (model, ranks), step in sorted(steps.items()):
    alone = steps.get((model, 1))
    efficiency = f"{step['tokens_per_second'] / alone['tokens_per_second']:.1%}" if alone else "-"
    print(f"| {model} | {ranks} | {step['tokens_per_second']:,.0f} | {efficiency} | {step['median_ms']:.1f} | "
          f"{step['reduce_exposed_ms']:.2f} | {step['gather_ms']:.2f} | {step['peak_gib']:.1f} |")
for path in sorted(glob.glob(f"{folder}/exchange-*.json") + glob.glob(f"{folder}/plain-*.json")):
    text = open(path).read()
    if not text.strip():
        continue
    for name, value in json.loads(text).items():
        if isinstance(value, dict):
            print(f"{path.rsplit('/', 1)[1][:-5]}: {name} {value['bus_gb_s']:.1f} GB/s ({value['ms']:.2f} ms)")
