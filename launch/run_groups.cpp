#include "launch/run_groups.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "core/counting_collectives.h"
#include "core/error.h"
#include "core/log.h"
#include "core/process.h"
#include "dist/nccl_collectives.h"
#include "dist/staged_collectives.h"
#include "kernels/device/device.h"
#include "kernels/device/gpu.h"
#include "kernels/device/stream.h"

namespace dm::launch {
namespace {

constexpr size_t kShown = 16;  // ranks on the terminal

/// Ranks a host, which must be the same on all of them for tensor groups to lie inside one.
int64_t smallest_host(dist::Environment& environment, Collectives& all) {
  return -all.all_max(-environment.local_world());
}

}  // namespace

RunGroups::RunGroups(dist::Environment& environment, const dist::LayoutConfig& layout, bool on_gpu,
                     int64_t ranks, Wrap wrap)
    : environment_(environment),
      ranks_(ranks > 0 ? ranks : environment.world()),
      wrap_(std::move(wrap)),
      mesh_(ranks_, ranks_, 1, 1),
      on_gpu_(on_gpu),
      over_nccl_(on_gpu && layout.comm != "mpi"),
      layout_(layout),
      all_(host_group(takes_part() ? 0 : 1 + environment.rank())) {
  DM_REQUIRE(on_gpu || layout.comm != "nccl", ExitCode::usage,
             "--comm nccl moves the memory of GPUs; give --device cuda, or --comm mpi");
  mesh_ = dist::make_mesh(layout, ranks_, std::min(ranks_, smallest_host(environment, *all_)));
  check_tensor_groups();
  if (on_gpu) use_gpu(layout);

  if (!takes_part()) {
    stand_aside();
    return;
  }
  const int64_t tensor_rank = mesh_.coordinate(environment.rank()).tp;
  replicas_ = host_group(tensor_rank);
  const int64_t shard = dist::shard_size(layout, mesh_), tp = mesh_.size(dist::Axis::tp);
  const int64_t replica = replicas_->rank();
  shards_ = device_group(replica / shard * tp + tensor_rank, traffic_.data);
  if (shard < replicas_->size()) across_ = device_group(replica % shard * tp + tensor_rank, traffic_.data);
  if (tp > 1) tensor_ = device_group(mesh_.group(dist::Axis::tp, environment.rank()), traffic_.tensor);
  if (mesh_.size(dist::Axis::cp) > 1)
    context_ = device_group(mesh_.group(dist::Axis::cp, environment.rank()), traffic_.context);
}

/// The other ranks make groups of their own in the same order, each alone.
void RunGroups::stand_aside() {
  const int64_t groups = 2 + (dist::shard_size(layout_, mesh_) < ranks_ / mesh_.size(dist::Axis::tp)) +
                         (mesh_.size(dist::Axis::tp) > 1) + (mesh_.size(dist::Axis::cp) > 1);
  for (int64_t i = 0; i < groups; ++i) environment_.make_group(ranks_ + environment_.rank());
}

void RunGroups::check_tensor_groups() const {
  const std::vector<std::string> hosts = all_->gather_text(process_identity().host);
  for (int64_t rank = 0; takes_part() && rank < ranks_; ++rank) {
    const int64_t first = mesh_.members(dist::Axis::tp, rank).front();
    DM_REQUIRE(
        hosts[static_cast<size_t>(rank)] == hosts[static_cast<size_t>(first)], ExitCode::usage,
        "--tp {}: ranks {} and {} share each layer, but run on {} and {}; place consecutive ranks on one "
        "host (mpirun --map-by slot)",
        mesh_.size(dist::Axis::tp), first, rank, hosts[static_cast<size_t>(first)],
        hosts[static_cast<size_t>(rank)]);
  }
}

void RunGroups::use_gpu(const dist::LayoutConfig& layout) {
  const auto gpus = static_cast<int64_t>(kernels::cuda_devices().size());
  gpu_ = environment_.local_rank();
  if (gpus > 0 && environment_.local_world() > gpus) {
    const char* shared = std::getenv("NCCL_MULTI_RANK_GPU_ENABLE");
    DM_REQUIRE(
        layout.comm == "mpi" || (shared && *shared == '1'), ExitCode::usage,
        "{} ranks on a host with {} GPU{}: start one a GPU, or let them share with --comm mpi, or with "
        "NCCL 2.30 or newer and NCCL_MULTI_RANK_GPU_ENABLE=1",
        environment_.local_world(), gpus, gpus == 1 ? "" : "s");
    gpu_ %= gpus;
  }
  kernels::use_gpu(gpu_);
}

std::unique_ptr<Collectives> RunGroups::wrapped(std::unique_ptr<Collectives> group, Traffic& traffic) const {
  group = counted(std::move(group), traffic);
  return wrap_ ? wrap_(std::move(group)) : std::move(group);
}

std::unique_ptr<Collectives> RunGroups::host_group(int64_t color) {
  return wrapped(environment_.make_group(color), traffic_.control);
}

std::unique_ptr<Collectives> RunGroups::device_group(int64_t color, Traffic& traffic) {
  if (!on_gpu_) return wrapped(environment_.make_group(color), traffic);
  std::unique_ptr<Collectives> host = environment_.make_group(color);
  if (host->size() == 1) return make_single_process_collectives();
  if (!over_nccl_)
    return wrapped(dist::make_staged_collectives(std::move(host), kernels::current_stream_handle), traffic);
  const auto lost = [this](const std::string& message) {
    log_error("{}", message);
    environment_.abort(static_cast<int>(ExitCode::lost));
  };
  return wrapped(dist::make_nccl_collectives(
                     std::move(host), {.current_stream = kernels::current_stream_handle, .lost = lost}),
                 traffic);
}

train::Groups RunGroups::groups() {
  const dist::Mesh::Coordinate place = mesh_.coordinate(environment_.rank());
  return {.all = *all_,
          .replicas = *replicas_,
          .shards = *shards_,
          .across = across_.get(),
          .data_rank = place.dp,
          .data_ranks = mesh_.size(dist::Axis::dp),
          .placement = {.tp = mesh_.size(dist::Axis::tp),
                        .tp_rank = place.tp,
                        .cp = mesh_.size(dist::Axis::cp),
                        .cp_rank = place.cp,
                        .tensor = tensor_.get(),
                        .context = context_.get()},
          .recordable = over_nccl_,  // exchanges through host memory need the host each time
          .traffic = &traffic_};
}

void RunGroups::print_mapping() const {
  const dist::Mesh::Coordinate place = mesh_.coordinate(environment_.rank());
  const std::string device =
      on_gpu_ ? fmt::format("GPU {} ({})", gpu_, kernels::cuda_devices()[static_cast<size_t>(gpu_)].name)
              : "CPU";
  const std::vector<std::string> ranks = all_->gather_text(fmt::format(
      "{}, {}: dp {} cp {} tp {}", process_identity().host, device, place.dp, place.cp, place.tp));
  if (ranks_ == 1) return;
  log_info("{} ranks: dp {} x cp {} x tp {}{}", ranks_, mesh_.size(dist::Axis::dp),
           mesh_.size(dist::Axis::cp), mesh_.size(dist::Axis::tp),
           !on_gpu_     ? ""
           : over_nccl_ ? fmt::format(", over NCCL {}", dist::nccl_version())
                        : ", over MPI through host memory");
  for (size_t rank = 0; rank < std::min(ranks.size(), kShown); ++rank)
    log_info("  rank {} on {}", rank, ranks[rank]);
  if (ranks.size() > kShown) log_info("  and {} more", ranks.size() - kShown);
}

}  // namespace dm::launch
