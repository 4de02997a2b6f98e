// The manifest's reader against everything a manifest must not be. Each case takes a sound manifest, changes
// one thing and must be refused with words that name it.

#include "checkpoints/manifest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <functional>
#include <limits>

#include "core/error.h"
#include "core/rng.h"

namespace dm::checkpoints {
namespace {

using testing::HasSubstr;

Manifest sound() {
  Manifest manifest;
  manifest.step = 1000;
  manifest.files = {{"shard-00000-of-00002.h5", 9000, {1, 2}}, {"shard-00001-of-00002.h5", 40 << 20, {3, 4}}};
  manifest.tensors = {
      {"adamw.m/w",
       DType::f32,
       {4, 6},
       {{0, "/adamw.m/w@0", 1000, {{0, 0}, {3, 6}}, 72, {5}},
        {1, "/adamw.m/w@1", 1000, {{3, 0}, {1, 6}}, 24, {6}}}},
      {"big", DType::f64, {1 << 22}, {{1, "/params/big", 2048, {{0}, {1 << 22}}, 32 << 20, {7, 8}}}},
      {"lambda", DType::f32, {}, {{0, "/params/lambda", 2000, {}, 4, {9}}}},
      {"w", DType::f32, {4, 6}, {{0, "/params/w", 3000, {{0, 0}, {4, 6}}, 96, {10}}}},
      {"zero", DType::f32, {0, 6}, {}}};
  manifest.meta = {{"lr", 0.1}, {"name", "x"}};
  return manifest;
}

std::string refusal(const std::string& text) {
  try {
    parse_manifest(text, "dir/manifest.json");
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::bad_data) << error.what();
    EXPECT_THAT(error.what(), testing::StartsWith("dir/manifest.json"));
    return error.what();
  }
  return "accepted";
}

std::string refusal(const std::function<void(Json&)>& change) {
  Json json = Json::parse(to_text(sound()));
  change(json);
  return refusal(json.dump());
}

TEST(Manifest, ReadsWhatItWrote) {
  const std::string text = to_text(sound());
  EXPECT_EQ(to_text(parse_manifest(text, "m")), text);
  EXPECT_EQ(parse_manifest(text, "m").find("lambda")->pieces[0].chunks, std::vector<uint64_t>{9});
  EXPECT_EQ(parse_manifest(text, "m").find("nothing"), nullptr);
  EXPECT_EQ(refusal([](Json&) {}), "accepted");
}

TEST(Manifest, RefusesEveryKeyMissingUnknownOrOfAnotherType) {
  // Walked over the whole document, so that no key is forgotten.
  const Json whole = Json::parse(to_text(sound()));
  int checked = 0;
  const std::function<void(Json::json_pointer)> walk = [&](const Json::json_pointer& at) {
    const Json& node = whole.at(at);
    if (at.to_string() == "/meta") return;  // the caller's own
    if (node.is_object()) {
      EXPECT_NE(refusal([&](Json& json) { json[at]["surprise"] = 1; }), "accepted") << at.to_string();
      for (const auto& [key, value] : node.items()) {
        EXPECT_THAT(refusal([&](Json& json) { json[at].erase(key); }), HasSubstr("'" + key + "' is missing"))
            << at.to_string();
        if (key != "meta") {
          EXPECT_NE(refusal([&](Json& json) { json[at][key] = nullptr; }), "accepted")
              << at.to_string() << key;
          EXPECT_NE(refusal([&](Json& json) {
                      json[at][key] = Json{{"a", 1}};
                    }),
                    "accepted")
              << at.to_string() << key;
        }
        ++checked;
        walk(at / key);
      }
    } else if (node.is_array()) {
      for (size_t i = 0; i < node.size(); ++i) walk(at / i);
    }
  };
  walk(Json::json_pointer());
  EXPECT_GT(checked, 40);
}

TEST(Manifest, RefusesEveryContradiction) {
  const struct {
    const char* why;
    std::function<void(Json&)> change;
    const char* message;
  } cases[] = {
      {"another format", [](Json& m) { m["format"] = "safetensors"; }, "format is 'safetensors'"},
      {"a newer version", [](Json& m) { m["version"] = 2; },
       "version 2 of the format; this program reads version 1"},
      {"an older version", [](Json& m) { m["version"] = 0; }, "version 0 of the format"},
      {"a negative step", [](Json& m) { m["step"] = -1; }, "'step' is -1"},
      {"a fraction", [](Json& m) { m["step"] = 1.5; }, "'step' is not a whole number"},
      {"beyond 64 bits", [](Json& m) { m["step"] = UINT64_MAX; }, "'step' is not a whole number"},
      {"other chunks", [](Json& m) { m["chunk_bytes"] = 4096; }, "chunk_bytes"},
      {"no files", [](Json& m) { m["files"] = Json::array(); }, "0 files"},
      {"a path out of the directory", [](Json& m) { m["files"][0]["name"] = "../../etc/passwd"; },
       "not the name 'shard-00000-of-00002.h5'"},
      {"an absolute path", [](Json& m) { m["files"][0]["name"] = "/etc/passwd"; }, "not the name"},
      {"a file twice", [](Json& m) { m["files"][1]["name"] = "shard-00000-of-00002.h5"; },
       "not the name 'shard-00001-of-00002.h5'"},
      {"a file too many", [](Json& m) { m["files"].push_back(m["files"][1]); }, "not the name"},
      {"a file too few", [](Json& m) { m["files"].erase(1); }, "not the name"},
      {"a size bomb", [](Json& m) { m["files"][0]["size_bytes"] = INT64_MAX; }, "'size_bytes' is"},
      {"a short hash", [](Json& m) { m["files"][0]["metadata_xxh3_128"] = "12"; }, "expected 32"},
      {"an upper-case hash", [](Json& m) { m["tensors"][0]["pieces"][0]["xxh3_64"][0] = "000000000000000A"; },
       "hexadecimal"},
      {"a tensor twice", [](Json& m) { m["tensors"].insert(m["tensors"].begin(), m["tensors"][0]); },
       "tensors[1]: 'adamw.m/w' stands twice or out of order"},
      {"an empty tensor twice", [](Json& m) { m["tensors"].push_back(m["tensors"][4]); },
       "stands twice or out of order"},
      {"tensors out of order", [](Json& m) { std::swap(m["tensors"][3], m["tensors"][2]); }, "out of order"},
      {"a tensor's name as a path", [](Json& m) { m["tensors"][4]["name"] = "../zero"; },
       "no name of a tensor"},
      {"an unknown dtype", [](Json& m) { m["tensors"][0]["dtype"] = "f16"; }, "unknown dtype 'f16'"},
      {"another dtype", [](Json& m) { m["tensors"][3]["dtype"] = "f64"; },
       "overlap"},  // its bytes now reach its neighbour's ...
      {"nine dims", [](Json& m) { m["tensors"][4]["shape"] = std::vector<int64_t>(9, 0); },
       "at most 8 extents"},
      {"a negative extent",
       [](Json& m) {
         m["tensors"][4]["shape"] = {0, -6};
       },
       "which is no extent"},
      {"an extent bomb",
       [](Json& m) {
         m["tensors"][4]["shape"] = {0, INT64_MAX, INT64_MAX};
       },
       "larger than 2^60"},
      {"a shape bomb",
       [](Json& m) {
         m["tensors"][3]["shape"] = {int64_t{1} << 62, 6};
       },
       "larger than 2^60"},
      {"a piece missing", [](Json& m) { m["tensors"][0]["pieces"].erase(1); }, "not the dataset"},
      {"a lone piece that is not all",
       [](Json& m) {
         m["tensors"][3]["pieces"][0]["shape"] = {3, 6};
       },
       "hold 18 of its 24 elements"},
      {"a piece twice", [](Json& m) { m["tensors"][3]["pieces"].push_back(m["tensors"][3]["pieces"][0]); },
       "dataset"},
      {"pieces that overlap",
       [](Json& m) {
         m["tensors"][0]["pieces"][1]["global_offset"] = {2, 0};
       },
       "overlap"},
      {"pieces out of order",
       [](Json& m) {
         auto& p = m["tensors"][0]["pieces"];
         std::swap(p[0]["global_offset"], p[1]["global_offset"]), std::swap(p[0]["shape"], p[1]["shape"]);
       },
       "not in ascending order"},
      {"a piece outside",
       [](Json& m) {
         m["tensors"][0]["pieces"][1]["global_offset"] = {4, 0};
       },
       "outside the tensor"},
      {"an empty piece",
       [](Json& m) {
         m["tensors"][0]["pieces"][1]["shape"] = {0, 6};
       },
       "outside the tensor"},
      {"a piece of another rank", [](Json& m) { m["tensors"][0]["pieces"][1]["shape"] = {6}; },
       "outside the tensor"},
      {"an unknown file", [](Json& m) { m["tensors"][0]["pieces"][0]["file"] = 2; },
       "'file' is 2, expected 0 .. 1"},
      {"a negative file", [](Json& m) { m["tensors"][0]["pieces"][0]["file"] = -1; }, "'file' is -1"},
      {"bytes past the end", [](Json& m) { m["tensors"][3]["pieces"][0]["offset_bytes"] = 8905; },
       "reach past the end of shard-00000-of-00002.h5"},
      {"an offset bomb", [](Json& m) { m["tensors"][3]["pieces"][0]["offset_bytes"] = INT64_MAX; },
       "'offset_bytes' is"},
      {"bytes claimed twice", [](Json& m) { m["tensors"][3]["pieces"][0]["offset_bytes"] = 2000; },
       "overlap in shard-00000-of-00002.h5"},
      {"a hash missing", [](Json& m) { m["tensors"][1]["pieces"][0]["xxh3_64"].erase(1); },
       "1 hashes for 33554432 bytes"},
      {"a hash too many",
       [](Json& m) { m["tensors"][3]["pieces"][0]["xxh3_64"].push_back("0000000000000000"); },
       "2 hashes for 96 bytes"},
      {"another dataset", [](Json& m) { m["tensors"][3]["pieces"][0]["dataset"] = "/params/big"; },
       "not the dataset '/params/w'"},
  };
  for (const auto& c : cases) {
    if (std::string(c.why) == "another dtype") {  // ... only if there were one; here it needs room first
      EXPECT_NE(refusal([&](Json& m) {
                  c.change(m);
                  m["tensors"][2]["pieces"][0]["offset_bytes"] = 3100;
                }),
                "accepted");
      continue;
    }
    EXPECT_THAT(refusal(c.change), HasSubstr(c.message)) << c.why;
  }
}

TEST(Manifest, RefusesJsonBombsQuickly) {
  const auto start = std::chrono::steady_clock::now();
  const std::string deep(1'000'000, '['), objects = [] {
    std::string text;
    for (int i = 0; i < 200'000; ++i) text += "{\"a\":";
    return text;
  }();
  EXPECT_NE(refusal(deep), "accepted");
  EXPECT_NE(refusal(deep + std::string(1'000'000, ']')), "accepted");
  EXPECT_NE(refusal(objects), "accepted");
  std::string text = to_text(sound());
  EXPECT_THAT(refusal("{\"step\": 1," + text.substr(1)), HasSubstr("stands twice"));
  EXPECT_NE(refusal("{\"step\": 1e999," + text.substr(1)), "accepted");
  EXPECT_NE(refusal(text + "x"), "accepted");
  EXPECT_NE(refusal(text + text), "accepted");
  EXPECT_NE(refusal(text.substr(0, text.size() - 3)), "accepted");
  for (const char* other : {"", "[]", "1", "null", "\"x\"", "{}", "\xff\xfe", "{\"format\": 3}"})
    EXPECT_NE(refusal(std::string(other)), "accepted") << other;
  EXPECT_LT(std::chrono::steady_clock::now() - start,
            std::chrono::seconds(5));  // each of them documented as below one second
}

TEST(Manifest, RandomEditsAreReadOrRefusedAndNothingElse) {
  const std::string text = to_text(sound());
  const std::string pieces[] = {"-1",
                                "0",
                                "1e9",
                                "9223372036854775807",
                                "18446744073709551616",
                                "null",
                                "[]",
                                "{}",
                                "\"\"",
                                ",",
                                "]",
                                "}",
                                "\xff",
                                "\\u0000"};
  const CounterRng rng(45, "edits");
  uint64_t draw = 0;
  int accepted = 0;
  for (int trial = 0; trial < 20'000; ++trial) {
    std::string edited = text;
    for (uint64_t edits = 1 + rng.below(draw++, 3); edits > 0; --edits) {
      const size_t at = rng.below(draw++, edited.size()), length = rng.below(draw++, 12);
      switch (rng.below(draw++, 4)) {
        case 0: edited[at] = static_cast<char>(edited[at] ^ 1 << rng.below(draw++, 8)); break;
        case 1: edited.erase(at, length); break;
        case 2: edited.insert(at, pieces[rng.below(draw++, std::size(pieces))]); break;
        default: edited.replace(at, length, pieces[rng.below(draw++, std::size(pieces))]);
      }
    }
    try {
      to_text(parse_manifest(edited, "m"));
      ++accepted;  // an edit of meta or of a hash's digit says nothing wrong by itself; COMMIT finds it
    } catch (const Error& error) {
      ASSERT_EQ(error.code(), ExitCode::bad_data) << error.what() << edited;
    }
  }
  EXPECT_LT(accepted, 20'000 / 3);
  EXPECT_GT(accepted, 0);
}

TEST(Manifest, MetaMustBeWhatJsonCanHold) {
  for (const double bad :
       {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    Manifest manifest = sound();
    manifest.meta = {{"loss", Json::array({1.0, bad})}};
    EXPECT_THROW(to_text(manifest), Error);
  }
  Manifest manifest = sound();
  manifest.meta = {{"pi", M_PI}, {"tiny", 5e-324}, {"seed", UINT64_MAX}, {"text", "λ\n\"\\"}};
  EXPECT_EQ(parse_manifest(to_text(manifest), "m").meta, manifest.meta);
}

TEST(Manifest, CommitLineIsWhatXxhsumChecks) {
  EXPECT_EQ(
      commit_line(""),
      "99aa06d3014798d86001c324468d497f  manifest.json\n");  // XXH3-128 of nothing, as xxhsum -H2 prints it
}

}  // namespace
}  // namespace dm::checkpoints
