#pragma once
// UTF-8 that may be broken.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace dm::data {

/// Bytes that belong to no well-formed sequence (Unicode 15, table 3-7: no surrogates, no over-long forms, up
/// to U+10FFFF).
int64_t count_invalid_utf8(std::string_view text);
/// The length of the well-formed sequence at the start of `text`, 0 if there is none.
size_t utf8_length(std::string_view text);
/// `text` itself if it is UTF-8; else `storage`, which gets it with U+FFFD for each byte, or bytes that begin
/// a sequence and do not end it: what Python's decode(errors="replace") makes of it.
std::string_view replace_invalid_utf8(std::string_view text, std::string& storage);
/// The longest prefix that does not end inside a sequence which further bytes could complete.
size_t utf8_boundary(std::string_view text);

}  // namespace dm::data
