#pragma once
// How long whole optimizer steps take, beside the time that the arithmetic and the memory traffic of the cost
// model would take at the rates that a GPU reaches.

#include <cstdint>
#include <string>
#include <vector>

#include "core/fields.h"
#include "core/json.h"
#include "kernels/device/profile.h"
#include "model/config.h"
#include "model/memory.h"
#include "train/groups.h"

namespace dm::train {

struct StepBenchConfig {
  std::string device = "cpu";
  std::string compute = "auto";
  int64_t rows = 8;
  int64_t micro_rows = 0;
  int64_t length = 2048;
  int64_t document_tokens = 700;
  int64_t repetitions = 30;
  bool graph = true;
  bool profile = false;
  double tflops = 0;
  double terabytes = 0;
  double peak_tflops = 0;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& v) {
    v("device", self.device, "where the model is: on the CPU, or on one GPU", Choices{{"cpu", "cuda"}});
    v("compute", self.compute, "type of activations and products; auto: bf16 on a GPU, f32 on the CPU",
      Choices{{"auto", "bf16", "f32"}});
    v("rows", self.rows, "rows a step, for each rank on the data axis", Range{1, 1e6});
    v("micro_rows", self.micro_rows, "rows worked on at once; 0: all", Range{0, 1e6});
    v("length", self.length, "tokens a row", Range{1, 1 << 24});
    v("document_tokens", self.document_tokens, "mean length of the documents packed into a row",
      Range{1, 1e9});
    v("repetitions", self.repetitions, "steps timed, after three of warm-up", Range{1, 1e6});
    v("graph", self.graph, "record micro-steps as CUDA graphs");
    v("profile", self.profile, "also list the kernels of one step, on a GPU");
    v("tflops", self.tflops,
      "arithmetic of the floor, 10^12 operations a second; 0: as measured on the card, no floor on others",
      Range{0, 1e6});
    v("terabytes", self.terabytes, "memory traffic of the floor, 10^12 bytes a second; 0: likewise",
      Range{0, 1e6});
    v("peak_tflops", self.peak_tflops, "what MFU is a share of; 0: the card's data sheet", Range{0, 1e6});
  }
};

/// Whether it is for a GPU. What it asks for and the CPU does not have is ExitCode::usage.
bool for_gpu(const StepBenchConfig& config);

struct StepBenchResult {
  std::string device;
  int64_t parameters = 0;
  std::string recompute;  // the policy on a GPU
  double median_ms = 0, p10_ms = 0, p90_ms = 0;
  double tokens_per_second = 0;
  double floor_tokens_per_second = 0;  // 0: not known, as all shares, and `missing` says why
  double share_of_floor = 0;
  double mfu_6n = 0;  // 6 operations a parameter and token, over peak_tflops
  double mfu = 0;     // operations of the cost model, over peak_tflops
  std::string missing;
  double first_step_s = 0;   // of the first step alone, preparation included
  int64_t peak_bytes = 0;    // of the GPU's memory, held by tensors
  model::MemoryNeed memory;  // predicted
  int64_t reserved_bytes = 0;
  int64_t graph_nodes = 0;
  // Over ranks, `rows` for each on the data axis: rates and memory are of one rank, times of the slowest,
  // parameters of the whole model.
  int64_t ranks = 1, dp = 1, cp = 1, tp = 1;
  double reduce_exposed_ms = 0, gather_exposed_ms = 0;  // medians: waits for gradients and for weights
  double loss = 0;  // of the last step, in nats a token: that something was trained
  std::vector<kernels::KernelTime> kernels;
  Json stages;  // the kernels by stage, beside their floors (stage_times.h)

  Json json() const;
};

/// All ranks call it together; the GPU of each is in use already.
StepBenchResult bench_step(const model::ModelConfig& model, const StepBenchConfig& config,
                           const Groups& groups);

}  // namespace dm::train
