#include <gmock/gmock.h>

#include "tests/model/models.h"
#include "tests/support/refusal.h"

namespace dm::model {
namespace {

using testing::HasSubstr;

std::string refusal(const std::function<void(ModelConfig&)>& change, const std::string& pattern = "D",
                    const std::string& mixer = "mamba2") {
  ModelConfig config = small_config(pattern, mixer);
  validate(config);
  change(config);
  return test::refusal(ExitCode::usage, [&] { validate(config); });
}

TEST(Validate, SizesThatDoNotDivide) {
  EXPECT_THAT(refusal([](ModelConfig& c) { c.head_dim = 5; }), HasSubstr("--head-dim 5"));
  EXPECT_THAT(refusal([](ModelConfig& c) { c.head_dim = 5; }), HasSubstr("legal: the divisors of 16"));
  EXPECT_THAT(refusal([](ModelConfig& c) { c.head_dim_plain = 5; }, "M"), HasSubstr("--head-dim-plain 5"));
  EXPECT_THAT(refusal([](ModelConfig& c) { c.head_dim_plain = 5; }, "S"),
              HasSubstr("32 channels of a branch of layer S"));
  EXPECT_THAT(refusal([](ModelConfig& c) { c.n_groups = 3; }),
              HasSubstr("--n-groups 3: the 2 heads of a branch of layer D"));
}

TEST(Validate, OnlyTheLettersInUseCount) {
  ModelConfig config = small_config("D");
  config.head_dim_plain = 5;  // of M and S, which are not there
  validate(config);
}

TEST(Validate, LambdaByHeadNeedsHeads) {
  for (const char* lambda : {"head", "token_head"}) {
    const std::string message = refusal([&](ModelConfig& c) { c.lambda = lambda; }, "D", "mamba1");
    EXPECT_THAT(message, HasSubstr(std::string("--lambda ") + lambda + ": mamba1 has no heads"));
    EXPECT_THAT(message, HasSubstr("legal with --mixer mamba1: sigmoid_sum, exp_diff, scalar, fixed, token"));
    ModelConfig scan = small_config("S", "mamba1", lambda);  // a differential scan has its own λ
    validate(scan);
  }
}

TEST(Validate, WhatMamba1Lacks) {
  EXPECT_THAT(refusal([](ModelConfig& c) { c.norm_group = "group"; }, "M", "mamba1"),
              HasSubstr("legal with --mixer mamba1: all"));
  EXPECT_THAT(refusal([](ModelConfig& c) { c.n_groups = 2; }, "M", "mamba1"),
              HasSubstr("legal with --mixer mamba1: 1"));
}

TEST(Validate, UnknownNames) {
  EXPECT_THAT(refusal([](ModelConfig& c) { c.mixer = "mamba3"; }), HasSubstr("known: mamba2, mamba1"));
  EXPECT_THAT(refusal([](ModelConfig& c) { c.lambda = "tokens"; }), HasSubstr("fixed, token, token_head"));
  EXPECT_THAT(refusal([](ModelConfig& c) { c.pattern = "DQ"; }), HasSubstr("'Q' is no layer letter"));
}

TEST(Validate, StepLimits) {
  EXPECT_THAT(refusal([](ModelConfig& c) { c.dt_limit_min = 2, c.dt_limit_max = 1; }),
              HasSubstr("--dt-limit-min 2 is above"));
  ModelConfig config = small_config("D");
  config.dt_limit_min = 1e-3;  // no upper limit
  validate(config);
}

TEST(Fields, DefaultsAreAValidModel) { validate(ModelConfig{}); }

TEST(Fields, EveryFormOfLambdaIsAChoice) {
  ModelConfig config;
  FieldTable table;
  table.add("model", config);
  for (const std::string& name : lambda_form_names()) table.set("lambda", name, "test");
  EXPECT_THAT(test::refusal(ExitCode::usage, [&] { table.set("lambda", "heads", "--lambda"); }),
              HasSubstr("heads"));
}

}  // namespace
}  // namespace dm::model
