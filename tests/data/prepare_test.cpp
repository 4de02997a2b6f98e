// prepare: the same bytes however it is run, the document rules, masks, the held-out split, and what it
// refuses.

#include "data/prepare.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <map>
#include <set>

#include "core/rng.h"
#include "core/signals.h"
#include "data/documents.h"
#include "data/verify.h"
#include "tests/data/archives.h"
#include "tests/data/folder.h"
#include "tests/support/refusal.h"

namespace dm::data {
namespace {

using test::refusal;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::string prose(uint64_t seed, size_t bytes) {
  const CounterRng rng(seed, "prose");
  std::string text;
  for (uint64_t i = 0; text.size() < bytes; ++i)
    text += rng.below(2 * i, 12) == 0 ? "\xE2\x82\xAC\n" : fmt::format("w{} ", rng.below(2 * i + 1, 9999));
  return text;
}

class PrepareTest : public FolderTest {
 protected:
  PrepareConfig config(const std::vector<std::string>& input, const std::string& output = "out") const {
    PrepareConfig c;
    c.input = input;
    c.output = path(output);
    c.threads = 2;
    return c;
  }

  /// Every file below a folder, by relative name.
  static std::map<std::string, std::string> contents(const std::string& folder) {
    std::map<std::string, std::string> files;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder))
      if (entry.is_regular_file())
        files[entry.path().lexically_relative(folder).string()] = slurp(entry.path().string());
    return files;
  }

  /// The documents of a prepared dataset as text.
  static std::vector<std::string> documents(const std::string& dataset) {
    const auto tokenizer = open_tokenizer("bytes");
    std::vector<std::string> result(1);
    for (const int32_t id : all_tokens(*open_dataset(dataset))) {
      if (id == 256)
        result.emplace_back();
      else
        result.back().push_back(static_cast<char>(id));
    }
    EXPECT_EQ(result.back(), "");  // every document ends with eos
    result.pop_back();
    return result;
  }

  std::vector<std::string> prepared(PrepareConfig c) const {
    std::filesystem::remove_all(c.output);
    prepare(c);
    return documents(c.output + "/train");
  }

  /// Nothing but the inputs is there.
  void expect_nothing_left(const std::string& output = "out") const {
    for (const auto& entry : std::filesystem::directory_iterator(folder_))
      EXPECT_FALSE(entry.path().filename().string().starts_with(output)) << entry.path();
  }
};

TEST_F(PrepareTest, TheSameBytesHoweverItIsRun) {
  std::filesystem::create_directories(path("in"));
  for (int i = 0; i < 6; ++i)
    write(fmt::format("in/{}.txt", i),
          prose(static_cast<uint64_t>(i), i == 3 ? 400'000 : 20'000 * static_cast<size_t>(i)));
  std::string lines;
  for (uint64_t i = 0; i < 400; ++i) lines += Json{{"text", prose(100 + i, i * 7 % 900)}}.dump() + "\n";
  write("in/lines.jsonl", lines);

  PrepareConfig c = config({path("in")}, "reference");
  c.heldout = 0.2;
  c.shard_tokens = 100'000;
  prepare(c);
  const auto reference = contents(c.output);
  EXPECT_GT(reference.size(), 6u);
  for (const int64_t threads : {1, 5})
    for (const size_t portion : {size_t{1}, size_t{1000}, size_t{100'000}, size_t{64} << 20}) {
      c.output = path(fmt::format("out-{}-{}", threads, portion));
      c.threads = threads;
      detail::prepare(c, portion);
      EXPECT_EQ(contents(c.output), reference) << threads << " threads, portions of " << portion;
    }

  // Packed inputs give the same datasets (the record of the run names other inputs).
  for (const auto& [name, bytes] : contents(path("in")))
    write("packed/" + name + (name < "3" ? ".gz" : ".zst"), name < "3" ? gzip(bytes) : zstd(bytes));
  c.input = {path("packed")};
  c.output = path("from-packed");
  prepare(c);
  auto packed = contents(c.output), plain = reference;
  packed.erase("prepare.json"), plain.erase("prepare.json");
  EXPECT_EQ(packed, plain);
  EXPECT_THAT(verify_dataset(c.output), IsEmpty());
}

TEST_F(PrepareTest, FileRule) {
  write("in/a.txt", "first\n\nstill first");
  write("in/b.txt", "");
  write("in/c.txt", "second\n");
  PrepareConfig c = config({path("in")});
  const PrepareResult result = prepare(c);
  EXPECT_THAT(documents(path("out/train")), ElementsAre("first\n\nstill first", "second\n"));
  EXPECT_EQ(result.train.documents, 2);
  EXPECT_EQ(result.empty_documents, 1);
  EXPECT_EQ(result.files, 3);
  EXPECT_THAT(result.summary(), HasSubstr("1 empty documents skipped"));
}

TEST_F(PrepareTest, BlankLineRule) {
  PrepareConfig c = config({write("a.txt", "\n \n  one\ntwo\n\t \nthree\r\n\r\n\n\n four\nfive\n")});
  c.documents = "blank-line";
  EXPECT_THAT(prepared(c), ElementsAre("  one\ntwo", "three\r", " four\nfive"));
  c.input = {write("a.txt", "no newline at the end")};
  EXPECT_THAT(prepared(c), ElementsAre("no newline at the end"));
  c.input = {write("a.txt", "one\n"), write("b.txt", "two\n")};  // the end of a file ends a document
  EXPECT_THAT(prepared(c), ElementsAre("one", "two"));
  c.input = {
      write("a.txt", "x\n" + std::string(200'000, ' ') + "\ny")};  // too long to be held back: a line of text
  EXPECT_THAT(prepared(c), ElementsAre("x\n" + std::string(200'000, ' ') + "\ny"));
}

TEST_F(PrepareTest, BlankLineRuleDoesNotDependOnHowTextArrives) {
  std::string text;
  const CounterRng rng(8, "lines");
  for (uint64_t i = 0; i < 20'000; ++i)
    text += rng.below(2 * i, 3) == 0 ? " \n" : fmt::format("line {}\n", rng.below(2 * i + 1, 1000));
  PrepareConfig c = config({write("a.txt", text)});
  c.documents = "blank-line";
  std::vector<std::string> expected;  // the same rule, line by line
  std::string open;
  for (size_t at = 0; at < text.size();) {
    const size_t end = text.find('\n', at);
    const std::string line = text.substr(at, end - at);
    at = end + 1;
    if (line == " ") {
      if (!open.empty()) expected.push_back(open);
      open.clear();
    } else {
      open += (open.empty() ? "" : "\n") + line;
    }
  }
  if (!open.empty()) expected.push_back(open);
  EXPECT_EQ(prepared(c), expected);
}

TEST_F(PrepareTest, JsonLinesAndTheirFields) {
  PrepareConfig c = config({write("a.jsonl",
                                  "{\"text\": \"one\\nline\", \"id\": [1, {\"text\": 2}]}\n\n  \n{\"text\": "
                                  "\"\\u20ac\"}\n{\"text\": \"\"}")});
  EXPECT_THAT(prepared(c), ElementsAre("one\nline", "\xE2\x82\xAC"));
  c.input = {write("a.jsonl", "{\"body\": \"x\"}\r\n")};
  c.text_field = "body";
  EXPECT_THAT(prepared(c), ElementsAre("x"));
  c.documents = "file";  // a rule that is named beats the file's name
  EXPECT_THAT(prepared(c), ElementsAre("{\"body\": \"x\"}\r\n"));
}

TEST_F(PrepareTest, PromptsGiveNoLoss) {
  PrepareConfig c = config(
      {write("a.jsonl",
             "{\"text\": \"plain\"}\n{\"prompt\": \"ask\", \"completion\": \"answer\"}\n"
             "{\"prompt\": \"\", \"completion\": \"all\"}\n{\"prompt\": \"only\", \"completion\": \"\"}\n")});
  c.shard_tokens = 1;  // a document a shard: the first has no prompt, and yet a mask
  prepare(c);
  const auto dataset = open_dataset(path("out/train"));
  EXPECT_THAT(documents(path("out/train")), ElementsAre("plain", "askanswer", "all", "only"));
  ASSERT_TRUE(dataset->has_loss_mask());
  std::vector<uint8_t> mask(static_cast<size_t>(dataset->token_count()));
  dataset->read_loss_mask(0, dataset->token_count(), mask.data());
  const std::string text(mask.begin(), mask.end());
  std::string expected =
      "111111"
      "000"
      "1111111"
      "1111"
      "0000"
      "1";
  for (char& digit : expected) digit = static_cast<char>(digit - '0');
  EXPECT_EQ(text, expected);
  EXPECT_THAT(verify_dataset(path("out")), IsEmpty());
}

TEST_F(PrepareTest, LargeMasksCrossBlocks) {
  std::string lines;
  for (int i = 0; i < 30; ++i)
    lines += Json{{"prompt", std::string(5000, 'p')}, {"completion", std::string(3000, 'c')}}.dump() + "\n";
  prepare(config({write("a.jsonl", lines)}));
  const auto dataset = open_dataset(path("out/train"));
  const auto tokens = all_tokens(*dataset);
  std::vector<uint8_t> mask(tokens.size());
  dataset->read_loss_mask(0, dataset->token_count(), mask.data());
  for (size_t i = 0; i < tokens.size(); ++i) ASSERT_EQ(mask[i], tokens[i] != 'p') << i;
  const ShardInfo info = read_dataset_info(path("out/train")).shards[0];
  flip(path("out/train/tokens-00000-of-00001.h5"), info.offsets_bytes[4] + 40'000);
  EXPECT_THAT(verify_dataset(path("out")),
              ElementsAre(AllOf(HasSubstr("/loss_mask"),
                                HasSubstr(fmt::format("block {},", 40'000 / kBlockTokens)))));
  EXPECT_THAT(refusal(ExitCode::bad_data, [&] { dataset->read_loss_mask(40'000, 5, mask.data()); }),
              HasSubstr("/loss_mask"));
}

TEST_F(PrepareTest, InvalidUtf8IsKeptAndCounted) {
  const std::string odd = "caf\xE9 \xFF\xFE \xED\xA0\x80 ok \xE2\x82\xAC \xF0\x9F";  // 1 + 2 + 3 + 2 bytes
  PrepareConfig c = config({write("a.txt", odd)});
  PrepareResult result = prepare(c);
  EXPECT_EQ(result.invalid_utf8_bytes, 8);
  EXPECT_THAT(result.summary(), HasSubstr("8 bytes that are no UTF-8"));
  EXPECT_THAT(documents(path("out/train")), ElementsAre(odd));

  c = config({write("a.jsonl", "{\"text\": \"" + odd + "\"}\n")}, "json");
  result = prepare(c);
  EXPECT_EQ(result.invalid_utf8_bytes, 8);
  EXPECT_THAT(documents(path("json/train")), ElementsAre(odd));

  std::string every;
  for (int byte = 0x80; byte < 0x100; ++byte) every += std::string(1, static_cast<char>(byte)) + " ";
  EXPECT_THAT(prepared(config({write("a.jsonl", "{\"text\": \"" + every + "\"}\n")})), ElementsAre(every));
  const std::string far = "\xF4\x8F\xBE\x80";  // what carries odd bytes through the parser, as text
  EXPECT_THAT(prepared(config({write("a.jsonl", "{\"text\": \"" + far + "\"}\n")})), ElementsAre(far));
  for (const std::string& both : {far + "\xFF", std::string("\\uDbFf\\uDF80\xFF")})
    EXPECT_THAT(refusal(ExitCode::bad_data,
                        [&] { prepared(config({write("a.jsonl", "{\"text\": \"" + both + "\"}\n")})); }),
                HasSubstr("a.jsonl:1: bytes that are no UTF-8 beside private code points"));
}

TEST_F(PrepareTest, HeldOutSplitFollowsEachDocumentAlone) {
  std::string lines;
  std::vector<std::string> texts;
  for (uint64_t i = 0; i < 2000; ++i) {
    texts.push_back(prose(i, 30 + i % 50));
    lines += Json{{"text", texts.back()}}.dump() + "\n";
  }
  PrepareConfig c = config({write("a.jsonl", lines)});
  c.heldout = 0.1;
  const PrepareResult result = prepare(c);
  EXPECT_EQ(result.train.documents + result.heldout.documents, 2000);
  // 2000 draws at 0.1: 200 on average with a deviation of 13.4; five of them.
  EXPECT_NEAR(static_cast<double>(result.heldout.documents), 200, 67);
  const auto held = documents(path("out/heldout"));
  const std::set<std::string> held_out(held.begin(), held.end());

  // In another order, among others and with a larger share, a document stays on its side or moves to the
  // held-out one.
  std::string other = Json{{"text", "a newcomer"}}.dump() + "\n";
  for (size_t i = texts.size(); i-- > 0;) other += Json{{"text", texts[i]}}.dump() + "\n";
  c = config({write("b.jsonl", other)}, "again");
  c.heldout = 0.1;
  prepare(c);
  const auto train = documents(path("again/train"));
  for (const std::string& text : train) EXPECT_EQ(held_out.count(text), 0u);
  c.output = path("more");
  c.heldout = 0.3;
  prepare(c);
  const auto more = documents(path("more/heldout"));
  const std::set<std::string> held_out_more(more.begin(), more.end());
  for (const std::string& text : held_out) EXPECT_EQ(held_out_more.count(text), 1u);
}

TEST_F(PrepareTest, ShardsEndWithTheDocumentThatFillsThem) {
  for (int i = 0; i < 10; ++i)
    write(fmt::format("in/{}", i), std::string(static_cast<size_t>(i == 5 ? 5000 : 299), 'x'));
  PrepareConfig c = config({path("in")});
  c.shard_tokens = 1000;
  const PrepareResult result = prepare(c);
  EXPECT_EQ(result.train.shards, 3);
  std::vector<int64_t> tokens;
  for (const ShardInfo& shard : read_dataset_info(path("out/train")).shards)
    tokens.push_back(shard.token_count);
  EXPECT_THAT(tokens, ElementsAre(1200, 300 + 5001, 1200));
}

TEST_F(PrepareTest, OutputThatExists) {
  PrepareConfig c = config({write("a.txt", "text")});
  EXPECT_FALSE(prepare(c).reused);
  const auto before = contents(c.output);
  c.threads = 7;  // changes nothing in the result
  const PrepareResult again = prepare(c);
  EXPECT_TRUE(again.reused);
  EXPECT_EQ(again.train.documents, 1);
  EXPECT_THAT(again.summary(), HasSubstr("already prepared"));
  c.text_field = "body";
  EXPECT_THAT(refusal(ExitCode::usage, [&] { prepare(c); }),
              AllOf(HasSubstr(c.output), HasSubstr("text_field: \"text\", now \"body\""),
                    HasSubstr("remove it, or name another --output")));
  c.text_field = "text";
  write("a.txt", "other text");
  EXPECT_THAT(refusal(ExitCode::usage, [&] { prepare(c); }), HasSubstr("input_bytes: 4, now 10"));
  EXPECT_EQ(contents(c.output), before);
  c.output = path("foreign");
  write("foreign/file", "mine");
  EXPECT_THAT(refusal(ExitCode::usage, [&] { prepare(c); }),
              HasSubstr("was not made by `diffmamba prepare`"));
  EXPECT_EQ(slurp(path("foreign/file")), "mine");
  std::filesystem::create_directory(path("waiting"));  // an empty folder is as good as none
  c.output = path("waiting/");
  EXPECT_NO_THROW(prepare(c));
}

TEST_F(PrepareTest, RefusalsLeaveNothing) {
  const auto expect_refused = [&](ExitCode code, PrepareConfig c, const std::string& reason) {
    EXPECT_THAT(refusal(code, [&] { prepare(c); }), HasSubstr(reason));
    expect_nothing_left();
  };
  expect_refused(ExitCode::usage, config({}), "--input is missing");
  expect_refused(ExitCode::usage, config({path("absent")}), "no such file");
  expect_refused(ExitCode::usage, config({write("a.txt", "")}), "holds no document (1 are empty)");
  PrepareConfig c = config({write("a.txt", "\n \n")});
  c.documents = "blank-line";
  expect_refused(ExitCode::usage, c, "holds no document");
  c = config({write("a.txt", "x")});
  c.tokenizer = "gpt-neox.json";
  expect_refused(ExitCode::usage, c, "--tokenizer gpt-neox.json");
  c = config({write("a.txt", "x")});
  c.output = "";
  expect_refused(ExitCode::usage, c, "--output is missing");
  c = config({write("a.txt", "one document")});
  c.heldout = 0.5;
  expect_refused(ExitCode::usage, c, "of 1 documents 1 fall to");
  c = config({write("a.jsonl", "{}")});
  c.prompt_field = "text";
  expect_refused(ExitCode::usage, c, "must differ");

  const auto json = [&](const std::string& lines) {
    return config({write("a.jsonl", "{\"text\": \"fine\"}\n" + lines)});
  };
  expect_refused(ExitCode::bad_data, json("{\"text\": \"cut"), "a.jsonl:2: not valid JSON");
  expect_refused(ExitCode::bad_data, json("\n[1]\n"), "a.jsonl:3: not a JSON object");
  expect_refused(ExitCode::bad_data, json("{\"body\": \"x\"}\n"),
                 "a.jsonl:2: has neither 'text' nor 'prompt' with 'completion'; say where the text is");
  expect_refused(ExitCode::bad_data, json("{\"prompt\": \"x\"}\n"), "has neither");
  expect_refused(ExitCode::bad_data, json("{\"text\": 5}\n"), "a.jsonl:2: 'text' is not text");
  expect_refused(ExitCode::bad_data, json("{\"text\": \"a\", \"text\": \"b\"}\n"), "stands twice");
  expect_refused(ExitCode::bad_data, json(std::string(100'000, '[')), "nested deeper");
  expect_refused(ExitCode::bad_data, json("{\"text\": \"" + std::string(kMaxJsonLineBytes, 'x') + "\"}\n"),
                 "a.jsonl:2: a line of more than 64 MiB");
  const std::string packed = gzip(prose(1, 100'000));
  expect_refused(ExitCode::bad_data, config({write("a.txt.gz", packed.substr(0, packed.size() / 2))}),
                 "a.txt.gz: the gzip data end");
}

/// Root may read and write everything, so for a while the test is somebody else.
class AsNobody {
 public:
  AsNobody() : was_root_(geteuid() == 0) { EXPECT_TRUE(!was_root_ || seteuid(65534) == 0); }
  ~AsNobody() { EXPECT_TRUE(!was_root_ || seteuid(0) == 0); }

 private:
  bool was_root_;
};

TEST_F(PrepareTest, UnreadableInputsAndUnwritableOutputs) {
  const std::string secret = write("secret.txt", "x"), text = write("a.txt", "x");
  std::filesystem::permissions(secret, std::filesystem::perms::none);
  std::filesystem::create_directory(path("closed"));
  std::filesystem::permissions(path("closed"), std::filesystem::perms(0555));
  std::filesystem::permissions(folder_, std::filesystem::perms(0777));
  const AsNobody nobody;
  EXPECT_THAT(refusal(ExitCode::permission, [&] { prepare(config({secret})); }), HasSubstr(secret));
  EXPECT_THAT(refusal(ExitCode::permission, [&] { prepare(config({text}, "closed/out")); }),
              HasSubstr("closed/out"));
  EXPECT_THAT(refusal(ExitCode::permission, [&] { prepare(config({text}, "closed/deeper/out")); }),
              HasSubstr("closed/deeper"));
}

TEST_F(PrepareTest, LeftoversOfTheDeadGoAndOfTheLivingStay) {
  write("out.tmp-dead00/.owner", "");
  write("out.tmp-dead00/train/part", "x");
  write("out.tmp-live00/.owner", "");
  write("out.tmp-young0/part", "x");  // no owner yet, and just made
  write("out.tmp-file", "not a folder");
  const pid_t living = fork();
  if (living == 0) {  // another process holds the lock
    const int fd = open(path("out.tmp-live00/.owner").c_str(), O_RDWR);
    flock(fd, LOCK_EX);
    write("locked", "");
    pause();
    _exit(0);
  }
  while (!std::filesystem::exists(path("locked"))) usleep(1000);
  prepare(config({write("a.txt", "text")}));
  EXPECT_FALSE(std::filesystem::exists(path("out.tmp-dead00")));
  EXPECT_TRUE(std::filesystem::exists(path("out.tmp-live00/.owner")));
  EXPECT_TRUE(std::filesystem::exists(path("out.tmp-young0/part")));
  EXPECT_TRUE(std::filesystem::exists(path("out.tmp-file")));
  kill(living, SIGKILL);
  waitpid(living, nullptr, 0);
  std::filesystem::remove_all(path("out"));
  prepare(config({path("a.txt")}));
  EXPECT_FALSE(std::filesystem::exists(path("out.tmp-live00")));
}

/// Runs prepare in a child whose input is a pipe that stays open, sends a signal and gives the child's exit
/// code.
TEST_F(PrepareTest, SignalsEndItAndLeaveNothing) {
  for (const int signal : {SIGINT, SIGTERM, SIGUSR1}) {
    ASSERT_EQ(mkfifo(path("pipe").c_str(), 0600), 0);
    const pid_t child = fork();
    if (child == 0) {
      install_signal_handlers();
      try {
        prepare(config({path("pipe")}));
        _exit(0);
      } catch (const Error& error) {
        _exit(static_cast<int>(error.code()));
      }
    }
    const int pipe = open(path("pipe").c_str(), O_WRONLY);
    const std::string text = prose(1, 3 << 20);
    for (size_t at = 0; at < text.size(); at += 65'536)
      ASSERT_GT(::write(pipe, text.data() + at, std::min<size_t>(65'536, text.size() - at)), 0);
    EXPECT_FALSE(std::filesystem::exists(path("out")));
    kill(child, signal);
    int status = 0;
    waitpid(child, &status, 0);
    ASSERT_TRUE(WIFEXITED(status));
    EXPECT_EQ(WEXITSTATUS(status), static_cast<int>(ExitCode::interrupted));
    expect_nothing_left();
    close(pipe);
    std::filesystem::remove(path("pipe"));
  }
}

TEST_F(PrepareTest, KilledAtAnyMomentItLeavesNoOutputAndTheNextRunClears) {
  const std::string input = write("a.txt", prose(2, 8 << 20));
  PrepareConfig c = config({input});
  c.shard_tokens = 1 << 20;
  for (const int delay_ms : {1, 20, 40, 80}) {
    const pid_t child = fork();
    if (child == 0) {
      prepare(c);
      _exit(0);
    }
    usleep(static_cast<useconds_t>(delay_ms) * 1000);
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
    EXPECT_TRUE(!std::filesystem::exists(c.output) ||
                verify_dataset(c.output).empty());  // complete, or not there
    std::filesystem::remove_all(c.output);
  }
  prepare(c);
  EXPECT_THAT(verify_dataset(c.output), IsEmpty());
  int temporary = 0;  // at most one that died between mkdir and its lock, and is young
  for (const auto& entry : std::filesystem::directory_iterator(folder_))
    temporary += entry.path().string().find(".tmp-") != std::string::npos;
  EXPECT_LE(temporary, 1);
}

// The example of docs/formats.md. What libhdf5 lays out is not pinned, it may change with its version; what
// we write is.
TEST_F(PrepareTest, TheExampleOfTheFormatsPage) {
  PrepareConfig c = config({write("hello.txt", "Hi\n\nyou\n")});
  c.documents = "blank-line";
  prepare(c);
  const DatasetInfo info = read_dataset_info(path("out/train"));
  EXPECT_EQ(hex(info.fingerprint()), "a9f2f936add33c0d45d076f162936d3a");
  EXPECT_EQ(hex(info.tokenizer_hash), "95f64cad147d23ee983871c230125b12");
  const ShardInfo& shard = info.shards[0];
  EXPECT_EQ(hex(shard.token_hashes), "7f080f2992f84e72169ea7fd3bcc0261");
  EXPECT_EQ(hex(shard.doc_hashes), "e1b545daf3a37c2f89d2f6e822f8e079");
  const std::string bytes = slurp(path("out/train/tokens-00000-of-00001.h5"));
  EXPECT_EQ(bytes.substr(static_cast<size_t>(shard.offsets_bytes[0]), 14),
            std::string("H\0i\0\0\1y\0o\0u\0\0\1", 14));
  EXPECT_EQ(bytes.substr(static_cast<size_t>(shard.offsets_bytes[2]), 8), "\x0b\x51\x17\xe9\x99\x67\x58\x7a");
}

}  // namespace
}  // namespace dm::data
