#pragma once
// What a plan takes for granted of a cluster: its GPUs, how near to their floor kernels come there, and its
// links. Read from an INI file that the user edits (recipes/clusters/).

#include <cstdint>
#include <string>

#include "core/fields.h"
#include "core/traffic.h"
#include "kernels/device/card_rates.h"
#include "train/plan/failures.h"

namespace dm::train {

struct Cluster {
  std::string gpu{kernels::kH100.card};
  int64_t gpus_per_node = 8;
  double memory_gib = 79;
  double memory_usable = 0.95;
  double tflops = kernels::kH100.product_tflops;
  double terabytes = kernels::kH100.copy_terabytes;
  double share_products = 0.93;
  double share_residual = 0.96;
  double share_conv = 0.52;
  double share_ssd = 0.33;
  double share_gated_norm = 0.645;
  double share_selective_scan = 0.19;
  double share_optimizer = 0.99;
  double other = 0.037;
  double link_gbs = 250;
  double network_gbs = 45;
  double operation_us = 35;
  double link_us = 3.4;
  double network_us = 14;
  double contention = 0.5;
  FailureConfig failures;  // a section of its own

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& v) {
    v("gpu", self.gpu, "name of the GPU, for the report");
    v("gpus_per_node", self.gpus_per_node, "GPUs of a node", Range{1, 1024});
    v("memory_gib", self.memory_gib, "GiB of a GPU", Range{0.001, 1e6});
    v("memory_usable", self.memory_usable, "share of it that tensors may fill", Range{0.01, 1});
    v("tflops", self.tflops, "TFLOP/s of large bfloat16 matrix products", Range{1e-3, 1e6});
    v("terabytes", self.terabytes, "TB/s of memory that a copy reaches", Range{1e-6, 1e6});
    v("share_products", self.share_products, "share of their floor that matrix products reach",
      Range{1e-3, 1});
    v("share_residual", self.share_residual, "likewise residual adds with their norms", Range{1e-3, 1});
    v("share_conv", self.share_conv, "likewise the convolution, its recomputation included", Range{1e-3, 1});
    v("share_ssd", self.share_ssd, "likewise the Mamba-2 scan", Range{1e-3, 1});
    v("share_gated_norm", self.share_gated_norm, "likewise the gated norm, its recomputation included",
      Range{1e-3, 1});
    v("share_selective_scan", self.share_selective_scan, "likewise the Mamba-1 scan", Range{1e-3, 1});
    v("share_optimizer", self.share_optimizer, "likewise the optimizer", Range{1e-3, 1});
    v("other", self.other, "time of everything else, as a share of the stages above", Range{0, 10});
    v("link_gbs", self.link_gbs, "GB/s that a GPU sends to others of its node", Range{1e-3, 1e6});
    v("network_gbs", self.network_gbs, "GB/s that a GPU sends to other nodes through its own adapter",
      Range{1e-3, 1e6});
    v("operation_us", self.operation_us, "microseconds that an exchange takes whatever it moves",
      Range{0, 1e6});
    v("link_us", self.link_us, "microseconds from GPU to GPU of a node", Range{0, 1e6});
    v("network_us", self.network_us, "microseconds from node to node", Range{0, 1e6});
    v("contention", self.contention,
      "seconds of computation lost for each second of exchange that goes on beside it", Range{0, 1});
  }

  double usable_bytes() const;

  /// The sections [cluster] and [failures]. Refers to *this.
  FieldTable table();
  /// Refuses (ExitCode::usage) what is unknown or illegal with FILE:LINE. What the file leaves out is as
  /// above.
  static Cluster read(const std::string& path);
  /// As `read` reads it, with help as comments.
  std::string ini() const;
};

/// A group of GPUs that exchange: of `ranks`, as many as fit on each node.
class GroupLinks {
 public:
  /// Its members are `stride` ranks apart, and ranks fill one node after the other.
  GroupLinks(const Cluster& cluster, int64_t ranks, int64_t stride);

  int64_t nodes() const { return nodes_; }
  /// Seconds of one exchange of so many bytes, as core/traffic.h counts both: rings, and for an all_reduce a
  /// tree where that is sooner done. A send goes to the next member, over the network where some do.
  double seconds(Operation operation, int64_t bytes) const;
  double seconds(const Traffic& traffic) const;

 private:
  double hops_seconds(Operation operation) const;
  const Cluster& cluster_;
  int64_t ranks_, nodes_, per_node_;
};

}  // namespace dm::train
