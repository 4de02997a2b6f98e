// Tokenizer files against the ids that the Python packages give (tests/peers/tokenizer_fixtures.py makes
// both).

#include <fmt/format.h>

#include <thread>

#include "core/rng.h"
#include "data/documents.h"
#include "data/prepare.h"
#include "data/tokenizer.h"
#include "data/tokenizers/pattern.h"
#include "data/utf8.h"
#include "data/verify.h"
#include "tests/data/folder.h"
#include "tests/support/refusal.h"

namespace dm::data {
namespace {

using test::refusal;
using testing::AllOf;
using testing::HasSubstr;

const std::string kFixtures = DM_TOKENIZER_FIXTURES;

std::string slurp(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::vector<int32_t> stored_ids(const std::string& path) {
  const std::string bytes = slurp(path);
  std::vector<int32_t> ids;
  for (size_t i = 0; i + 1 < bytes.size(); i += 2)
    ids.push_back(static_cast<unsigned char>(bytes[i]) | static_cast<unsigned char>(bytes[i + 1]) << 8);
  return ids;
}

std::vector<int32_t> encode(const Tokenizer& tokenizer, std::string_view text) {
  std::vector<int32_t> ids;
  tokenizer.encode(text, ids);
  return ids;
}

class TokenizerFiles : public testing::TestWithParam<const char*> {
 protected:
  std::string path() const { return kFixtures + "/" + GetParam(); }
  std::string ids_path() const { return path().substr(0, path().rfind('.')) + ".ids"; }
  std::unique_ptr<Tokenizer> tokenizer_ = open_tokenizer(path());
  std::string text_ = slurp(kFixtures + "/sample.txt");
};

TEST_P(TokenizerFiles, GiveTheIdsOfThePythonPackages) {
  const std::vector<int32_t> expected = stored_ids(ids_path()), found = encode(*tokenizer_, text_);
  ASSERT_GT(expected.size(), 5000u);
  for (size_t i = 0; i < std::min(expected.size(), found.size()); ++i)
    ASSERT_EQ(found[i], expected[i]) << "id " << i << ", behind '"
                                     << tokenizer_->decode(
                                            {found.begin() + std::max<std::ptrdiff_t>(
                                                                 0, static_cast<std::ptrdiff_t>(i) - 8),
                                             found.begin() + static_cast<std::ptrdiff_t>(i)})
                                     << "'";
  EXPECT_EQ(found.size(), expected.size());
}

TEST_P(TokenizerFiles, SeveralThreadsGiveTheSameIds) {
  const std::vector<int32_t> expected = stored_ids(ids_path());
  std::vector<std::vector<int32_t>> found(4);
  std::vector<std::thread> threads;
  for (std::vector<int32_t>& ids : found) threads.emplace_back([&] { ids = encode(*tokenizer_, text_); });
  for (std::thread& thread : threads) thread.join();
  for (const std::vector<int32_t>& ids : found) EXPECT_EQ(ids, expected);
}

// Wherever a text is looked at, the place to cut that is found there is none that changes an id.
TEST_P(TokenizerFiles, CutsChangeNoId) {
  const std::vector<int32_t> expected = stored_ids(ids_path());
  const CounterRng rng(7, "cuts");
  int64_t cuts = 0;
  for (uint64_t trial = 0; trial < 20; ++trial) {
    std::vector<int32_t> ids;
    std::string_view rest = text_;
    for (uint64_t draw = 0; !rest.empty(); ++draw) {
      const std::string_view seen = rest.substr(0, 1 + rng.below(trial * 100'000 + draw, 3000));
      const size_t whole = seen.size() == rest.size() ? rest.size() : tokenizer_->complete_prefix(seen);
      ASSERT_LE(whole, seen.size());
      if (whole == 0 && tokenizer_->complete_prefix(text_) == 0) break;  // one that is never cut
      tokenizer_->encode(rest.substr(0, whole), ids);
      rest.remove_prefix(whole);
      cuts += whole > 0;
    }
    if (cuts > 0) ASSERT_EQ(ids, expected) << "trial " << trial;
  }
  const std::string name = GetParam();
  const bool whole_only = name.ends_with(".model") || name == "deepseek.json";
  EXPECT_EQ(cuts == 0, whole_only) << cuts << " cuts";
}

TEST_P(TokenizerFiles, DecodeGivesBackTheText) {
  std::string valid;
  const std::string text(replace_invalid_utf8(text_, valid));
  const std::vector<int32_t> ids = encode(*tokenizer_, text);
  const std::string decoded = tokenizer_->decode(ids);
  int64_t bytes = 0;
  for (const int32_t id : ids) bytes += tokenizer_->byte_count(id);
  const std::string name = GetParam();
  if (name.ends_with(".model")) EXPECT_THAT(decoded, HasSubstr("क्षत्रिय"));
  if (name == "gpt2.json" || name == "llama3.json" || name == "starcoder.json" || name == "deepseek.json") {
    // Nothing is normalised; the end of a document stands for no text.
    std::string expected = text;
    const std::string end = name == "llama3.json" ? "<|end_of_text|>" : "<|endoftext|>";
    for (size_t at = 0; (at = expected.find(end, at)) != std::string::npos;) expected.erase(at, end.size());
    EXPECT_EQ(decoded, expected);
    EXPECT_EQ(bytes, static_cast<int64_t>(decoded.size()));
  }
}

TEST_P(TokenizerFiles, TextComesBitByBitAsItComesWhole) {
  const std::vector<int32_t> ids = stored_ids(ids_path());
  StreamDecoder decoder(*tokenizer_);
  std::string text;
  for (const int32_t id : ids) text += decoder.push(&id, 1);
  text += decoder.finish();
  EXPECT_EQ(text, tokenizer_->decode(ids));
}

TEST_P(TokenizerFiles, OneMegabyteWithoutABlankIsEncoded) {
  std::string line;
  const CounterRng rng(5, "line");
  for (uint64_t i = 0; i < (1 << 20); ++i) line += static_cast<char>('a' + rng.below(i, 26));
  const std::vector<int32_t> ids = encode(*tokenizer_, line);
  EXPECT_GT(ids.size(), line.size() / 20);
  if (GetParam() == std::string("unigram.model")) return;  // has no piece for some of the letters
  const std::string decoded = tokenizer_->decode(ids);
  EXPECT_EQ(decoded.substr(decoded.size() - line.size()),
            line);  // behind a blank that some put before a text
}

INSTANTIATE_TEST_SUITE_P(Kinds, TokenizerFiles,
                         testing::Values("gpt2.json", "roberta.json", "neox.json", "llama3.json",
                                         "qwen2.json", "gpt4o.json", "starcoder.json", "deepseek.json",
                                         "unigram.model", "llama.model"),
                         [](const auto& info) {
                           const std::string name = info.param;
                           return name.substr(0, name.find('.'));
                         });

/// A tokenizer.json changed in one place.
class TokenizerRefusals : public FolderTest {
 protected:
  void expect_refused(const std::string& from, const std::string& to, const std::string& part) {
    std::string file = slurp(kFixtures + "/qwen2.json");
    const size_t at = file.find(from);
    ASSERT_NE(at, std::string::npos) << from;
    file.replace(at, from.size(), to);
    const std::string name = write("changed.json", file);
    EXPECT_THAT(refusal(ExitCode::bad_data, [&] { open_tokenizer(name); }),
                AllOf(HasSubstr(name), HasSubstr(part)))
        << to;
  }
};

TEST_F(TokenizerRefusals, NameTheComponent) {
  expect_refused(R"("truncation":null)", R"("truncation":{"max_length":5})", "truncation");
  expect_refused(R"("padding":null)", R"("padding":{})", "padding");
  expect_refused(R"({"type":"NFC"})", R"({"type":"Lowercase"})", "normalizer: Lowercase");
  expect_refused(R"({"type":"NFC"})",
                 R"({"type":"Sequence","normalizers":[{"type":"NFC"},{"type":"Strip"}]})", "Strip");
  expect_refused(R"({"type":"Split")", R"({"type":"Metaspace")", "Metaspace");
  expect_refused(R"("behavior":"Isolated")", R"("behavior":"MergedWithNext")", "behavior MergedWithNext");
  expect_refused(R"(\\p{N}|)", R"(\\p{N}$|)", "$ is not supported");
  expect_refused(R"(\\p{N}|)", R"((?<=a)\\p{N}|)", "(?<= is not supported");
  expect_refused(R"(\\p{N}|)", R"(\\w|)", "\\w is not supported");
  expect_refused(R"(\\p{N}|)", R"(\\p{N}*|)", "matches nothing");
  expect_refused(R"(\\p{N}|)", R"(\\p{Nix}|)", "pattern");
  expect_refused(R"(\\p{N}|)", R"([\\p{N}&&[a]]|)", "&&");
  expect_refused(R"(\\p{N}|)", R"([\\P{L}]|)", "not of a category");
  expect_refused(R"(\\p{N}|)", R"(\\p{Cn}|)", "not assigned yet");
  expect_refused(R"("type":"BPE")", R"("type":"WordPiece")", "WordPiece");
  expect_refused(R"("dropout":null)", R"("dropout":0.1)", "dropout");
  expect_refused(R"("byte_fallback":false)", R"("byte_fallback":true)", "byte_fallback");
  expect_refused(R"("continuing_subword_prefix":null)", R"("continuing_subword_prefix":"##")",
                 "continuing_subword_prefix");
  expect_refused(R"("end_of_word_suffix":null)", R"("end_of_word_suffix":"</w>")", "end_of_word_suffix");
  expect_refused(R"("single_word":false)", R"("single_word":true)", "single_word");
  expect_refused(R"("decoder":{"type":"ByteLevel")", R"("decoder":{"type":"WordPiece")",
                 "decoder: WordPiece");
  expect_refused(R"("id":0)", R"("id":-1)", "id -1");
  expect_refused(R"("id":0)", R"("id":99999999999)", "outside");
  expect_refused(R"("!":1)", R"("!!!":1)", "'!' is not in the vocabulary");
  expect_refused(R"("merges":[)", R"("merges":["a",)", "merges[0] is not a pair");
  expect_refused(R"("merges":[)", R"("merges":[["a","never seen"],)",
                 "'never seen' is not in the vocabulary");
  expect_refused(R"("merges":[)", R"("merges":[)" + std::string(100, '['), "nested deeper");
  const std::string cut = write("cut.json", slurp(kFixtures + "/qwen2.json").substr(0, 9000));
  EXPECT_THAT(refusal(ExitCode::bad_data, [&] { open_tokenizer(cut); }), HasSubstr(cut));
}

TEST_F(TokenizerRefusals, OfModelsAndNames) {
  const std::string model = slurp(kFixtures + "/llama.model");
  for (const size_t size : {size_t{0}, size_t{1}, size_t{100}, model.size() / 2}) {
    const std::string cut = write("cut.model", model.substr(0, size));
    EXPECT_THAT(refusal(ExitCode::bad_data, [&] { open_tokenizer(cut); }), HasSubstr(cut)) << size;
  }
  EXPECT_THAT(refusal(ExitCode::usage, [&] { open_tokenizer(path("absent.json")); }),
              HasSubstr("no such file"));
  EXPECT_THAT(refusal(ExitCode::usage, [&] { open_tokenizer(write("x.bin", "x")); }),
              HasSubstr("neither a .json"));
  EXPECT_THAT(refusal(ExitCode::usage, [&] { open_tokenizer("bytes", {.token = "x"}); }),
              HasSubstr("--eos-token"));
  const auto tokenizer = open_tokenizer(kFixtures + "/neox.json");
  EXPECT_THAT(refusal(ExitCode::bad_data, [&] { tokenizer->decode({100'000}); }),
              HasSubstr("id 100000 is outside"));
  EXPECT_THAT(refusal(ExitCode::bad_data, [&] { reopen_tokenizer(kFixtures + "/neox.json", 0, Hash128{}); }),
              HasSubstr("not the tokenizer that was used"));
}

TEST_F(TokenizerRefusals, TheEndOfADocumentIsNamedOrFound) {
  EXPECT_EQ(open_tokenizer(kFixtures + "/neox.json")->eos_id(), 0);
  const auto end = [&](const EndOfDocument& asked) {
    return open_tokenizer(path("t/tokenizer.json"), asked)->eos_id();
  };
  const std::string file = slurp(kFixtures + "/qwen2.json");
  write("t/tokenizer.json", file);
  const int64_t start = end({.token = "<|im_start|>"});
  EXPECT_GT(start, 0);
  EXPECT_EQ(end({}), 0);
  write("t/tokenizer_config.json", R"({"eos_token": "<|im_start|>"})");
  EXPECT_EQ(end({}), start);
  write("t/tokenizer_config.json", R"({"eos_token": {"content": "<|im_start|>"}})");
  EXPECT_EQ(end({}), start);
  EXPECT_EQ(end({.token = "<|endoftext|>"}), 0);
  EXPECT_EQ(end({.token = "", .id = 7}), 7);
  EXPECT_THAT(refusal(ExitCode::usage, [&] { end({.token = "<nothing>"}); }), HasSubstr("--eos-token"));
  EXPECT_EQ(open_tokenizer(kFixtures + "/llama.model")->eos_id(), 2);
  EXPECT_EQ(open_tokenizer(kFixtures + "/llama.model", {.token = "<s>"})->eos_id(), 1);
}

class PrepareWithTokenizer : public FolderTest {
 protected:
  static std::string file(const std::string& folder, const std::string& name) {
    return slurp(folder + "/" + name);
  }

  /// The sample three times, longer than a portion, so that documents are cut where they may be.
  PrepareResult prepare_sample(const std::string& output, const std::string& tokenizer, int64_t threads) {
    const std::string text = slurp(kFixtures + "/sample.txt");
    PrepareConfig config;
    config.input = {write("a.txt", text + " a " + text + " b " + text), write("b.txt", text)};
    config.output = path(output);
    config.tokenizer = kFixtures + "/" + tokenizer;
    config.threads = threads;
    return detail::prepare(config, 4096);
  }
};

TEST_F(PrepareWithTokenizer, StoresTheFileAndTheIdsOfWholeDocuments) {
  for (const std::string name : {"qwen2.json", "llama.model"}) {
    const std::string output = "of-" + name,
                      stored = name == "qwen2.json" ? "tokenizer.json" : "tokenizer.model";
    prepare_sample(output, name, 3);
    const std::string folder = path(output) + "/train";
    EXPECT_EQ(file(folder, stored), slurp(kFixtures + "/" + name));
    const auto dataset = open_dataset(folder);
    EXPECT_EQ(dataset->tokenizer(), folder + "/" + stored);
    const auto tokenizer =
        reopen_tokenizer(dataset->tokenizer(), dataset->eos_id(), dataset->tokenizer_hash());

    const std::string text = slurp(kFixtures + "/sample.txt");
    std::vector<int32_t> expected = encode(*tokenizer, text + " a " + text + " b " + text);
    const auto end = static_cast<int32_t>(tokenizer->eos_id());
    expected.push_back(end);
    tokenizer->encode(text, expected);
    expected.push_back(end);
    EXPECT_EQ(all_tokens(*dataset), expected);
    EXPECT_EQ(dataset->bytes_of_ids().size(), static_cast<size_t>(tokenizer->vocab_size()));
    EXPECT_EQ(dataset->bytes_of_ids()[static_cast<size_t>(end)], 0);
    EXPECT_THAT(verify_dataset(folder), testing::IsEmpty());

    prepare_sample(output + "-1", name, 1);
    for (const auto& entry : std::filesystem::directory_iterator(folder))
      EXPECT_EQ(slurp(entry.path()), slurp(path(output + "-1/train/" + entry.path().filename().string())));

    flip(folder + "/" + stored, 5000);
    EXPECT_THAT(verify_dataset(folder), testing::ElementsAre(HasSubstr(stored)));
    EXPECT_THAT(refusal(ExitCode::bad_data, [&] { open_dataset(folder)->bytes_of_ids(); }),
                HasSubstr(stored));
    std::filesystem::remove(folder + "/" + stored);
    EXPECT_THAT(verify_dataset(folder), testing::ElementsAre(HasSubstr("missing")));
  }
}

TEST_F(PrepareWithTokenizer, AnotherFileIsAnotherDataset) {
  prepare_sample("out", "qwen2.json", 2);
  EXPECT_TRUE(prepare_sample("out", "qwen2.json", 2).reused);
  EXPECT_THAT(refusal(ExitCode::usage, [&] { prepare_sample("out", "neox.json", 2); }),
              HasSubstr("tokenizer_xxh128"));
}

TEST_F(PrepareWithTokenizer, ADocumentThatCannotBeCutIsBounded) {
  PrepareConfig config;
  config.input = {write("long.txt", std::string(kMaxWholeBytes + (1 << 20), 'x'))};
  config.output = path("out");
  config.tokenizer = kFixtures + "/gpt2.json";
  EXPECT_THAT(refusal(ExitCode::bad_data, [&] { prepare(config); }),
              AllOf(HasSubstr("long.txt"), HasSubstr("64 MiB"), HasSubstr("--documents")));
}

std::vector<std::string> pieces(const std::string& pattern, const std::string& text) {
  const Pattern compiled(pattern, "here");
  Pattern::Scratch scratch;
  std::vector<std::string> found;
  size_t begin = 0, end = 0;
  for (size_t at = 0; compiled.find(text, at, scratch, begin, end); at = end)
    found.push_back(text.substr(begin, end - begin));
  return found;
}

// The tables of PCRE2 are older than those of the tokenizers that others use.
TEST(PatternTest, KnowsWhatUnicode16Added) {
  using Pieces = std::vector<std::string>;
  const std::string words = R"([^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+)";
  const std::string hieroglyph = "\xF0\x93\xA5\xBE", digit = "\xF0\x90\xB5\x80";  // U+1397E, U+10D40
  EXPECT_EQ(pieces(words, hieroglyph + "*b"), (Pieces{hieroglyph, "*b"}));
  EXPECT_EQ(pieces(words, "?" + digit + digit), (Pieces{"?", digit, digit}));
  EXPECT_EQ(pieces(R"(\d+)", "a" + digit + "7"), Pieces{digit + "7"});
  EXPECT_EQ(pieces(R"(\P{L}+)", "1" + hieroglyph + "2"), (Pieces{"1", "2"}));
  EXPECT_EQ(pieces(R"(\p{^Lo}+)", "a" + hieroglyph + "2"), (Pieces{"a", "2"}));
  EXPECT_EQ(pieces(R"([\p{Lu}\p{Lo}]+)", "aB" + hieroglyph), Pieces{"B" + hieroglyph});
}

}  // namespace
}  // namespace dm::data
