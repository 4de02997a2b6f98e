#pragma once
// Numbers and flags from text and back: strict and locale-free, the whole text must be the value.

#include <cstdint>
#include <string>
#include <string_view>

namespace dm {

// These throw ExitCode::usage: "WHERE: 'TEXT' is not a whole number" and the like. Blanks around the value
// are allowed.

/// Decimal digits with an optional minus; also 1_000_000 and the suffixes k, M, G (powers of ten).
int64_t parse_integer(std::string_view text, const std::string& where);
/// A finite number, as 0.001 or 1e-3.
double parse_number(std::string_view text, const std::string& where);
/// true/false, yes/no, on/off, 1/0.
bool parse_flag(std::string_view text, const std::string& where);

/// The shortest text that parse_number reads back as the same value.
std::string number_text(double value);
/// Without the blanks, tabs and carriage returns around it.
std::string trimmed(std::string_view text);

}  // namespace dm
