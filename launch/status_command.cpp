#include <fmt/format.h>

#include <chrono>
#include <filesystem>

#include "checkpoints/lock.h"
#include "checkpoints/store.h"
#include "core/error.h"
#include "core/json.h"
#include "launch/command.h"
#include "train/monitor/run_history.h"

namespace dm::launch {
namespace {

struct StatusOptions {
  std::string run;
  bool json = false;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& v) {
    v("run", self.run, "folder of the run");
    v("json", self.json, "print one JSON object instead");
  }
};

struct Status {
  std::string state;  // running, done, saved, failed, killed, unknown
  std::string text;   // the same for a reader
};

Status status_of(const train::RunHistory& run) {
  if (const auto holder = checkpoints::current_holder(run.run_dir))
    return {"running", fmt::format("training, {}", holder->holder())};
  if (run.attempts.empty()) return {"unknown", "no attempt is recorded; an earlier version wrote it"};
  const std::string& ended = run.attempts.back().ended;
  if (ended == "done") return {"done", "done"};
  if (ended == "saved") return {"saved", "stopped by a signal, saved; the same command goes on"};
  if (ended.empty()) return {"killed", "ended without a word: killed, or its host is gone; run it again"};
  return {"failed", "failed: " + ended};
}

double seconds_since_write(const std::string& path) {
  std::error_code none;
  const auto written = std::filesystem::last_write_time(path, none);
  if (none) return 0;
  return std::chrono::duration<double>(std::filesystem::file_time_type::clock::now() - written).count();
}

class StatusCommand final : public Command {
 public:
  StatusCommand() { table_.add("status", options_); }

  const char* name() const override { return "status"; }
  const char* summary() const override { return "how a run stands: progress, speed, ETA, restarts"; }
  const char* description() const override {
    return "Prints what the terminal of `diffmamba train` shows, from the run's folder: while it trains, "
           "from anywhere, and afterwards.\nTo follow a run: watch diffmamba status RUN.";
  }
  const char* positional() const override { return "run"; }

  ExitCode run(const Invocation&) override {
    DM_REQUIRE(!options_.run.empty(), ExitCode::usage, "status: name the folder of a run");
    const train::RunHistory run = train::read_history(options_.run);
    options_.json ? print_json(run) : print_text(run);
    return ExitCode::ok;
  }

 private:
  static void print_text(const train::RunHistory& run) {
    const Status status = status_of(run);
    fmt::print("{}: {}\n", run.run_dir, status.text);
    if (!run.attempts.empty()) {
      const train::Attempt& last = run.attempts.back();
      fmt::print("attempt {}, begun {} after step {}: {} rank{}, {}\n", last.attempt, last.began, last.step,
                 last.ranks, last.ranks == 1 ? "" : "s", last.device);
    }
    if (const std::string line = run.progress_line(); !line.empty()) fmt::print("{}\n", line);
    for (auto at = run.evaluations.rbegin(); at != run.evaluations.rend(); ++at) {
      const Json loss = at->values.value("nats_per_token", Json());
      if (!loss.is_number()) continue;
      fmt::print("held-out after step {}: loss {:.4f}\n", at->step, loss.get<double>());
      break;
    }
    if (const int64_t skipped = run.skipped_steps(); skipped > 0) fmt::print("{} steps skipped\n", skipped);
    if (const auto saved = checkpoints::list(run.run_dir); !saved.empty())
      fmt::print("newest checkpoint: {}\n", saved.front());
    if (status.state == "running")
      fmt::print("last step written {:.0f} s ago\n", seconds_since_write(run.run_dir + "/metrics.jsonl"));
  }

  static void print_json(const train::RunHistory& run) {
    OrderedJson json{{"run", run.run_dir}, {"state", status_of(run).state}};
    if (!run.attempts.empty())
      json["attempt"] = run.attempts.back().attempt, json["ranks"] = run.attempts.back().ranks,
      json["total_steps"] = run.attempts.back().total_steps;
    if (!run.steps.empty()) json["last"] = run.steps.back().json();
    if (!run.evaluations.empty())
      json["eval"] = {{"step", run.evaluations.back().step}, {"values", run.evaluations.back().values}};
    json["skipped_steps"] = run.skipped_steps();
    const auto saved = checkpoints::list(run.run_dir);
    json["checkpoint"] = saved.empty() ? "" : saved.front();
    fmt::print("{}\n", json.dump(2));
  }

  StatusOptions options_;
};

}  // namespace

std::unique_ptr<Command> make_status_command() { return std::make_unique<StatusCommand>(); }

}  // namespace dm::launch
