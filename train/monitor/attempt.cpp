#include "train/monitor/attempt.h"

#include <fcntl.h>
#include <fmt/chrono.h>

#include <chrono>
#include <fstream>

#include "core/error.h"
#include "core/files.h"
#include "core/log.h"

namespace dm::train {
namespace {

std::string file_of(const std::string& run_dir) { return run_dir + "/attempts.jsonl"; }

void append_line(const std::string& run_dir, const OrderedJson& line) {
  try {
    File file = File::open(file_of(run_dir), O_RDWR | O_CREAT);
    int64_t size = file.size_bytes();
    std::string text = line.dump() + "\n";
    if (char last = '\n'; size > 0) {  // after a line that was cut short, begin a new one
      file.read_at(&last, 1, size - 1);
      if (last != '\n') text.insert(0, "\n");
    }
    file.write_at(text.data(), text.size(), size);
  } catch (const Error& error) {
    log_warn("{}; restarts of this run will be counted wrongly", error.what());
  }
}

void take(const Json& from, int64_t& value) {
  if (from.is_number_integer()) value = from.get<int64_t>();
}
void take(const Json& from, double& value) {
  if (from.is_number()) value = from.get<double>();
}
void take(const Json& from, std::string& value) {
  if (from.is_string()) value = from.get<std::string>();
}
void take(const Json& from, Json& value) { value = from; }

}  // namespace

std::vector<Attempt> read_attempts(const std::string& run_dir) {
  std::vector<Attempt> attempts;
  std::ifstream file(file_of(run_dir));
  for (std::string text; std::getline(file, text);) {
    const Json line = Json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (!line.is_object() || !line.contains("attempt")) continue;
    if (line.contains("ended")) {
      if (!attempts.empty() && line["attempt"] == attempts.back().attempt)
        take(line["ended"], attempts.back().ended);
      continue;
    }
    Attempt attempt;
    Attempt::fields(attempt, [&](const char* name, auto& value) { take(line.value(name, Json()), value); });
    attempts.push_back(std::move(attempt));
  }
  return attempts;
}

Attempt begin_attempt(const std::string& run_dir, Attempt attempt) {
  const std::vector<Attempt> before = read_attempts(run_dir);
  attempt.attempt = before.empty() ? 1 : before.back().attempt + 1;
  attempt.began = fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr)));
  OrderedJson line;
  Attempt::fields(attempt, [&](const char* name, auto& value) { line[name] = value; });
  append_line(run_dir, line);
  return attempt;
}

void end_attempt(const std::string& run_dir, const Attempt& attempt, const std::string& how) {
  append_line(run_dir, {{"attempt", attempt.attempt}, {"ended", how}});
}

}  // namespace dm::train
