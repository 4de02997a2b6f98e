#include "data/utf8.h"

#include <algorithm>
#include <cstring>

namespace dm::data {
namespace {

struct Lead {
  size_t length;            // of the sequence; 0: no lead byte
  unsigned char low, high;  // bounds of the second byte; the others are 80 .. BF
};

Lead lead(unsigned char byte) {
  if (byte < 0x80) return {1, 0, 0};
  if (byte >= 0xC2 && byte <= 0xDF) return {2, 0x80, 0xBF};
  if (byte == 0xE0) return {3, 0xA0, 0xBF};
  if (byte == 0xED) return {3, 0x80, 0x9F};
  if (byte >= 0xE1 && byte <= 0xEF) return {3, 0x80, 0xBF};
  if (byte == 0xF0) return {4, 0x90, 0xBF};
  if (byte >= 0xF1 && byte <= 0xF3) return {4, 0x80, 0xBF};
  if (byte == 0xF4) return {4, 0x80, 0x8F};
  return {0, 0, 0};
}

/// How many leading bytes fit the sequence that the first byte opens.
size_t fitting(std::string_view text, const Lead& kind) {
  const size_t size = std::min(text.size(), kind.length);
  for (size_t i = 1; i < size; ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if (i == 1 ? byte < kind.low || byte > kind.high : byte < 0x80 || byte > 0xBF) return i;
  }
  return size;
}

}  // namespace

size_t utf8_length(std::string_view text) {
  if (text.empty()) return 0;
  const Lead kind = lead(static_cast<unsigned char>(text[0]));
  return fitting(text, kind) == kind.length ? kind.length : 0;
}

int64_t count_invalid_utf8(std::string_view text) {
  int64_t invalid = 0;
  while (!text.empty()) {
    uint64_t eight = 0;
    if (text.size() >= sizeof eight) {
      std::memcpy(&eight, text.data(), sizeof eight);
      if ((eight & 0x8080808080808080) == 0) {
        text.remove_prefix(sizeof eight);
        continue;
      }
    }
    const size_t length = utf8_length(text);
    invalid += length == 0;
    text.remove_prefix(std::max<size_t>(length, 1));
  }
  return invalid;
}

std::string_view replace_invalid_utf8(std::string_view text, std::string& storage) {
  if (count_invalid_utf8(text) == 0) return text;
  storage.clear();
  while (!text.empty()) {
    const size_t length = utf8_length(text);
    if (length > 0)
      storage.append(text.substr(0, length));
    else
      storage.append("\xEF\xBF\xBD");
    const size_t broken = fitting(text, lead(static_cast<unsigned char>(text[0])));
    text.remove_prefix(length > 0 ? length : std::max<size_t>(broken, 1));
  }
  return storage;
}

size_t utf8_boundary(std::string_view text) {
  for (size_t back = 1; back <= std::min<size_t>(3, text.size()); ++back) {
    const std::string_view tail = text.substr(text.size() - back);
    const Lead kind = lead(static_cast<unsigned char>(tail[0]));
    if (kind.length > back && fitting(tail, kind) == back) return text.size() - back;
    if (kind.length > 0) break;  // a sequence begins here and is complete or broken
  }
  return text.size();
}

}  // namespace dm::data
