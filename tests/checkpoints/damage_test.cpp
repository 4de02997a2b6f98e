// Damage of every kind to committed directories: found by verify(), never loaded as if it were sound.

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <map>

#include "checkpoints/manifest.h"
#include "checkpoints/names.h"
#include "checkpoints/store.h"
#include "core/error.h"
#include "core/files.h"
#include "core/h5_layout.h"
#include "core/rng.h"
#include "tests/checkpoints/sample_state.h"
#include "tests/support/process.h"
#include "tests/support/trials.h"

namespace dm::checkpoints {
namespace {

namespace fs = std::filesystem;
using test::read_text;
using test::SampleState;
using test::write_text;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr const char* kShard = "/shard-00000-of-00001.h5";

class DamageTest : public testing::Test {
 protected:
  DamageTest() {
    const auto group = make_single_process_collectives();
    Store store(folder_.path(), {}, *group);
    for (const int64_t step : {1, 2}) {
      const SampleState state(SampleState::Split::ranges, 0, 1, static_cast<uint64_t>(step), true);
      store.save(step, state.pieces(), {{"step", step}});
    }
    directory_ = folder_ / "checkpoints/step_000000002";
    other_ = folder_ / "checkpoints/step_000000001";
  }

  /// What verify() says, as one text; "" when it is content.
  static std::string told(const std::string& directory) {
    std::string all;
    for (const std::string& problem : verify(directory)) all += problem + "\n";
    return all;
  }
  /// The same, and load() must not be fooled either.
  std::string problems() const {
    const std::string all = told(directory_);
    SampleState state(SampleState::Split::columns, 0, 1, 0, false);
    try {
      load(directory_, state.pieces());
      EXPECT_THAT(state.wrong(2), IsEmpty()) << "loaded damaged values";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::bad_data) << error.what();
      EXPECT_FALSE(all.empty()) << "load() refuses what verify() accepts: " << error.what();
    }
    return all;
  }

  void flip(const std::string& path, int64_t byte, int bit) {
    const File file = File::open(path, O_RDWR);
    char value;
    file.read_at(&value, 1, byte);
    value = static_cast<char>(value ^ 1 << bit);
    ASSERT_EQ(pwrite(file.fd(), &value, 1, byte), 1);
  }

  test::TemporaryFolder folder_;
  std::string directory_, other_;
};

TEST_F(DamageTest, SoundIsSound) { EXPECT_EQ(problems(), ""); }

TEST_F(DamageTest, FlippedBitsAnywhereAreAllFound) {
  const CounterRng rng(20261124, "flips");
  std::map<std::string, int> silent;
  uint64_t draw = 0;
  const int each = test::trials(300, 1000);
  for (const char* file : {kShard, "/manifest.json", "/COMMIT"})
    for (int trial = 0; trial < each; ++trial) {
      const std::string path = directory_ + file;
      const auto byte = static_cast<int64_t>(rng.below(draw++, fs::file_size(path)));
      const auto bit = static_cast<int>(rng.below(draw++, 8));
      flip(path, byte, bit);
      if (problems().empty()) ++silent[fmt::format("{} byte {} bit {}", file, byte, bit)];
      flip(path, byte, bit);
    }
  EXPECT_THAT(silent, IsEmpty());
  RecordProperty("trials", 3 * each);
  EXPECT_EQ(problems(), "") << "the flips were not undone";
}

TEST_F(DamageTest, EveryByteOfTheShardBelongsToAHash) {
  // One flip in each 16 bytes, metadata, payload and the gaps between them.
  const std::string path = directory_ + kShard;
  const auto size = static_cast<int64_t>(fs::file_size(path));
  for (int64_t byte = 0; byte < size; byte += 16) {
    flip(path, byte, 5);
    const auto found = verify(directory_);
    EXPECT_FALSE(found.empty()) << "byte " << byte << " of " << size;
    for (const std::string& problem : found) EXPECT_THAT(problem, HasSubstr(path));
    flip(path, byte, 5);
  }
}

TEST_F(DamageTest, PayloadDamageIsNamedWithFileOffsetAndTensor) {
  const Manifest manifest = read_manifest(directory_);
  const auto& piece = manifest.find("adamw.m/counts")->pieces[0];
  flip(directory_ + kShard, piece.offset_bytes + 50, 0);
  const std::string found = problems();
  EXPECT_THAT(found, HasSubstr(fmt::format("{}{}: 104 bytes at {} (/adamw.m/counts) do not fit their hash",
                                           directory_, kShard, piece.offset_bytes)));
  EXPECT_THAT(found, HasSubstr("restore the file or use another checkpoint"));
}

TEST_F(DamageTest, TruncatedLongerEmptyMissingOrExtraFiles) {
  for (const std::string file : {kShard, "/manifest.json", "/COMMIT"}) {
    const std::string path = directory_ + file, whole = read_text(path);
    for (const size_t size : {size_t{0}, size_t{1}, whole.size() / 2, whole.size() - 1}) {
      write_text(path, whole.substr(0, size));
      EXPECT_THAT(problems(), HasSubstr(path)) << size;
    }
    write_text(path, whole + "x");
    EXPECT_THAT(problems(), HasSubstr(directory_)) << "longer " << file;
    fs::remove(path);
    EXPECT_THAT(problems(), HasSubstr(path + ": missing")) << file;
    write_text(path, whole);
    EXPECT_EQ(problems(), "");
  }
  for (const char* extra : {"/shard-00001-of-00002.h5", "/notes.txt", "/.hidden"}) {
    write_text(directory_ + extra, "x");
    EXPECT_THAT(told(directory_), HasSubstr(directory_ + extra + ": no part of this checkpoint"));
    fs::remove(directory_ + extra);
  }
}

TEST_F(DamageTest, HolesInThePayloadAreFound) {
  const Manifest manifest = read_manifest(directory_);
  const auto& piece = manifest.find("backbone.embedding.weight")->pieces[0];
  const File file = File::open(directory_ + kShard, O_RDWR);
  const std::vector<char> zeros(static_cast<size_t>(piece.size_bytes), 0);  // what a punched hole reads as
  ASSERT_EQ(pwrite(file.fd(), zeros.data(), zeros.size(), piece.offset_bytes),
            static_cast<ssize_t>(zeros.size()));
  EXPECT_THAT(problems(), HasSubstr("/params/backbone.embedding.weight"));
}

TEST_F(DamageTest, FilesAndDirectoriesSwappedBetweenSteps) {
  ASSERT_EQ(fs::file_size(directory_ + kShard), fs::file_size(other_ + kShard))
      << "only then the swap is a hard case";
  const auto swap = [&](const std::string& name) {
    fs::rename(directory_ + name, folder_ / "held");
    fs::rename(other_ + name, directory_ + name);
    fs::rename(folder_ / "held", other_ + name);
  };
  for (const std::string name : {kShard, "/manifest.json", "/COMMIT"}) {
    swap(name);
    EXPECT_NE(problems(), "") << name;
    swap(name);
  }
  EXPECT_EQ(problems(), "");
  swap("");  // the whole directories
  EXPECT_THAT(problems(), HasSubstr("holds step 1; the directory was renamed"));
}

TEST_F(DamageTest, ACopyElsewhereUnderAnyNameIsSound) {
  fs::copy(directory_, folder_ / "my-best-model", fs::copy_options::recursive);
  EXPECT_THAT(verify(folder_ / "my-best-model"), IsEmpty());
  EXPECT_THAT(verify(folder_ / "my-best-model/"), IsEmpty());
}

TEST_F(DamageTest, SymbolicLinksAndOtherKindsOfFilesAreNotOpened) {
  for (const std::string name : {kShard, "/manifest.json", "/COMMIT"}) {
    fs::rename(directory_ + name, folder_ / "real");
    fs::create_symlink(folder_ / "real", directory_ + name);
    EXPECT_THAT(problems(), HasSubstr(directory_ + name + ": a symbolic link"));
    fs::remove(directory_ + name);
    fs::create_symlink("/nowhere", directory_ + name);
    EXPECT_THAT(problems(), HasSubstr("a symbolic link"));
    fs::remove(directory_ + name);
    ASSERT_EQ(mkfifo((directory_ + name).c_str(), 0600), 0);
    EXPECT_THAT(problems(), HasSubstr(directory_ + name + ": not a regular file"))
        << "or it waits for a writer for ever";
    fs::remove(directory_ + name);
    fs::create_directory(directory_ + name);
    EXPECT_THAT(problems(), HasSubstr("not a regular file"));
    fs::remove(directory_ + name);
    fs::rename(folder_ / "real", directory_ + name);
  }
  fs::create_directory_symlink(directory_, folder_ / "link");
  EXPECT_THAT(told(folder_ / "link"), HasSubstr("a symbolic link"));
  EXPECT_THAT(told(folder_ / "link/"), HasSubstr("a symbolic link"));
  EXPECT_THAT(told(folder_ / "nowhere"), HasSubstr("missing"));
  EXPECT_THAT(told(directory_ + kShard), HasSubstr("not a directory"));
}

TEST_F(DamageTest, AManifestBombIsRefusedBeforeItIsRead) {
  fs::resize_file(directory_ + "/manifest.json", (int64_t{1} << 40));  // sparse: a terabyte of nothing
  EXPECT_THAT(problems(), HasSubstr("are more than the 67108864 such a file may have"));
}

/// A hostile writer who knows how to make COMMIT fit.
void rewrite(const std::string& directory, const std::function<void(Json&)>& change) {
  Json json = Json::parse(read_text(directory + "/manifest.json"));
  change(json);
  write_text(directory + "/manifest.json", json.dump());
  write_text(directory + "/COMMIT", commit_line(json.dump()));
}

TEST_F(DamageTest, AHostileManifestCannotNameOtherFiles) {
  write_text(folder_ / "secret", std::string(fs::file_size(directory_ + kShard), 's'));
  rewrite(directory_, [](Json& m) { m["files"][0]["name"] = "../../secret"; });
  EXPECT_THAT(problems(), HasSubstr("not the name 'shard-00000-of-00001.h5'"));
}

TEST_F(DamageTest, AHostileManifestCannotMakeALoadAllocateOrReadPastTheFile) {
  rewrite(directory_, [](Json& m) {
    m["files"][0]["size_bytes"] = int64_t{1} << 50;
    m["tensors"][0]["shape"] = {int64_t{1} << 40, 8};
  });
  EXPECT_NE(problems(), "");
  rewrite(directory_, [](Json& m) { m["tensors"] = Json::array(); });
  EXPECT_NE(problems(), "");
}

TEST_F(DamageTest, HDF5MustSeeWhatTheManifestSays) {
  // Two tensors of equal size with places and hashes exchanged: every hash fits, only HDF5's own view tells.
  rewrite(directory_, [](Json& m) {
    Json *a = nullptr, *b = nullptr;
    for (Json& tensor : m["tensors"]) {
      if (tensor["name"] == "adamw.m/counts") a = &tensor["pieces"][0];
      if (tensor["name"] == "adamw.v/counts") b = &tensor["pieces"][0];
    }
    std::swap((*a)["offset_bytes"], (*b)["offset_bytes"]);
    std::swap((*a)["xxh3_64"], (*b)["xxh3_64"]);
  });
  EXPECT_THAT(told(directory_), HasSubstr("/adamw.m/counts is not as the manifest says"));
}

TEST_F(DamageTest, ASecondDatasetOnTheSameFileIsFound) {
  const Manifest manifest = read_manifest(directory_);
  rewrite(directory_, [&](Json& m) {  // a tensor that the manifest forgets; its bytes now count as metadata
    for (size_t i = 0; i < m["tensors"].size(); ++i)
      if (m["tensors"][i]["name"] == "counts") m["tensors"].erase(i);
    H5Layout layout;
    layout.file_size_bytes = manifest.files[0].size_bytes;
    for (const auto& tensor : manifest.tensors)
      for (const auto& piece : tensor.pieces)
        if (tensor.name != "counts")
          layout.datasets.push_back({piece.dataset, tensor.dtype, piece.box.shape, piece.offset_bytes});
    m["files"][0]["metadata_xxh3_128"] = hex(metadata_digest(directory_ + kShard, layout));
  });
  EXPECT_THAT(told(directory_), HasSubstr("datasets, the manifest has"));
}

}  // namespace
}  // namespace dm::checkpoints
