#pragma once
// Tokens that are found in text before it is cut into words: special ones, runs of blanks and the like.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace dm::data {

struct AddedToken {
  int32_t id = 0;
  std::string content;  // not empty
  bool lstrip = false;  // takes the blanks before it along
  bool rstrip = false;  // and those behind it
};

class AddedTokens {
 public:
  explicit AddedTokens(std::vector<AddedToken> tokens);

  bool empty() const { return tokens_.empty(); }

  /// Cuts `text` into what lies between tokens and the tokens: visit(piece, -1) and visit(token's text, id),
  /// in order, no piece empty. Of tokens that overlap the leftmost is taken, of those the longest.
  template <class Visit>
  void split(std::string_view text, const Visit& visit) const {
    size_t done = 0;
    for (size_t at = 0; at < text.size();) {
      const AddedToken* token = at_start(text.substr(at));
      if (token == nullptr) {
        ++at;
        continue;
      }
      size_t begin = at, end = at + token->content.size();
      at = end;
      if (token->lstrip) begin = std::max(done, begin - blanks_at_end(text.substr(0, begin)));
      if (token->rstrip) end += blanks_at_start(text.substr(end));
      if (begin > done) visit(text.substr(done, begin - done), -1);
      visit(text.substr(begin, end - begin), token->id);
      done = end;
    }
    if (done < text.size()) visit(text.substr(done), -1);
  }

 private:
  /// The longest token that `text` starts with, nullptr if there is none.
  const AddedToken* at_start(std::string_view text) const {
    int32_t node = roots_[static_cast<unsigned char>(text[0])];
    return node < 0 ? nullptr : longest(text, node);
  }
  const AddedToken* longest(std::string_view text, int32_t node) const;
  static size_t blanks_at_end(std::string_view text);
  static size_t blanks_at_start(std::string_view text);

  /// A trie over bytes.
  struct Node {
    int32_t token = -1;  // in tokens_
    std::vector<std::pair<unsigned char, int32_t>> children;
  };
  int32_t child(int32_t node, unsigned char byte) const;

  std::vector<AddedToken> tokens_;
  std::vector<Node> nodes_;
  std::vector<int32_t> roots_ = std::vector<int32_t>(256, -1);
};

}  // namespace dm::data
