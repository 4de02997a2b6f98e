#include "data/tokenizers/pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <cctype>

#include "core/error.h"
#include "data/tokenizers/unicode.h"

namespace dm::data {
namespace {

// Unicode's White_Space, which PCRE2's own \s misses by U+180E.
constexpr const char* kSpaces =
    R"(\x{09}-\x{0d}\x{20}\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";

/// Oniguruma's pattern as PCRE2 takes it.
class Translation {
 public:
  Translation(const std::string& text, const std::string& where) : text_(text), where_(where) {}

  std::string result() {
    while (at_ < text_.size()) next();
    if (in_class_) refuse("a class that is not closed");
    return out_;
  }

 private:
  void next() {
    const char c = text_[at_];
    if (c == '\\') return escape();
    if (in_class_) {
      if (c == '[') refuse("a class inside a class");
      if (c == '&' && text_.substr(at_, 2) == "&&") refuse("&&");
      if (c == ']') in_class_ = false;
    } else if (c == '[') {
      in_class_ = true;
      take(1);
      if (at_ < text_.size() && text_[at_] == '^') take(1);
      if (at_ < text_.size() && text_[at_] == ']') refuse("] as the first of a class");
      return;
    } else if (c == '^' || c == '$') {
      refuse(std::string(1, c));
    } else if (c == '(' && text_.substr(at_, 2) == "(?") {
      return group();
    } else if (c == '}' && text_.substr(at_, 2) == "}+") {
      refuse("}+");
    }
    take(1);
  }

  void group() {
    for (const char* known : {"(?:", "(?=", "(?!", "(?i:", "(?>"})
      if (text_.compare(at_, std::string_view(known).size(), known) == 0)
        return take(std::string_view(known).size());
    refuse(text_.substr(at_, 4));
  }

  void escape() {
    if (at_ + 1 == text_.size()) refuse("a backslash at the end");
    const char c = text_[at_ + 1];
    const std::string name(1, c);
    if (name == "s") {
      out_ += in_class_ ? std::string(kSpaces) : fmt::format("[{}]", kSpaces);
    } else if (name == "S") {
      if (in_class_) refuse("\\S in a class");
      out_ += fmt::format("[^{}]", kSpaces);
    } else if (name == "d") {
      property("Nd", /*negated=*/false);
    } else if (name == "p" || name == "P" || name == "x") {  // \p{L}, \x{41}: the braces are no repeat
      const size_t end = text_.find('}', at_);
      if (text_.compare(at_ + 2, 1, "{") != 0 || end == std::string::npos) refuse(text_.substr(at_, 3));
      const bool inverse = text_[at_ + 3] == '^';
      const std::string inside = text_.substr(at_ + 3 + inverse, end - at_ - 3 - inverse);
      if (name == "x" || !is_category(inside)) return take(end + 1 - at_);
      property(inside, (name == "P") != inverse);
      at_ = end + 1;
      return;
    } else if (name == "r" || name == "n" || name == "t") {
      return take(2);
    } else if (static_cast<unsigned char>(c) < 0x80 && std::ispunct(static_cast<unsigned char>(c))) {
      return take(2);
    } else {
      refuse(text_.substr(at_, 2));
    }
    at_ += 2;
  }

  /// A category as the newest Unicode that tokenizers know fills it.
  void property(const std::string& category, bool negated) {
    if (category == "C" || category == "Cn") refuse("what is not assigned yet, \\p{" + category + "},");
    if (in_class_ && negated) refuse("what is not of a category, in a class,");
    const std::string members = "\\p{" + category + "}" + newer_code_points(category);
    out_ += in_class_ ? members : fmt::format("[{}{}]", negated ? "^" : "", members);
  }

  void take(size_t count) {
    out_.append(text_, at_, count);
    at_ += count;
  }

  [[noreturn]] void refuse(const std::string& what) const {
    DM_FAIL(ExitCode::bad_data, "{}: pattern \"{}\": {} is not supported, at character {}", where_, text_,
            what, at_);
  }

  const std::string& text_;
  const std::string& where_;
  std::string out_;
  size_t at_ = 0;
  bool in_class_ = false;
};

}  // namespace

struct Pattern::Code {
  pcre2_code* code = nullptr;
  ~Code() { pcre2_code_free(code); }
};

struct Pattern::Scratch::Memory {
  pcre2_match_data* match = pcre2_match_data_create(1, nullptr);
  ~Memory() { pcre2_match_data_free(match); }
};

Pattern::Scratch::Scratch() : memory_(std::make_unique<Memory>()) {}
Pattern::Scratch::~Scratch() = default;
Pattern::Pattern(Pattern&&) noexcept = default;
Pattern::~Pattern() = default;

Pattern::Pattern(const std::string& text, const std::string& where)
    : text_(text), code_(std::make_unique<Code>()) {
  const std::string translated = Translation(text, where).result();
  int error = 0;
  PCRE2_SIZE place = 0;
  code_->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                              PCRE2_UTF | PCRE2_UCP, &error, &place, nullptr);
  if (code_->code == nullptr) {
    PCRE2_UCHAR reason[256];
    pcre2_get_error_message(error, reason, sizeof reason);
    DM_FAIL(ExitCode::bad_data, "{}: pattern \"{}\": {}", where, text, reinterpret_cast<const char*>(reason));
  }
  uint32_t empty = 0;
  pcre2_pattern_info(code_->code, PCRE2_INFO_MATCHEMPTY, &empty);
  DM_REQUIRE(empty == 0, ExitCode::bad_data, "{}: pattern \"{}\" matches nothing, which is not supported",
             where, text);
  pcre2_jit_compile(code_->code, PCRE2_JIT_COMPLETE);  // where there is no compiler, matching interprets
}

bool Pattern::find(std::string_view text, size_t at, Scratch& scratch, size_t& begin, size_t& end) const {
  const int found = pcre2_match(code_->code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), at,
                                PCRE2_NO_UTF_CHECK, scratch.memory_->match, nullptr);
  if (found == PCRE2_ERROR_NOMATCH) return false;
  DM_REQUIRE(found >= 0, ExitCode::bad_data,
             "pattern \"{}\": PCRE2 gives up on a text of {} bytes (error {})", text_, text.size(), found);
  const PCRE2_SIZE* place = pcre2_get_ovector_pointer(scratch.memory_->match);
  begin = place[0], end = place[1];
  return true;
}

}  // namespace dm::data
