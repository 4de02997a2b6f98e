#include "data/tokenizers/nfc.h"

#include <utf8proc.h>

#include <cstdlib>
#include <cstring>
#include <vector>

#include "core/error.h"

namespace dm::data {
namespace {

constexpr utf8proc_int32_t kCodePoints = 0x110000;

std::string normalised(std::string_view text) {
  utf8proc_uint8_t* result = nullptr;
  const auto size = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                 static_cast<utf8proc_ssize_t>(text.size()), &result,
                                 static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  DM_CHECK(size >= 0, "utf8proc: {}", utf8proc_errmsg(size));
  std::string form(reinterpret_cast<const char*>(result), static_cast<size_t>(size));
  std::free(result);
  return form;
}

bool is_its_own_form(utf8proc_int32_t c) {
  utf8proc_uint8_t bytes[4];
  const auto size = static_cast<size_t>(utf8proc_encode_char(c, bytes));
  const std::string_view text(reinterpret_cast<const char*>(bytes), size);
  return normalised(text) == text;
}

/// Of each code point: whether it is its own normal form and nothing before it can change it. A text may be
/// cut in front of such a code point, and one of nothing else is in the form.
std::vector<bool> find_inert() {
  std::vector<bool> inert(kCodePoints, true);
  const auto exclude = [&](utf8proc_int32_t c) { inert[static_cast<size_t>(c)] = false; };
  for (utf8proc_int32_t c = 0; c < kCodePoints; ++c) {
    if (c >= 0xD800 && c <= 0xDFFF) continue;  // no UTF-8 has them
    const utf8proc_property_t* property = utf8proc_get_property(c);
    if (property->combining_class != 0) exclude(c);
    if (property->decomp_type != 0 || property->decomp_seqindex == UINT16_MAX) continue;
    utf8proc_int32_t parts[8];
    int boundary = 0;
    const auto count = utf8proc_decompose_char(c, parts, 8, UTF8PROC_DECOMPOSE, &boundary);
    DM_CHECK(count >= 1 && count <= 8, "U+{:04X} decomposes into {}", c, count);
    if (count > 1) exclude(parts[count - 1]);  // composes with what stands before it
    if (!is_its_own_form(c)) exclude(c);
  }
  for (utf8proc_int32_t c = 0x1161; c <= 0x1175; ++c) exclude(c);  // vowels of Hangul, and finals
  for (utf8proc_int32_t c = 0x11A8; c <= 0x11C2; ++c) exclude(c);
  return inert;
}

const std::vector<bool>& inert() {
  static const std::vector<bool> table = find_inert();
  return table;
}

/// The code point at the start of `text`, and its length.
struct CodePoint {
  utf8proc_int32_t value;
  size_t length;
};
CodePoint first(std::string_view text) {
  utf8proc_int32_t value = 0;
  const auto length = utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                       static_cast<utf8proc_ssize_t>(text.size()), &value);
  DM_CHECK(length > 0, "a text that was to be UTF-8 is not");
  return {value, static_cast<size_t>(length)};
}

/// How many leading bytes are code points below U+0300, eight bytes at a time: all of them inert.
size_t plain_prefix(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    uint64_t eight = 0;
    if (text.size() - at >= sizeof eight) {
      std::memcpy(&eight, text.data() + at, sizeof eight);
      if ((eight & 0x8080808080808080) == 0) {
        at += sizeof eight;
        continue;
      }
    }
    const auto byte = static_cast<unsigned char>(text[at]);
    if (byte >= 0xCC) break;
    at += byte < 0x80 ? 1 : 2;
  }
  return at;
}

}  // namespace

std::string_view to_nfc(std::string_view text, std::string& storage) {
  const std::vector<bool>& is_inert = inert();
  bool changed = false;
  size_t copied = 0, last = 0;  // bytes taken over; where the last code point begins
  for (size_t at = 0; at < text.size();) {
    const size_t plain = plain_prefix(text.substr(at));
    if (plain > 0) {
      at += plain;
      last = at - 1;
      while (last > 0 && (static_cast<unsigned char>(text[last]) & 0xC0) == 0x80) --last;
      if (at == text.size()) break;
    }
    const CodePoint here = first(text.substr(at));
    if (is_inert[static_cast<size_t>(here.value)]) {
      last = at;
      at += here.length;
      continue;
    }
    // From the inert one before it to the next inert one, this stretch is normalised by itself.
    size_t end = at + here.length;
    while (end < text.size()) {
      const CodePoint next = first(text.substr(end));
      if (is_inert[static_cast<size_t>(next.value)]) break;
      end += next.length;
    }
    if (!changed) storage.clear();
    changed = true;
    storage.append(text.substr(copied, last - copied));
    storage.append(normalised(text.substr(last, end - last)));
    copied = last = at = end;
  }
  if (!changed) return text;
  storage.append(text.substr(copied));
  return storage;
}

}  // namespace dm::data
