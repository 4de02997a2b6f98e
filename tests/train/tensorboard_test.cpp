// Event files, byte for byte against what TensorFlow's own messages are on the wire, and read back by a
// reader that shares nothing with the writer. `launch/test --peers` lets the real package read them.

#include "train/monitor/tensorboard.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>

#include "tests/support/process.h"
#include "tests/train/tiny_run.h"
#include "train/monitor/events.h"
#include "train/monitor/record_file.h"
#include "train/trainer.h"

namespace dm::train {
namespace {

using protobuf::Message;
using test::tiny_run;

std::string hex(std::string_view bytes) {
  std::string text;
  for (const char byte : bytes) text += fmt::format("{:02x}", static_cast<unsigned char>(byte));
  return text;
}

TEST(RecordFile, ChecksumIsTheOneOfRfc3720) {
  EXPECT_EQ(crc32c("123456789"), 0xe3069283u);
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8a9136aau);
  EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62a8ab43u);
  EXPECT_EQ(crc32c(""), 0u);
}

// The bytes are those of tensorboard 2.21.0's Event(...).SerializeToString() in its own framing.
TEST(Events, AreTensorFlowsByteForByte) {
  const Message summary = Message()
                              .message(events::kValue, events::scalar("train/loss", 2.25))
                              .message(events::kValue, events::text("config", "hi"));
  const Message event = events::event(1.5, 300).message(events::kSummary, summary);
  EXPECT_EQ(hex(record(event.bytes())),
            "4500000000000000ebe668b009000000000000f83f10ac022a370a110a0a747261696e2f6c6f737315000010400a220a"
            "06636f6e"
            "666967420c0807120412020801420268694a0a0a060a047465787420023b6e8fde");

  const Message histogram = Message().message(events::kValue, events::histogram("h", {0.5, 0.75, 2.0}));
  const std::string bytes = events::event(1.5, 2).message(events::kSummary, histogram).bytes();
  EXPECT_EQ(bytes.size(), 554u);
  EXPECT_EQ(hex(bytes.substr(0, 80)),
            "09000000000000f83f10022a9c040a99040a01682a930409000000000000e03f11000000000000004019000000000000"
            "0840210000"
            "000000000a4029000000000040134032f0019a9999999999e13f33");
  const auto bucket = [&](size_t i) {  // the last 240 bytes are the counts
    double count = 0;
    std::memcpy(&count, bytes.data() + 554 - 240 + 8 * i, sizeof count);
    return count;
  };
  EXPECT_EQ(bucket(0), 1);
  EXPECT_EQ(bucket(5), 1);
  EXPECT_EQ(bucket(29), 1);
  double all = 0;
  for (size_t i = 0; i < 30; ++i) all += bucket(i);
  EXPECT_EQ(all, 3);
}

/// What one event says; a reader of its own, which refuses what it does not know.
struct Event {
  int64_t step = 0;
  std::string version;
  bool start = false;
  std::map<std::string, float> scalars;
  std::map<std::string, std::string> others;  // tag -> the rest of the value
};

class Reader {
 public:
  explicit Reader(std::string_view bytes) : bytes_(bytes) {}
  bool more() const { return at_ < bytes_.size(); }
  uint64_t varint() {
    uint64_t value = 0;
    for (int shift = 0;; shift += 7) {
      const auto byte = static_cast<unsigned char>(bytes_.at(at_++));
      value += static_cast<uint64_t>(byte % 128) << shift;
      if (byte < 128) return value;
    }
  }
  template <class T>
  T fixed() {
    T value;
    std::memcpy(&value, bytes_.substr(at_, sizeof value).data(), sizeof value);
    at_ += sizeof value;
    return value;
  }
  std::string_view text() {
    const uint64_t size = varint();
    at_ += size;
    return bytes_.substr(at_ - size, size);
  }

 private:
  std::string_view bytes_;
  size_t at_ = 0;
};

void read_value(Reader value, Event& event) {
  std::string tag;
  while (value.more()) switch (const uint64_t key = value.varint(); key) {
      case 10: tag = value.text(); break;
      case 21: event.scalars[tag] = value.fixed<float>(); break;
      case 42:
      case 66:
      case 74: event.others[tag] += value.text(); break;
      default: FAIL() << "key " << key << " in a value";
    }
}

Event read_event(std::string_view payload) {
  Event event;
  for (Reader fields(payload); fields.more();) switch (const uint64_t key = fields.varint(); key) {
      case 9: EXPECT_GT(fields.fixed<double>(), 1.7e9); break;
      case 16: event.step = static_cast<int64_t>(fields.varint()); break;
      case 26: event.version = fields.text(); break;
      case 42:
        for (Reader summary(fields.text()); summary.more();) {
          EXPECT_EQ(summary.varint(), 10u);
          read_value(Reader(summary.text()), event);
        }
        break;
      case 58: event.start = fields.text() == "\x08\x01"; break;
      default: ADD_FAILURE() << "key " << key << " in an event"; return event;
    }
  return event;
}

/// Bit by bit, without a table.
uint32_t masked_checksum(std::string_view bytes) {
  uint32_t crc = 0xffffffff;
  for (const char byte : bytes)
    for (int bit = 0; bit < 8; ++bit) {
      const bool flip = ((crc ^ static_cast<unsigned char>(byte) >> bit) & 1) != 0;
      crc = crc / 2 ^ (flip ? 0x82f63b78u : 0);
    }
  crc = ~crc;
  return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

/// Events of all files, in the order of their names.
std::vector<Event> read_events(const std::string& run_dir) {
  std::vector<std::string> paths;
  for (const auto& entry : std::filesystem::directory_iterator(run_dir + "/tensorboard"))
    paths.push_back(entry.path());
  std::sort(paths.begin(), paths.end());
  std::vector<Event> events;
  for (const std::string& path : paths) {
    const std::string bytes = test::read_text(path);
    for (size_t at = 0; at < bytes.size();) {
      Reader frame(std::string_view(bytes).substr(at));
      const auto length = frame.fixed<uint64_t>();
      EXPECT_EQ(frame.fixed<uint32_t>(), masked_checksum(bytes.substr(at, 8))) << path;
      if (bytes.size() < at + length + 16) throw std::runtime_error(path + " ends inside a record");
      const std::string payload = bytes.substr(at + 12, length);
      EXPECT_EQ(Reader(std::string_view(bytes).substr(at + 12 + length)).fixed<uint32_t>(),
                masked_checksum(payload));
      events.push_back(read_event(payload));
      at += length + 16;
    }
  }
  return events;
}

class TensorboardTest : public testing::Test {
 protected:
  void run(const RunConfig& config) { ASSERT_EQ(train(config, data_parallel(*group_)), ExitCode::ok); }
  const std::string& path() const { return folder_.path(); }

  std::unique_ptr<Collectives> group_ = make_single_process_collectives();
  test::SharedFolder folder_{*group_};
};

TEST_F(TensorboardTest, ShowsWhatTheMetricsHave) {
  RunConfig config = tiny_run(path(), "run", 8);
  config.eval.eval_data = path() + "/data", config.eval.eval_rows = 4, config.eval.eval_length = 12;
  run(config);
  const std::vector<Event> events = read_events(config.train.run_dir);
  ASSERT_GE(events.size(), 12u);
  EXPECT_EQ(events[0].version, "brain.Event:2");
  EXPECT_THAT(events[1].others.at("config"), testing::HasSubstr("    global_batch = 5\n"));

  std::vector<float> losses, norms, lambdas, held_out;
  for (const Event& event : events) {
    if (event.scalars.contains("train/loss")) losses.push_back(event.scalars.at("train/loss"));
    if (event.scalars.contains("train/gradient_norm"))
      norms.push_back(event.scalars.at("train/gradient_norm"));
    if (event.scalars.contains("layer 00/lambda")) lambdas.push_back(event.scalars.at("layer 00/lambda"));
    if (event.scalars.contains("eval/nats_per_token"))
      held_out.push_back(event.scalars.at("eval/nats_per_token"));
    EXPECT_EQ(event.others.contains("lambda over the layers"), event.scalars.contains("layer 00/lambda"));
  }
  const auto as_float = [&](const char* key) {
    const std::vector<double> values = test::metric(config.train.run_dir, key);
    return std::vector<float>(values.begin(), values.end());
  };
  EXPECT_EQ(losses.size(), 8u);
  EXPECT_EQ(losses, as_float("loss"));
  EXPECT_EQ(norms, as_float("gradient_norm"));
  EXPECT_EQ(lambdas.size(), 2u);
  EXPECT_EQ(held_out.size(), 1u);
}

TEST_F(TensorboardTest, IsCutWhereARunGoesOn) {
  RunConfig config = tiny_run(path(), "run", 4);
  config.eval.eval_data = path() + "/data", config.eval.eval_rows = 4, config.eval.eval_length = 12;
  run(config);
  // As if the attempt had gone on to step 9 and died inside of a write.
  const std::string file = std::filesystem::directory_iterator(config.train.run_dir + "/tensorboard")->path();
  const std::string lost = record(events::event(2e9, 9).bytes());
  std::ofstream(file, std::ios::app | std::ios::binary) << lost << lost.substr(0, 9);
  config.train.steps = 6;
  run(config);

  std::vector<int64_t> steps, evaluated, started;
  for (const Event& event : read_events(config.train.run_dir)) {
    if (event.scalars.contains("train/loss")) steps.push_back(event.step);
    if (event.scalars.contains("eval/nats_per_token")) evaluated.push_back(event.step);
    if (event.start) started.push_back(event.step);
  }
  EXPECT_THAT(steps, testing::ElementsAre(1, 2, 3, 4, 5, 6));
  EXPECT_THAT(evaluated, testing::ElementsAre(6));
  EXPECT_THAT(started, testing::ElementsAre(5));
}

TEST_F(TensorboardTest, IsNotWrittenWhenNotWanted) {
  RunConfig config = tiny_run(path(), "run", 4);
  config.train.tensorboard = false;
  run(config);
  EXPECT_FALSE(std::filesystem::exists(config.train.run_dir + "/tensorboard"));
}

}  // namespace
}  // namespace dm::train
