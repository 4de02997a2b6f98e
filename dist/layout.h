#pragma once
// How many ranks stand on each axis, as a user says it.

#include <cstdint>
#include <string>

#include "core/fields.h"
#include "dist/mesh.h"

namespace dm::dist {

struct LayoutConfig {
  int64_t dp = 0;
  int64_t cp = 1;
  int64_t tp = 1;
  int64_t dp_shard = 0;
  int64_t zero = 1;
  std::string comm = "auto";

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& v) {
    v("dp", self.dp, "ranks on the data axis; 0: those that cp and tp leave", Range{0, 1e6}, Affects::speed);
    v("cp", self.cp, "ranks that share each row, a piece of its tokens each", Range{1, 1e6}, Affects::speed);
    v("tp", self.tp, "ranks of one host that share each layer, by branch and head", Range{1, 1e6},
      Affects::speed);
    v("dp_shard", self.dp_shard,
      "ranks that weights and moments are cut over, and copied between groups of so many; 0: all of dp x cp",
      Range{0, 1e6}, Affects::speed);
    v("zero", self.zero,
      "stage of ZeRO: 1 cuts the optimizer's state over the ranks; 2 the gradients as well, which are then "
      "exchanged after every micro-step",
      Range{1, 2}, Affects::speed);
    v("comm", self.comm,
      "what moves tensors between GPUs: NCCL, or MPI through host memory; auto: NCCL. CPUs take MPI",
      Choices{{"auto", "nccl", "mpi"}}, Affects::speed);
  }
};

/// The mesh of `world` ranks, `local_world` of them on each host. Refuses (ExitCode::usage), with the legal
/// values, sizes that do not place every rank, a tensor group that would not lie inside one host, and a
/// dp_shard that does not divide dp x cp.
Mesh make_mesh(const LayoutConfig& layout, int64_t world, int64_t local_world);
/// The ranks that a rank's optimizer state is cut over: dp_shard, or all of dp x cp.
int64_t shard_size(const LayoutConfig& layout, const Mesh& mesh);

}  // namespace dm::dist
