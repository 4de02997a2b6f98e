#pragma once
// The same training steps on one rank and on a layout, and how far they are apart: what `diffmamba parity`
// shows. docs/parallelism.md gives the tolerances and their reasons.

#include <ATen/ATen.h>

#include <map>
#include <string>
#include <vector>

#include "core/fields.h"
#include "model/config.h"
#include "train/axis_traffic.h"
#include "train/groups.h"

namespace dm::train {

struct ParityConfig {
  std::string layouts = "dp1,dp2,tp2,cp2";
  int64_t rows = 6;
  int64_t length = 61;
  std::string dtype = "f64";
  std::string device = "cpu";
  std::string comm = "auto";
  int64_t steps = 3;
  int64_t seed = 1;
  double clip = 0.05;
  bool leak = false;
  bool streams = false;
  int64_t zero = 1;
  int64_t threads = 1;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& v) {
    v("layouts", self.layouts,
      "layouts to compare with one rank, comma-separated: dp2, tp4, cp2, dp2tp2, tp2cp2, ...; start as many "
      "ranks as the largest needs");
    v("rows", self.rows, "rows of the global batch; they need not divide by dp", Range{1, 1e6});
    v("length", self.length, "tokens a row; they need not divide by anything", Range{1, 1e9});
    v("dtype", self.dtype,
      "type on the layouts; the reference is one rank in float64. bf16: activations and products",
      Choices{{"f64", "f32", "bf16"}});
    v("device", self.device, "where the layouts are", Choices{{"cpu", "cuda"}});
    v("comm", self.comm, "what moves tensors between GPUs", Choices{{"auto", "nccl", "mpi"}});
    v("steps", self.steps, "optimizer steps before the weights are compared", Range{1, 1e6});
    v("seed", self.seed, "seed of weights and data", Range{0, 9.0e18});
    v("clip", self.clip, "global gradient norm to clip to: small enough to act", Range{1e-9, 1e12});
    v("leak", self.leak,
      "instead: change one document of a packed row and see that no hidden state and no logit elsewhere "
      "moves");
    v("streams", self.streams,
      "rows go on from step to step with the state that they carry, as --order streams has it; those of the "
      "first step from a batch before it");
    v("zero", self.zero, "stage of ZeRO on the layouts: 1, or 2 with gradients exchanged after every pass",
      Range{1, 2});
    v("threads", self.threads, "CPU threads a rank; 0: this host's cores shared by its ranks",
      Range{0, 4096});
  }
};

using Tensors = std::map<std::string, at::Tensor>;  // whole parameters by name, float64 on the CPU

/// What some steps came to; complete on rank 0, the tensors empty elsewhere.
struct ParityRun {
  Tensors initial, gradients, weights;  // gradients: of the first step's mean loss
  double loss = 0;                      // of the first step, nats a target
  double last_loss = 0;
  double clip = 1;      // the factor of the first step
  AxisTraffic traffic;  // of this rank in all steps, where the groups count it
  // Where that is not what step_traffic() predicts; of an adaptive softmax it does not the tensor axis.
  std::string not_planned;
};

/// Steps over made-up rows, each rank of `groups` its share. Leaves are of `dtype` ("f64", "f32"; "bf16":
/// f32).
ParityRun run_parity_steps(const model::ModelConfig& model, const ParityConfig& config,
                           const std::string& dtype, at::Device device, const Groups& groups);

/// How one quantity compares: error over its bound, and of which tensor.
struct Distance {
  double over_bound = 0;             // > 1: too far. NaN counts as too far
  double relative = 0;               // ||a - b|| / ||b||
  std::string tensor;                // the worst
  std::vector<std::string> too_far;  // all that are, in order of their names
  bool fits() const { return over_bound <= 1; }
};

struct ParityVerdict {
  bool same_initial = false;  // bit for bit
  std::string first_different;
  Distance loss, gradients, weights;
  bool fits() const { return same_initial && loss.fits() && gradients.fits() && weights.fits(); }
};

/// `truth`: one rank in float64; `alone`: one rank in the layout's type on its device.
ParityVerdict compare_parity(const ParityRun& truth, const ParityRun& alone, const ParityRun& layout,
                             const std::string& dtype);

/// Changes the middle document of the first row; returns where something else moved, "" where nothing did, on
/// every rank the same.
std::string find_leak(const model::ModelConfig& model, const ParityConfig& config, const std::string& dtype,
                      at::Device device, const Groups& groups);

}  // namespace dm::train
