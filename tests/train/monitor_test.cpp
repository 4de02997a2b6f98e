// What a run tells about itself: attempts, the progress line, the file for Prometheus, the report.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <limits>
#include <regex>

#include "tests/support/process.h"
#include "tests/support/refusal.h"
#include "tests/train/tiny_run.h"
#include "train/monitor/progress_meter.h"
#include "train/monitor/prometheus.h"
#include "train/monitor/report/report.h"
#include "train/trainer.h"

namespace dm::train {
namespace {

using testing::HasSubstr;
using testing::Not;

StepMetrics step_metrics(int64_t step, double loss = 2) {
  return {.step = step,
          .loss = loss,
          .lr = 1e-3,
          .gradient_norm = 0.5,
          .verdict = "update",
          .mfu = std::numeric_limits<double>::quiet_NaN(),
          .step_ms = 100,
          .data_wait_ms = 1,
          .training_seconds = 0.1 * static_cast<double>(step)};
}

Attempt attempt_after(int64_t step, int64_t ranks = 1) {
  Attempt attempt;
  attempt.step = step, attempt.ranks = ranks;
  return attempt;
}

TEST(StepMetricsTest, SurviveTheirLine) {
  const StepMetrics before = step_metrics(7);
  StepMetrics after;
  ASSERT_TRUE(StepMetrics::parse(Json::parse(before.json().dump()), after));
  EXPECT_EQ(after.json().dump(), before.json().dump());
  EXPECT_TRUE(std::isnan(after.mfu));
  EXPECT_FALSE(StepMetrics::parse(Json{{"step", 3}, {"eval", Json::object()}}, after));
}

TEST(AttemptTest, AreCountedOverRestartsAndHalfLines) {
  const test::TemporaryFolder folder;
  EXPECT_EQ(begin_attempt(folder.path(), attempt_after(0, 2)).attempt, 1);
  std::ofstream(folder / "attempts.jsonl", std::ios::app) << R"({"attempt": 2, "be)";
  const Attempt second = begin_attempt(folder.path(), attempt_after(10));
  EXPECT_EQ(second.attempt, 2);
  end_attempt(folder.path(), second, "saved");
  const std::vector<Attempt> all = read_attempts(folder.path());
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[0].ranks, 2);
  EXPECT_EQ(all[0].ended, "");
  EXPECT_EQ(all[1].step, 10);
  EXPECT_EQ(all[1].ended, "saved");
  EXPECT_TRUE(std::isnan(all[1].peak_flops));
}

TEST(ProgressMeterTest, ShowsRatesOfItsWindowAndWhatIsLeft) {
  Attempt attempt = attempt_after(100);
  attempt.attempt = 3, attempt.seconds = 10, attempt.total_steps = 200, attempt.log_every = 10;
  attempt.tokens_per_step = 5000;
  attempt.flops_per_token = 1e6, attempt.peak_flops = 1e11;
  ProgressMeter meter(attempt);
  EXPECT_EQ(meter.line(), "");
  EXPECT_TRUE(meter.add(step_metrics(101)));  // the first of the attempt
  for (int64_t step = 102; step < 110; ++step) {
    StepMetrics fast = step_metrics(step);
    fast.step_ms = 50;
    EXPECT_FALSE(meter.add(fast)) << step;
  }
  StepMetrics last = step_metrics(110, 1.25);
  last.step_ms = 50, last.training_seconds = 30;
  EXPECT_TRUE(meter.add(last));
  // 5000 tokens in 50 ms; 20 s for 10 steps, of which 90 are left.
  EXPECT_EQ(meter.line(),
            "step 110/200  loss 1.2500  lr 1.00e-03  grad norm 0.500  100.0k tokens/s  MFU 100.0 %  data "
            "wait 1.0 ms  "
            "ETA 0:03:00  2 restarts");
  Attempt by_time = attempt_after(0);
  by_time.minutes = 1, by_time.tokens_per_step = 1;
  ProgressMeter clock(by_time);
  clock.add(step_metrics(100));
  EXPECT_THAT(clock.line(), HasSubstr("ETA 0:00:50"));
  EXPECT_THAT(clock.line(), Not(HasSubstr("MFU")));
}

TEST(PrometheusTest, WritesOneSampleALineWithHelpAndType) {
  const test::TemporaryFolder folder;
  const std::string path = folder / "run.prom";
  Prometheus prometheus(path, "runs/\"odd\"\\name\n", 2);
  prometheus.step(step_metrics(11));
  StepMetrics skipped = step_metrics(12);
  skipped.verdict = "spike", skipped.loss = std::numeric_limits<double>::quiet_NaN();
  prometheus.step(skipped);
  prometheus.difference({{0, 0.25, 1, 1, 0}, {4, 0.5, 1, 1, 0}});
  prometheus.evaluation(1.5);
  prometheus.write();
  const std::string text = test::read_text(path);
  const std::regex sample(
      R"re(diffmamba_[a-z_]+\{run="runs/\\"odd\\"\\\\name\\n"(,layer="\d+")?\} [-+.e0-9]+)re");
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);)
    EXPECT_TRUE(line.starts_with("# HELP ") || line.starts_with("# TYPE ") || std::regex_match(line, sample))
        << line;
  for (const char* part : {"step{", "skipped_steps{", "restarts{", "held_out_loss{"})
    EXPECT_THAT(text, HasSubstr(part));
  EXPECT_THAT(text, HasSubstr(R"(layer="4"} 0.5)"));
  EXPECT_THAT(text, Not(HasSubstr("diffmamba_loss")));  // not a number
  EXPECT_THAT(text, Not(HasSubstr("verdict")));

  Prometheus nowhere(folder / "absent/run.prom", "run", 0);
  nowhere.write();  // reported; a run goes on
}

RunHistory history(const std::string& name, int64_t steps) {
  RunHistory run;
  run.run_dir = name;
  for (int64_t step = 1; step <= steps; ++step)
    run.steps.push_back(step_metrics(step, static_cast<double>(step)));
  return run;
}

TEST(ReportTest, GathersStepsIntoSpans) {
  RunHistory run = history("runs/a", 10);
  run.steps[3].loss = std::numeric_limits<double>::quiet_NaN();
  run.steps[9].verdict = "spike";
  const Json data = report_data({run}, 5);
  const Json& curves = data["runs"][0]["curves"];
  EXPECT_EQ(curves["x"]["step"], Json({2, 4, 6, 8, 10}));
  EXPECT_EQ(curves["columns"]["loss"]["mean"],
            Json({1.5, 3.0, 5.5, 7.5, 9.5}));  // the span of 3 and NaN is 3
  EXPECT_EQ(curves["columns"]["loss"]["greatest"], Json({2.0, 3.0, 6.0, 8.0, 10.0}));
  EXPECT_EQ(curves["columns"]["mfu"]["mean"], Json({nullptr, nullptr, nullptr, nullptr, nullptr}));
  EXPECT_EQ(data["runs"][0]["skipped"].size(), 1u);
  EXPECT_FALSE(report_data({run}, 10)["runs"][0]["curves"]["columns"]["loss"].contains("least"));
}

TEST(ReportTest, NamesRunsApartAndListsOptionsThatDiffer) {
  RunHistory a = history("/x/one/run/", 1), b = history("/x/two/run", 1);
  for (RunHistory* run : {&a, &b}) {
    run->attempts.push_back(attempt_after(0));
    run->attempts[0].config = {{"model", {{"d_model", run == &a ? 16 : 32}, {"tied", true}}},
                               {"data", {{"data", {"d"}}}}};
  }
  const Json data = report_data({a, b});
  EXPECT_EQ(data["runs"][0]["name"], "one/run");
  EXPECT_EQ(data["runs"][1]["name"], "two/run");
  ASSERT_EQ(data["differences"].size(), 1u);
  EXPECT_EQ(data["differences"][0], (Json{{"option", "model.d_model"}, {"values", {16, 32}}}));
}

TEST(ReportTest, IsOneFileThatNothingInItBreaks) {
  const std::string html = report_html(report_data({history("runs/</script><img src=x>", 3)}));
  EXPECT_THAT(html, HasSubstr("default-src 'none'"));
  EXPECT_THAT(html, Not(HasSubstr("<img")));
  EXPECT_THAT(html, Not(HasSubstr("@data@")));
  for (const char* word : {"src=", "href=", "@import", "url("})
    EXPECT_EQ(html.find(word), html.find(word, html.find("<script type"))) << word << " before the data";
  EXPECT_THAT(test::refusal(ExitCode::bad_data, [] { read_history("/nowhere"); }), HasSubstr("--run-dir"));
}

TEST(ReportTest, ReadsARunAsItWasWritten) {
  const auto group = make_single_process_collectives();
  const test::SharedFolder folder(*group);
  RunConfig config = test::tiny_run(folder.path(), "run", 9);
  config.train.log_every = 4, config.train.save_every = 5;
  config.train.prometheus = folder.path() + "/run.prom";
  config.eval.eval_data = folder.path() + "/data", config.eval.eval_rows = 4, config.eval.eval_length = 12;
  ASSERT_EQ(train(config, data_parallel(*group)), ExitCode::ok);
  const RunHistory run = read_history(config.train.run_dir);
  ASSERT_EQ(run.steps.size(), 9u);
  EXPECT_EQ(run.steps.back().step, 9);
  ASSERT_EQ(run.attempts.size(), 1u);
  EXPECT_EQ(run.attempts[0].ended, "done");
  EXPECT_EQ(run.attempts[0].tokens_per_step, 60);
  EXPECT_EQ(run.attempts[0].config["model"]["d_model"], 16);
  EXPECT_EQ(run.differences.size(), 2u);
  EXPECT_EQ(run.evaluations.size(), 1u);
  EXPECT_EQ(run.saves.size(), 2u);
  EXPECT_GT(run.steps[0].memory_bytes, 1 << 20);
  EXPECT_THAT(run.progress_line(), testing::StartsWith("step 9/9  loss "));
  EXPECT_THAT(test::read_text(config.train.prometheus), HasSubstr("held_out_loss"));
  const Json data = report_data({run});
  EXPECT_EQ(data["runs"][0]["difference"]["lambda"].size(), 1u);
  EXPECT_EQ(data["runs"][0]["difference"]["step"], Json({4, 8}));
}

}  // namespace
}  // namespace dm::train
