// A user's own HDF5 file: what h5py would write is read; bombs and what leads elsewhere are refused.

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>

#include "core/h5.h"
#include "core/signals.h"
#include "data/loader.h"
#include "data/verify.h"
#include "tests/data/folder.h"
#include "tests/support/refusal.h"

namespace dm::data {
namespace {

using test::refusal;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

class OwnHdf5Test : public FolderTest {
 protected:
  std::string make(const std::function<void(hid_t)>& fill) const {
    const H5Lock lock;
    const H5Id file(H5Fcreate(path("own.h5").c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT), H5Fclose);
    fill(file);
    return path("own.h5");
  }

  /// A 1-D dataset of `ids` as type; `change` shapes its storage.
  template <class Id>
  static void dataset(
      hid_t file, const char* name, const std::vector<Id>& ids, hid_t type, hid_t memory_type,
      const std::function<void(hid_t)>& change = [](hid_t) {}) {
    const hsize_t count = ids.size();
    const H5Id list(H5Pcreate(H5P_DATASET_CREATE), H5Pclose),
        space(H5Screate_simple(1, &count, nullptr), H5Sclose), links(H5Pcreate(H5P_LINK_CREATE), H5Pclose);
    H5Pset_create_intermediate_group(links, 1);
    change(list);
    const H5Id made(H5Dcreate2(file, name, type, space, links, list, H5P_DEFAULT), H5Dclose);
    ASSERT_GE(hid_t{made}, 0);
    ASSERT_GE(H5Dwrite(made, memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, ids.data()), 0);
  }

  static void chunked(hid_t list, hsize_t chunk) { H5Pset_chunk(list, 1, &chunk); }

  static std::vector<int64_t> ids(int64_t count) {
    std::vector<int64_t> result;
    for (int64_t i = 0; i < count; ++i) result.push_back(i % 50 == 49 ? 0 : 1 + i * 7 % 997);
    return result;
  }

  std::shared_ptr<const Dataset> open(const std::string& file, const std::string& name,
                                      int64_t eos = -1) const {
    OpenOptions options;
    options.hdf5_name = name;
    options.eos_id = eos;
    return open_dataset(file, options);
  }

  void expect_refused(const std::string& file, const std::string& name, const std::string& reason) const {
    EXPECT_THAT(refusal(ExitCode::bad_data, [&] { open(file, name); }),
                AllOf(HasSubstr(file), HasSubstr(reason)));
  }
};

TEST_F(OwnHdf5Test, ChunkedAndCompressedIntegersOfAnyType) {
  const auto expected = ids(10'000);
  const std::pair<hid_t, const char*> types[] = {
      {H5T_STD_U16LE, "u16"}, {H5T_STD_I32BE, "i32be"}, {H5T_STD_I64LE, "i64"}, {H5T_STD_U32LE, "u32"}};
  for (const auto& [type, label] : types) {
    const std::string file = make([&, type = type](hid_t f) {
      dataset(f, "/data/tokens", expected, type, H5T_NATIVE_INT64, [](hid_t l) {
        chunked(l, 777);
        H5Pset_shuffle(l);
        H5Pset_deflate(l, 4);
        H5Pset_fletcher32(l);
      });
    });
    const auto opened = open(file, "data/tokens", 0);
    EXPECT_EQ(opened->token_count(), 10'000) << label;
    EXPECT_EQ(opened->vocab_size(), 998);
    EXPECT_EQ(opened->doc_count(), 200);
    EXPECT_EQ(opened->eos_id(), 0);
    const auto tokens = all_tokens(*opened);
    EXPECT_TRUE(std::equal(tokens.begin(), tokens.end(), expected.begin(), expected.end()));
    EXPECT_THAT(opened->document_starts(0, 151), ElementsAre(50, 100, 150));
    EXPECT_THAT(opened->document_starts(50, 50), testing::IsEmpty());
  }
}

TEST_F(OwnHdf5Test, OpensAfterARequestToSaveButNotAfterAnInterrupt) {
  const std::string file =
      make([&](hid_t f) { dataset(f, "/t", ids(100), H5T_STD_U16LE, H5T_NATIVE_INT64); });
  const auto code_after = [&](int signal) {
    const pid_t child = fork();
    if (child == 0) {
      install_signal_handlers();
      raise(signal);
      try {
        _exit(open(file, "t")->token_count() == 100 ? 0 : 1);
      } catch (const Error& error) {
        _exit(static_cast<int>(error.code()));
      }
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WEXITSTATUS(status);
  };
  for (const int signal : {SIGUSR1, SIGTERM, SIGHUP}) EXPECT_EQ(code_after(signal), 0) << signal;
  EXPECT_EQ(code_after(SIGINT), static_cast<int>(ExitCode::interrupted));
}

TEST_F(OwnHdf5Test, ContiguousWithoutEosIsOneDocument) {
  const auto opened =
      open(make([&](hid_t f) { dataset(f, "x", ids(500), H5T_STD_U16LE, H5T_NATIVE_INT64); }), "/x");
  EXPECT_EQ(opened->doc_count(), 1);
  EXPECT_THAT(opened->document_starts(0, 500), testing::IsEmpty());
  EXPECT_FALSE(opened->has_loss_mask());
}

TEST_F(OwnHdf5Test, FingerprintFollowsIdsNotStorage) {
  const auto print = [&](const std::vector<int64_t>& values, hid_t type, int64_t eos) {
    return open(make([&](hid_t f) {
                  dataset(f, "x", values, type, H5T_NATIVE_INT64, [](hid_t l) { chunked(l, 100); });
                }),
                "x", eos)
        ->fingerprint();
  };
  EXPECT_EQ(print(ids(500), H5T_STD_U16LE, 0), print(ids(500), H5T_STD_I64BE, 0));
  EXPECT_NE(print(ids(500), H5T_STD_U16LE, 0), print(ids(500), H5T_STD_U16LE, 1));
  EXPECT_NE(print(ids(500), H5T_STD_U16LE, 0), print(ids(501), H5T_STD_U16LE, 0));
}

TEST_F(OwnHdf5Test, FeedsTheLoaderFromManyThreads) {
  const std::string file = make([&](hid_t f) {
    dataset(f, "x", ids(20'000), H5T_STD_U16LE, H5T_NATIVE_INT64, [](hid_t l) { chunked(l, 512); });
  });
  LoaderConfig config;
  config.data = {file};
  config.hdf5_name = "x";
  config.eos_id = 0;
  config.reader_threads = 8;
  Loader loader(config, {.length = 100, .global_rows = 4}, 0);
  for (int64_t b = 0; b < 60; ++b) {
    const Batch batch = loader.next();
    for (int64_t row = 0; row < 4; ++row) {
      const auto begin = static_cast<int64_t>(batch.sample_ids[static_cast<size_t>(row)]) * 100;
      EXPECT_EQ(batch.tokens[static_cast<size_t>(row * 101 + 5)], ids(begin + 6).back());
    }
  }
}

TEST_F(OwnHdf5Test, RefusesWhatIsNoArrayOfIds) {
  expect_refused(make([&](hid_t f) { dataset(f, "x", ids(5), H5T_STD_U16LE, H5T_NATIVE_INT64); }), "y",
                 "there is no '/y'");
  expect_refused(make([&](hid_t f) {
                   dataset(f, "x", std::vector<double>{1, 2}, H5T_IEEE_F32LE, H5T_NATIVE_DOUBLE);
                 }),
                 "x", "no integers");
  expect_refused(
      make([&](hid_t f) { dataset(f, "x", std::vector<int64_t>{}, H5T_STD_U16LE, H5T_NATIVE_INT64); }), "x",
      "holds no tokens");
  expect_refused(make([&](hid_t f) {
                   dataset(f, "x", std::vector<int64_t>{1, -2}, H5T_STD_I64LE, H5T_NATIVE_INT64);
                 }),
                 "x", "token 1 has an id below 0");
  expect_refused(
      make([&](hid_t f) {
        dataset(f, "x", std::vector<int64_t>{1, int64_t{1} << 40}, H5T_STD_I64LE, H5T_NATIVE_INT64);
      }),
      "x", "from 2^31 - 1 up");
  expect_refused(make([&](hid_t f) {
                   const H5Id g(H5Gcreate2(f, "x", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT), H5Gclose);
                 }),
                 "x", "open it as a dataset");
  expect_refused(make([&](hid_t f) {
                   const hsize_t dims[] = {2, 3};
                   const H5Id space(H5Screate_simple(2, dims, nullptr), H5Sclose);
                   const H5Id made(
                       H5Dcreate2(f, "x", H5T_STD_U16LE, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT),
                       H5Dclose);
                 }),
                 "x", "not one-dimensional");
  expect_refused(write("text", "no HDF5 at all"), "x", "libhdf5 cannot open it");
}

TEST_F(OwnHdf5Test, RefusesWhatLeadsElsewhere) {
  make([&](hid_t f) { dataset(f, "x", ids(50), H5T_STD_U16LE, H5T_NATIVE_INT64); });
  std::filesystem::rename(path("own.h5"), path("other.h5"));
  std::filesystem::create_symlink(path("other.h5"), path("link.h5"));
  expect_refused(path("link.h5"), "x", "symbolic link");
  expect_refused(make([&](hid_t f) {
                   H5Lcreate_external(path("other.h5").c_str(), "/x", f, "x", H5P_DEFAULT, H5P_DEFAULT);
                 }),
                 "x", "soft or external link");
  expect_refused(make([&](hid_t f) {
                   H5Lcreate_external(path("other.h5").c_str(), "/", f, "g", H5P_DEFAULT, H5P_DEFAULT);
                 }),
                 "g/x", "'/g' is a soft or external link");
  expect_refused(make([&](hid_t f) {
                   dataset(f, "x", ids(50), H5T_STD_U16LE, H5T_NATIVE_INT64);
                   H5Lcreate_soft("/x", f, "y", H5P_DEFAULT, H5P_DEFAULT);
                 }),
                 "y", "soft or external link");
  const hsize_t count = 8;
  const auto storage = [&](const std::function<void(hid_t)>& change) {
    return make([&](hid_t f) {
      const H5Id list(H5Pcreate(H5P_DATASET_CREATE), H5Pclose),
          space(H5Screate_simple(1, &count, nullptr), H5Sclose);
      change(list);
      const H5Id made(H5Dcreate2(f, "x", H5T_STD_U16LE, space, H5P_DEFAULT, list, H5P_DEFAULT), H5Dclose);
    });
  };
  expect_refused(storage([&](hid_t l) { H5Pset_external(l, "/etc/hostname", 0, 16); }), "x", "another file");
  expect_refused(storage([&](hid_t l) {
                   const H5Id space(H5Screate_simple(1, &count, nullptr), H5Sclose);
                   H5Pset_virtual(l, space, path("other.h5").c_str(), "/x", space);
                 }),
                 "x", "virtual");
  expect_refused(storage([](hid_t) {}), "x", "0 of its 16 bytes are stored");
  expect_refused(storage([&](hid_t l) { chunked(l, 4); }), "x", "0 of its 2 chunks are stored");
}

TEST_F(OwnHdf5Test, RefusesSizeBombsWithoutAllocating) {
  const auto bomb = [&](hsize_t extent, hsize_t chunk) {
    return make([&](hid_t f) {
      const H5Id list(H5Pcreate(H5P_DATASET_CREATE), H5Pclose),
          space(H5Screate_simple(1, &extent, nullptr), H5Sclose);
      if (chunk > 0) chunked(list, chunk);
      const H5Id made(H5Dcreate2(f, "x", H5T_STD_U16LE, space, H5P_DEFAULT, list, H5P_DEFAULT), H5Dclose);
    });
  };
  EXPECT_LT(std::filesystem::file_size(bomb(hsize_t{1} << 50, 0)), 4096u);
  expect_refused(bomb(hsize_t{1} << 50, 0), "x", "0 of its 2251799813685248 bytes are stored");
  expect_refused(bomb(hsize_t{1} << 50, 1 << 20), "x", "0 of its 1073741824 chunks are stored");
  expect_refused(bomb(hsize_t{1} << 50, hsize_t{1} << 30), "x",
                 "chunks of 1073741824 elements are too large");
  expect_refused(bomb(hsize_t{1} << 60, 0), "x", "an extent of 1152921504606846976 elements");
}

size_t pass_through(unsigned, size_t, const unsigned[], size_t size, size_t*, void**) { return size; }

TEST_F(OwnHdf5Test, RefusesFiltersThatLibhdf5Lacks) {
  const H5Z_class2_t filter{H5Z_CLASS_T_VERS, 307, 1, 1, "bzip2-like", nullptr, nullptr, pass_through};
  H5Zregister(&filter);
  const std::string file = make([&](hid_t f) {
    dataset(f, "x", ids(50), H5T_STD_U16LE, H5T_NATIVE_INT64, [](hid_t l) {
      chunked(l, 10);
      H5Pset_filter(l, 307, H5Z_FLAG_MANDATORY, 0, nullptr);
    });
  });
  H5Zunregister(307);
  expect_refused(file, "x", "packed with filter 307 ('bzip2-like'), which this libhdf5 lacks");
}

TEST_F(OwnHdf5Test, ListsWhatAFileHolds) {
  const std::string file = make([&](hid_t f) {
    dataset(f, "/a/tokens", ids(50), H5T_STD_U16LE, H5T_NATIVE_INT64);
    dataset(f, "weights", std::vector<double>{1, 2}, H5T_IEEE_F32LE, H5T_NATIVE_DOUBLE);
    H5Lcreate_hard(f, "/", f, "/a/loop", H5P_DEFAULT, H5P_DEFAULT);
  });
  const Json json = describe_dataset(file);
  EXPECT_EQ(json["datasets"].size(), 2u);  // a loop of groups is gone through once
  std::map<std::string, Json> by_name;
  for (const Json& entry : json["datasets"]) by_name[entry["name"]] = entry;
  EXPECT_EQ(by_name["/a/tokens"]["tokens"], 50);
  EXPECT_THAT(by_name["/weights"]["problem"].get<std::string>(), HasSubstr("no integers"));
}

}  // namespace
}  // namespace dm::data
