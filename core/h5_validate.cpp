// The child process that opens a file with libhdf5 first.
//
// fork, not a spawned program: it needs no second binary to be found, installed and trusted, and costs a
// millisecond where loading this one again costs a second. It is safe here because the child uses only what
// survives a fork of a threaded process: glibc repairs malloc, our lock on libhdf5 is held across the fork,
// so no thread was inside it, and nothing else is touched: no MPI, no CUDA, no log, no stdio, no exit
// handlers (_exit). Were a lock to stay shut all the same, the deadline of the parent turns it into a
// refusal, not a hang.

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstring>

#include "core/error.h"
#include "core/files.h"
#include "core/h5.h"
#include "core/h5_layout.h"

namespace dm {
namespace {

constexpr rlim_t kExtraAddressSpace = rlim_t{1} << 30;  // beyond what the parent already maps
constexpr rlim_t kCpuSeconds = 20;
constexpr std::chrono::seconds kDeadline{120};

/// Pages mapped by this process; the limit on address space counts them too.
rlim_t mapped_bytes() {
  char text[128] = {};
  const int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  const bool got = read(fd, text, sizeof text - 1) > 0;
  close(fd);
  return got ? std::strtoull(text, nullptr, 10) * static_cast<rlim_t>(sysconf(_SC_PAGESIZE)) : 0;
}

void confine(size_t files) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  // A crash must end the child quietly: MPI and others install handlers that print a trace and go on.
  for (const int signal : {SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL, SIGXCPU, SIGXFSZ, SIGALRM})
    std::signal(signal, SIG_DFL);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGUSR1})
    std::signal(signal, SIG_IGN);  // the parent decides what they mean
  const auto limit = [](auto resource, rlim_t value) {
    const rlimit both{value, value};
    setrlimit(resource, &both);
  };
  limit(RLIMIT_CORE, 0);
  limit(RLIMIT_FSIZE, 0);
  limit(RLIMIT_CPU, kCpuSeconds + files / 10);
  if (const rlim_t mapped = mapped_bytes(); mapped > 0) limit(RLIMIT_AS, mapped + kExtraAddressSpace);
}

void send(int fd, const char* data, size_t size) {
  for (ssize_t put = 0; size > 0 && (put = write(fd, data, size)) > 0; data += put)
    size -= static_cast<size_t>(put);
}

/// Sends the index of each file as it begins ("@3\n"), then '+', or '-', the exit code and errno as a byte
/// each, and the message.
[[noreturn]] void run_child(size_t count, const std::function<void(size_t)>& check, int to_parent) {
  confine(count);
  std::string answer = "+";
  try {
    for (size_t i = 0; i < count; ++i) {
      const std::string begun = fmt::format("@{}\n", i);
      send(to_parent, begun.data(), begun.size());
      check(i);
    }
  } catch (const Error& error) {
    answer = std::string("-") + static_cast<char>(error.code()) + static_cast<char>(error.error_number()) +
             error.what();
  } catch (const std::exception& error) {
    answer = std::string("-") + static_cast<char>(ExitCode::bad_data) + '\0' + error.what();
  }
  send(to_parent, answer.data(), answer.size());
  _exit(0);
}

/// Everything the child sends until it closes the pipe, or kills it at the deadline.
std::string receive(int fd, pid_t child, std::chrono::seconds deadline, bool& late) {
  const auto end = std::chrono::steady_clock::now() + deadline;
  std::string answer;
  while (true) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(end - std::chrono::steady_clock::now()).count();
    pollfd wait{fd, POLLIN, 0};
    const int ready = poll(&wait, 1, left > 0 ? static_cast<int>(left) : 0);
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) {
      late = true;
      kill(child, SIGKILL);
      return answer;
    }
    char buffer[4096];
    const ssize_t got = read(fd, buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return answer;
    answer.append(buffer, static_cast<size_t>(got));
  }
}

/// The last file that the child began, and what it said after that.
std::pair<size_t, std::string> split(const std::string& answer) {
  size_t file = 0, at = 0;
  while (at < answer.size() && answer[at] == '@') {
    const size_t end = answer.find('\n', at);
    if (end == std::string::npos) return {file, ""};
    file = std::strtoull(answer.c_str() + at + 1, nullptr, 10);
    at = end + 1;
  }
  return {file, answer.substr(at)};
}

}  // namespace

void check_in_child(const std::vector<std::string>& paths, const std::function<void(size_t)>& check) {
  if (paths.empty()) return;
  int ends[2];
  DM_SYS(pipe2(ends, O_CLOEXEC), "make a pipe to check", paths.front());
  pid_t child = -1;
  int fork_error = 0;
  {
    const H5Lock lock;  // also makes sure that libhdf5 is initialised before the fork, not in the child
    child = fork();
    fork_error = errno;
  }
  if (child == 0) {
    close(ends[0]);
    run_child(paths.size(), check, ends[1]);
  }
  close(ends[1]);
  bool late = false;
  std::string answer;
  int status = 0;
  if (child > 0) {
    answer = receive(ends[0], child, kDeadline + std::chrono::seconds(paths.size()), late);
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
  }
  close(ends[0]);
  if (child < 0) throw_errno(fork_error, "start a process to check", paths.front(), __FILE__, __LINE__);

  const auto [last, verdict] = split(answer);
  const std::string& path = paths[std::min(last, paths.size() - 1)];
  constexpr const char* kRemedy = "its metadata is damaged or hostile; restore the file from a good copy";
  const int signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  DM_REQUIRE(!late && signal != SIGXCPU && signal != SIGKILL, ExitCode::bad_data,
             "{}: libhdf5 does not come to an end with it: {}", path, kRemedy);
  DM_REQUIRE(signal == 0, ExitCode::bad_data, "{}: libhdf5 crashes on it (signal {}): {}", path, signal,
             kRemedy);
  if (verdict == "+") return;
  DM_REQUIRE(verdict.size() > 3 && verdict[0] == '-', ExitCode::bad_data,
             "{}: libhdf5 ended the process that read it: {}", path, kRemedy);
  const auto code = static_cast<unsigned char>(verdict[1]), number = static_cast<unsigned char>(verdict[2]);
  throw Error(static_cast<ExitCode>(code), verdict.substr(3), __FILE__, __LINE__, "", number);
}

void validate_h5_in_child(const std::vector<std::string>& paths) {
  check_in_child(paths, [&](size_t i) { read_h5_layout(paths[i]); });
}

void validate_h5_in_child(const std::string& path) { validate_h5_in_child(std::vector{path}); }

}  // namespace dm
