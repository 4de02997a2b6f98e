// Options of a run: the table, contradictions, and what may change on resuming.

#include "train/run_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "train/resume.h"

namespace dm::train {
namespace {

using testing::AllOf;
using testing::HasSubstr;

RunConfig valid() {
  RunConfig config;
  config.train.run_dir = "runs/x";
  config.data.data = {"data/x"};
  config.train.steps = 100;
  return config;
}

std::string refusal(RunConfig config) {
  try {
    config.resolve_and_validate();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::usage);
    return error.what();
  }
  return "";
}

template <class Change>
RunConfig changed(Change&& change) {
  RunConfig config = valid();
  change(config);
  return config;
}

TEST(RunConfig, TableHasTheSectionsAndReadsItsOwnJsonAndIni) {
  RunConfig config = valid(), copy;
  config.train.allow = {"lr", "steps"};
  config.optimizer.lr = 0.1 + 0.2;
  const FieldTable table = config.table(), copy_table = copy.table();
  copy_table.read_json(table.to_json(), "test");
  EXPECT_EQ(copy_table.to_ini(), table.to_ini());
  RunConfig from_ini;
  const FieldTable ini_table = from_ini.table();
  read_ini(ini_table, table.to_ini(), "test.ini");
  EXPECT_EQ(ini_table.to_json(), table.to_json());
  for (const char* section : {"model", "data", "optimizer", "schedule", "train", "eval", "checkpoint"})
    EXPECT_TRUE(table.to_json().contains(section)) << section;
}

TEST(RunConfig, EveryFieldHasHelpAndADefaultWithinItsRange) {
  RunConfig config;
  const FieldTable table = config.table();
  for (const Field& field : table.fields()) {
    EXPECT_GT(field.help.size(), 8u) << field.name;
    EXPECT_NO_THROW(field.parse(field.default_text)) << field.name;
  }
}

TEST(RunConfig, ValidOneIsAcceptedAndResolved) {
  RunConfig config = valid();
  config.resolve_and_validate();
  EXPECT_EQ(config.eval.eval_length, config.train.length);
}

TEST(RunConfig, ContradictionsNameTheirOptions) {
  EXPECT_THAT(refusal(changed([](RunConfig& c) { c.train.steps = 0; })),
              AllOf(HasSubstr("--steps"), HasSubstr("--tokens"), HasSubstr("--minutes")));
  EXPECT_THAT(refusal(changed([](RunConfig& c) { c.train.run_dir = ""; })), HasSubstr("--run-dir"));
  EXPECT_THAT(refusal(changed([](RunConfig& c) { c.data.data = {}; })), HasSubstr("--data"));
  EXPECT_THAT(refusal(changed([](RunConfig& c) { c.train.eval_every = 5; })),
              AllOf(HasSubstr("--eval-every 5"), HasSubstr("--eval-data")));
  EXPECT_THAT(refusal(changed([](RunConfig& c) { c.schedule.warmup = 101; })),
              AllOf(HasSubstr("--warmup 101"), HasSubstr("--steps")));
  EXPECT_THAT(refusal(changed([](RunConfig& c) { c.train.steps = 0, c.train.minutes = 3; })),
              AllOf(HasSubstr("--schedule cosine"), HasSubstr("--steps")));
  EXPECT_THAT(refusal(changed([](RunConfig& c) { c.data.order = "streams", c.layout.cp = 256; })),
              AllOf(HasSubstr("--order streams"), HasSubstr("pieces of 2 tokens")));
  EXPECT_EQ(refusal(changed([](RunConfig& c) { c.train.device = "cuda", c.data.order = "streams"; })), "");
  EXPECT_EQ(refusal(changed([](RunConfig& c) { c.train.device = "cuda", c.layout.zero = 2; })), "");
  EXPECT_THAT(refusal(changed([](RunConfig& c) { c.train.allow = {"warmpu"}; })),
              AllOf(HasSubstr("'warmpu'"), HasSubstr("'warmup'")));
  EXPECT_EQ(refusal(changed([](RunConfig& c) { c.train.allow = {"warmup", "tokenizer"}; })), "");
}

TEST(RunConfig, ZeroRowsAndHalfNumbersAreRefusedByTheTable) {
  RunConfig config = valid();
  const FieldTable table = config.table();
  for (const char* name : {"micro_batch", "global_batch", "length", "log_every", "telemetry_tokens"})
    EXPECT_THROW(table.set(name, "0", "test"), Error) << name;
  EXPECT_THROW(table.set("lr", "1e-3x", "test"), Error);
  EXPECT_THROW(table.set("beta2", "1", "test"), Error);
  EXPECT_THROW(table.set("dtype", "f16", "test"), Error);
}

TEST(RunConfig, StepsAndTokensEndTheRunWhicheverComesFirst) {
  RunConfig config = valid();  // 32 rows of 512 tokens: 16384 a step
  EXPECT_EQ(config.total_steps(), 100);
  config.train.tokens = 16384 * 10 + 1;
  EXPECT_EQ(config.total_steps(), 11);
  config.train.tokens = 16384 * 10;
  EXPECT_EQ(config.total_steps(), 10);
  config.train.steps = 7;
  EXPECT_EQ(config.total_steps(), 7);
  config.train.steps = 0;
  EXPECT_EQ(config.total_steps(), 10);
  config.train.tokens = 0;
  EXPECT_EQ(config.total_steps(), 0);
  config.train.tokens = std::numeric_limits<int64_t>::max();
  EXPECT_GT(config.total_steps(), 0);
}

// ---- resuming ----

Meta checkpoint_of(RunConfig config, int64_t step) {
  Meta meta;
  meta.progress.step = step;
  meta.config = config.table().to_json();
  meta.data = {{1, 2}, "bytes", {3, 4}};
  return meta;
}

std::vector<std::string> names(const std::vector<Difference>& differences) {
  std::vector<std::string> result;
  for (const Difference& difference : differences) result.push_back(difference.name);
  return result;
}

template <class Change>
std::vector<std::string> differing(RunConfig before, int64_t step, Change&& change) {
  RunConfig after = before;
  change(after);
  return names(config_differences(checkpoint_of(before, step), after));
}

std::vector<std::string> other_values(const Field& field) {
  if (field.type == "flag") return {"true", "false"};
  if (!field.choices.empty()) return field.choices;
  if (field.type == "integer" || field.type == "number") return {"1", "2", "0.5", "0.25"};
  return {"something-else"};
}

TEST(Resume, EveryOptionThatAffectsTheResultIsCompared) {
  RunConfig before = valid();
  const Meta stored = checkpoint_of(before, 50);
  EXPECT_TRUE(config_differences(stored, before).empty());

  RunConfig after = valid();
  const FieldTable table = after.table();
  for (const Field& field : table.fields()) {
    const std::string value = field.text();
    for (const std::string& other : other_values(field)) try {
        if (field.text() == value) field.parse(other);
      } catch (const Error&) {  // not a value of this field; another is
      }
    if (field.text() == value) {
      EXPECT_EQ(field.choices.size(), 1u) << field.name << ": no other value found";
      continue;
    }

    const std::vector<std::string> found = names(config_differences(stored, after));
    const bool judged_elsewhere =
        field.name == "preset" || field.name == "data" || field.name == "hdf5_name" || field.name == "eos_id";
    if (field.affects == Affects::result && !judged_elsewhere)
      EXPECT_THAT(found, testing::Contains(field.name));
    else
      EXPECT_THAT(found, testing::IsEmpty()) << field.name;
    field.parse(value);
  }
}

TEST(Resume, RunMayBeExtendedWhileItsLearningRatesSoFarStayTheSame) {
  const auto longer = [](RunConfig& c) { c.train.steps = 200; };
  RunConfig run = valid();
  for (const char* schedule : {"cosine", "linear"}) {
    run.schedule = {schedule, 10, 0.1, 0};
    EXPECT_THAT(differing(run, 50, longer), testing::ElementsAre("steps")) << schedule;
    EXPECT_THAT(differing(run, 10, longer), testing::IsEmpty()) << schedule << ", still warming up";
    run.schedule.decay_steps = 60;
    EXPECT_THAT(differing(run, 50, longer), testing::IsEmpty()) << schedule << " with a fixed end";
  }
  run.schedule = {"constant", 10, 0.1, 0};
  EXPECT_THAT(differing(run, 100, longer), testing::IsEmpty());
  EXPECT_THAT(differing(run, 100, [](RunConfig& c) { c.train.steps = 0, c.train.minutes = 5; }),
              testing::IsEmpty());
  run.schedule = {"wsd", 10, 0.1, 20};
  EXPECT_THAT(differing(run, 80, longer), testing::IsEmpty());
  // Step 81 is the decay's first and still at the peak; step 82 is not.
  EXPECT_THAT(differing(run, 81, longer), testing::IsEmpty());
  EXPECT_THAT(differing(run, 82, longer), testing::ElementsAre("steps"));
  // Tokens that come to the same number of steps change nothing.
  run.schedule = {"cosine", 10, 0.1, 0};
  EXPECT_THAT(differing(run, 50, [](RunConfig& c) { c.train.steps = 0, c.train.tokens = 100 * 16384; }),
              testing::IsEmpty());
}

TEST(Resume, DataIsComparedByItsSamplesNotByItsPath) {
  RunConfig before = valid(), moved = valid(), reordered = valid();
  moved.data.data = {"elsewhere/x"};
  reordered.data.data_seed = 9;
  const Meta stored = checkpoint_of(before, 5);
  const DataIdentity other_samples{{1, 3}, "bytes", {3, 4}}, other_tokenizer{{1, 2}, "bpe.json", {3, 5}};
  EXPECT_TRUE(data_differences(stored, moved, stored.data).empty());
  EXPECT_THAT(names(data_differences(stored, before, other_samples)), testing::ElementsAre("data"));
  EXPECT_THAT(names(data_differences(stored, moved, other_samples)), testing::ElementsAre("data"));
  EXPECT_THAT(names(data_differences(stored, before, other_tokenizer)), testing::ElementsAre("tokenizer"));
  // Another order has another fingerprint; it is reported as the option that it is, once.
  EXPECT_TRUE(data_differences(stored, reordered, other_samples).empty());
  EXPECT_THAT(names(config_differences(stored, reordered)), testing::ElementsAre("data_seed"));
  reordered.data.data = {"elsewhere/x"};
  EXPECT_THAT(names(data_differences(stored, reordered, other_samples)), testing::ElementsAre("data"));
}

TEST(Resume, RefusalShowsEachFieldAndTheRemedy) {
  const std::vector<Difference> differences{
      {"lr", "0.001", "0.002"}, {"pattern", "D*4", "M*4"}, {"seed", "1", "2"}};
  try {
    refuse_differences(differences, {"seed"}, "runs/x/checkpoints/step_000000005");
    FAIL() << "not refused";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::usage);
    EXPECT_THAT(error.what(), AllOf(HasSubstr("step_000000005"), HasSubstr("lr: 0.001 -> 0.002"),
                                    HasSubstr("pattern: D*4 -> M*4"), HasSubstr("--allow lr,pattern"),
                                    testing::Not(HasSubstr("seed: 1"))));
  }
  EXPECT_NO_THROW(refuse_differences(differences, {"lr", "seed", "pattern"}, "x"));
}

TEST(Resume, OptionsOfOtherVersionsAreDifferences) {
  RunConfig config = valid();
  Meta stored = checkpoint_of(config, 5);
  stored.config["optimizer"].erase("beta1");
  stored.config["optimizer"]["momentum"] = 0.5;
  EXPECT_THAT(names(config_differences(stored, config)), testing::ElementsAre("beta1", "momentum"));
}

TEST(Meta, ReadsBackAndRefusesNonsense) {
  RunConfig config = valid();
  Meta meta = checkpoint_of(config, 5);
  meta.progress = {5, 160, 81920, 1.25};
  meta.updates = 4;
  meta.guard = {{"losses", Json::array()}};
  meta.program = program_version();
  const Json json = meta.to_json();
  EXPECT_EQ(Meta::from_json(parse_json(json.dump(), "test"), "test").to_json(), json);
  for (const char* key : {"kind", "step", "samples", "seconds", "updates", "guard", "config",
                          "data_fingerprint", "tokenizer", "world"}) {
    Json damaged = json;
    damaged.erase(key);
    EXPECT_THROW(Meta::from_json(damaged, "test"), Error) << key;
  }
  Json damaged = json;
  damaged["updates"] = 6;  // more than steps
  EXPECT_THROW(Meta::from_json(damaged, "test"), Error);
}

}  // namespace
}  // namespace dm::train
