#include "train/plan/cluster.h"

#include <algorithm>
#include <cmath>

#include "core/files.h"

namespace dm::train {
namespace {

constexpr int64_t kLargestFileBytes = 1 << 20;

}  // namespace

double Cluster::usable_bytes() const { return memory_gib * memory_usable * 1024 * 1024 * 1024; }

FieldTable Cluster::table() {
  FieldTable table;
  table.add("cluster", *this);
  table.add("failures", failures);
  return table;
}

Cluster Cluster::read(const std::string& path) {
  Cluster cluster;
  read_ini(cluster.table(), read_file(path, kLargestFileBytes), path);
  return cluster;
}

std::string Cluster::ini() const { return Cluster(*this).table().to_ini(); }

GroupLinks::GroupLinks(const Cluster& cluster, int64_t ranks, int64_t stride)
    : cluster_(cluster),
      ranks_(ranks),
      nodes_((ranks + std::max<int64_t>(1, cluster.gpus_per_node / stride) - 1) /
             std::max<int64_t>(1, cluster.gpus_per_node / stride)),
      per_node_((ranks + nodes_ - 1) / nodes_) {}

double GroupLinks::hops_seconds(Operation operation) const {
  const double within = cluster_.link_us * 1e-6, between = cluster_.network_us * 1e-6;
  if (operation == Operation::send) return nodes_ > 1 ? between : within;
  const double ring =
      static_cast<double>(ranks_ - nodes_) * within + static_cast<double>(nodes_ - 1) * between;
  if (operation != Operation::all_reduce) return ring;
  const double tree = static_cast<double>(per_node_ - 1) * within +
                      std::ceil(std::log2(static_cast<double>(nodes_))) * between;
  return 2 * std::min(ring, tree);
}

double GroupLinks::seconds(Operation operation, int64_t bytes) const {
  Traffic one;
  one.add(operation, bytes, ranks_);
  if (one.sent() == 0) return 0;
  // Rings enter and leave a node through the adapters of all members there.
  const double adapters = operation == Operation::send ? 1 : static_cast<double>(per_node_);
  const double rate =
      nodes_ > 1 ? std::min(cluster_.link_gbs, adapters * cluster_.network_gbs) : cluster_.link_gbs;
  return cluster_.operation_us * 1e-6 + hops_seconds(operation) +
         static_cast<double>(one.sent()) / (rate * 1e9);
}

double GroupLinks::seconds(const Traffic& traffic) const {
  double sum = 0;
  for (const auto& [operation, count] : traffic.counts())
    sum += static_cast<double>(count.calls) * seconds(operation, count.bytes / count.calls);
  return sum;
}

}  // namespace dm::train
