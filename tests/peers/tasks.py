"""Log-likelihoods and accuracies of tasks, by this program and by transformers on what it exports.

    tasks.py make FOLDER                       the stored fixture: FOLDER/tasks.jsonl and its answers, by the model in FOLDER
    tasks.py check FOLDER                      computes those answers again and compares
    tasks.py compare DIFFMAMBA TOKENIZER_JSON [ITEMS]
                                               trains a small model, scores items with it, exports it, and scores them again; with a file of items,
                                               as launch/get_tasks makes them, the first forty of each task, too
"""
import json
import math
import pathlib
import random
import subprocess
import sys
import tempfile

import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

WORDS = "the model reads a long story of rivers and mountains while two branches differ slowly under northern light".split()


def made_up_items(count, seed):
    """Half choices, half cloze; some contexts end in spaces, one is empty."""
    draw = random.Random(seed)
    text = lambda low, high: " ".join(draw.choices(WORDS, k=draw.randint(low, high)))
    for i in range(count):
        context = "" if i == 5 else text(1, 25) + " " * (i % 7 == 3)
        space = "" if context.endswith(" ") or not context else " "
        if i % 2:
            yield {"task": "choices", "context": context, "choices": [space + text(1, 9) for _ in range(2 + i % 3)], "answer": i % 2}
        else:
            yield {"task": "cloze", "context": context, "target": space + text(1, 1)}


def score(model, encode, end, items):
    """Each continuation's log-likelihood and whether it is the greedy one, one row at a time."""
    answers = []
    for item in items:
        words = item["context"].rstrip()
        space = item["context"][len(words):]
        context, row = encode(words), []
        for continuation in item.get("choices") or [item["target"]]:
            ids = encode(words + space + continuation)
            begin = len(context)
            if begin == 0:
                ids, begin = [end] + ids, 1
            with torch.no_grad():
                logits = model(torch.tensor([ids]), use_cache=False).logits[0, begin - 1:-1]
            targets = torch.tensor(ids[begin:])
            row.append((torch.log_softmax(logits.double(), -1).gather(1, targets[:, None]).sum().item(), torch.equal(logits.argmax(-1), targets)))
        answers.append(row)
    return answers


def accuracies(items, answers):
    def most(values):
        return max(range(len(values)), key=values.__getitem__)

    tasks = {}
    for item, row in zip(items, answers):
        if "choices" in item:
            found = {"acc": most([likelihood for likelihood, _ in row]) == item["answer"],
                     "acc_norm": most([likelihood / len(choice.lstrip().encode()) for (likelihood, _), choice in zip(row, item["choices"])]) == item["answer"]}
        else:
            found = {"acc": row[0][1], "nats": -row[0][0]}
        for name, value in found.items():
            tasks.setdefault(item["task"], {}).setdefault(name, []).append(value)
    means = {task: {name: sum(values) / len(values) for name, values in found.items()} for task, found in tasks.items()}
    for found in means.values():
        if "nats" in found:
            found["perplexity"] = math.exp(found.pop("nats"))
    return means


def compare(ours, theirs, items):
    """`ours`: what `eval --items --json` writes; `theirs`: score(). 1e-4 a log-likelihood; an accuracy differs where two likelihoods are equal that far only."""
    worst = max(abs(a - b) for row, other in zip(ours["log_likelihoods"], theirs, strict=True) for a, (b, _) in zip(row, other, strict=True))
    good = worst <= 1e-4
    print(f"log-likelihoods of {len(items)} items differ by {worst:.2g} at most{'' if good else '  WRONG'}")
    for task, expected in accuracies(items, theirs).items():
        for name, value in expected.items():
            found = ours["tasks"][task][name]
            right = abs(found - value) <= (1e-3 if name.startswith("acc") else 1e-4 * value)
            print(f"{task} {name}: {found:.6g} and {value:.6g}{'' if right else '  WRONG'}")
            good &= right
    return good


def encode_for_fixture(text):
    """The fixture's model has 101 ids: a byte b is id 3 + b mod 97, id 2 ends a document."""
    return [3 + byte % 97 for byte in text.encode()]


def fixture_answers(folder, items):
    return score(AutoModelForCausalLM.from_pretrained(folder).float().eval(), encode_for_fixture, 2, items)


def with_likely_targets(model, items):
    """Every other cloze item whose most likely next id is a letter's gets it for its target."""
    for i, item in enumerate(items):
        if "target" in item and item["context"] and i % 4 == 0:
            with torch.no_grad():
                byte = model(torch.tensor([encode_for_fixture(item["context"].rstrip())]), use_cache=False).logits[0, -1].argmax().item() - 3
            item["target"] = chr(byte) if 33 <= byte else item["target"]
        yield item


def make(folder):
    items = list(with_likely_targets(AutoModelForCausalLM.from_pretrained(folder).float().eval(), made_up_items(24, 7)))
    answers = fixture_answers(folder, items)
    (folder / "tasks.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    (folder / "tasks_expected.json").write_text(json.dumps(
        {"log_likelihoods": [[likelihood for likelihood, _ in row] for row in answers], "tasks": accuracies(items, answers)}, indent=1) + "\n")


def check(folder):
    items = [json.loads(line) for line in (folder / "tasks.jsonl").read_text().splitlines()]
    return compare(json.loads((folder / "tasks_expected.json").read_text()), fixture_answers(folder, items), items)


def call(*words):
    subprocess.run([str(word) for word in words], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def first_of_each(path, count):
    taken = {}
    for line in pathlib.Path(path).read_text().splitlines():
        item = json.loads(line)
        taken[item["task"]] = taken.get(item["task"], 0) + 1
        if taken[item["task"]] <= count:
            yield item


def compare_program(diffmamba, tokenizer_json, file_of_items=None):
    tokenizer = Tokenizer.from_file(tokenizer_json)
    items = list(made_up_items(60, 11)) + (list(first_of_each(file_of_items, 40)) if file_of_items else [])
    with tempfile.TemporaryDirectory() as temporary:
        folder, draw = pathlib.Path(temporary), random.Random(3)
        (folder / "text").write_text("\n\n".join(" ".join(draw.choices(WORDS, k=draw.randint(20, 80))) for _ in range(300)))
        (folder / "tasks.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
        call(diffmamba, "prepare", "--input", folder / "text", "--output", folder / "data", "--documents", "blank-line", "--tokenizer", tokenizer_json)
        vocabulary = 64 * -(-tokenizer.get_vocab_size() // 64)  # padded, as is usual
        call(diffmamba, "train", "--run-dir", folder / "run", "--data", folder / "data/train", "--pattern", "MMM", "--d-model", 32, "--d-state", 16, "--head-dim", 16, "--head-dim-plain", 16,
             "--vocab-size", vocabulary, "--length", 64, "--global-batch", 4, "--steps", 40, "--lr", "1e-2", "--threads", 1)
        call(diffmamba, "eval", "--checkpoint", folder / "run", "--tasks", folder / "tasks.jsonl", "--items", "--json", folder / "ours.json")
        call(diffmamba, "export", "--checkpoint", folder / "run", "--output", folder / "hf")
        model = AutoModelForCausalLM.from_pretrained(folder / "hf").float().eval()
        ours = json.loads((folder / "ours.json").read_text())
        end = tokenizer.token_to_id("<|endoftext|>")
        return compare(ours, score(model, lambda text: tokenizer.encode(text, add_special_tokens=False).ids, end, items), items)


if __name__ == "__main__":
    if sys.argv[1] == "compare":
        sys.exit(0 if compare_program(*sys.argv[2:]) else 1)
    where = pathlib.Path(sys.argv[2])
    if sys.argv[1] == "make":
        make(where)
    else:
        sys.exit(0 if check(where) else 1)
