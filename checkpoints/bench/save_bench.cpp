#include "checkpoints/bench/save_bench.h"

#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <functional>
#include <vector>

#include "checkpoints/store.h"
#include "core/error.h"
#include "core/rng.h"

namespace dm::checkpoints {
namespace {
namespace fs = std::filesystem;

constexpr int64_t kBlockBytes = 16 << 20;  // dd's

/// Tensors of this rank alone, with bytes that no disk can compress.
class State {
 public:
  State(const SaveBenchConfig& config, int64_t rank) {
    const auto total = static_cast<int64_t>(config.save_mib * (1 << 20)),
               each = static_cast<int64_t>(config.tensor_mib * (1 << 20)) / 8 * 8;
    const CounterRng rng(1, "bench");
    memory_.resize(static_cast<size_t>(total) / 8);
    for (size_t i = 0; i < memory_.size(); ++i) memory_[i] = rng.bits(i);
    for (int64_t begin = 0, number = 0; begin < total; begin += each, ++number) {
      const int64_t count = std::min(each, total - begin) / 8;
      pieces_.push_back({fmt::format("rank{}.tensor{}", rank, number),
                         DType::i64,
                         {count},
                         {{0}, {count}},
                         memory_.data() + begin / 8});
    }
  }
  const std::vector<Piece>& pieces() const { return pieces_; }
  int64_t size_bytes() const { return static_cast<int64_t>(memory_.size()) * 8; }

 private:
  std::vector<uint64_t> memory_;
  std::vector<Piece> pieces_;
};

/// `dd` of as many bytes, rounded up to its blocks, into a new file.
void run_dd(const std::string& path, int64_t blocks) {
  std::vector<std::string> words{"dd",         "if=/dev/zero", "of=" + path,
                                 "bs=16M",     "conv=fsync",   fmt::format("count={}", blocks),
                                 "status=none"};
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  pid_t child = 0;
  const int error = posix_spawnp(&child, "dd", nullptr, nullptr, arguments.data(), environ);
  DM_REQUIRE(error == 0, ExitCode::io, "dd: cannot be started: {}", std::strerror(error));
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  DM_REQUIRE(status == 0, ExitCode::io, "dd of={}: failed; is there room for a second copy?", path);
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

}  // namespace

Json bench_save(const SaveBenchConfig& config, Collectives& group) {
  DM_REQUIRE(!config.save_dir.empty(), ExitCode::usage,
             "bench checkpoint: say where with --save-dir FOLDER, on the disk in question");
  const bool taken = group.rank() == 0 && fs::exists(config.save_dir);
  DM_REQUIRE(group.all_agree(!taken), ExitCode::usage, "--save-dir {}: exists; name a new folder",
             config.save_dir);

  const State state(config, group.rank());
  const int64_t blocks = (state.size_bytes() + kBlockBytes - 1) / kBlockBytes;
  const auto seconds_of = [&](const std::function<void()>& work) {
    group.barrier();
    const auto begin = std::chrono::steady_clock::now();
    work();
    return group.all_max(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  };
  std::vector<double> saves, writes;
  {
    Store store(config.save_dir, {.keep_last = 2}, group);
    const std::string plain = fmt::format("{}/plain-{}", config.save_dir, group.rank());
    for (int64_t i = -1; i < config.save_repetitions; ++i) {
      const double save = seconds_of([&] { store.save(i + 1, state.pieces(), Json::object()); });
      const double write = seconds_of([&] { run_dd(plain, blocks); });
      fs::remove(plain);
      if (i >= 0) saves.push_back(save), writes.push_back(write);
    }
  }
  group.barrier();
  if (group.rank() == 0) fs::remove_all(config.save_dir);

  const auto ranks = static_cast<double>(group.size());
  const double saved = ranks * static_cast<double>(state.size_bytes()) / median(saves) * 1e-9;
  const double written = ranks * static_cast<double>(blocks * kBlockBytes) / median(writes) * 1e-9;
  return {{"ranks", group.size()}, {"bytes_a_rank", state.size_bytes()}, {"save_gb_s", saved},
          {"dd_gb_s", written},    {"share", saved / written},           {"save_seconds", saves},
          {"dd_seconds", writes}};
}

}  // namespace dm::checkpoints
