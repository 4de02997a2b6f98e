// UTF-8, tokenizers, byte sources, and the ordered pipeline that carries their work.

#include <zlib.h>
#include <zstd.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "core/rng.h"
#include "data/byte_source.h"
#include "data/input_files.h"
#include "data/ordered_pipeline.h"
#include "data/progress.h"
#include "data/utf8.h"
#include "tests/data/archives.h"
#include "tests/data/folder.h"
#include "tests/support/refusal.h"

namespace dm::data {
namespace {

using test::refusal;
using testing::AllOf;
using testing::HasSubstr;

TEST(Utf8, CountsBytesOfNoSequence) {
  EXPECT_EQ(count_invalid_utf8("plain text, longer than eight bytes"), 0);
  EXPECT_EQ(count_invalid_utf8("\xC3\xA9 \xE2\x82\xAC \xF0\x9F\x98\x80 \xF4\x8F\xBF\xBF"), 0);
  EXPECT_EQ(count_invalid_utf8("\xFF"), 1);
  EXPECT_EQ(count_invalid_utf8("a\x80z"), 1);
  EXPECT_EQ(count_invalid_utf8("\xC0\x80"), 2);          // over-long
  EXPECT_EQ(count_invalid_utf8("\xE0\x9F\xBF"), 3);      // over-long
  EXPECT_EQ(count_invalid_utf8("\xED\xA0\x80"), 3);      // a surrogate
  EXPECT_EQ(count_invalid_utf8("\xF4\x90\x80\x80"), 4);  // beyond U+10FFFF
  EXPECT_EQ(count_invalid_utf8("\xE2\x82"), 2);          // cut off
  EXPECT_EQ(count_invalid_utf8("\xE2\x82 then text"), 2);
}

// A text cut at boundaries has the same count as the whole, wherever the cuts fall.
TEST(Utf8, CutsAtBoundariesChangeNoCount) {
  const CounterRng rng(2, "bytes");
  const std::string pieces[] = {"a",    "\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\x98\x80",
                                "\x80", "\xFF",     "\xE2\x82",     "\xF0\x9F"};
  for (uint64_t trial = 0; trial < 2000; ++trial) {
    std::string text;
    for (uint64_t i = 0; i < 12; ++i) text += pieces[rng.below(trial * 20 + i, 8)];
    const size_t at = rng.below(trial * 20 + 15, text.size() + 1);
    const size_t cut = utf8_boundary(std::string_view(text).substr(0, at));
    EXPECT_LE(at - cut, 3u);
    EXPECT_EQ(count_invalid_utf8(text),
              count_invalid_utf8(text.substr(0, cut)) + count_invalid_utf8(text.substr(cut)));
  }
}

TEST(BytesTokenizer, RoundTripsAllBytes) {
  const auto tokenizer = open_tokenizer("bytes");
  std::string text;
  for (int byte = 0; byte < 256; ++byte) text.push_back(static_cast<char>(byte));
  std::vector<int32_t> ids = {7};
  tokenizer->encode(text, ids);  // appends
  ASSERT_EQ(ids.size(), 257u);
  EXPECT_EQ(ids[256], 255);
  ids.push_back(256);  // eos stands for no text
  EXPECT_EQ(tokenizer->decode(ids), "\x07" + text);
  EXPECT_EQ(tokenizer->vocab_size(), 257);
  EXPECT_EQ(tokenizer->eos_id(), 256);
  EXPECT_THAT(refusal(ExitCode::bad_data, [&] { tokenizer->decode({257}); }), HasSubstr("id 257 is outside"));
  EXPECT_THAT(refusal(ExitCode::usage, [] { open_tokenizer("gpt2.json"); }),
              AllOf(HasSubstr("--tokenizer gpt2.json"), HasSubstr("'bytes'")));
}

TEST(Utf8, ReplacesLikePython) {
  std::string storage;
  const auto replaced = [&](std::string_view text) {
    return std::string(replace_invalid_utf8(text, storage));
  };
  const std::string mark = "\xEF\xBF\xBD";
  EXPECT_EQ(replaced("plain \xC3\xA9"), "plain \xC3\xA9");
  EXPECT_EQ(replaced("a\xFFz"), "a" + mark + "z");
  EXPECT_EQ(replaced("\xE2\x82"), mark);  // the beginning of a sequence is one
  EXPECT_EQ(replaced("\xE2\x82\xE2\x82\xAC"), mark + "\xE2\x82\xAC");
  EXPECT_EQ(replaced("\xF0\x9F\x98z"), mark + "z");
  EXPECT_EQ(replaced("\xED\xA0\x80"), mark + mark + mark);  // a surrogate begins none
  EXPECT_EQ(replaced("\xF4\x90\x80\x80"), mark + mark + mark + mark);
  EXPECT_EQ(replaced("\xC0\xAF"), mark + mark);
}

class ByteSourceTest : public FolderTest {
 protected:
  static std::string all(const std::string& file, size_t step = 1000) {
    const auto source = open_bytes(file);
    std::string text(step, '\0'), result;
    while (const size_t got = source->read(text.data(), step)) result += text.substr(0, got);
    return result;
  }
  static std::string sample(size_t size) {
    const CounterRng rng(4, "sample");
    std::string text;
    for (uint64_t i = 0; text.size() < size; ++i) text += fmt::format("word{} ", rng.below(i, 5000));
    return text;
  }
};

TEST_F(ByteSourceTest, UnpacksWhatWasPacked) {
  const std::string text = sample(3 << 20);
  EXPECT_EQ(all(write("a.txt", text)), text);
  EXPECT_EQ(all(write("a.gz", gzip(text))), text);
  EXPECT_EQ(all(write("a.zst", zstd(text))), text);
  EXPECT_EQ(all(write("two.gz", gzip(text) + gzip("more"))), text + "more");
  EXPECT_EQ(all(write("two.zst", zstd(text) + zstd("more"))), text + "more");
  EXPECT_EQ(all(write("without-suffix", gzip(text)), 7), text);
  EXPECT_EQ(all(write("empty.txt", "")), "");
  EXPECT_EQ(all(write("empty.gz", gzip(""))), "");
  EXPECT_EQ(all(write("zeros.zst", zstd(std::string(20 << 20, 'a'))), 100'000), std::string(20 << 20, 'a'));
}

TEST_F(ByteSourceTest, RefusesCutOffAndDamagedArchivesByName) {
  const std::string text = sample(300'000);
  for (const char* name : {"a.gz", "a.zst"}) {
    const bool gz = std::string(name) == "a.gz";
    const std::string packed = gz ? gzip(text) : zstd(text);
    for (const size_t size : {packed.size() - 1, packed.size() / 2, size_t{12}}) {
      write(name, packed.substr(0, size));
      EXPECT_THAT(
          refusal(ExitCode::bad_data, [&] { all(path(name)); }),
          AllOf(HasSubstr(path(name)), HasSubstr("in the middle"), HasSubstr("fetch or pack it again")));
    }
    write(name, packed);
    flip(path(name), static_cast<int64_t>(packed.size() / 2), 0x10);
    EXPECT_THAT(refusal(ExitCode::bad_data, [&] { all(path(name)); }),
                AllOf(HasSubstr(path(name)), HasSubstr(gz ? "gzip" : "zstd")));
    write(name, packed + "trailing rubbish");
    EXPECT_THAT(refusal(ExitCode::bad_data, [&] { all(path(name)); }), HasSubstr(path(name)));
    write(name, text);
    EXPECT_THAT(refusal(ExitCode::bad_data, [&] { all(path(name)); }),
                AllOf(HasSubstr(path(name)), HasSubstr("its first bytes do not")));
    write(name, "");
    EXPECT_THAT(refusal(ExitCode::bad_data, [&] { all(path(name)); }), HasSubstr("its first bytes do not"));
  }
}

class InputFilesTest : public FolderTest {
 protected:
  static std::vector<std::string> names(const std::vector<InputFile>& files) {
    std::vector<std::string> result;
    for (const InputFile& file : files) result.push_back(file.name);
    return result;
  }
};

TEST_F(InputFilesTest, FoldersAreSortedToTheBottom) {
  for (const char* name : {"in/b.txt", "in/a/z.txt", "in/a.txt", "in/a/b/c.md", "in/.hidden", "in/.git/x.txt",
                           "in/B.txt", "in/d.txt.gz"})
    write(name, "x");
  std::filesystem::create_directory_symlink(path("in/a"), path("in/loop"));
  EXPECT_EQ(names(find_inputs({path("in")}, {})),
            (std::vector<std::string>{"B.txt", "a.txt", "a/b/c.md", "a/z.txt", "b.txt", "d.txt.gz"}));
  EXPECT_EQ(names(find_inputs({path("in")}, {".txt"})),
            (std::vector<std::string>{"B.txt", "a.txt", "a/z.txt", "b.txt", "d.txt.gz"}));
  EXPECT_EQ(names(find_inputs({path("in/b.txt"), path("in/a")}, {".md"})),
            (std::vector<std::string>{path("in/b.txt"), "b/c.md"}));
}

TEST_F(InputFilesTest, RefusesWhatIsNotThere) {
  EXPECT_THAT(refusal(ExitCode::usage, [&] { find_inputs({}, {}); }), HasSubstr("--input is missing"));
  EXPECT_THAT(refusal(ExitCode::usage, [&] { find_inputs({path("absent")}, {}); }),
              HasSubstr("no such file or folder"));
  std::filesystem::create_directory(path("empty"));
  EXPECT_THAT(refusal(ExitCode::usage, [&] { find_inputs({path("empty")}, {}); }),
              HasSubstr("holds no file to read"));
  write("in/a.txt", "x");
  EXPECT_THAT(refusal(ExitCode::usage, [&] { find_inputs({path("in")}, {".md"}); }),
              HasSubstr("whose name ends in .md"));
  EXPECT_THAT(refusal(ExitCode::usage, [&] { find_inputs({"-", "-"}, {}); }), HasSubstr("named twice"));
}

TEST(OrderedPipeline, SinksInOrderWhateverTheWorkTakes) {
  for (const int64_t threads : {1, 2, 7}) {
    const CounterRng rng(3, "work");
    std::vector<int> sunk;
    std::atomic<int> held{0}, most{0};
    OrderedPipeline<int> pipeline(
        threads, 5,
        [&](int& item) {
          std::this_thread::sleep_for(std::chrono::microseconds(rng.below(static_cast<uint64_t>(item), 500)));
          item *= 2;
        },
        [&](int& item) {
          sunk.push_back(item);
          --held;
        });
    for (int i = 0; i < 300; ++i) {
      pipeline.push(i);
      most = std::max(most.load(), ++held);
    }
    pipeline.finish();
    ASSERT_EQ(sunk.size(), 300u);
    for (int i = 0; i < 300; ++i) EXPECT_EQ(sunk[static_cast<size_t>(i)], 2 * i);
    EXPECT_LE(most, 5 + 1);  // the one just pushed may be counted before a sunk one is taken off
  }
}

TEST(OrderedPipeline, ThrowsWhatWorkOrSinkThrewAndEnds) {
  for (const bool in_work : {true, false}) {
    const auto fail = [](int item) {
      if (item == 20) DM_FAIL(ExitCode::bad_data, "item 20");
    };
    OrderedPipeline<int> pipeline(
        3, 4,
        [&](int& i) {
          if (in_work) fail(i);
        },
        [&](int& i) {
          if (!in_work) fail(i);
        });
    EXPECT_EQ(refusal(ExitCode::bad_data,
                      [&] {
                        for (int i = 0; i < 1000; ++i) pipeline.push(i);
                        pipeline.finish();
                      }),
              "item 20");
  }
  OrderedPipeline<int> dropped(
      2, 4, [](int&) {}, [](int&) { std::this_thread::sleep_for(std::chrono::milliseconds(5)); });
  for (int i = 0; i < 4; ++i) dropped.push(i);  // and destroyed while full
}

TEST(Progress, SaysDoneRateAndTimeLeft) {
  EXPECT_EQ(progress_text(1'400'000'000, 5'100'000'000, 7), "1.4 GB of 5.1 GB, 200 MB/s, 19 s left");
  EXPECT_EQ(progress_text(500, 1000, 1), "500 B of 1.0 kB, 500 B/s, 1 s left");
  EXPECT_EQ(progress_text(2'000'000, -1, 2), "2.0 MB, 1.0 MB/s");
  EXPECT_EQ(progress_text(0, 10, 0), "0 B of 10 B, 0 B/s");
  EXPECT_EQ(progress_text(1'000'000, 10'000'000'000, 1), "1.0 MB of 10.0 GB, 1.0 MB/s, 2 h 46 min left");
}

}  // namespace
}  // namespace dm::data
