#pragma once
// A private folder for each test, and what the data tests put there.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <string>
#include <vector>

#include "data/dataset.h"
#include "data/dataset_writer.h"
#include "data/tokenizer.h"

namespace dm::data {

class FolderTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "dm-data-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string path(const std::string& name) const { return folder_ + "/" + name; }

  std::string write(const std::string& name, const std::string& bytes) const {
    std::filesystem::create_directories(std::filesystem::path(path(name)).parent_path());
    std::ofstream(path(name), std::ios::binary) << bytes;
    return path(name);
  }

  static std::string slurp(const std::string& file) {
    std::ifstream in(file, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }

  /// Changes one byte in place.
  static void flip(const std::string& file, int64_t at, char mask = 1) {
    std::fstream out(file, std::ios::binary | std::ios::in | std::ios::out);
    out.seekg(at);
    const char byte = static_cast<char>(out.get() ^ mask);
    out.seekp(at);
    out.put(byte);
  }

  /// Document d has `tokens(d)` ids id(d, i); shards of about shard_tokens. Returns the folder.
  std::string make_dataset(const std::string& name, int64_t documents,
                           const std::function<int64_t(int64_t)>& tokens,
                           int64_t shard_tokens = int64_t{1} << 40, int32_t shift = 0) const {
    const auto tokenizer = open_tokenizer("bytes");
    DatasetWriter writer(path(name), *tokenizer, shard_tokens);
    for (int64_t d = 0; d < documents; ++d) {
      std::vector<int32_t> ids(static_cast<size_t>(tokens(d)));
      for (size_t i = 0; i < ids.size(); ++i)
        ids[i] = static_cast<int32_t>((d * 31 + static_cast<int64_t>(i) * 7 + shift) % 256);
      writer.append(ids.data(), static_cast<int64_t>(ids.size()), true);
      writer.end_document();
    }
    writer.finish();
    return path(name);
  }

  static std::vector<int32_t> all_tokens(const Dataset& dataset) {
    std::vector<int32_t> tokens(static_cast<size_t>(dataset.token_count()));
    dataset.read_tokens(0, dataset.token_count(), tokens.data());
    return tokens;
  }

  std::string folder_;
};

}  // namespace dm::data
