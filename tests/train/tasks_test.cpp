// Multiple-choice and cloze items: what is scored, against sums over single rows and a count by hand.

#include "train/tasks/task_set.h"

#include <c10/core/GradMode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "data/tokenizer.h"
#include "tests/support/process.h"
#include "tests/support/refusal.h"
#include "tests/train/tiny_model.h"

namespace dm::train {
namespace {

using testing::HasSubstr;

class TasksTest : public testing::Test {
 protected:
  std::string file(const std::string& text) const {
    test::write_text(folder_ / "tasks.jsonl", text);
    return folder_ / "tasks.jsonl";
  }
  TaskResults evaluate(const std::string& text, int64_t batch = 3) const {
    return TaskSet(file(text), *tokenizer_, 257).evaluate(model_.model, batch, data_parallel(*model_.group));
  }
  /// log p(continuation | context), one row without padding.
  double alone(const std::vector<int64_t>& context, const std::string& continuation) const {
    std::vector<int64_t> ids = context;
    for (const char byte : continuation) ids.push_back(static_cast<unsigned char>(byte));
    const auto length = static_cast<int64_t>(ids.size()) - 1;
    at::Tensor per_target;
    model_.model.loss_sum(at::tensor(ids).unsqueeze(0), at::zeros({1, length}, at::kInt),
                          at::ones({1, length}, at::kByte), &per_target);
    const auto scored = static_cast<int64_t>(continuation.size());
    return -per_target.narrow(1, length - scored, scored).sum().item<double>();
  }
  double alone(const std::string& context, const std::string& continuation) const {
    return alone(std::vector<int64_t>(context.begin(), context.end()), continuation);
  }
  /// What the model holds most likely, byte by byte; "" when that is no ASCII, which JSON could not hold.
  std::string most_likely(const std::string& context, int64_t count) const {
    std::string text = context;
    for (int64_t i = 0; i < count; ++i) {
      const std::vector<int64_t> ids(text.begin(), text.end());
      const auto length = static_cast<int64_t>(ids.size());
      const at::Tensor logits =
          model_.model.logits(at::tensor(ids).unsqueeze(0), at::zeros({1, length}, at::kInt))
              .select(1, length - 1);
      const auto id = logits.argmax(-1).item<int64_t>();
      if (id == 0 || id >= 128) return "";
      text += static_cast<char>(id);
    }
    return text.substr(context.size());
  }

  const test::TemporaryFolder folder_;
  const test::TinyModel model_{5};
  const std::unique_ptr<data::Tokenizer> tokenizer_ = data::open_tokenizer("bytes");
};

TEST_F(TasksTest, LikelihoodsAreThoseOfRowsByThemselves) {
  const c10::NoGradGuard no_gradients;
  const TaskResults found = evaluate(
      R"({"task": "a", "context": "the first", "choices": [" word", " other words", "!"], "answer": 1}
{"task": "a", "context": "space  ", "choices": ["x", "yy"], "answer": 0}

{"task": "b", "context": "", "target": "alone"}
)");
  ASSERT_EQ(found.log_likelihoods.size(), 3u);
  const auto expect = [&](size_t item, const std::vector<double>& expected) {
    ASSERT_EQ(found.log_likelihoods[item].size(), expected.size());
    for (size_t i = 0; i < expected.size(); ++i)  // float64: padding and batches change roundings only
      EXPECT_NEAR(found.log_likelihoods[item][i], expected[i], 1e-10) << item << " " << i;
  };
  expect(0, {alone("the first", " word"), alone("the first", " other words"), alone("the first", "!")});
  expect(1, {alone("space", "  x"), alone("space", "  yy")});  // the spaces count with what follows
  expect(2, {alone(std::vector<int64_t>{256}, "alone")});      // behind the end of another document
}

TEST_F(TasksTest, AccuraciesCountTheMostLikelyAndTheMostLikelyByBytes) {
  const c10::NoGradGuard no_gradients;
  std::string text;
  int64_t right = 0, right_by_bytes = 0;
  for (int64_t i = 0; i < 20; ++i) {
    const std::string context = fmt::format("item {}", i), small = " b",
                      large = fmt::format(" longer {}", i * i);
    const double of_small = alone(context, small), of_large = alone(context, large);
    const int64_t answer = i % 2, bytes = static_cast<int64_t>(large.size()) - 1;
    right += (of_large > of_small ? 1 : 0) == answer;
    right_by_bytes += (of_large / static_cast<double>(bytes) > of_small ? 1 : 0) == answer;
    text +=
        Json{{"task", "t"}, {"context", context}, {"choices", {small, large}}, {"answer", answer}}.dump() +
        "\n";
  }
  const TaskScore score = evaluate(text).scores.at("t");
  EXPECT_EQ(score.items, 20);
  EXPECT_EQ(score.correct, right);
  EXPECT_EQ(score.correct_by_bytes, right_by_bytes);
  EXPECT_NEAR(score.to_json()["acc_stderr"].get<double>(),
              std::sqrt(score.accuracy() * (1 - score.accuracy()) / 19), 1e-12);
}

TEST_F(TasksTest, ClozeIsRightWhenEveryTokenIsTheMostLikely) {
  const c10::NoGradGuard no_gradients;
  std::string context, likely;
  for (char letter = 'a'; likely.empty() && letter <= 'z'; ++letter)
    context = std::string("Once ") + letter, likely = most_likely(context, 3);
  ASSERT_EQ(likely.size(), 3u) << "no context of twenty-six is continued in ASCII";
  std::string other = likely;
  other[1] = other[1] == 'q' ? 'r' : 'q';
  const auto item = [&](const std::string& target) {
    return Json{{"task", "c"}, {"context", context}, {"target", target}}.dump() + "\n";
  };
  const TaskScore score = evaluate(item(likely) + item(other) + item(likely)).scores.at("c");
  EXPECT_EQ(score.items, 3);
  EXPECT_EQ(score.correct, 2);
  const double nats = -2 * alone(context, likely) - alone(context, other);
  EXPECT_NEAR(score.perplexity(), std::exp(nats / 3), 1e-9 * score.perplexity());
}

TEST_F(TasksTest, WhatIsNoItemIsRefusedWithItsLine) {
  const auto refused = [&](const std::string& second_line) {
    return test::refusal(ExitCode::bad_data, [&] {
      evaluate("{\"task\": \"t\", \"context\": \"c\", \"choices\": [\"a\", \"b\"], \"answer\": 0}\n" +
               second_line + "\n");
    });
  };
  for (const auto& [line, message] : std::vector<std::pair<std::string, std::string>>{
           {"{", "tasks.jsonl:2"},
           {"[]", "is a JSON object"},
           {R"({"context": "c", "target": "x"})", "task"},
           {R"({"task": "t", "context": 3, "target": "x"})", "context"},
           {R"({"task": "u", "context": "c"})", "has a \"target\", or \"choices\""},
           {R"({"task": "u", "context": "c", "choices": ["a"], "answer": 0})", "two at least"},
           {R"({"task": "u", "context": "c", "choices": ["a", 3], "answer": 0})", "no text"},
           {R"({"task": "u", "context": "c", "choices": ["a", "b"], "answer": 2})", "answer 2 of 2 choices"},
           {R"({"task": "u", "context": "c", "choices": ["a", "b"], "answer": -1})", "answer -1"},
           {R"({"task": "u", "context": "c", "choices": ["a", ""], "answer": 0})", "empty continuation"},
           {R"({"task": "t", "context": "c", "target": "x"})", "some items of 't' have choices"}})
    EXPECT_THAT(refused(line), testing::AllOf(HasSubstr("tasks.jsonl:2"), HasSubstr(message))) << line;
  EXPECT_THAT(test::refusal(ExitCode::bad_data, [&] { evaluate("\n"); }), HasSubstr("no item"));
  EXPECT_THAT(test::refusal(ExitCode::usage, [&] { TaskSet("/nowhere", *tokenizer_, 257); }),
              HasSubstr("launch/get_tasks"));
  EXPECT_THAT(test::refusal(
                  ExitCode::usage,
                  [&] { TaskSet(file(R"({"task": "b", "context": "", "target": "x"})"), *tokenizer_, 256); }),
              HasSubstr("257 ids, the model 256"));
}

}  // namespace
}  // namespace dm::train
