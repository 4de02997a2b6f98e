"""Small tokenizers of every kind that `prepare --tokenizer` takes, and the ids that the Python packages give a text.

    tokenizer_fixtures.py FOLDER            make the files
    tokenizer_fixtures.py FOLDER --check    make the ids again with the stored tokenizers and compare
"""
import json
import pathlib
import sys
import tempfile

import numpy
import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from sample_text import make_text

LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
GPT4O = "|".join([
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"\p{N}{1,3}", r" ?[^\s\p{L}\p{N}]+[\r\n/]*", r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+"])
DEEPSEEK = (r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def split(pattern, behavior="isolated", invert=False):
    return pre_tokenizers.Split(Regex(pattern), behavior, invert)


def bytes_only():
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)


def gpt2():
    return {"pre": pre_tokenizers.ByteLevel(add_prefix_space=False), "special": ["<|endoftext|>"]}


def roberta():
    return {"pre": pre_tokenizers.ByteLevel(add_prefix_space=True),
            "special": ["</s>", AddedToken("<mask>", lstrip=True, rstrip=True, special=True)]}


def neox():
    blanks = [AddedToken(" " * n, normalized=True, special=False) for n in range(24, 1, -1)]
    return {"nfc": True, "pre": pre_tokenizers.ByteLevel(add_prefix_space=False),
            "special": ["<|endoftext|>", "|||EMAIL|||"], "added": blanks + [AddedToken("é<x>é", normalized=True, special=False)]}


def llama3():
    return {"pre": pre_tokenizers.Sequence([split(LLAMA3), bytes_only()]), "special": ["<|end_of_text|>", "<|im_start|>"], "ignore_merges": True}


def qwen2():
    return {"nfc": True, "pre": pre_tokenizers.Sequence([split(QWEN2), bytes_only()]), "special": ["<|endoftext|>", "<|im_start|>"]}


def gpt4o():
    return {"pre": pre_tokenizers.Sequence([split(GPT4O, "removed", True), bytes_only()]), "special": ["<|endoftext|>"]}


def starcoder():
    return {"pre": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]),
            "special": ["<|endoftext|>"]}


def deepseek():
    return {"pre": pre_tokenizers.Sequence([split(r"\p{N}{1,3}"), split("[一-龥぀-ゟ゠-ヿ]+"), split(DEEPSEEK), bytes_only()]),
            "special": ["<|endoftext|>"]}


BYTE_LEVEL = [gpt2, roberta, neox, llama3, qwen2, gpt4o, starcoder, deepseek]


def train_byte_level(kind, text):
    tokenizer = Tokenizer(models.BPE(ignore_merges=kind.get("ignore_merges", False)))
    if kind.get("nfc"):
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = kind["pre"]
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=700, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False,
                                  special_tokens=kind["special"][:1])
    tokenizer.train_from_iterator(text.splitlines(keepends=True), trainer)
    tokenizer.add_special_tokens(kind["special"])
    tokenizer.add_tokens(kind.get("added", []))
    return tokenizer


def train_sentencepiece(text, folder, **options):
    source = folder / "text.txt"
    source.write_text("\n".join(line[:2000] for line in text.splitlines() if "\0" not in line))
    sentencepiece.SentencePieceTrainer.train(input=str(source), model_prefix=str(folder / "m"), minloglevel=2, num_threads=1, **options)
    return (folder / "m.model").read_bytes()


SENTENCEPIECE = {
    "unigram": {"model_type": "unigram", "vocab_size": 900, "character_coverage": 0.99},
    "llama": {"model_type": "bpe", "vocab_size": 1200, "byte_fallback": True, "normalization_rule_name": "identity", "split_digits": True,
              "remove_extra_whitespaces": False, "character_coverage": 0.99},
}


def ids_of(path, text):
    if path.suffix == ".model":
        return sentencepiece.SentencePieceProcessor(model_file=str(path)).encode(text)
    return Tokenizer.from_file(str(path)).encode(text, add_special_tokens=False).ids


def make(folder):
    folder.mkdir(parents=True, exist_ok=True)
    training = make_text(1, 400_000).decode("utf-8", "replace")
    (folder / "sample.txt").write_bytes(make_text(2, 24_000) + make_text(3, 4_000, blanks=False))
    for kind in BYTE_LEVEL:
        tokenizer = train_byte_level(kind(), training)
        compact = json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False, separators=(",", ":"))
        (folder / f"{kind.__name__}.json").write_text(compact + "\n")
    for name, options in SENTENCEPIECE.items():
        with tempfile.TemporaryDirectory() as temporary:
            (folder / f"{name}.model").write_bytes(train_sentencepiece(training, pathlib.Path(temporary), **options))
    for path in tokenizers_in(folder):
        ids(folder, path).tofile(path.with_suffix(".ids"))


def tokenizers_in(folder):
    return sorted(path for path in folder.iterdir() if path.suffix in (".json", ".model"))


def ids(folder, path):
    text = (folder / "sample.txt").read_bytes().decode("utf-8", "replace")
    return numpy.array(ids_of(path, text), dtype="<u2")


def check(folder):
    bad = 0
    for path in tokenizers_in(folder):
        same = numpy.array_equal(ids(folder, path), numpy.fromfile(path.with_suffix(".ids"), dtype="<u2"))
        print(f"{path.name}: {'the same ids' if same else 'OTHER IDS than stored'}")
        bad += not same
    return bad


if __name__ == "__main__":
    where = pathlib.Path(sys.argv[1])
    if sys.argv[2:] == ["--check"]:
        sys.exit(1 if check(where) else 0)
    make(where)
