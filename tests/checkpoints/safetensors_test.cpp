// Containers of other programs: what is written reads back, and what is hostile is refused.

#include "checkpoints/safetensors.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>

#include "checkpoints/torch_state_dict.h"
#include "tests/support/process.h"
#include "tests/support/refusal.h"

namespace dm::checkpoints {
namespace {

using test::read_text;
using test::refusal;
using test::write_text;
using testing::AllOf;
using testing::HasSubstr;

class Safetensors : public testing::Test {
 protected:
  std::string file(const std::string& header, const std::string& payload) const {
    const uint64_t length = header.size();
    std::string bytes(reinterpret_cast<const char*>(&length), sizeof length);
    write_text(folder_ / "x.safetensors", bytes + header + payload);
    return folder_ / "x.safetensors";
  }
  void expect_refused(const std::string& header, const std::string& payload,
                      const std::string& reason) const {
    const std::string path = file(header, payload);
    EXPECT_THAT(refusal(ExitCode::bad_data, [&] { ForeignTensors::open_safetensors({path}); }),
                AllOf(HasSubstr("x.safetensors"), HasSubstr(reason)))
        << header;
  }
  std::vector<float> values(const std::string& header, const std::string& payload) const {
    const auto tensors = ForeignTensors::open_safetensors({file(header, payload)});
    const ForeignTensor& tensor = tensors.find("a");
    std::vector<float> read(static_cast<size_t>(tensor.count()));
    tensors.read(tensor, 0, tensor.count(), read.data());
    return read;
  }
  test::TemporaryFolder folder_;
};

TEST_F(Safetensors, WhatIsWrittenReadsBack) {
  const std::string path = folder_ / "w.safetensors";
  SafetensorsWriter writer(path, {{"a", {2, 3}}, {"scalar", {}}, {"b.weight", {4}}});
  const std::vector<float> all = {1, 2, 3, 4, 5, 6, 7, -1, -2, std::nanf(""), INFINITY};
  writer.append(all.data(), 5);
  writer.append(all.data() + 5, 6);
  writer.finish();
  const auto tensors = ForeignTensors::open_safetensors({path});
  ASSERT_EQ(tensors.tensors().size(), 3u);
  EXPECT_EQ(tensors.find("a").shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(tensors.find("a").offset_bytes % 8, 0);
  float part[2];
  tensors.read(tensors.find("a"), 3, 2, part);
  EXPECT_EQ(part[0], 4);
  EXPECT_EQ(part[1], 5);
  float last[4];
  tensors.read(tensors.find("b.weight"), 0, 4, last);
  EXPECT_EQ(std::memcmp(last, all.data() + 7, sizeof last), 0);  // bits, NaN among them
  EXPECT_THAT(refusal(ExitCode::bad_data, [&] { tensors.find("c"); }), HasSubstr("no tensor 'c'"));
  EXPECT_THAT(refusal(ExitCode::io, [&] { SafetensorsWriter again(path, {}); }), HasSubstr(path));
}

TEST_F(Safetensors, OtherTypesBecomeFloat32) {
  const uint16_t halves[] = {0x3C00, 0xC000, 0x0001, 0x8400, 0x7C00, 0x0000};
  const std::string half(reinterpret_cast<const char*>(halves), sizeof halves);
  EXPECT_THAT(values(R"({"a":{"dtype":"F16","shape":[6],"data_offsets":[0,12]}})", half),
              testing::ElementsAre(1.0F, -2.0F, 0x1p-24F, -0x1p-14F, INFINITY, 0.0F));
  const uint16_t brains[] = {0x3F80, 0xC040};
  EXPECT_THAT(values(R"({"a":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}})",
                     std::string(reinterpret_cast<const char*>(brains), sizeof brains)),
              testing::ElementsAre(1.0F, -3.0F));
  const double wide[] = {0.1, -5};
  EXPECT_THAT(
      values(R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F64","shape":[2],"data_offsets":[0,16]}})",
             std::string(reinterpret_cast<const char*>(wide), sizeof wide)),
      testing::ElementsAre(0.1F, -5.0F));
}

TEST_F(Safetensors, HostileFilesAreRefused) {
  const std::string eight(8, 'x');
  expect_refused(R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", eight,
                 "the bytes of its shape");
  expect_refused(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,9]}})", eight + "y",
                 "the bytes of its shape");
  expect_refused(R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}})", eight,
                 "do not lie in the file");
  expect_refused(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})", eight,
                 "do not lie in the file");
  expect_refused(R"({"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})", eight, "shape");
  expect_refused(R"({"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}})", "",
                 "shape");
  expect_refused(
      R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
      "abcd", "overlap");
  expect_refused(
      R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}})",
      eight + "abcd", "leave a hole");
  expect_refused(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", eight, "leave a hole");
  expect_refused(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", eight, "belong to none");
  expect_refused(R"({"a":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}})", eight, "of the type I64");
  expect_refused(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"more":1}})", eight, "besides");
  expect_refused(
      R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
      eight, "stands twice");
  expect_refused(R"({"a":{"dtype":"F32","shape":2,"data_offsets":[0,8]}})", eight, "no list");
  expect_refused("[1]", "", "no object");
  expect_refused(R"({"a":)", eight, "not valid JSON");
  for (const uint64_t length : {uint64_t{101} << 20, uint64_t{1} << 63, uint64_t{9}}) {
    std::string bytes(reinterpret_cast<const char*>(&length), sizeof length);
    write_text(folder_ / "x.safetensors", bytes + "{}      ");
    EXPECT_THAT(
        refusal(ExitCode::bad_data, [&] { ForeignTensors::open_safetensors({folder_ / "x.safetensors"}); }),
        HasSubstr("a header of"));
  }
  write_text(folder_ / "x.safetensors", "1234567");
  EXPECT_THAT(
      refusal(ExitCode::bad_data, [&] { ForeignTensors::open_safetensors({folder_ / "x.safetensors"}); }),
      HasSubstr("7 bytes"));
  const std::string good = file(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", eight);
  EXPECT_THAT(refusal(ExitCode::bad_data,
                      [&] {
                        ForeignTensors::open_safetensors({good, good});
                      }),
              HasSubstr("stands twice"));
}

class StateDict : public testing::Test {
 protected:
  const std::string bytes_ =
      read_text(DM_SOURCE_DIR "/tests/train/interchange/original_mamba2/pytorch_model.bin");
  std::string changed(size_t at, char to) const {
    std::string bytes = bytes_;
    bytes[at] = to;
    write_text(folder_ / "m.bin", bytes);
    return folder_ / "m.bin";
  }
  test::TemporaryFolder folder_;
};

TEST_F(StateDict, GivesTheTensors) {
  const auto tensors =
      open_torch_state_dict(DM_SOURCE_DIR "/tests/train/interchange/original_mamba2/pytorch_model.bin");
  EXPECT_EQ(tensors.find("backbone.embedding.weight").shape, (std::vector<int64_t>{101, 64}));
  const auto same =
      ForeignTensors::open_safetensors({DM_SOURCE_DIR "/tests/train/interchange/mamba2/model.safetensors"});
  for (const auto& [name, tensor] : same.tensors()) {
    const std::string there = name == "backbone.embeddings.weight" ? "backbone.embedding.weight" : name;
    std::vector<float> a(static_cast<size_t>(tensor.count())), b(a.size());
    same.read(tensor, 0, tensor.count(), a.data());
    ASSERT_EQ(tensors.find(there).shape, tensor.shape) << name;
    tensors.read(tensors.find(there), 0, tensor.count(), b.data());
    EXPECT_EQ(a, b) << name;
  }
}

TEST_F(StateDict, CallsNothingElse) {
  const auto replaced = [&](const std::string& from, std::string to) {
    to.resize(from.size(), ' ');  // the zip around it stays as it is
    std::string bytes = bytes_;
    const size_t at = bytes.find(from);
    EXPECT_NE(at, std::string::npos);
    bytes.replace(at, from.size(), to);
    write_text(folder_ / "m.bin", bytes);
    return refusal(ExitCode::bad_data, [&] { open_torch_state_dict(folder_ / "m.bin"); });
  };
  EXPECT_THAT(replaced("ctorch._utils\n_rebuild_tensor_v2\n", "cos\nsystem\n"),
              HasSubstr("the global 'os system'"));
  EXPECT_THAT(replaced("ctorch\nFloatStorage\n", "ctorch\nFlootStorage\n"), HasSubstr("FlootStorage"));
  for (const char opcode :
       {'i', 'o', '\x81', '\x92', 'P', 'V', 'S', '\x82'}) {  // INST, OBJ, NEWOBJ, NEWOBJ_EX, ...
    const size_t start = bytes_.find("\x80\x02");
    ASSERT_NE(start, std::string::npos);
    EXPECT_THAT(refusal(ExitCode::bad_data, [&] { open_torch_state_dict(changed(start + 2, opcode)); }),
                HasSubstr("the opcode"));
  }
}

// Whatever byte of the pickle or the zip's directory is changed: tensors come out, or a refusal.
TEST_F(StateDict, DamageIsRefusedOrHarmless) {
  const size_t pickle = bytes_.find("\x80\x02"), directory = bytes_.find("PK\x01\x02");
  ASSERT_NE(directory, std::string::npos);
  int64_t refused = 0, read = 0;
  const auto attempt = [&](size_t at, char to) {
    try {
      open_torch_state_dict(changed(at, to));
      ++read;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::bad_data) << error.what();
      ++refused;
    }
  };
  for (size_t at = pickle; at < pickle + 250; ++at)
    for (const char to : {'\0', '\xFF', 'q', '('}) attempt(at, to);
  for (size_t at = directory; at < bytes_.size(); at += 3) attempt(at, static_cast<char>(bytes_[at] ^ 0x5A));
  EXPECT_GT(refused, 400);
  EXPECT_GT(read, 0);
}

}  // namespace
}  // namespace dm::checkpoints
