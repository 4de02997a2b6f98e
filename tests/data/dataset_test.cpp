// Prepared datasets: what is read back, and everything that must be refused, with its message.

#include "data/dataset.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "core/files.h"
#include "core/h5_layout.h"
#include "core/rng.h"
#include "data/verify.h"
#include "tests/data/folder.h"
#include "tests/support/refusal.h"
#include "tests/support/trials.h"

namespace dm::data {
namespace {

using test::refusal;
using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;

int64_t ragged(int64_t d) { return d % 97 * 13 % 211; }  // empty documents included: their eos alone is left

class DatasetTest : public FolderTest {
 protected:
  std::string several_shards() const { return make_dataset("several", 3000, ragged, 100'000); }
  std::string shard(const std::string& dataset, int64_t index, int64_t count) const {
    return dataset + "/" + shard_name(index, count);
  }

  static void expect_problem(const std::string& dataset, const std::string& file,
                             const std::string& problem) {
    const std::vector<std::string> problems = verify_dataset(dataset);
    EXPECT_THAT(problems, testing::Contains(AllOf(HasSubstr(file), HasSubstr(problem))));
  }
};

TEST_F(DatasetTest, ReadsWhatWasWrittenAtEveryPlace) {
  const auto dataset = open_dataset(several_shards());
  std::vector<int32_t> expected;
  std::vector<int64_t> starts;
  for (int64_t d = 0; d < 3000; ++d) {
    starts.push_back(static_cast<int64_t>(expected.size()));
    for (int64_t i = 0; i < ragged(d); ++i) expected.push_back(static_cast<int32_t>((d * 31 + i * 7) % 256));
    expected.push_back(256);
  }
  ASSERT_EQ(dataset->token_count(), static_cast<int64_t>(expected.size()));
  EXPECT_EQ(dataset->doc_count(), 3000);
  EXPECT_EQ(dataset->vocab_size(), 257);
  EXPECT_EQ(dataset->eos_id(), 256);
  EXPECT_EQ(dataset->tokenizer(), "bytes");
  EXPECT_EQ(all_tokens(*dataset), expected);

  const CounterRng rng(3, "places");
  for (uint64_t trial = 0; trial < 500; ++trial) {
    const auto count = static_cast<int64_t>(rng.below(2 * trial, trial % 2 ? 300 : 60'000)) + 1;
    const auto begin = static_cast<int64_t>(
        rng.below(2 * trial + 1, static_cast<uint64_t>(dataset->token_count() - count + 1)));
    std::vector<int32_t> tokens(static_cast<size_t>(count));
    dataset->read_tokens(begin, count, tokens.data());
    ASSERT_TRUE(std::equal(tokens.begin(), tokens.end(), expected.begin() + begin))
        << begin << " + " << count;
    std::vector<int64_t> inside;
    for (const int64_t start : starts)
      if (start > begin && start < begin + count) inside.push_back(start - begin);
    ASSERT_EQ(dataset->document_starts(begin, count), inside) << begin << " + " << count;
  }
}

TEST_F(DatasetTest, ManyDocumentsInOneShardAreFoundByTheirOffsets) {
  const std::string folder = make_dataset("many", 20'000, [](int64_t d) { return d % 3; });
  const auto dataset = open_dataset(folder);
  int64_t at = 0;
  std::vector<int64_t> starts;
  for (int64_t d = 0; d < 20'000; at += d % 3 + 1, ++d)
    if (d > 0) starts.push_back(at);
  EXPECT_EQ(dataset->document_starts(0, dataset->token_count()), starts);
  for (size_t i = 0; i + 1 < starts.size(); i += 397) {
    EXPECT_THAT(dataset->document_starts(starts[i] - 1, 2), testing::ElementsAre(1));
    EXPECT_THAT(dataset->document_starts(starts[i], 1), IsEmpty());
  }
}

TEST_F(DatasetTest, MoreShardsThanTheSoftLimitOfOpenFiles) {
  const std::string folder = make_dataset(
      "d", 80, [](int64_t) { return 10; }, 1);
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit low{64, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &low), 0);
  EXPECT_EQ(open_dataset(folder)->token_count(), 80 * 11);
  setrlimit(RLIMIT_NOFILE, &before);
}

TEST_F(DatasetTest, WithoutMaskEveryTokenCounts) {
  const auto dataset = open_dataset(make_dataset("d", 10, ragged));
  std::vector<uint8_t> mask(50, 7);
  dataset->read_loss_mask(3, 50, mask.data());
  EXPECT_FALSE(dataset->has_loss_mask());
  EXPECT_EQ(mask, std::vector<uint8_t>(50, 1));
}

TEST_F(DatasetTest, FingerprintFollowsContentAlone) {
  const auto one = open_dataset(make_dataset("one", 50, ragged));
  EXPECT_EQ(one->fingerprint(), open_dataset(make_dataset("same", 50, ragged))->fingerprint());
  EXPECT_NE(one->fingerprint(),
            open_dataset(make_dataset("other", 50, ragged, int64_t{1} << 40, 1))->fingerprint());
  EXPECT_NE(
      one->fingerprint(),
      open_dataset(make_dataset("cut", 50, [](int64_t d) { return ragged(d) + (d == 7); }))->fingerprint());
}

TEST_F(DatasetTest, SoundDatasetHasNoProblems) { EXPECT_THAT(verify_dataset(several_shards()), IsEmpty()); }

// A flipped bit of any file is noticed: when the dataset is opened, or else by verify.
TEST_F(DatasetTest, FlippedBitsAnywhereAreAllFound) {
  const std::string folder = make_dataset("d", 40, ragged, 2000);
  ASSERT_THAT(verify_dataset(folder), IsEmpty());
  const CounterRng rng(11, "flips");
  uint64_t draw = 0;
  std::vector<std::string> shards, others;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    (entry.path().extension() == ".h5" ? shards : others).push_back(entry.path().string());
  ASSERT_GT(shards.size(), 1u);
  const int each = test::trials(100, 1000);  // of shards, and of dataset.json
  for (const std::vector<std::string>& files : {shards, others})
    for (int trial = 0; trial < each; ++trial) {
      const std::string& file = files[static_cast<size_t>(trial) % files.size()];
      const auto at = static_cast<int64_t>(rng.below(draw++, std::filesystem::file_size(file)));
      const char mask = static_cast<char>(1 << rng.below(draw++, 8));
      flip(file, at, mask);
      EXPECT_THAT(verify_dataset(folder), testing::Not(IsEmpty())) << file << " byte " << at;
      flip(file, at, mask);
    }
  EXPECT_THAT(verify_dataset(folder), IsEmpty());
  RecordProperty("trials", 2 * each);
}

TEST_F(DatasetTest, FlippedTokenIsRefusedWhenItsBlockIsRead) {
  const std::string folder = several_shards();
  const auto info = read_dataset_info(folder);
  const std::string file = shard(folder, 1, static_cast<int64_t>(info.shards.size()));
  const int64_t block = 2, at = info.shards[1].offsets_bytes[0] + (block * kBlockTokens + 77) * 2;
  flip(file, at);
  const auto dataset = open_dataset(folder);  // opening reads no payload
  std::vector<int32_t> tokens(10);
  const int64_t first = info.shards[0].token_count + block * kBlockTokens;
  dataset->read_tokens(first - 11, 10, tokens.data());
  const std::string message =
      refusal(ExitCode::bad_data, [&] { dataset->read_tokens(first + 500, 10, tokens.data()); });
  EXPECT_THAT(message,
              AllOf(HasSubstr(file), HasSubstr("/tokens"), HasSubstr("block 2"),
                    HasSubstr("do not fit their checksum"), HasSubstr("diffmamba verify " + folder)));
  expect_problem(folder, file, "block 2");

  OpenOptions unchecked;
  unchecked.check = DataCheck::off;
  EXPECT_NO_THROW(open_dataset(folder, unchecked)->read_tokens(first + 500, 10, tokens.data()));
}

TEST_F(DatasetTest, FlippedHashesAndOffsetsAreRefused) {
  const std::string folder = make_dataset("d", 9000, [](int64_t) { return 3; });
  const ShardInfo info = read_dataset_info(folder).shards[0];
  const std::string file = shard(folder, 0, 1);
  std::vector<int32_t> tokens(10);

  flip(file, info.offsets_bytes[2] + 8);  // the hash of the second block
  EXPECT_THAT(refusal(ExitCode::bad_data,
                      [&] { open_dataset(folder)->read_tokens(kBlockTokens, 10, tokens.data()); }),
              HasSubstr("block 1"));
  expect_problem(folder, file, "/block_xxh3");
  flip(file, info.offsets_bytes[2] + 8);

  for (const int64_t document : {1, 4095, 4096, 8999, 9000}) {
    const int64_t at = info.offsets_bytes[1] + document * 8;
    flip(file, at);
    EXPECT_THAT(refusal(ExitCode::bad_data,
                        [&] {
                          open_dataset(folder)->document_starts(
                              std::clamp<int64_t>(document * 4 - 6, 0, 36'000 - 12), 12);
                        }),
                HasSubstr("/doc_offsets"))
        << document;
    expect_problem(folder, file, "/doc_offsets");
    flip(file, at);
  }
  // A first element that sends the search to a wrong block: what is found there cannot be right, and shows
  // it.
  for (const char mask : {char{1}, char{64}}) {
    flip(file, info.offsets_bytes[1] + 4096 * 8 + 1, mask);
    for (const int64_t begin : {100, 16'300, 16'390, 35'000}) {
      const auto dataset = open_dataset(folder);
      std::vector<int64_t> found;
      try {
        found = dataset->document_starts(begin, 9);
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ExitCode::bad_data);
        continue;
      }
      ASSERT_FALSE(found.empty()) << begin;
      EXPECT_EQ(found.front(), 4 - begin % 4) << begin;
    }
    flip(file, info.offsets_bytes[1] + 4096 * 8 + 1, mask);
  }
}

TEST_F(DatasetTest, CutOffGrownMissingAndSwappedShards) {
  const std::string folder = several_shards();
  const auto info = read_dataset_info(folder);
  const auto count = static_cast<int64_t>(info.shards.size());
  ASSERT_GE(count, 3);
  const std::string first = shard(folder, 0, count), second = shard(folder, 1, count);
  const auto open = [&] { open_dataset(folder); };

  for (const int64_t change : {-1, -4096, 1}) {
    std::filesystem::copy_file(first, path("saved"), std::filesystem::copy_options::overwrite_existing);
    ASSERT_EQ(truncate(first.c_str(), info.shards[0].size_bytes + change), 0);
    EXPECT_THAT(refusal(ExitCode::bad_data, open),
                AllOf(HasSubstr(first), HasSubstr("in place of the"), HasSubstr("restore the file")));
    expect_problem(folder, first, "in place of the");
    std::filesystem::rename(path("saved"), first);
  }
  std::filesystem::rename(first, path("aside"));
  EXPECT_THAT(refusal(ExitCode::bad_data, open),
              AllOf(HasSubstr(first), HasSubstr("missing, but dataset.json lists it")));
  expect_problem(folder, first, "missing");

  std::filesystem::create_symlink(path("aside"), first);
  EXPECT_THAT(refusal(ExitCode::bad_data, open), AllOf(HasSubstr(first), HasSubstr("symbolic link")));
  std::filesystem::remove(first);
  std::filesystem::create_directory(first);
  EXPECT_THAT(refusal(ExitCode::bad_data, open), HasSubstr("not a regular file"));
  std::filesystem::remove(first);
  std::filesystem::rename(path("aside"), first);
  EXPECT_THAT(verify_dataset(folder), IsEmpty());
}

TEST_F(DatasetTest, ShardsOfEqualSizeInEachOthersPlace) {
  const std::string folder = make_dataset(
      "d", 40, [](int64_t) { return 99; }, 1000);
  const std::string first = shard(folder, 0, 4), second = shard(folder, 1, 4);
  ASSERT_EQ(std::filesystem::file_size(first), std::filesystem::file_size(second));
  std::filesystem::rename(first, path("aside"));
  std::filesystem::rename(second, first);
  std::filesystem::rename(path("aside"), second);
  EXPECT_THAT(refusal(ExitCode::bad_data, [&] { open_dataset(folder); }),
              AllOf(HasSubstr(first), HasSubstr("another dataset or place")));
  expect_problem(folder, second, "another dataset or place");
}

TEST_F(DatasetTest, ShardOfAnotherDatasetWithEqualMetadata) {
  const std::string folder = make_dataset("d", 40, [](int64_t) { return 99; });
  const std::string other = make_dataset(
      "other", 40, [](int64_t) { return 99; }, int64_t{1} << 40, 1);
  std::filesystem::copy_file(shard(other, 0, 1), shard(folder, 0, 1),
                             std::filesystem::copy_options::overwrite_existing);
  expect_problem(folder, shard(folder, 0, 1),
                 "/block_xxh3");  // its payload fits its own hashes, but not dataset.json
}

TEST_F(DatasetTest, FileShrunkWhileItIsOpen) {
  const std::string folder = several_shards();
  const auto dataset = open_dataset(folder);
  const auto count = static_cast<int64_t>(read_dataset_info(folder).shards.size());
  ASSERT_EQ(truncate(shard(folder, 0, count).c_str(), 50'000), 0);
  std::vector<int32_t> tokens(10);
  EXPECT_THAT(refusal(ExitCode::bad_data, [&] { dataset->read_tokens(60'000, 10, tokens.data()); }),
              AllOf(HasSubstr(shard(folder, 0, count)), HasSubstr("shorter than expected")));
}

TEST_F(DatasetTest, DamagedOrEditedDatasetFile) {
  const std::string folder = make_dataset("d", 40, ragged);
  const std::string file = folder + "/dataset.json", text = slurp(file);
  const auto expect_refused = [&](std::string changed, const std::string& reason) {
    write("d/dataset.json", changed);
    EXPECT_THAT(refusal(ExitCode::bad_data, [&] { open_dataset(folder); }),
                AllOf(HasSubstr(file), HasSubstr(reason)));
  };
  const auto with_hash = [](std::string body) {  // an edit that knows about the hash
    body.resize(body.rfind("  \"self_xxh128\""));
    return body + "  \"self_xxh128\": \"" + hex(xxh3_128(body.data(), body.size())) + "\"\n}\n";
  };
  const auto replaced = [&](const std::string& from, const std::string& to) {
    std::string changed = text;
    EXPECT_NE(changed.find(from), std::string::npos) << from;
    return changed.replace(changed.find(from), from.size(), to);
  };
  expect_refused("", "does not end with self_xxh128");
  expect_refused(text.substr(0, 100), "does not end with self_xxh128");
  expect_refused(replaced("\"doc_count\": 40", "\"doc_count\": 41"), "do not fit self_xxh128");
  expect_refused(with_hash(replaced("\"doc_count\": 40", "\"doc_count\": 41")), "contradicts the shards");
  expect_refused(with_hash(replaced("\"version\": 1", "\"version\": 2")),
                 "format version 2; this program reads version 1");
  expect_refused(with_hash(replaced("diffmamba-tokens", "someone-elses")), "format 'someone-elses'");
  expect_refused(with_hash(replaced("\"eos_id\": 256", "\"eos_id\": 257")),
                 "eos_id 257 is not below vocab_size 257");
  expect_refused(with_hash(replaced("\"vocab_size\": 257", "\"vocab_size\": 4294967297")),
                 "vocab_size 4294967297 is outside");
  expect_refused(with_hash(replaced("tokens-00000-of-00001.h5", "../../etc/passwd")),
                 "is called '../../etc/passwd'");
  expect_refused(with_hash(replaced("\"version\": 1,", "\"version\": 1,\n  \"extra\": 1,")),
                 "unknown to version 1");
  expect_refused(with_hash(replaced("\"version\": 1,", "\"version\": 1,\n  \"version\": 1,")),
                 "stands twice");
  expect_refused(with_hash(replaced("\"/tokens\": ", "\"/tokens\": 99999999")),
                 "reaches past the end of the file");
  const std::string tokens =
      text.substr(text.find("\"token_count\""),
                  text.find(',', text.find("\"token_count\"")) - text.find("\"token_count\""));
  std::string bomb = text;
  for (size_t at = 0; (at = bomb.find(tokens, at)) != std::string::npos; at += 10)
    bomb.replace(at, tokens.size(), "\"token_count\": 1125899906842624");
  expect_refused(with_hash(bomb), "'token_count' is 1125899906842624");
  write("d/dataset.json", text);
  EXPECT_THAT(verify_dataset(folder), IsEmpty());
}

/// A dataset that is consistent in itself but holds what cannot be: the metadata digest is made to fit.
class ForgedTest : public DatasetTest {
 protected:
  /// Applies `forge` to the first shard of a fresh dataset, then makes all digests fit again.
  std::string forged(const std::function<void(const std::string&, const ShardInfo&)>& forge) const {
    std::filesystem::remove_all(path("forged"));
    const std::string folder = make_dataset("forged", 40, [](int64_t) { return 99; });
    DatasetInfo info = read_dataset_info(folder);
    forge(shard(folder, 0, 1), info.shards[0]);
    refresh(folder, info);
    return folder;
  }
  void refresh(const std::string& folder, DatasetInfo& info) const {
    const std::string file = shard(folder, 0, 1);
    ShardInfo& s = info.shards[0];
    const std::string bytes = slurp(file);
    s.size_bytes = static_cast<int64_t>(bytes.size());
    const auto region = [&](int64_t offset, int64_t size) {
      return bytes.substr(static_cast<size_t>(offset), static_cast<size_t>(size));
    };
    const std::string tokens = region(s.offsets_bytes[0], s.token_count * 2),
                      offsets = region(s.offsets_bytes[1], (s.doc_count + 1) * 8);
    const uint64_t token_hash = xxh3_64(tokens.data(), tokens.size()),
                   doc_hash = xxh3_64(offsets.data(), offsets.size());
    patch(file, s.offsets_bytes[2], &token_hash);
    patch(file, s.offsets_bytes[3], &doc_hash);
    s.token_hashes = xxh3_128(&token_hash, 8);
    s.doc_hashes = xxh3_128(&doc_hash, 8);
    s.metadata = metadata_digest(file, declared_layout(info, 0));
    const std::string text = to_text(info);
    std::ofstream(folder + "/dataset.json", std::ios::binary) << text;
  }
  static void patch(const std::string& file, int64_t at, const uint64_t* value, size_t size = 8) {
    std::fstream out(file, std::ios::binary | std::ios::in | std::ios::out);
    out.seekp(at);
    out.write(reinterpret_cast<const char*>(value), static_cast<std::streamsize>(size));
  }
};

TEST_F(ForgedTest, UnforgedIsSound) {
  EXPECT_THAT(verify_dataset(forged([](auto&, auto&) {})), IsEmpty());
}

TEST_F(ForgedTest, TokenBeyondTheVocabulary) {
  const uint64_t id = 257;
  const std::string folder = forged([&](const std::string& file, const ShardInfo& s) {
    patch(file, s.offsets_bytes[0] + 2 * 123, &id, 2);
  });
  std::vector<int32_t> tokens(200);
  EXPECT_THAT(refusal(ExitCode::bad_data, [&] { open_dataset(folder)->read_tokens(50, 200, tokens.data()); }),
              HasSubstr("token 123 has the id 257, which is not below the vocabulary's size 257"));
  expect_problem(folder, "tokens-00000", "token 123 has the id 257");
}

TEST_F(ForgedTest, OffsetsThatDescendStartLateOrEndEarly) {
  const uint64_t large = 3000, one = 1;
  expect_problem(forged([&](const std::string& file, const ShardInfo& s) {
                   patch(file, s.offsets_bytes[1] + 8 * 5, &large);
                 }),
                 "/doc_offsets", "is below the 3000 before it");
  expect_problem(
      forged([&](const std::string& file, const ShardInfo& s) { patch(file, s.offsets_bytes[1], &one); }),
      "/doc_offsets", "starts at 1 in place of 0");
  expect_problem(forged([&](const std::string& file, const ShardInfo& s) {
                   patch(file, s.offsets_bytes[1] + 8 * s.doc_count, &large);
                 }),
                 "/doc_offsets", "is below");
  const std::string folder = forged(
      [&](const std::string& file, const ShardInfo& s) { patch(file, s.offsets_bytes[1] + 8 * 5, &large); });
  EXPECT_THAT(refusal(ExitCode::bad_data, [&] { open_dataset(folder)->document_starts(0, 1000); }),
              HasSubstr("the offsets do not ascend"));
}

TEST_F(ForgedTest, DeclaredLargestIdIsNotTheLargest) {
  const std::string folder = make_dataset("d", 40, ragged);
  DatasetInfo info = read_dataset_info(folder);
  info.shards[0].max_token_id = 255;
  std::ofstream(folder + "/dataset.json", std::ios::binary) << to_text(info);
  EXPECT_THAT(refusal(ExitCode::bad_data, [&] { open_dataset(folder); }),
              HasSubstr("attribute 'max_token_id'"));
}

TEST_F(ForgedTest, AnotherTokenizerInTheShardThanInDatasetFile) {
  const std::string folder = make_dataset("d", 40, ragged);
  DatasetInfo info = read_dataset_info(folder);
  info.tokenizer_hash.low ^= 1;
  std::ofstream(folder + "/dataset.json", std::ios::binary) << to_text(info);
  EXPECT_THAT(refusal(ExitCode::bad_data, [&] { open_dataset(folder); }),
              HasSubstr("attribute 'tokenizer_xxh128'"));
}

// The shard is replaced by another HDF5 file whose digest dataset.json then declares: only its structure can
// tell.
TEST_F(ForgedTest, UnknownObjectsInAShard) {
  const std::string folder = make_dataset("d", 40, [](int64_t) { return 99; });
  DatasetInfo info = read_dataset_info(folder);
  auto datasets = shard_datasets(info, info.shards[0]);
  datasets.push_back({"/extra", DType::u64, {4}});
  const std::string file = shard(folder, 0, 1);
  std::filesystem::remove(file);
  const H5Layout layout = create_h5(file, datasets, shard_attributes(info, 0));
  info.shards[0].size_bytes = layout.file_size_bytes;
  for (size_t i = 0; i < 4; ++i) info.shards[0].offsets_bytes[i] = layout.datasets[i].offset_bytes;
  info.shards[0].metadata = metadata_digest(file, declared_layout(info, 0));
  std::ofstream(folder + "/dataset.json", std::ios::binary) << to_text(info);
  EXPECT_THAT(refusal(ExitCode::bad_data, [&] { open_dataset(folder); }),
              AllOf(HasSubstr(file), HasSubstr("holds /extra, which format version 1 does not know")));
}

TEST_F(DatasetTest, FilesThatDoNotBelong) {
  const std::string folder = make_dataset("d", 40, ragged);
  write("d/notes.txt", "x");
  expect_problem(folder, "notes.txt", "does not belong");
}

TEST_F(DatasetTest, PathsThatAreNoDataset) {
  EXPECT_THAT(refusal(ExitCode::usage, [&] { open_dataset(path("absent")); }), HasSubstr("no such dataset"));
  std::filesystem::create_directory(path("empty"));
  EXPECT_THAT(refusal(ExitCode::usage, [&] { open_dataset(path("empty")); }),
              HasSubstr("holds no dataset.json"));
  make_dataset("train", 5, ragged);
  make_dataset("heldout", 5, ragged);
  EXPECT_THAT(refusal(ExitCode::usage, [&] { open_dataset(folder_); }),
              HasSubstr("holds the datasets train and heldout; name one"));
  EXPECT_THAT(verify_dataset(folder_), IsEmpty());
  EXPECT_THAT(refusal(ExitCode::usage, [&] { open_dataset(write("file", "x")); }), HasSubstr("--hdf5-name"));
}

TEST_F(DatasetTest, DescribesWithoutReadingPayload) {
  const std::string folder = several_shards();
  const auto info = read_dataset_info(folder);
  flip(shard(folder, 0, static_cast<int64_t>(info.shards.size())), info.shards[0].offsets_bytes[0]);
  const Json json = describe_dataset(folder);
  EXPECT_EQ(json["doc_count"], 3000);
  EXPECT_EQ(json["token_count"], info.token_count());
  EXPECT_EQ(json["fingerprint"], hex(info.fingerprint()));
  EXPECT_EQ(json["shards"].size(), info.shards.size());
}

}  // namespace
}  // namespace dm::data
