#pragma once
// UTF-8 that may be broken: counted, never changed.

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace dm::data {

/// Bytes that belong to no well-formed sequence (Unicode 15, table 3-7: no surrogates, no over-long forms, up
/// to U+10FFFF).
int64_t count_invalid_utf8(std::string_view text);
/// The length of the well-formed sequence at the start of `text`, 0 if there is none.
size_t utf8_length(std::string_view text);
/// The longest prefix that does not end inside a sequence which further bytes could complete.
size_t utf8_boundary(std::string_view text);

}  // namespace dm::data
