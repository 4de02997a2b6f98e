#include "checkpoints/store.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "checkpoints/directory.h"
#include "checkpoints/lock.h"
#include "checkpoints/names.h"
#include "checkpoints/retention.h"
#include "checkpoints/verify.h"
#include "checkpoints/vote.h"
#include "checkpoints/writer.h"
#include "core/error.h"
#include "core/failpoint.h"
#include "core/files.h"
#include "core/log.h"
#include "core/process.h"

namespace dm::checkpoints {
namespace fs = std::filesystem;
namespace {

/// Finds out now what the first save would find out in an hour.
void try_to_write(const std::string& directory, int64_t rank) {
  const std::string probe = directory + "/" + probe_name(rank);
  ::unlink(probe.c_str());
  try {
    write_new_file(probe, "x");
  } catch (...) {
    ::unlink(probe.c_str());
    throw;
  }
  DM_SYS(::unlink(probe.c_str()), "unlink", probe);
}

std::string join(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  return text;
}

}  // namespace

std::vector<std::string> list(const std::string& run_directory) {
  const std::string directory = run_directory + "/" + kDirectoryName;
  std::vector<int64_t> steps;
  with_errno([&] {
    if (!fs::exists(directory)) return;
    for (const auto& entry : fs::directory_iterator(directory))
      if (const auto step = parse_step_name(entry.path().filename().string())) steps.push_back(*step);
  });
  std::sort(steps.rbegin(), steps.rend());
  std::vector<std::string> paths;
  for (const int64_t step : steps) paths.push_back(directory + "/" + step_name(step));
  return paths;
}

struct Store::Impl {
  std::string run_directory;
  StoreConfig config;
  Collectives& group;
  RankFiles files;
  std::unique_ptr<RunLock> lock;  // on rank 0

  std::string directory() const { return run_directory + "/" + kDirectoryName; }

  void open() {
    vote_of_rank_0(group, [&] {
      with_errno([&] { fs::create_directories(directory()); });
      lock = std::make_unique<RunLock>(run_directory);
      with_errno([&] { remove_leftovers(run_directory); });
      return std::string();
    });
    files = RankFiles::make(vote(group, [] { return process_identity().host; }), config.ranks_per_file);
    vote(group, [&] {
      if (files.leads(group.rank())) try_to_write(directory(), group.rank());
      return std::string();
    });
  }

  /// What follows a commit and cannot undo it: a failure here is told, not thrown. `problems` were found in
  /// reading back what was saved.
  void after_commit(int64_t step, const std::string& problems) {
    try {
      write_file_atomically(run_directory + "/" + kLatestName, step_name(step) + "\n");
      DM_FAILPOINT("save.after_latest");
      DM_REQUIRE(problems.empty(), ExitCode::io, "reading it back failed, so older ones are kept: {}",
                 problems);
      with_errno([&] { apply_retention(directory(), config.keep_last, config.keep_every, step); });
    } catch (const Error& error) {
      log_warn("step {} is saved, but {}", step, error.what());
    }
  }

  /// Every rank's problems with a directory, each rank having looked at its share.
  struct Found {
    std::string problems;
    bool of_device = false;
  };
  Found verify_together(const std::string& path) {
    const auto ballots = vote(group, [&] {
      const Problems problems = verify_part(path, group.rank(), group.size());
      return (problems.of_device ? "d" : "-") + join(problems.lines);
    });
    Found all;
    for (const std::string& ballot : ballots) {
      const std::string problems = ballot.substr(1);
      if (all.problems.find(problems) == std::string::npos)
        all.problems += problems;  // what all ranks see is told once
      all.of_device |= ballot[0] == 'd';
    }
    return all;
  }

  /// With one checkpoint kept, deleting the one before leaves only what was just written: before that it is
  /// read once, by all ranks together and from the device. With more, what is left has been there for a
  /// while.
  std::string read_back(const std::string& path) {
    if (config.keep_last > 1) return "";
    try {
      vote(group, [&] { return forget_cached(path), std::string(); });
      return verify_together(path).problems;
    } catch (const Error& error) {  // the same on all ranks
      return error.what();
    }
  }

  /// corrupt-step_N.k, the first free k.
  void set_aside(const std::string& path, const std::string& problems) {
    const int64_t step = *parse_step_name(base_name(path));
    int64_t number = 0;
    while (fs::exists(fs::symlink_status(directory() + "/" + corrupt_name(step, number)))) ++number;
    const std::string aside = directory() + "/" + corrupt_name(step, number);
    rename_without_replacing(path, aside);
    sync_directory(directory());
    log_error("{} does not verify and was set aside as {}:\n{}", path, base_name(aside), problems);
  }
};

Store::Store(std::string run_directory, const StoreConfig& config, Collectives& group)
    : impl_(new Impl{std::move(run_directory), config, group, {}, nullptr}) {
  impl_->open();
}
Store::~Store() = default;

const std::string& Store::run_directory() const { return impl_->run_directory; }

void Store::save(int64_t step, const std::vector<Piece>& pieces, const Json& meta) {
  Impl& my = *impl_;
  write_checkpoint(my.directory(), step, pieces, meta, my.files, my.group, [&] { my.lock->require_held(); });
  const std::string problems = my.read_back(my.directory() + "/" + step_name(step));
  if (my.group.rank() == 0) my.after_commit(step, problems);
}

std::optional<Summary> Store::newest() {
  Impl& my = *impl_;
  const std::string listed = vote_of_rank_0(my.group, [&] { return join(list(my.run_directory)); });
  std::vector<std::pair<std::string, std::string>> bad;  // path, problems
  bool of_device = false;
  for (size_t begin = 0, end; (end = listed.find('\n', begin)) != std::string::npos; begin = end + 1) {
    const std::string path = listed.substr(begin, end - begin);
    const auto found = my.verify_together(path);
    of_device |= found.of_device;
    if (!found.problems.empty()) {
      bad.emplace_back(path, found.problems);
      continue;
    }
    Summary summary;
    vote(my.group, [&] {
      if (my.group.rank() == 0)
        for (const auto& [bad_path, bad_problems] : bad) my.set_aside(bad_path, bad_problems);
      summary = read_summary(path);
      return std::string();
    });
    return summary;
  }
  const std::string aside = vote_of_rank_0(my.group, [&] {
    return with_errno([&] {
      std::string names;
      for (const auto& entry : fs::directory_iterator(my.directory()))
        if (const std::string name = entry.path().filename(); parse_corrupt_name(name)) names += " " + name;
      return names;
    });
  });
  if (bad.empty() && aside.empty()) return std::nullopt;
  std::string report;
  for (const auto& [path, problems] : bad) report += problems;
  DM_FAIL(of_device ? ExitCode::io : ExitCode::bad_data,
          "{}: none of its checkpoints verifies ({} tried{}{}); this run does not start over by itself: "
          "restore one from a copy, or move "
          "them away to begin at step 0\n{}",
          my.directory(), bad.size(), aside.empty() ? "" : ", set aside earlier:", aside, report);
}

}  // namespace dm::checkpoints
