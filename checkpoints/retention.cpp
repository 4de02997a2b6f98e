#include "checkpoints/retention.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>

#include "checkpoints/directory.h"
#include "checkpoints/names.h"
#include "checkpoints/verify.h"
#include "core/error.h"
#include "core/failpoint.h"
#include "core/log.h"

namespace dm::checkpoints {
namespace fs = std::filesystem;

std::vector<int64_t> steps_to_delete(std::vector<int64_t> steps, int64_t keep_last, int64_t keep_every,
                                     int64_t protect) {
  std::sort(steps.rbegin(), steps.rend());
  steps.erase(steps.begin(),
              steps.begin() + std::min<int64_t>(keep_last, static_cast<int64_t>(steps.size())));
  std::erase_if(steps,
                [&](int64_t step) { return step == protect || (keep_every > 0 && step % keep_every == 0); });
  return steps;
}

void apply_retention(const std::string& directory, int64_t keep_last, int64_t keep_every, int64_t saved) {
  std::vector<int64_t> steps;
  for (const auto& entry : fs::directory_iterator(directory))
    if (const auto step = parse_step_name(entry.path().filename().string())) steps.push_back(*step);
  const auto gone = steps_to_delete(steps, keep_last, keep_every, saved);
  if (gone.empty()) return;
  check_structure(directory + "/" + step_name(saved));
  for (const int64_t step : gone) {
    const std::string trash = directory + "/" + trash_name(step, make_nonce());
    DM_FAILPOINT("retention.before_rename");
    DM_SYS(std::rename((directory + "/" + step_name(step)).c_str(), trash.c_str()), "rename", trash);
    DM_FAILPOINT("retention.after_rename");
    fs::remove_all(trash);
  }
}

void remove_leftovers(const std::string& run_directory) {
  const auto remove_if = [](const std::string& directory, bool (*is_leftover)(std::string_view)) {
    for (const fs::path& path : entries(directory, is_leftover)) {
      log_warn("{}: left by a job that was killed; removed", path.string());
      fs::remove_all(path);
    }
  };
  remove_if(run_directory, is_run_leftover_name);
  remove_if(run_directory + "/" + kDirectoryName, is_leftover_name);
}

}  // namespace dm::checkpoints
