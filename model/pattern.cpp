// The pattern string: one letter a layer, with repeats and two names.
//
//   pattern = item { item }        item = ( letter | "(" pattern ")" ) [ "*" number ]

#include <cctype>

#include "core/error.h"
#include "model/layers/registry.h"

namespace dm::model {
namespace {

constexpr size_t kMaxLayers = 4096;
constexpr int kMaxDepth = 16;  // nested parentheses: the parser recurses

/// Patterns with a name: these letters over and over, `layers` of them.
struct Named {
  const char* name;
  const char* period;
};
constexpr Named kNamed[] = {{"all", "D"}, {"alternate", "DM"}};

class Parser {
 public:
  explicit Parser(const std::string& text) : text_(text) {}

  std::string parse() {
    const std::string letters = items(0);
    if (at_ < text_.size()) fail("')' closes nothing; drop it");
    if (letters.empty()) fail("no layer; write letters, as in D*24");
    return letters;
  }

 private:
  std::string items(int depth) {
    std::string letters;
    for (skip_space(); at_ < text_.size() && text_[at_] != ')'; skip_space()) {
      const std::string piece = item(depth);
      append(letters, piece, repeats());
    }
    return letters;
  }

  std::string item(int depth) {
    const char c = text_[at_];
    if (c == '(') {
      if (depth == kMaxDepth) fail(fmt::format("parentheses more than {} deep", kMaxDepth));
      const size_t open = at_++;
      const std::string inner = items(depth + 1);
      if (at_ == text_.size()) at_ = open, fail("'(' is never closed; add ')'");
      if (inner.empty()) at_ = open, fail("nothing between '(' and ')'");
      ++at_;
      return inner;
    }
    if (c == '*') fail("'*' repeats nothing; it follows a letter or ')'");
    if (!find_layer_kind(c)) fail(fmt::format("'{}' is no layer letter; known: {}", c, layer_letters_help()));
    ++at_;
    return {c};
  }

  size_t repeats() {
    skip_space();
    if (at_ == text_.size() || text_[at_] != '*') return 1;
    ++at_;
    skip_space();
    const size_t begin = at_;
    size_t count = 0;
    for (; at_ < text_.size() && std::isdigit(static_cast<unsigned char>(text_[at_])); ++at_) {
      count = count * 10 + static_cast<size_t>(text_[at_] - '0');
      if (count > kMaxLayers) fail(fmt::format("more than {} layers", kMaxLayers));
    }
    if (at_ == begin) fail("'*' needs a number after it, as in D*24");
    if (count == 0) at_ = begin, fail("a repeat of 0 leaves nothing; drop the item or give a number from 1");
    return count;
  }

  void append(std::string& letters, const std::string& piece, size_t count) {
    if (letters.size() + piece.size() * count > kMaxLayers)
      fail(fmt::format("more than {} layers", kMaxLayers));
    for (size_t i = 0; i < count; ++i) letters += piece;
  }

  void skip_space() {
    while (at_ < text_.size() && text_[at_] == ' ') ++at_;
  }

  [[noreturn]] void fail(const std::string& reason) const {
    DM_FAIL(ExitCode::usage, "--pattern \"{}\", column {}: {}", text_, at_ + 1, reason);
  }

  const std::string& text_;
  size_t at_ = 0;
};

}  // namespace

std::string layer_letters(const ModelConfig& config) {
  for (const Named& named : kNamed) {
    if (config.pattern != named.name) continue;
    DM_REQUIRE(config.layers >= 1 && config.layers <= static_cast<int64_t>(kMaxLayers), ExitCode::usage,
               "--pattern {} with --layers {}: say how many, 1 to {}", named.name, config.layers, kMaxLayers);
    std::string letters;
    const std::string period = named.period;
    for (size_t i = 0; i < static_cast<size_t>(config.layers); ++i) letters += period[i % period.size()];
    return letters;
  }
  const std::string letters = Parser(config.pattern).parse();
  DM_REQUIRE(config.layers == 0 || config.layers == static_cast<int64_t>(letters.size()), ExitCode::usage,
             "--layers {} contradicts --pattern \"{}\", which has {}; give --layers 0 to go by the pattern",
             config.layers, config.pattern, letters.size());
  return letters;
}

}  // namespace dm::model
