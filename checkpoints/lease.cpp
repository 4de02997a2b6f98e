#include "checkpoints/lease.h"

#include <fmt/format.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include "checkpoints/names.h"
#include "core/error.h"
#include "core/json.h"
#include "core/process.h"

namespace dm::checkpoints {
namespace {

constexpr size_t kTextBytes = 1024;  // less than a page, so that readers see one state or the other

std::string environment(const char* name) {
  const char* text = std::getenv(name);
  return text ? std::string(text).substr(0, 64) : "";
}

/// Field 22 of /proc/PID/stat; 0 when there is no such process, or only its exit code is left (state Z or X,
/// field 3). Field 2, the program's name, may hold spaces and brackets.
int64_t start_time_of(int64_t pid) {
  std::ifstream file(fmt::format("/proc/{}/stat", pid));
  std::string text;
  std::getline(file, text);
  const size_t bracket = text.rfind(')');
  if (bracket == std::string::npos) return 0;
  std::istringstream fields(text.substr(bracket + 1));
  std::string field;
  fields >> field;
  if (field == "Z" || field == "X") return 0;
  for (int i = 4; i <= 22; ++i) fields >> field;
  return std::strtoll(field.c_str(), nullptr, 10);
}

}  // namespace

Lease Lease::mine() {
  Lease lease;
  lease.host = process_identity().host;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> lease.boot_id;
  lease.pid = getpid();
  lease.start_time = start_time_of(lease.pid);
  lease.slurm_job = environment("SLURM_JOB_ID");
  lease.slurm_restarts = std::strtoll(environment("SLURM_RESTART_COUNT").c_str(), nullptr, 10);
  lease.nonce = make_nonce();
  return lease;
}

std::string Lease::text() const {
  std::string line = OrderedJson{
      {"host", host},
      {"boot_id", boot_id},
      {"pid", pid},
      {"start_time", start_time},
      {"slurm_job", slurm_job},
      {"slurm_restarts", slurm_restarts},
      {"nonce", nonce},
      {"counter",
       counter}}.dump(-1, ' ', true);
  DM_CHECK(line.size() < kTextBytes, "a lease of {} bytes", line.size());
  line.resize(kTextBytes - 1, ' ');
  return line + "\n";
}

std::optional<Lease> Lease::parse(const std::string& text) {
  if (text.size() != kTextBytes) return std::nullopt;
  try {
    const Json json = parse_json(text, kLockName);
    const auto words = [&](const char* key) { return required<std::string>(json, key, kLockName); };
    const auto number = [&](const char* key) { return required<int64_t>(json, key, kLockName); };
    return Lease{words("host"),      words("boot_id"),         number("pid"),  number("start_time"),
                 words("slurm_job"), number("slurm_restarts"), words("nonce"), number("counter")};
  } catch (const Error&) {
    return std::nullopt;
  }
}

std::string Lease::holder() const {
  return fmt::format("process {} on {}{}", pid, host,
                     slurm_job.empty() ? "" : fmt::format(" (SLURM job {})", slurm_job));
}

bool process_runs(const Lease& lease) {
  const int64_t found = start_time_of(lease.pid);
  return found != 0 && found == lease.start_time;
}

Verdict judge(const Lease& holder, const Lease& me, OsLock os_lock, bool holder_runs) {
  const bool same_host = holder.host == me.host, same_boot = same_host && holder.boot_id == me.boot_id;
  const bool requeued =
      !me.slurm_job.empty() && holder.slurm_job == me.slurm_job && me.slurm_restarts > holder.slurm_restarts;
  // On one kernel the process table and the lock tell the truth; the lock also sees holders in other
  // containers.
  if (same_boot) return holder_runs || os_lock == OsLock::busy ? Verdict::refuse : Verdict::take;
  if (requeued) return Verdict::take;  // SLURM restarts a job only after it has ended
  if (os_lock == OsLock::busy) return Verdict::refuse;
  if (os_lock == OsLock::acquired && same_host)
    return Verdict::take;  // this host has been started anew since
  // Another host. Locks of some network file systems end at the host, so having it proves nothing.
  return Verdict::watch;
}

}  // namespace dm::checkpoints
