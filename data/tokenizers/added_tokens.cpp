#include "data/tokenizers/added_tokens.h"

#include <algorithm>

#include "core/error.h"
#include "data/utf8.h"

namespace dm::data {
namespace {

/// Unicode's White_Space, in UTF-8, without those of one byte.
bool is_wide_blank(std::string_view c) {
  if (c.size() == 2) return c == "\xC2\x85" || c == "\xC2\xA0";
  if (c.size() != 3) return false;
  const auto last = static_cast<unsigned char>(c[2]);
  if (c.starts_with("\xE2\x80"))  // U+2000 .. U+200A, U+2028, U+2029, U+202F
    return last <= 0x8A || last == 0xA8 || last == 0xA9 || last == 0xAF;
  return c == "\xE1\x9A\x80" || c == "\xE2\x81\x9F" || c == "\xE3\x80\x80";
}

/// The length of the blank that `text` starts with, 0 if there is none.
size_t blank(std::string_view text) {
  if (text.empty()) return 0;
  if (text[0] == ' ' || (text[0] >= '\t' && text[0] <= '\r')) return 1;
  const size_t length = utf8_length(text);
  return is_wide_blank(text.substr(0, length)) ? length : 0;
}

}  // namespace

AddedTokens::AddedTokens(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)) {
  for (size_t t = 0; t < tokens_.size(); ++t) {
    const std::string& content = tokens_[t].content;
    DM_CHECK(!content.empty(), "an added token without text");
    int32_t node = -1;
    for (const char c : content) {
      const auto byte = static_cast<unsigned char>(c);
      int32_t next = node < 0 ? roots_[byte] : child(node, byte);
      if (next < 0) {
        next = static_cast<int32_t>(nodes_.size());
        nodes_.emplace_back();
        if (node < 0)
          roots_[byte] = next;
        else
          nodes_[static_cast<size_t>(node)].children.emplace_back(byte, next);
      }
      node = next;
    }
    nodes_[static_cast<size_t>(node)].token = static_cast<int32_t>(t);
  }
}

int32_t AddedTokens::child(int32_t node, unsigned char byte) const {
  for (const auto& [label, next] : nodes_[static_cast<size_t>(node)].children)
    if (label == byte) return next;
  return -1;
}

const AddedToken* AddedTokens::longest(std::string_view text, int32_t node) const {
  int32_t found = -1;
  for (size_t at = 1; node >= 0; ++at) {
    if (nodes_[static_cast<size_t>(node)].token >= 0) found = nodes_[static_cast<size_t>(node)].token;
    node = at < text.size() ? child(node, static_cast<unsigned char>(text[at])) : -1;
  }
  return found < 0 ? nullptr : &tokens_[static_cast<size_t>(found)];
}

size_t AddedTokens::blanks_at_end(std::string_view text) {
  size_t size = 0;
  while (size < text.size()) {
    size_t start = text.size() - size - 1;  // of the code point before
    while (start > 0 && (static_cast<unsigned char>(text[start]) & 0xC0) == 0x80) --start;
    const size_t length = text.size() - size - start;
    if (blank(text.substr(start, length)) != length) break;
    size += length;
  }
  return size;
}

size_t AddedTokens::blanks_at_start(std::string_view text) {
  size_t size = 0;
  while (const size_t length = blank(text.substr(size))) size += length;
  return size;
}

}  // namespace dm::data
