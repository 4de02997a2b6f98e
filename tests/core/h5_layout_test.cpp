// create_h5 and read_h5_layout, and everything that the reader must refuse: each odd file is made with the C
// API here.

#include "core/h5_layout.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <functional>
#include <thread>

#include "core/error.h"
#include "core/files.h"
#include "core/h5.h"
#include "core/rng.h"

namespace dm {
namespace {

using testing::HasSubstr;

class H5LayoutTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "dm-h5-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string path(const std::string& name = "file.h5") const { return folder_ + "/" + name; }

  /// Makes an HDF5 file by hand with the access list of ours, so that only what `fill` does is odd.
  std::string make(const std::function<void(hid_t)>& fill) const {
    const H5Lock lock;
    const H5Id access = h5_file_access();
    H5Pset_libver_bounds(access, H5F_LIBVER_V18,
                         H5F_LIBVER_LATEST);  // virtual datasets are newer than the 1.8 format
    H5Id file(H5Fcreate(path().c_str(), H5F_ACC_TRUNC, tracked(H5P_FILE_CREATE), access), H5Fclose);
    fill(file);
    EXPECT_GE(file.close(), 0);
    return path();
  }

  static H5Id tracked(hid_t list_class) {
    H5Id list(H5Pcreate(list_class), H5Pclose);
    H5Pset_link_creation_order(list, H5P_CRT_ORDER_TRACKED | H5P_CRT_ORDER_INDEXED);
    return list;
  }

  /// A 1-D u16 dataset; `change` turns what would be legal into something else.
  static void dataset(
      hid_t file, const char* name, hsize_t count, const std::function<void(hid_t)>& change = [](hid_t) {},
      hid_t type = H5T_STD_U16LE, hsize_t limit = 0) {
    const H5Id list(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
    H5Pset_alloc_time(list, H5D_ALLOC_TIME_EARLY);
    H5Pset_fill_time(list, H5D_FILL_TIME_NEVER);
    change(list);
    if (limit == 0) limit = count;
    const H5Id space(H5Screate_simple(1, &count, &limit), H5Sclose);
    const H5Id made(H5Dcreate2(file, name, type, space, H5P_DEFAULT, list, H5P_DEFAULT), H5Dclose);
    ASSERT_GE(hid_t{made}, 0);
  }

  /// The file is refused by the reader and, with the same words, by the child.
  void expect_refused(const std::string& file, const std::string& reason) const {
    for (const bool in_child : {false, true}) try {
        if (in_child)
          validate_h5_in_child(file);
        else
          read_h5_layout(file);
        ADD_FAILURE() << file << " was accepted; expected: " << reason;
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ExitCode::bad_data);
        EXPECT_THAT(error.what(), HasSubstr(reason));
        EXPECT_THAT(error.what(), HasSubstr(file));
      }
  }

  std::string folder_;
};

const std::vector<H5Dataset> kDatasets = {{"/tokens", DType::u16, {1000}},
                                          {"/params/b", DType::bf16, {3, 5}},
                                          {"/params/empty", DType::f32, {0, 7}},
                                          {"/params/a", DType::f64, {}},
                                          {"/last", DType::u8, {13}}};
const H5Attributes kAttributes = {
    {"format", "test"}, {"empty", ""}, {"version", uint64_t{1}}, {"big", UINT64_MAX}};

TEST_F(H5LayoutTest, ReadsBackWhatItCreated) {
  const H5Layout made = create_h5(path(), kDatasets, kAttributes);
  const H5Layout read = read_h5_layout(path());
  EXPECT_EQ(read.file_size_bytes, made.file_size_bytes);
  EXPECT_EQ(static_cast<int64_t>(std::filesystem::file_size(path())), made.file_size_bytes);
  EXPECT_EQ(read.attributes, kAttributes);
  ASSERT_EQ(read.datasets.size(), kDatasets.size());
  for (size_t i = 0; i < kDatasets.size(); ++i) {
    EXPECT_EQ(read.datasets[i].path, kDatasets[i].path);
    EXPECT_EQ(read.datasets[i].shape, kDatasets[i].shape);
    EXPECT_EQ(read.datasets[i].offset_bytes, made.datasets[i].offset_bytes);
    EXPECT_EQ(size_bytes(read.datasets[i].dtype), size_bytes(kDatasets[i].dtype));
  }
  EXPECT_EQ(made.datasets[2].offset_bytes, -1);
  EXPECT_EQ(made.datasets[0].offset_bytes, 4096);
  for (const H5Dataset& dataset : made.datasets)
    EXPECT_EQ(dataset.offset_bytes % 8, dataset.count() > 0 ? 0 : -1) << dataset.path;
  EXPECT_NO_THROW(validate_h5_in_child(path()));
}

TEST_F(H5LayoutTest, TheChildIsConfined) {
  check_in_child({path()}, [](size_t) {
    for (const auto resource : {RLIMIT_CPU, RLIMIT_AS, RLIMIT_FSIZE, RLIMIT_CORE}) {
      rlimit limit{};
      getrlimit(resource, &limit);
      DM_REQUIRE(limit.rlim_cur != RLIM_INFINITY && limit.rlim_cur == limit.rlim_max, ExitCode::internal,
                 "resource {} is without limit", static_cast<int>(resource));
    }
  });
}

TEST_F(H5LayoutTest, PayloadWrittenAtTheOffsetsIsWhatHdf5Reads) {
  const H5Layout layout = create_h5(path(), kDatasets, kAttributes);
  std::vector<uint16_t> tokens(1000);
  for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<uint16_t>(i * 37);
  File file = File::open(path(), O_WRONLY);
  file.write_at(tokens.data(), tokens.size() * 2, layout.datasets[0].offset_bytes);
  file.close();

  const H5Lock lock;
  const H5Id h5(H5Fopen(path().c_str(), H5F_ACC_RDONLY, h5_file_access()), H5Fclose);
  const H5Id dataset(H5Dopen2(h5, "/tokens", H5P_DEFAULT), H5Dclose);
  std::vector<uint16_t> back(1000);
  ASSERT_GE(H5Dread(dataset, H5T_NATIVE_UINT16, H5S_ALL, H5S_ALL, H5P_DEFAULT, back.data()), 0);
  EXPECT_EQ(back, tokens);
}

TEST_F(H5LayoutTest, FilesAreByteIdentical) {
  create_h5(path("a"), kDatasets, kAttributes);
  sleep(1);  // a time stamp would differ now
  create_h5(path("b"), kDatasets, kAttributes);
  EXPECT_EQ(read_file(path("a"), 1 << 20), read_file(path("b"), 1 << 20));
}

TEST_F(H5LayoutTest, ManyDatasetsKeepTheirOrder) {
  std::vector<H5Dataset> many;
  for (int i = 0; i < 500; ++i)
    many.push_back({fmt::format("/params/layer.{}.weight", i * 7919 % 500), DType::f32, {i % 5}});
  const H5Layout made = create_h5(path(), many, {});
  const H5Layout read = read_h5_layout(path());
  ASSERT_EQ(read.datasets.size(), many.size());
  for (size_t i = 0; i < many.size(); ++i) EXPECT_EQ(read.datasets[i].path, many[i].path);
  EXPECT_EQ(metadata_digest(path(), made), metadata_digest(path(), read));
}

TEST_F(H5LayoutTest, MoreThanFourGibibytes) {
  const int64_t count = int64_t{5} << 30;
  const H5Layout made =
      create_h5(path(), {{"/tokens", DType::u16, {count}}, {"/after", DType::u64, {4}}}, {});
  const H5Layout read = read_h5_layout(path());
  EXPECT_EQ(read.datasets[0].size_bytes(), count * 2);
  EXPECT_GE(read.datasets[1].offset_bytes, count * 2);
  EXPECT_GT(made.file_size_bytes, count * 2);
}

TEST_F(H5LayoutTest, MetadataDigestCoversEverythingButThePayload) {
  const H5Layout layout = create_h5(path(), kDatasets, kAttributes);
  const Hash128 before = metadata_digest(path(), layout);
  const std::string original = read_file(path(), 1 << 20);
  File file = File::open(path(), O_WRONLY);
  for (int64_t at = 0; at < layout.file_size_bytes; at += 5) {
    const char flipped = static_cast<char>(original[static_cast<size_t>(at)] ^ 1);
    file.write_at(&flipped, 1, at);
    const bool payload = std::any_of(layout.datasets.begin(), layout.datasets.end(), [&](const H5Dataset& d) {
      return d.offset_bytes >= 0 && at >= d.offset_bytes && at < d.offset_bytes + d.size_bytes();
    });
    EXPECT_EQ(metadata_digest(path(), layout) == before, payload) << "byte " << at;
    file.write_at(&original[static_cast<size_t>(at)], 1, at);
  }
}

TEST_F(H5LayoutTest, ExistingFileIsNotTouched) {
  File::open(path(), O_WRONLY | O_CREAT).close();
  try {
    create_h5(path(), kDatasets, {});
    FAIL() << "it overwrote the file";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::io);
    EXPECT_THAT(error.what(), HasSubstr("File exists"));
  }
  EXPECT_EQ(std::filesystem::file_size(path()), 0u);
}

TEST_F(H5LayoutTest, RefusesWhatIsNoRegularFile) {
  create_h5(path("real"), kDatasets, {});
  std::filesystem::create_symlink(path("real"), path("link"));
  expect_refused(path("link"), "symbolic link");
  expect_refused(folder_, "not a regular file");
  ASSERT_EQ(mkfifo(path("fifo").c_str(), 0600), 0);
  expect_refused(path("fifo"), "not a regular file");
  File::open(path("empty"), O_WRONLY | O_CREAT).close();
  expect_refused(path("empty"), "too few");
  File text = File::open(path("text"), O_WRONLY | O_CREAT);
  text.write_at(std::string(100, 'x').data(), 100, 0);
  expect_refused(path("text"), "not an HDF5 file");
}

TEST_F(H5LayoutTest, RefusesAnySizeButTheAllocatedOne) {
  const int64_t size = create_h5(path("sound"), kDatasets, {}).file_size_bytes;
  for (const int64_t wrong : {size - 1, size + 1, size + 4096, int64_t{48}}) {
    std::filesystem::copy_file(path("sound"), path(), std::filesystem::copy_options::overwrite_existing);
    ASSERT_EQ(truncate(path().c_str(), wrong), 0);
    expect_refused(path(), "cut off or added to");
  }
}

TEST_F(H5LayoutTest, RefusesOddDatasets) {
  const hsize_t chunk = 4;
  expect_refused(make([&](hid_t f) { dataset(f, "/x", 8, [&](hid_t l) { H5Pset_chunk(l, 1, &chunk); }); }),
                 "chunked");
  expect_refused(make([&](hid_t f) {
                   dataset(f, "/x", 8, [&](hid_t l) {
                     H5Pset_chunk(l, 1, &chunk);
                     H5Pset_deflate(l, 6);
                     H5Pset_alloc_time(l, H5D_ALLOC_TIME_LATE);
                   });
                 }),
                 "chunked");
  expect_refused(make([](hid_t f) { dataset(f, "/x", 8, [](hid_t l) { H5Pset_layout(l, H5D_COMPACT); }); }),
                 "compact");
  expect_refused(
      make([](hid_t f) { dataset(f, "/x", 8, [](hid_t l) { H5Pset_alloc_time(l, H5D_ALLOC_TIME_LATE); }); }),
      "0 bytes are stored");
  expect_refused(
      make([](hid_t f) { dataset(f, "/x", 8, [](hid_t l) { H5Pset_fill_time(l, H5D_FILL_TIME_ALLOC); }); }),
      "fill value");
  expect_refused(
      make([](hid_t f) { dataset(f, "/x", 8, [](hid_t l) { H5Pset_external(l, "/etc/hostname", 0, 16); }); }),
      "another file");
  expect_refused(make([](hid_t f) {
                   dataset(
                       f, "/x", 8, [](hid_t) {}, H5T_STD_U16BE);
                 }),
                 "element type");
  expect_refused(make([](hid_t f) {
                   dataset(
                       f, "/x", 8, [](hid_t) {}, H5T_C_S1);
                 }),
                 "element type");
}

TEST_F(H5LayoutTest, RefusesVirtualDatasets) {
  create_h5(path("source"), {{"/x", DType::u16, {8}}}, {});
  expect_refused(make([&](hid_t f) {
                   dataset(f, "/x", 8, [&](hid_t l) {
                     const hsize_t count = 8;
                     const H5Id space(H5Screate_simple(1, &count, nullptr), H5Sclose);
                     H5Pset_virtual(l, space, path("source").c_str(), "/x", space);
                   });
                 }),
                 "virtual");
}

TEST_F(H5LayoutTest, RefusesOddObjects) {
  expect_refused(make([](hid_t f) { H5Lcreate_soft("/y", f, "/x", H5P_DEFAULT, H5P_DEFAULT); }),
                 "soft or external link");
  expect_refused(
      make([](hid_t f) { H5Lcreate_external("/etc/passwd", "/", f, "/x", H5P_DEFAULT, H5P_DEFAULT); }),
      "soft or external link");
  expect_refused(make([](hid_t f) {
                   dataset(f, "/x", 8);
                   H5Lcreate_hard(f, "/x", f, "/y", H5P_DEFAULT, H5P_DEFAULT);
                 }),
                 "overlap");
  expect_refused(make([](hid_t f) {
                   const H5Id type(H5Tcopy(H5T_STD_U16LE), H5Tclose);
                   H5Tcommit2(f, "/x", type, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
                 }),
                 "neither a dataset nor a group");
  expect_refused(
      make([](hid_t f) {
        const H5Id a(H5Gcreate2(f, "/a", H5P_DEFAULT, tracked(H5P_GROUP_CREATE), H5P_DEFAULT), H5Gclose);
        const H5Id b(H5Gcreate2(f, "/a/b", H5P_DEFAULT, tracked(H5P_GROUP_CREATE), H5P_DEFAULT), H5Gclose);
      }),
      "neither a dataset nor a group at the first level");
  expect_refused(make([](hid_t f) {  // a cycle of groups
                   const H5Id a(H5Gcreate2(f, "/a", H5P_DEFAULT, tracked(H5P_GROUP_CREATE), H5P_DEFAULT),
                                H5Gclose);
                   H5Lcreate_hard(f, "/", f, "/a/root", H5P_DEFAULT, H5P_DEFAULT);
                 }),
                 "neither a dataset nor a group at the first level");
  expect_refused(make([](hid_t f) {
                   dataset(f, "/x", 8);
                   const H5Id space(H5Screate(H5S_SCALAR), H5Sclose);
                   const H5Id x(H5Dopen2(f, "/x", H5P_DEFAULT), H5Dclose);
                   const H5Id attribute(
                       H5Acreate2(x, "units", H5T_STD_U64LE, space, H5P_DEFAULT, H5P_DEFAULT), H5Aclose);
                 }),
                 "has attributes");
}

TEST_F(H5LayoutTest, RefusesOddAttributes) {
  const auto with_attribute = [&](hid_t type, bool scalar) {
    return make([&](hid_t f) {
      const hsize_t two = 2;
      const H5Id space(scalar ? H5Screate(H5S_SCALAR) : H5Screate_simple(1, &two, nullptr), H5Sclose);
      const H5Id attribute(H5Acreate2(f, "odd", type, space, H5P_DEFAULT, H5P_DEFAULT), H5Aclose);
    });
  };
  expect_refused(with_attribute(H5T_STD_U64LE, false), "not a single value");
  expect_refused(with_attribute(H5T_STD_I64LE, true), "neither an unsigned 64-bit number");
  const H5Id variable(H5Tcopy(H5T_C_S1), H5Tclose), utf8(H5Tcopy(H5T_C_S1), H5Tclose);
  H5Tset_size(variable, H5T_VARIABLE);
  H5Tset_cset(utf8, H5T_CSET_UTF8);
  expect_refused(with_attribute(variable, true), "neither an unsigned 64-bit number");
  expect_refused(with_attribute(utf8, true), "not ASCII");
}

// 2^50 elements in a file of two kilobytes: refused by what is stored, and nothing is allocated for it.
TEST_F(H5LayoutTest, RefusesTheSizeBomb) {
  const std::string bomb = make([](hid_t f) {
    dataset(f, "/x", hsize_t{1} << 50, [](hid_t l) { H5Pset_alloc_time(l, H5D_ALLOC_TIME_LATE); });
  });
  EXPECT_LT(std::filesystem::file_size(bomb), 4096u);
  expect_refused(bomb, "0 bytes are stored of the 2251799813685248");
}

TEST_F(H5LayoutTest, RefusesExtensibleDatasetsAndOtherVersions) {
  const hsize_t chunk = 4;
  expect_refused(make([&](hid_t f) {
                   dataset(
                       f, "/x", 8, [&](hid_t l) { H5Pset_chunk(l, 1, &chunk); }, H5T_STD_U16LE,
                       H5S_UNLIMITED);
                 }),
                 "chunked");
  {
    const H5Lock lock;
    const H5Id plain(H5Fcreate(path("v0").c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT), H5Fclose);
  }
  expect_refused(path("v0"), "superblock");
}

// Flipped bits in the metadata: never a crash of this process, never a hang. (Most are caught by libhdf5's
// checksums; callers compare metadata_digest first, which catches all.)
TEST_F(H5LayoutTest, FlippedMetadataNeverEndsTheParent) {
  const H5Layout layout =
      create_h5(path(), {{"/tokens", DType::u16, {64}}, {"/g/x", DType::f32, {4}}}, kAttributes);
  const std::string original = read_file(path(), 1 << 20);
  const CounterRng rng(7, "flips");
  int refused = 0;
  constexpr int kTrials = 150;
  for (int trial = 0; trial < kTrials; ++trial) {
    std::string damaged = original;
    const auto index = static_cast<uint64_t>(trial) * 8;
    for (uint64_t i = 0, count = 1 + rng.below(index, 4); i < count; ++i) {
      const uint64_t at = rng.below(index + 1 + i, damaged.size());
      damaged[at] = static_cast<char>(rng.bits(index + 5 + i));
    }
    File file = File::open(path("damaged"), O_WRONLY | O_CREAT | O_TRUNC);
    file.write_at(damaged.data(), damaged.size(), 0);
    file.close();
    try {
      validate_h5_in_child(path("damaged"));
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::bad_data);
      ++refused;
    }
  }
  EXPECT_GT(refused, kTrials / 4);  // the rest fell into the unused part of the metadata's page
}

TEST_F(H5LayoutTest, ValidatesWhileOtherThreadsUseLibhdf5) {
  create_h5(path(), kDatasets, kAttributes);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([this, t] {
      for (int i = 0; i < 10; ++i) {
        if (t % 2)
          validate_h5_in_child(path());
        else
          EXPECT_EQ(read_h5_layout(path()).datasets.size(), kDatasets.size());
      }
    });
  for (std::thread& thread : threads) thread.join();
}

TEST_F(H5LayoutTest, MissingFileIsAnIoError) {
  for (const bool in_child : {false, true}) try {
      if (in_child)
        validate_h5_in_child(path("absent"));
      else
        read_h5_layout(path("absent"));
      FAIL();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::io);
      EXPECT_THAT(error.what(), HasSubstr("No such file"));
    }
}

}  // namespace
}  // namespace dm
