#pragma once
// What a model is: everything that determines its function and its parameters, and nothing about layout or
// speed.

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "core/fields.h"

namespace dm::model {

/// The forms of λ that `lambda` takes; lambda.h has them.
std::vector<std::string> lambda_form_names();
/// "M (plain mixer), D (differential), ...": the letters of `pattern`; layers/registry.h has them.
std::string layer_letters_help();

struct ModelConfig {
  std::string preset;  // resolved into the fields below before anything else is read; kept for the record
  std::string mixer = "mamba2";  // mamba2 | mamba1
  std::string pattern =
      "D*4";           // layer letters with repeats ("M*36 D*12", "(DDF)*6"), or all | alternate with layers
  int64_t layers = 0;  // number of layers for the patterns `all` and `alternate`; 0: as the pattern says
  int64_t d_model = 256;               // D
  int64_t vocab_size = 257;            // V; embeddings are stored as [V, D]
  int64_t d_state = 64;                // N
  int64_t head_dim = 32;               // P of a D layer (Mamba-2)
  int64_t head_dim_plain = 64;         // P of an M or S layer (Mamba-2)
  int64_t n_groups = 1;                // G, B/C groups of one mixer
  int64_t d_conv = 4;                  // W
  int64_t dt_rank = 0;                 // R of Mamba-1; 0: ceil(D / 16)
  int64_t chunk_size = 256;            // Q of the scan: changes nothing but rounding
  std::string lambda = "sigmoid_sum";  // a name of lambda_form_names()
  bool subln = true;
  std::string norm_group = "all";  // all | group
  std::string norm = "rms";        // rms | layer
  std::string block_norm = "pre";  // pre | post
  bool tied = true;                // LM head shares the embedding
  std::vector<std::string>
      cutoffs;         // words at which the adaptive softmax's clusters begin; none: the plain one
  bool packed = true;  // documents in one row do not see each other
  double norm_eps = 1e-5;
  double dropout = 0;            // of what each block adds to the residual stream
  double embedding_dropout = 0;  // of the embedded tokens
  double head_dropout = 0;       // of what the head reads
  std::string recompute = "auto";
  int64_t recompute_layers = 0;
  std::string residual_dtype = "f32";  // f32 | bf16, of the residual stream where activations are bf16
  std::string state_dtype = "bf16";    // bf16 | f32, of the scan's states that a GPU keeps
  double dt_limit_min = 0;             // clamp of softplus(dt + bias); 0 and 0: none
  double dt_limit_max = 0;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& v) {
    v("preset", self.preset, "named sizes, e.g. diffmamba2-tiny, mamba2-370m; other options override it");
    v("mixer", self.mixer, "state-space mixer", Choices{{"mamba2", "mamba1"}});
    v("pattern", self.pattern,
      ("layer letters: " + layer_letters_help() + "; repeats M*36 D*12, (DDF)*6; or all, alternate").c_str());
    v("layers", self.layers, "number of layers for the patterns all and alternate; 0 otherwise",
      Range{0, 4096});
    v("d_model", self.d_model, "width D of the residual stream", Range{1, 1 << 20});
    v("vocab_size", self.vocab_size, "vocabulary V", Range{1, 4294967296.0});
    v("d_state", self.d_state, "state size N of a head", Range{1, 4096});
    v("head_dim", self.head_dim, "head width P of a differential layer (Mamba-2)", Range{1, 4096});
    v("head_dim_plain", self.head_dim_plain, "head width P of a plain or differential-scan layer (Mamba-2)",
      Range{1, 4096});
    v("n_groups", self.n_groups, "B/C groups G of one mixer (Mamba-2)", Range{1, 4096});
    v("d_conv", self.d_conv, "width W of the causal convolution", Range{1, 16});
    v("dt_rank", self.dt_rank, "rank R of Mamba-1's step projection; 0: D/16 rounded up", Range{0, 1 << 20});
    v("chunk_size", self.chunk_size, "chunk of the scan; changes speed and rounding only", Range{1, 65536},
      Affects::speed);
    v("lambda", self.lambda, "form of the differential weight", Choices{lambda_form_names()});
    v("subln", self.subln, "normalise the difference of a D or S layer");
    v("norm_group", self.norm_group, "span of the gated norm: the whole branch, or each B/C group's channels",
      Choices{{"all", "group"}});
    v("norm", self.norm, "norm of the residual stream", Choices{{"rms", "layer"}});
    v("block_norm", self.block_norm, "norm before each block, or after its residual add",
      Choices{{"pre", "post"}});
    v("tied", self.tied, "LM head shares the embedding");
    v("cutoffs", self.cutoffs,
      "adaptive softmax, on CPUs: where its clusters of rarer words begin, e.g. 19997,39997; words are "
      "numbered by "
      "falling frequency. None: the plain softmax");
    v("packed", self.packed, "documents packed into one row do not see each other");
    v("norm_eps", self.norm_eps, "epsilon of every norm", Range{0, 1});
    v("dropout", self.dropout,
      "part of each block's output that training leaves out before the residual add, the rest growing by "
      "1 / (1 - part)",
      Range{0, 0.99});
    v("embedding_dropout", self.embedding_dropout, "the same of the embedded tokens", Range{0, 0.99});
    v("head_dropout", self.head_dropout, "the same of the last norm's output, which the head reads",
      Range{0, 0.99});
    v("recompute", self.recompute,
      "what the backward pass computes again instead of keeping it: on a GPU, of Mamba-2, none (most "
      "memory, least time), conv (convolution and gate) or scan (the scan as well); block (all of a "
      "layer but its output: least memory, most time); auto: the fastest of these that is predicted to fit "
      "into the GPU's memory (train, bench step and plan; elsewhere conv)",
      Choices{{"auto", "none", "conv", "scan", "block"}}, Affects::speed);
    v("recompute_layers", self.recompute_layers,
      "layers, from the first, that --recompute block is for, the others keeping what scan keeps; 0: all",
      Range{0, 4096}, Affects::speed);
    v("residual_dtype", self.residual_dtype,
      "type of the residual stream where activations are bf16, on a GPU; bf16: a third fewer bytes, and a "
      "sum "
      "that rounds at every layer",
      Choices{{"f32", "bf16"}});
    v("state_dtype", self.state_dtype,
      "type of the states that the Mamba-2 scan keeps on a GPU for its backward pass; running states are f32 "
      "always. f32: exact kernels for debugging, many times slower",
      Choices{{"bf16", "f32"}});
    v("dt_limit_min", self.dt_limit_min, "lower clamp of the step size; 0 with dt_limit_max 0: none",
      Range{0, 1e6});
    v("dt_limit_max", self.dt_limit_max, "upper clamp of the step size; 0: none", Range{0, 1e6});
  }
};

/// What ModelConfig::recompute may be but auto, from the fastest to the one that needs least memory.
constexpr std::array<const char*, 4> kRecomputePolicies = {"none", "conv", "scan", "block"};
/// Of a mixer, where the policy is one of these; auto, until somebody has chosen, is conv.
inline bool keeps_everything(const ModelConfig& config) { return config.recompute == "none"; }
inline bool scans_again(const ModelConfig& config) {
  return config.recompute == "scan" || config.recompute == "block";
}

/// The names that `preset` takes, in the order of the docs.
std::vector<std::string> preset_names();
/// Replaces all fields by the preset's; ExitCode::usage with the known names when there is no such preset.
void apply_preset(ModelConfig& config, const std::string& preset);

/// One letter a layer, after repeats, `all` and `alternate` are resolved; ExitCode::usage naming what is
/// wrong and where.
std::string layer_letters(const ModelConfig& config);
/// Refuses what cannot be (sizes that do not divide, illegal combinations of mixer, letter and lambda),
/// naming the legal set.
void validate(const ModelConfig& config);
/// Refuses what a model on a GPU has not.
void check_device(const ModelConfig& config, bool on_gpu);

}  // namespace dm::model
