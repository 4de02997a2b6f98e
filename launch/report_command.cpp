#include "core/error.h"
#include "core/files.h"
#include "core/log.h"
#include "launch/command.h"
#include "train/monitor/report/report.h"

namespace dm::launch {
namespace {

struct ReportOptions {
  std::vector<std::string> runs;
  std::string output = "report.html";
  int64_t points = 500;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& v) {
    v("runs", self.runs, "folders of runs, compared with each other");
    v("output", self.output, "the HTML file");
    v("points", self.points, "points at most that a curve has; more steps are averaged", Range{2, 100'000});
  }
};

class ReportCommand final : public Command {
 public:
  ReportCommand() { table_.add("report", options_); }

  const char* name() const override { return "report"; }
  const char* summary() const override { return "curves and tables of runs as one HTML file"; }
  const char* description() const override {
    return "Draws what runs have written so far: loss, speed, memory, the differential layers, evaluations, "
           "restarts, and the options that differ.\nThe file needs no network and no other file.";
  }
  const char* positional() const override { return "runs"; }

  ExitCode run(const Invocation&) override {
    DM_REQUIRE(!options_.runs.empty(), ExitCode::usage, "report: name the folder of a run, or of several");
    std::vector<train::RunHistory> runs;
    for (const std::string& run : options_.runs) runs.push_back(train::read_history(run));
    write_file_atomically(options_.output, train::report_html(train::report_data(runs, options_.points)));
    log_info("{}: {} run{}; open it in a browser", options_.output, runs.size(), runs.size() == 1 ? "" : "s");
    return ExitCode::ok;
  }

 private:
  ReportOptions options_;
};

}  // namespace

std::unique_ptr<Command> make_report_command() { return std::make_unique<ReportCommand>(); }

}  // namespace dm::launch
