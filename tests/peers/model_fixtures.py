"""Small models of transformers, with what its own classes answer, and this program's exports loaded by them.

    model_fixtures.py make FOLDER                 make FOLDER/{mamba2,mamba2_groups,mamba,original_mamba2}
    model_fixtures.py check FOLDER                compute the answers again and compare
    model_fixtures.py roundtrip FOLDER DIFFMAMBA  import each, export it again, and let transformers answer from that
"""
import contextlib
import json
import pathlib
import subprocess
import sys
import tempfile

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, Mamba2Config, Mamba2ForCausalLM, MambaConfig, MambaForCausalLM

PROMPT, GREEDY = 12, 20


def models():
    common = {"vocab_size": 101, "hidden_size": 64, "num_hidden_layers": 3, "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1, "initializer_range": 0.1}
    mamba2 = {**common, "num_heads": 8, "head_dim": 16, "state_size": 16, "expand": 2, "chunk_size": 16}
    yield "mamba2", Mamba2ForCausalLM(Mamba2Config(**mamba2, n_groups=1, tie_word_embeddings=True))
    yield "mamba2_groups", Mamba2ForCausalLM(Mamba2Config(**mamba2, n_groups=2, tie_word_embeddings=False, time_step_limit=(0.001, 0.5)))
    yield "mamba", MambaForCausalLM(MambaConfig(**common, state_size=8, tie_word_embeddings=False))


@contextlib.contextmanager
def everything_in_float64():
    """Inside, what the classes cast to float32 becomes float64: their formulas without rounding that matters."""
    real_to, real_float = torch.Tensor.to, torch.Tensor.float

    def to(tensor, *words, **named):
        named = {key: torch.float64 if value is torch.float32 else value for key, value in named.items()}
        return real_to(tensor, *(torch.float64 if word is torch.float32 else word for word in words), **named)

    torch.Tensor.to, torch.Tensor.float = to, lambda tensor: real_to(tensor, torch.float64)
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.Tensor.to, torch.Tensor.float = real_to, real_float
        torch.set_default_dtype(torch.float32)


def exact_logits(model, ids):
    """float64; the model is float64 afterwards."""
    model = model.double()
    with torch.no_grad(), everything_in_float64():
        return model(ids, use_cache=False).logits.contiguous()


def answers(model):
    """float32 on the CPU: logits of two rows, and greedy continuations of their beginnings."""
    ids = torch.randint(0, 101, (2, 45), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        greedy = ids[:, :PROMPT]
        for _ in range(GREEDY):
            greedy = torch.cat([greedy, model(greedy, use_cache=False).logits[:, -1:].argmax(-1)], 1)
        return {"input_ids": ids, "logits": model(ids, use_cache=False).logits.contiguous(), "greedy_ids": greedy}


def randomise(model):
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            noise = torch.randn(parameter.shape, generator=generator)
            if name.endswith("A_log"):
                parameter.copy_(torch.rand(parameter.shape, generator=generator) * 2)
            elif name.endswith(("norm.weight", "norm_f.weight", ".D")):
                parameter.copy_(1 + 0.2 * noise)
            elif parameter.dim() > 1:
                parameter.copy_(noise * 2 / parameter[0].numel() ** 0.5)
            else:
                parameter.copy_(0.5 * noise - (2 if "dt" in name else 0))


def make(folder):
    for name, model in models():
        randomise(model)
        model = model.float().eval()
        target = folder / name
        model.save_pretrained(target)
        expected = answers(model)
        save_file({**expected, "logits_f64": exact_logits(model, expected["input_ids"])}, target / "expected.safetensors")
    original(folder / "mamba2", folder / "original_mamba2")


def original(source, target):
    """The layout of state-spaces' own mamba2 models: other names, other keys, both copies of the tied matrix, a pickle in a zip."""
    target.mkdir(exist_ok=True)
    tensors = load_file(source / "model.safetensors")
    tensors["backbone.embedding.weight"] = tensors.pop("backbone.embeddings.weight")
    tensors["lm_head.weight"] = tensors["backbone.embedding.weight"]
    torch.save(tensors, target / "pytorch_model.bin")
    (target / "config.json").write_text(json.dumps({
        "d_model": 64, "d_intermediate": 0, "n_layer": 3, "vocab_size": 101, "ssm_cfg": {"layer": "Mamba2"}, "attn_layer_idx": [], "attn_cfg": {},
        "rms_norm": True, "residual_in_fp32": True, "fused_add_norm": True, "pad_vocab_size_multiple": 16, "tie_embeddings": True}, indent=2))
    (target / "expected.safetensors").write_bytes((source / "expected.safetensors").read_bytes())


def compare(name, expected, found):
    """The bound of tests/train/interchange_test.cpp; processors of another kind round float32 otherwise as well."""
    difference = ((expected["logits"] - found["logits"]).abs().max() / expected["logits"].abs().max()).item()
    same = torch.equal(expected["greedy_ids"], found["greedy_ids"])
    good = difference <= 1e-5 and same
    print(f"{name}: logits differ by {difference:.2g} of their largest, greedy ids {'equal' if same else 'DIFFER'}{'' if good else '  WRONG'}")
    return good


def check(folder):
    good = True
    for name, _ in models():
        expected, model = load_file(folder / name / "expected.safetensors"), AutoModelForCausalLM.from_pretrained(folder / name).float().eval()
        good &= compare(name, expected, answers(model))
        exact = exact_logits(model, expected["input_ids"])
        rounding, same = (expected["logits"] - exact).abs().max().item(), (expected["logits_f64"] - exact).abs().max().item() <= 1e-12
        print(f"{name}: its float32 logits are {rounding:.2g} from its float64 ones, which are {'those stored' if same else 'NOT those stored'}")
        good &= same
    return good


def roundtrip(folder, diffmamba):
    good = True
    for name in [*(name for name, _ in models()), "original_mamba2"]:
        with tempfile.TemporaryDirectory() as temporary:
            subprocess.run([diffmamba, "import", "--input", folder / name, "--output", f"{temporary}/run"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            subprocess.run([diffmamba, "export", "--checkpoint", f"{temporary}/run", "--output", f"{temporary}/hf"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            model = AutoModelForCausalLM.from_pretrained(f"{temporary}/hf").float().eval()
            good &= compare(f"{name}, imported and exported", load_file(folder / name / "expected.safetensors"), answers(model))
            if name != "original_mamba2":
                before, after = load_file(folder / name / "model.safetensors"), load_file(f"{temporary}/hf/model.safetensors")
                equal = before.keys() == after.keys() and all(torch.equal(before[k], after[k]) for k in before)
                print(f"{name}: tensors {'bit-equal' if equal else 'DIFFER'}")
                good &= equal
    return good


if __name__ == "__main__":
    where = pathlib.Path(sys.argv[2])
    if sys.argv[1] == "make":
        make(where)
    else:
        sys.exit(0 if (check(where) if sys.argv[1] == "check" else roundtrip(where, sys.argv[3])) else 1)
