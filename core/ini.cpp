// INI text of a FieldTable, written and read.

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "core/error.h"
#include "core/fields.h"

namespace dm {
namespace {
constexpr std::string_view kEscaped = "\\\"\n\r\t", kEscapes = "\\\"nrt";

/// A value as it stands in an INI file: in quotes, with escapes, when it would not read back the same
/// without.
std::string quoted(const std::string& value) {
  const bool plain =
      value == trimmed(value) && value.find_first_of("\n\r") == std::string::npos && value[0] != '"';
  if (value.empty() || plain) return value;
  std::string text = "\"";
  for (const char c : value) {
    const size_t escape = kEscaped.find(c);
    if (escape != std::string_view::npos) text += '\\';
    text += escape == std::string_view::npos ? c : kEscapes[escape];
  }
  return text + '"';
}

std::string unquoted(const std::string& text, const std::string& where) {
  if (text.empty() || text[0] != '"') return text;
  std::string value;
  for (size_t i = 1; i < text.size(); ++i) {
    if (text[i] == '"') {
      DM_REQUIRE(i + 1 == text.size(), ExitCode::usage, "{}: text follows the closing quote of {}", where,
                 text);
      return value;
    }
    if (text[i] != '\\') {
      value += text[i];
      continue;
    }
    const size_t escape = ++i < text.size() ? kEscapes.find(text[i]) : std::string_view::npos;
    DM_REQUIRE(escape != std::string_view::npos, ExitCode::usage,
               "{}: in quotes a backslash begins \\\\, \\\", \\n, \\r or \\t: {}", where, text);
    value += kEscaped[escape];
  }
  DM_FAIL(ExitCode::usage, "{}: {} lacks its closing quote", where, text);
}
}  // namespace

std::string FieldTable::to_ini() const {
  std::string text, section;
  for (const Field& field : fields_) {
    if (field.section != section) {
      section = field.section;
      text += (text.empty() ? "[" : "\n[") + section + "]\n";
    }
    text += "# " + field.help;
    if (!field.choices.empty()) text += fmt::format(" ({})", fmt::join(field.choices, ", "));
    text += "\n" + field.name + " = " + quoted(field.text()) + "\n";
  }
  return text;
}

std::vector<std::string> read_ini(const FieldTable& table, const std::string& text, const std::string& path) {
  std::vector<std::string> names;
  std::set<std::string> seen;
  std::string section;
  size_t line_number = 0, at = 0;
  while (at < text.size()) {
    const size_t end = std::min(text.find('\n', at), text.size());
    const std::string line = trimmed(std::string_view(text).substr(at, end - at));
    at = end + 1;
    const std::string where = fmt::format("{}:{}", path, ++line_number);
    if (line.empty() || line[0] == '#' || line[0] == ';') continue;
    if (line[0] == '[') {
      DM_REQUIRE(line.back() == ']', ExitCode::usage, "{}: '{}' lacks its closing bracket", where, line);
      section = trimmed(std::string_view(line).substr(1, line.size() - 2));
      const bool known = std::any_of(table.fields().begin(), table.fields().end(),
                                     [&](const Field& f) { return f.section == section; });
      DM_REQUIRE(known, ExitCode::usage, "{}: unknown section [{}]", where, section);
      continue;
    }
    const size_t equals = line.find('=');
    DM_REQUIRE(equals != std::string::npos, ExitCode::usage, "{}: expected NAME = VALUE, found '{}'", where,
               line);
    const std::string name = trimmed(std::string_view(line).substr(0, equals));
    const Field* field = table.find(name);
    DM_REQUIRE(field == nullptr || field->section == section, ExitCode::usage,
               "{}: '{}' belongs into section [{}]", where, name, field->section);
    DM_REQUIRE(field == nullptr || seen.insert(field->name).second, ExitCode::usage, "{}: '{}' is set twice",
               where, name);
    table.set(name, unquoted(trimmed(std::string_view(line).substr(equals + 1)), where), where);
    names.push_back(field->name);
  }
  return names;
}

}  // namespace dm
