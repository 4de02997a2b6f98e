#pragma once
// Logging through spdlog. Rank 0 speaks on the terminal; every rank may have a file of its own.
// Level by the environment variable DM_LOG (trace, debug, info, warn, error), info by default.

#include <fmt/core.h>

#include <string>

namespace dm {

enum class LogLevel { debug, info, warn, error };

/// Terminal output of this process on or off (off on ranks other than 0). Errors always reach stderr.
void set_log_terminal(bool on);
/// Appends all messages, with time, rank and level, to `path` from now on, and signals (core/signals.h) as
/// they come; "" closes it.
void set_log_file(const std::string& path);
void log(LogLevel level, const std::string& message);
/// That file as handlers may write into it, or stderr.
int log_descriptor();

template <class... Args>
void log_debug(fmt::format_string<Args...> format, Args&&... args) {
  log(LogLevel::debug, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void log_info(fmt::format_string<Args...> format, Args&&... args) {
  log(LogLevel::info, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void log_warn(fmt::format_string<Args...> format, Args&&... args) {
  log(LogLevel::warn, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void log_error(fmt::format_string<Args...> format, Args&&... args) {
  log(LogLevel::error, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace dm
