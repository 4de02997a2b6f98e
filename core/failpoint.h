#pragma once
// Failpoints: places where a fault test can make the program fail. They exist only in code compiled with
// DM_FAILPOINTS, which the fault tests build for themselves from the sources they test; the program and its
// libraries hold none.
//
//   DM_FAILPOINT("save.after_manifest");
//
// The environment variable DM_FAILPOINT arms one: NAME=ACTION or NAME@RANK=ACTION, where the action is kill
// (SIGKILL to this process), throw, enospc, eio (as a system call would fail there) or sleep (one second).
//
//   if (DM_FAULT("norm.unsummed")) ...
//
// is a mistake that a test makes on purpose to see that it is found: true where NAME=fault is armed.

#ifdef DM_FAILPOINTS

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <string>
#include <thread>

#include "core/error.h"
#include "core/process.h"

namespace dm::detail {
inline void hit_failpoint(const std::string& name, const char* file, int line) {
  const char* setting = std::getenv("DM_FAILPOINT");
  if (setting == nullptr) return;
  const std::string armed = setting;
  const size_t equals = armed.find('=');
  const std::string place = armed.substr(0, equals), action = armed.substr(equals + 1);
  if (place != name && place != fmt::format("{}@{}", name, process_identity().rank)) return;
  if (action == "kill") ::raise(SIGKILL);
  if (action == "throw") throw Error(ExitCode::internal, "failpoint " + name, file, line);
  if (action == "enospc") throw_errno(ENOSPC, "failpoint", name, file, line);
  if (action == "eio") throw_errno(EIO, "failpoint", name, file, line);
  if (action == "sleep") std::this_thread::sleep_for(std::chrono::seconds(1));
}

/// Looked up each time: a test arms one fault after the other.
inline bool fault_armed(const std::string& name) {
  const char* setting = std::getenv("DM_FAILPOINT");
  return setting != nullptr && setting == name + "=fault";
}
}  // namespace dm::detail

#define DM_FAULT(name) ::dm::detail::fault_armed(name)
#define DM_FAILPOINT(name) ::dm::detail::hit_failpoint(name, __FILE__, __LINE__)
#else
#define DM_FAILPOINT(name) static_cast<void>(0)
#define DM_FAULT(name) false
#endif
