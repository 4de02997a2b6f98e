#include <fmt/format.h>

#include <filesystem>

#include "checkpoints/store.h"
#include "core/error.h"
#include "data/verify.h"
#include "launch/command.h"

namespace dm::launch {
namespace {

namespace fs = std::filesystem;

struct VerifyOptions {
  std::string path;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& v) {
    v("path", self.path, "dataset, checkpoint or run folder");
  }
};

/// What a folder is, told by the file that only such a folder has.
std::vector<std::string> problems_of(const std::string& path) {
  DM_REQUIRE(fs::exists(path), ExitCode::io, "{}: no such folder", path);
  if (fs::exists(fs::path(path) / "dataset.json") || fs::exists(fs::path(path) / "train" / "dataset.json"))
    return data::verify_dataset(path);
  if (fs::exists(fs::path(path) / "checkpoints")) {
    std::vector<std::string> problems;
    for (const std::string& directory : checkpoints::list(path)) {
      const auto found = checkpoints::verify(directory);
      problems.insert(problems.end(), found.begin(), found.end());
      fmt::print("{}: {}\n", directory, found.empty() ? "sound" : "damaged");
    }
    return problems;
  }
  if (fs::exists(fs::path(path) / "COMMIT") || fs::exists(fs::path(path) / "manifest.json"))
    return checkpoints::verify(path);
  DM_FAIL(ExitCode::bad_data,
          "{}: neither a dataset (dataset.json), a checkpoint (COMMIT) nor a run (checkpoints/)", path);
}

class VerifyCommand final : public Command {
 public:
  VerifyCommand() { table_.add("verify", options_); }

  const char* name() const override { return "verify"; }
  const char* summary() const override { return "check every byte of a dataset, a checkpoint or a run"; }
  const char* description() const override {
    return "Reads everything and compares it with the checksums. Prints each problem with file, place and "
           "remedy, and exits 65 if\n"
           "there is any.";
  }
  const char* positional() const override { return "path"; }

  ExitCode run(const Invocation&) override {
    DM_REQUIRE(!options_.path.empty(), ExitCode::usage, "verify: name a dataset, checkpoint or run folder");
    const std::vector<std::string> problems = problems_of(options_.path);
    for (const std::string& problem : problems) fmt::print(stderr, "{}\n", problem);
    if (problems.empty()) fmt::print("{}: sound\n", options_.path);
    return problems.empty() ? ExitCode::ok : ExitCode::bad_data;
  }

 private:
  VerifyOptions options_;
};

}  // namespace

std::unique_ptr<Command> make_verify_command() { return std::make_unique<VerifyCommand>(); }

}  // namespace dm::launch
