#pragma once
// What newer versions of Unicode added to the classes of a pattern: a tokenizer cuts a text as the program
// that it was trained by does, whatever tables the library here has.

#include <string>
#include <string_view>

namespace dm::data {

/// "L", "Nd", "L&": a general category of Unicode, or several; not the name of a script.
bool is_category(std::string_view name);

/// The code points that Unicode 15 and 16 gave to the category, as they stand in a class of PCRE2:
/// "\x{1c89}-\x{1c89}..."; "" for none.
std::string newer_code_points(std::string_view category);

}  // namespace dm::data
