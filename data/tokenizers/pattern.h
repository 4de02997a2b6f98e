#pragma once
// A pattern that cuts text into words, as tokenizer files give it: Oniguruma's syntax, of which only what
// means the same to PCRE2 is taken.

#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace dm::data {

class Pattern {
 public:
  /// Throws ExitCode::bad_data, `where` named, for what this version does not take: back-references, anchors,
  /// look-behind, classes that Oniguruma and PCRE2 fill differently, and patterns that match nothing.
  Pattern(const std::string& text, const std::string& where);
  ~Pattern();
  Pattern(Pattern&&) noexcept;

  /// What one thread needs to match.
  class Scratch {
   public:
    Scratch();
    ~Scratch();
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;

   private:
    friend class Pattern;
    struct Memory;
    std::unique_ptr<Memory> memory_;
  };

  /// The next match in `text`, which is UTF-8, from byte `at` on: [begin, end). False when there is none.
  bool find(std::string_view text, size_t at, Scratch& scratch, size_t& begin, size_t& end) const;

  const std::string& text() const { return text_; }

 private:
  struct Code;
  std::string text_;
  std::unique_ptr<Code> code_;
};

}  // namespace dm::data
