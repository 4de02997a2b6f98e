#include "data/progress.h"

#include <fmt/core.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>

#include "core/log.h"

namespace dm::data {
namespace {

std::string bytes_text(double bytes) {
  const char* units[] = {"B", "kB", "MB", "GB", "TB"};
  size_t unit = 0;
  for (; bytes >= 1000 && unit < 4; ++unit) bytes /= 1000;
  return fmt::format("{:.{}f} {}", bytes, unit == 0 || bytes >= 100 ? 0 : 1, units[unit]);
}

std::string duration_text(double seconds) {
  const auto whole = static_cast<int64_t>(std::ceil(seconds));
  if (whole < 120) return fmt::format("{} s", whole);
  if (whole < 7200) return fmt::format("{} min", (whole + 59) / 60);
  return fmt::format("{} h {} min", whole / 3600, whole % 3600 / 60);
}

}  // namespace

std::string progress_text(int64_t done_bytes, int64_t total_bytes, double seconds) {
  const double rate = seconds > 0 ? static_cast<double>(done_bytes) / seconds : 0;
  const std::string done = bytes_text(static_cast<double>(done_bytes)), speed = bytes_text(rate);
  if (total_bytes < 0) return fmt::format("{}, {}/s", done, speed);
  const std::string left =
      rate > 0 ? ", " + duration_text(static_cast<double>(total_bytes - done_bytes) / rate) + " left"
               : std::string();
  return fmt::format("{} of {}, {}/s{}", done, bytes_text(static_cast<double>(total_bytes)), speed, left);
}

Progress::Progress(std::string what, int64_t total_bytes)
    : what_(std::move(what)),
      total_bytes_(total_bytes),
      terminal_(isatty(STDERR_FILENO) == 1),
      start_(std::chrono::steady_clock::now()),
      last_(start_) {}

Progress::~Progress() {
  if (line_open_) std::fputc('\n', stderr);
}

void Progress::update(int64_t done_bytes) {
  const auto now = std::chrono::steady_clock::now();
  if (now - last_ < (terminal_ ? std::chrono::milliseconds(200) : std::chrono::milliseconds(10'000))) return;
  last_ = now;
  const std::string text =
      progress_text(done_bytes, total_bytes_, std::chrono::duration<double>(now - start_).count());
  if (!terminal_) return log_info("{}: {}", what_, text);
  fmt::print(stderr, "\r\033[K{}: {}", what_, text);
  std::fflush(stderr);
  line_open_ = true;
}

}  // namespace dm::data
