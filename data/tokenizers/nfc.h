#pragma once
// Unicode's normal form C, through utf8proc.

#include <string>
#include <string_view>

namespace dm::data {

/// `text`, which is UTF-8, if it is in the form already; else `storage`, which gets it in the form.
std::string_view to_nfc(std::string_view text, std::string& storage);

}  // namespace dm::data
