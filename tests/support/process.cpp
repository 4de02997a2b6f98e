#include "tests/support/process.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <thread>

namespace dm::test {
namespace {
using Clock = std::chrono::steady_clock;

void redirect(const std::string& path, int flags, int to) {
  const int fd = ::open(path.c_str(), flags, 0600);
  if (fd < 0 || dup2(fd, to) < 0) _exit(126);
  ::close(fd);
}
}  // namespace

Process::Process(std::vector<std::string> arguments, const std::map<std::string, std::string>& environment,
                 const std::string& input, const std::string& working_directory) {
  std::string pattern = (std::filesystem::temp_directory_path() / "dm-process-XXXXXX").string();
  if (mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("mkdtemp failed");
  folder_ = pattern;
  write_text(folder_ + "/in", input);

  std::vector<char*> words;
  for (std::string& argument : arguments) words.push_back(argument.data());
  words.push_back(nullptr);
  pid_ = fork();
  if (pid_ < 0) throw std::runtime_error("fork failed");
  if (pid_ == 0) {
    setpgid(0, 0);
    for (const auto& [name, value] : environment) setenv(name.c_str(), value.c_str(), 1);
    redirect(folder_ + "/in", O_RDONLY, 0);
    redirect(folder_ + "/out", O_WRONLY | O_CREAT | O_APPEND, 1);
    redirect(folder_ + "/err", O_WRONLY | O_CREAT | O_APPEND, 2);
    if (!working_directory.empty() && chdir(working_directory.c_str()) != 0) _exit(126);
    execvp(words[0], words.data());
    _exit(127);
  }
  setpgid(pid_, pid_);
}

Process::~Process() {
  if (!ended_) {
    signal_group(SIGKILL);
    waitpid(pid_, &status_, 0);
  }
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

void Process::signal(int number) { ::kill(pid_, number); }
void Process::signal_group(int number) { ::kill(-pid_, number); }

bool Process::running() {
  if (!ended_ && waitpid(pid_, &status_, WNOHANG) == pid_) ended_ = true;
  return !ended_;
}

std::string Process::output_so_far() const {
  return read_text(folder_ + "/out") + read_text(folder_ + "/err");
}

Outcome Process::wait(std::chrono::seconds limit) {
  const auto deadline = Clock::now() + limit;
  Outcome outcome;
  while (running()) {
    if (Clock::now() > deadline) {
      outcome.timed_out = true;
      signal_group(SIGKILL);
      waitpid(pid_, &status_, 0);
      ended_ = true;
      break;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  outcome.exit_code = WIFSIGNALED(status_) ? 128 + WTERMSIG(status_) : WEXITSTATUS(status_);
  outcome.out = read_text(folder_ + "/out");
  outcome.err = read_text(folder_ + "/err");
  return outcome;
}

Outcome run(std::vector<std::string> arguments, const std::map<std::string, std::string>& environment,
            const std::string& input, std::chrono::seconds limit) {
  return Process(std::move(arguments), environment, input).wait(limit);
}

std::string diffmamba() { return DM_TEST_PROGRAM; }

std::vector<std::string> mpirun(int ranks, std::vector<std::string> arguments) {
  std::vector<std::string> words = {DM_TEST_MPIRUN, "--oversubscribe", "-n", std::to_string(ranks)};
  words.insert(words.end(), arguments.begin(), arguments.end());
  return words;
}

std::map<int, pid_t> ranks_of(const std::string& word) {
  static const std::string kRank = "OMPI_COMM_WORLD_RANK=";
  std::map<int, pid_t> found;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    const std::string name = entry.path().filename();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    std::istringstream words(read_text(entry.path() / "cmdline")),
        variables(read_text(entry.path() / "environ"));
    bool has_word = false;
    for (std::string next; std::getline(words, next, '\0');) has_word |= next == word;
    if (!has_word) continue;
    for (std::string next; std::getline(variables, next, '\0');)
      if (next.starts_with(kRank)) found[std::stoi(next.substr(kRank.size()))] = std::stoi(name);
  }
  return found;
}

TemporaryFolder::TemporaryFolder() {
  std::string pattern = (std::filesystem::temp_directory_path() / "dm-test-XXXXXX").string();
  if (mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("mkdtemp failed");
  path_ = pattern;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::string read_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

void write_text(const std::string& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << text;
  if (!file.flush()) throw std::runtime_error("cannot write " + path);
}

}  // namespace dm::test
