#pragma once
// Running programs from tests: output captured, time bounded, signals sent, exit codes looked at.

#include <sys/types.h>

#include <chrono>
#include <map>
#include <string>
#include <vector>

namespace dm::test {

struct Outcome {
  int exit_code = -1;  // 128 + signal when a signal ended it
  std::string out;
  std::string err;
  bool timed_out = false;
};

/// A child process in a process group of its own. Killed, with its whole group, by the destructor.
class Process {
 public:
  /// arguments[0] is looked up on PATH. `environment` is added to ours. stdout and stderr go to files in a
  /// private folder.
  explicit Process(std::vector<std::string> arguments,
                   const std::map<std::string, std::string>& environment = {}, const std::string& input = "",
                   const std::string& working_directory = "");
  Process(const Process&) = delete;
  ~Process();

  pid_t pid() const { return pid_; }
  void signal(int number);        // to the process alone
  void signal_group(int number);  // to it and all its children
  bool running();
  /// What it has written to stdout and stderr so far.
  std::string output_so_far() const;
  /// Waits; past the limit the group is killed and `timed_out` set.
  Outcome wait(std::chrono::seconds limit = std::chrono::seconds(120));

 private:
  pid_t pid_ = -1;
  std::string folder_;
  int status_ = 0;
  bool ended_ = false;
};

Outcome run(std::vector<std::string> arguments, const std::map<std::string, std::string>& environment = {},
            const std::string& input = "", std::chrono::seconds limit = std::chrono::seconds(120));

/// The path of the program under test, and mpirun's words for `ranks` ranks of it.
std::string diffmamba();
std::vector<std::string> mpirun(int ranks, std::vector<std::string> arguments);

/// Living processes with this word in their command lines, by the rank that mpirun gave them; those without
/// one are left out.
std::map<int, pid_t> ranks_of(const std::string& word);

/// A folder that goes away with the object.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

std::string read_text(const std::string& path);
void write_text(const std::string& path, const std::string& text);

}  // namespace dm::test
