#include "core/numbers.h"

#include <charconv>
#include <cmath>

#include "core/error.h"

namespace dm {
namespace {

/// Takes the underscores out of 1_000_000; leaves text alone that has one elsewhere than between two digits.
std::string without_grouping(const std::string& text) {
  const auto is_digit = [&](size_t i) { return i < text.size() && text[i] >= '0' && text[i] <= '9'; };
  std::string digits;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '_')
      digits += text[i];
    else if (i == 0 || !is_digit(i - 1) || !is_digit(i + 1))
      return text;
  }
  return digits;
}

}  // namespace

std::string trimmed(std::string_view text) {
  const auto first = text.find_first_not_of(" \t\r");
  if (first == std::string_view::npos) return "";
  return std::string(text.substr(first, text.find_last_not_of(" \t\r") - first + 1));
}

std::string number_text(double value) {
  char buffer[32];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value).ptr;
  return std::string(buffer, end);
}

int64_t parse_integer(std::string_view text, const std::string& where) {
  std::string digits = trimmed(text);
  int64_t scale = 1;
  if (!digits.empty()) {
    switch (digits.back()) {
      case 'k': scale = 1'000; break;
      case 'M': scale = 1'000'000; break;
      case 'G': scale = 1'000'000'000; break;
      default: break;
    }
    if (scale > 1) digits.pop_back();
  }
  digits = without_grouping(digits);
  int64_t value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  DM_REQUIRE(error != std::errc::result_out_of_range, ExitCode::usage, "{}: {} does not fit 64 bits", where,
             text);
  DM_REQUIRE(error == std::errc() && end == digits.data() + digits.size() && !digits.empty(), ExitCode::usage,
             "{}: '{}' is not a whole number", where, text);
  int64_t scaled = 0;
  DM_REQUIRE(!__builtin_mul_overflow(value, scale, &scaled), ExitCode::usage, "{}: {} does not fit 64 bits",
             where, text);
  return scaled;
}

double parse_number(std::string_view text, const std::string& where) {
  const std::string digits = trimmed(text);
  double value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  DM_REQUIRE(error == std::errc() && end == digits.data() + digits.size() && std::isfinite(value),
             ExitCode::usage, "{}: '{}' is not a finite number", where, text);
  return value;
}

bool parse_flag(std::string_view text, const std::string& where) {
  const std::string word = trimmed(text);
  for (const char* yes : {"true", "yes", "on", "1"})
    if (word == yes) return true;
  for (const char* no : {"false", "no", "off", "0"})
    if (word == no) return false;
  DM_FAIL(ExitCode::usage, "{}: '{}' is neither true nor false", where, text);
}

}  // namespace dm
