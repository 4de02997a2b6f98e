#include "core/log.h"

#include <fcntl.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <memory>
#include <mutex>

#include "core/files.h"
#include "core/process.h"
#include "core/signals.h"

namespace dm {
namespace {

spdlog::level::level_enum level_from_environment() {
  const char* text = std::getenv("DM_LOG");
  for (const auto level : {spdlog::level::trace, spdlog::level::debug, spdlog::level::info,
                           spdlog::level::warn, spdlog::level::err})
    if (text != nullptr && spdlog::level::from_str(text) == level) return level;
  return spdlog::level::info;
}

/// stderr for the terminal: stdout is for what a command was asked to print.
spdlog::logger& terminal() {
  static const auto instance = [] {
    auto logger =
        std::make_shared<spdlog::logger>("terminal", std::make_shared<spdlog::sinks::stderr_sink_mt>());
    logger->set_pattern("%v");
    logger->set_level(level_from_environment());
    return logger;
  }();
  return *instance;
}

std::mutex file_mutex;
std::shared_ptr<spdlog::logger> file_logger;
File signal_notes;  // the same file once more, for handlers
std::atomic<bool> terminal_on{true};

spdlog::level::level_enum spdlog_level(LogLevel level) {
  switch (level) {
    case LogLevel::debug: return spdlog::level::debug;
    case LogLevel::info: return spdlog::level::info;
    case LogLevel::warn: return spdlog::level::warn;
    case LogLevel::error: return spdlog::level::err;
  }
  return spdlog::level::err;
}
}  // namespace

void set_log_terminal(bool on) { terminal_on = on; }

void set_log_file(const std::string& path) {
  const std::lock_guard lock(file_mutex);
  note_signals_in(-1);
  file_logger.reset();
  signal_notes = File();
  if (path.empty()) return;
  signal_notes =
      File::open(path, O_WRONLY | O_CREAT | O_APPEND);  // its errors name the reason and the remedy
  file_logger =
      std::make_shared<spdlog::logger>("file", std::make_shared<spdlog::sinks::basic_file_sink_mt>(path));
  file_logger->set_pattern(fmt::format("%Y-%m-%dT%H:%M:%S.%e %L rank {}: %v", process_identity().rank));
  file_logger->set_level(level_from_environment());
  file_logger->flush_on(spdlog::level::trace);
  note_signals_in(signal_notes.fd());
}

int log_descriptor() {
  const std::lock_guard lock(file_mutex);
  return signal_notes ? signal_notes.fd() : STDERR_FILENO;
}

void log(LogLevel level, const std::string& message) {
  const char* prefix = level == LogLevel::warn ? "warning: " : level == LogLevel::error ? "error: " : "";
  if (terminal_on || level == LogLevel::error) terminal().log(spdlog_level(level), "{}{}", prefix, message);
  const std::lock_guard lock(file_mutex);
  if (file_logger) file_logger->log(spdlog_level(level), "{}", message);
}

}  // namespace dm
