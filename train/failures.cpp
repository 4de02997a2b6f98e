#include "train/failures.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "checkpoints/names.h"
#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "core/log.h"

namespace dm::train {
namespace {

constexpr int64_t kLimit = 3;
constexpr int64_t kLargestFileBytes = 1 << 16;
constexpr size_t kLongestMessage = 2000;  // bytes of it that are kept

ExitCode code_of(const std::exception& error) {
  const auto* ours = dynamic_cast<const Error*>(&error);
  return ours != nullptr ? ours->code() : ExitCode::internal;
}

bool counts(ExitCode code) {
  return code == ExitCode::internal || code == ExitCode::bad_data || code == ExitCode::lost;
}

/// LibTorch's messages go on with a trace of the stack, which helps nobody here.
std::string first_lines(const std::exception& error) {
  const std::string text = error.what();
  const size_t end = dynamic_cast<const Error*>(&error) != nullptr ? text.size() : text.find('\n');
  return text.substr(0, std::min(end, kLongestMessage));
}

}  // namespace

Failures::Failures(const std::string& run_directory, bool speaks)
    : path_(run_directory + "/" + checkpoints::kFailuresName) {
  if (::access(path_.c_str(), F_OK) != 0) return;
  try {
    const Json json = parse_json(read_file(path_, kLargestFileBytes), path_);
    const auto step = required<int64_t>(json, "step", path_), times = required<int64_t>(json, "times", path_);
    const auto message = required<std::string>(json, "message", path_);
    DM_REQUIRE(step > 0 && times > 0, ExitCode::bad_data, "{}: step {} failed {} times", path_, step, times);
    step_ = step, times_ = times;
    if (speaks)
      log_warn("step {} failed {} time(s) in a row so far, the last time with: {}", step, times, message);
  } catch (const Error& error) {
    if (speaks) log_warn("{}; failures before this attempt are not counted", error.what());
  }
}

void Failures::add(int64_t step, const std::exception& error) {
  const ExitCode code = code_of(error);
  if (!counts(code)) return;
  const int64_t times = step == step_ ? times_ + 1 : 1;
  const std::string message = first_lines(error);
  const OrderedJson json{
      {"step", step}, {"times", times}, {"exit_code", static_cast<int>(code)}, {"message", message}};
  try {
    // Bytes that are no UTF-8 (a path may hold them) are replaced: the report must not fail on what it
    // reports.
    write_file_atomically(path_, json.dump(2, ' ', false, OrderedJson::error_handler_t::replace) + "\n");
  } catch (const Error& unwritable) {
    log_warn("{}; this failure will not be counted", unwritable.what());
  }
  DM_REQUIRE(times < kLimit, ExitCode::repeated,
             "step {} failed {} times in a row, in as many attempts, so another would fail as well (exit "
             "code {} by itself): "
             "{}\nFind out why before you start it again; {} is forgotten once the step is passed",
             step, times, static_cast<int>(code), message, path_);
}

void Failures::passed(int64_t step) {
  if (times_ == 0 || step < step_) return;
  if (::unlink(path_.c_str()) != 0 && errno != ENOENT)
    log_warn("{}: cannot be removed; a later failure at step {} would be counted with it", path_, step_);
  step_ = times_ = 0;
}

}  // namespace dm::train
