#include "launch/start_facts.h"

#include <fstream>

#include "core/error.h"
#include "core/hash.h"
#include "data/loader.h"
#include "dist/nccl_collectives.h"
#include "kernels/device/device.h"

namespace dm::launch {
namespace {

/// XXH3 of a file's bytes, in bounded memory.
std::string file_hash(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  DM_REQUIRE(file.good(), ExitCode::io, "{}: cannot be read", path);
  Hasher hasher;
  std::vector<char> block(1 << 20);
  while (file.read(block.data(), static_cast<std::streamsize>(block.size())) || file.gcount() > 0)
    hasher.update(block.data(), static_cast<size_t>(file.gcount()));
  return hex(hasher.digest_128());
}

/// One line a dataset; nothing for a dry run, which reads none.
std::string data_fingerprints(const train::RunConfig& config) {
  if (config.train.dry_run) return "";
  std::string text;
  for (const auto& [dataset, weight] : data::open_datasets(config.data, config.train.length))
    text += fmt::format("{} of weight {}\n", hex(dataset->fingerprint()), weight);
  return text;
}

std::string first_line_with(const std::string& path, const std::string& word) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);)
    if (line.find(word) != std::string::npos) return line;
  return "unknown";
}

}  // namespace

std::vector<dist::Fact> start_facts(const train::RunConfig& config) {
  const char* same_kind =
      "Sums would differ in their last bits and a run would not repeat; start it on hosts of one kind";
  train::RunConfig copy = config;
  copy.train.threads = 0;  // resolved by each host for itself; no result depends on it
  std::vector<dist::Fact> facts = {
      {"options", copy.table().to_ini(), ExitCode::usage, "Start every rank with the same options"},
      {"program", file_hash("/proc/self/exe"), ExitCode::usage,
       "Install the same build on every host, or start it from a folder that all of them share"},
      {"data", data_fingerprints(config), ExitCode::bad_data,
       "Every rank must read the same datasets: copy them again to the hosts named"},
      {"CPU", first_line_with("/proc/cpuinfo", "model name"), ExitCode::usage, same_kind}};
  if (config.train.device != "cuda") return facts;
  facts.push_back({"GPU", kernels::cuda_devices().front().name, ExitCode::usage, same_kind});
  facts.push_back(
      {"GPU driver", first_line_with("/proc/driver/nvidia/version", "NVRM"), ExitCode::usage, same_kind});
  facts.push_back({"NCCL", dist::nccl_version(), ExitCode::usage,
                   "Ranks with different versions of NCCL cannot talk; load the same one on every host"});
  return facts;
}

}  // namespace dm::launch
