#include "core/fields.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>

#include "core/error.h"

namespace dm {
namespace {

std::string trimmed(std::string_view text) {
  const auto first = text.find_first_not_of(" \t\r");
  if (first == std::string_view::npos) return "";
  return std::string(text.substr(first, text.find_last_not_of(" \t\r") - first + 1));
}

std::string joined(const std::vector<std::string>& parts, const char* separator) {
  std::string text;
  for (const std::string& part : parts) text += (text.empty() ? "" : separator) + part;
  return text;
}

std::vector<std::string> split_list(std::string_view text) {
  std::vector<std::string> parts;
  while (!text.empty()) {
    const auto comma = text.find(',');
    parts.push_back(trimmed(text.substr(0, comma)));
    text = comma == std::string_view::npos ? std::string_view() : text.substr(comma + 1);
  }
  return parts;
}

/// Shortest text that reads back as the same double.
std::string number_text(double value) {
  char buffer[32];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value).ptr;
  return std::string(buffer, end);
}

std::string canonical(std::string_view name) {
  std::string result(name.substr(0, 2) == "--" ? name.substr(2) : name);
  std::replace(result.begin(), result.end(), '-', '_');
  return result;
}

/// Optimal string alignment distance: insertions, deletions, substitutions, swaps of neighbours.
size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::vector<size_t>> d(a.size() + 1, std::vector<size_t>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i) d[i][0] = i;
  for (size_t j = 0; j <= b.size(); ++j) d[0][j] = j;
  for (size_t i = 1; i <= a.size(); ++i)
    for (size_t j = 1; j <= b.size(); ++j) {
      d[i][j] = std::min({d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + (a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) d[i][j] = std::min(d[i][j], d[i - 2][j - 2] + 1);
    }
  return d[a.size()][b.size()];
}

void check_range(const Field& field, double value, ExitCode code, const std::string& where) {
  DM_REQUIRE(value >= field.range.min && value <= field.range.max, code, "{}: {} is outside {} .. {}", where,
             number_text(value), number_text(field.range.min), number_text(field.range.max));
}

void check_choice(const Field& field, const std::string& value, ExitCode code, const std::string& where) {
  if (field.choices.empty()) return;
  DM_REQUIRE(std::find(field.choices.begin(), field.choices.end(), value) != field.choices.end(), code,
             "{}: '{}' is not one of {}", where, value, joined(field.choices, ", "));
}

}  // namespace

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
  const bool grouped = digits.find('_') != std::string::npos;
  if (grouped && digits.front() != '_' && digits.back() != '_') digits.erase(std::remove(digits.begin(), digits.end(), '_'), digits.end());
  int64_t value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  DM_REQUIRE(error != std::errc::result_out_of_range, ExitCode::usage, "{}: {} does not fit 64 bits", where, text);
  DM_REQUIRE(error == std::errc() && end == digits.data() + digits.size() && !digits.empty(), ExitCode::usage,
             "{}: '{}' is not a whole number", where, text);
  int64_t scaled = 0;
  DM_REQUIRE(!__builtin_mul_overflow(value, scale, &scaled), ExitCode::usage, "{}: {} does not fit 64 bits", where, text);
  return scaled;
}

double parse_number(std::string_view text, const std::string& where) {
  const std::string digits = trimmed(text);
  double value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  DM_REQUIRE(error == std::errc() && end == digits.data() + digits.size() && std::isfinite(value), ExitCode::usage,
             "{}: '{}' is not a finite number", where, text);
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

std::string Field::option() const {
  std::string text = "--" + name;
  std::replace(text.begin(), text.end(), '_', '-');
  return text;
}

namespace detail {
namespace {
template <class T>
Field base(std::string section, const char* name, T& value, const char* help, const char* type) {
  (void)value;
  Field field;
  field.section = std::move(section);
  field.name = name;
  field.help = help;
  field.type = type;
  return field;
}
}  // namespace

Field make_field(std::string section, const char* name, bool& value, const char* help) {
  Field f = base(std::move(section), name, value, help, "flag");
  f.parse = [&value, where = f.option()](std::string_view text) { value = parse_flag(text, where); };
  f.text = [&value] { return value ? "true" : "false"; };
  f.json = [&value] { return nlohmann::json(value); };
  f.from_json = [&value, where = f.name](const nlohmann::json& j) {
    DM_REQUIRE(j.is_boolean(), ExitCode::bad_data, "{}: expected true or false", where);
    value = j.get<bool>();
  };
  return f;
}

Field make_field(std::string section, const char* name, int64_t& value, const char* help) {
  Field f = base(std::move(section), name, value, help, "integer");
  f.parse = [&value, where = f.option()](std::string_view text) { value = parse_integer(text, where); };
  f.text = [&value] { return std::to_string(value); };
  f.json = [&value] { return nlohmann::json(value); };
  f.from_json = [&value, where = f.name](const nlohmann::json& j) {
    DM_REQUIRE(j.is_number_integer(), ExitCode::bad_data, "{}: expected a whole number", where);
    DM_REQUIRE(!j.is_number_unsigned() || j.get<uint64_t>() <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max()),
               ExitCode::bad_data, "{}: does not fit 64 bits", where);
    value = j.get<int64_t>();
  };
  return f;
}

Field make_field(std::string section, const char* name, double& value, const char* help) {
  Field f = base(std::move(section), name, value, help, "number");
  f.parse = [&value, where = f.option()](std::string_view text) { value = parse_number(text, where); };
  f.text = [&value] { return number_text(value); };
  f.json = [&value] { return nlohmann::json(value); };
  f.from_json = [&value, where = f.name](const nlohmann::json& j) {
    DM_REQUIRE(j.is_number(), ExitCode::bad_data, "{}: expected a number", where);
    value = j.get<double>();
  };
  return f;
}

Field make_field(std::string section, const char* name, std::string& value, const char* help) {
  Field f = base(std::move(section), name, value, help, "text");
  f.parse = [&value](std::string_view text) { value = std::string(text); };
  f.text = [&value] { return value; };
  f.json = [&value] { return nlohmann::json(value); };
  f.from_json = [&value, where = f.name](const nlohmann::json& j) {
    DM_REQUIRE(j.is_string(), ExitCode::bad_data, "{}: expected text", where);
    value = j.get<std::string>();
  };
  return f;
}

Field make_field(std::string section, const char* name, std::vector<std::string>& value, const char* help) {
  Field f = base(std::move(section), name, value, help, "list");
  f.parse = [&value](std::string_view text) { value = split_list(text); };
  f.text = [&value] { return joined(value, ","); };
  f.json = [&value] { return nlohmann::json(value); };
  f.from_json = [&value, where = f.name](const nlohmann::json& j) {
    DM_REQUIRE(j.is_array(), ExitCode::bad_data, "{}: expected a list of texts", where);
    for (const auto& item : j) DM_REQUIRE(item.is_string(), ExitCode::bad_data, "{}: expected a list of texts", where);
    value = j.get<std::vector<std::string>>();
  };
  return f;
}
}  // namespace detail

void FieldTable::add_field(Field field) {
  DM_CHECK(find(field.name) == nullptr, "option {} is defined twice", field.name);
  field.default_text = field.text();

  // Every way in ends with the same checks, and a refused value leaves the field as it was.
  const auto guarded = [](const Field& f, ExitCode code, const std::function<void(const Field&)>& assign) {
    const std::string before = f.text();
    assign(f);
    try {
      if (f.type == "integer" || f.type == "number") check_range(f, f.json().get<double>(), code, f.option());
      if (f.type == "text") check_choice(f, f.text(), code, f.option());
    } catch (...) {
      f.parse(before);
      throw;
    }
  };
  const Field plain = field;
  field.parse = [plain, guarded](std::string_view text) {
    guarded(plain, ExitCode::usage, [&](const Field& f) { f.parse(text); });
  };
  field.from_json = [plain, guarded](const nlohmann::json& json) {
    guarded(plain, ExitCode::bad_data, [&](const Field& f) { f.from_json(json); });
  };
  fields_.push_back(std::move(field));
}

const Field* FieldTable::find(std::string_view name) const {
  const std::string wanted = canonical(name);
  for (const Field& field : fields_)
    if (wanted == field.name || wanted == field.section + "." + field.name) return &field;
  return nullptr;
}

std::string FieldTable::nearest(std::string_view name) const {
  const std::string wanted = canonical(name);
  const Field* best = nullptr;
  size_t best_distance = 4;
  for (const Field& field : fields_) {
    const size_t d = distance(wanted, field.name);
    if (d < best_distance && d < field.name.size()) best = &field, best_distance = d;
  }
  return best ? best->name : "";
}

void FieldTable::set(std::string_view name, std::string_view value, const std::string& where) const {
  const Field* field = find(name);
  if (field == nullptr) {
    const std::string hint = nearest(name);
    DM_FAIL(ExitCode::usage, "{}: unknown option '{}'{}", where, name,
            hint.empty() ? "; --help lists them all" : fmt::format("; did you mean '{}'?", hint));
  }
  try {
    field->parse(value);
  } catch (const Error& error) {
    if (where == field->option()) throw;
    throw Error(error.code(), fmt::format("{}: {}", where, error.what()), error.file(), error.line());
  }
}

nlohmann::json FieldTable::to_json() const {
  nlohmann::json json = nlohmann::json::object();
  for (const Field& field : fields_) json[field.section][field.name] = field.json();
  return json;
}

void FieldTable::read_json(const nlohmann::json& json, const std::string& where) const {
  DM_REQUIRE(json.is_object(), ExitCode::bad_data, "{}: expected an object of sections", where);
  for (const auto& [section, entries] : json.items()) {
    DM_REQUIRE(entries.is_object(), ExitCode::bad_data, "{}: section '{}' is not an object", where, section);
    for (const auto& [name, value] : entries.items()) {
      const Field* field = find(section + "." + name);
      DM_REQUIRE(field != nullptr, ExitCode::bad_data, "{}: unknown field '{}.{}'; it was written by another version", where,
                 section, name);
      try {
        field->from_json(value);
      } catch (const Error& error) {
        throw Error(ExitCode::bad_data, fmt::format("{}: {}", where, error.what()), error.file(), error.line());
      }
    }
  }
  for (const Field& field : fields_)
    DM_REQUIRE(json.contains(field.section) && json[field.section].contains(field.name), ExitCode::bad_data,
               "{}: field '{}.{}' is missing", where, field.section, field.name);
}

std::string FieldTable::to_ini() const {
  std::string text, section;
  for (const Field& field : fields_) {
    if (field.section != section) {
      section = field.section;
      text += (text.empty() ? "[" : "\n[") + section + "]\n";
    }
    text += "# " + field.help;
    if (!field.choices.empty()) text += " (" + joined(field.choices, ", ") + ")";
    text += "\n" + field.name + " = " + field.text() + "\n";
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
      const bool known = std::any_of(table.fields().begin(), table.fields().end(), [&](const Field& f) { return f.section == section; });
      DM_REQUIRE(known, ExitCode::usage, "{}: unknown section [{}]", where, section);
      continue;
    }
    const size_t equals = line.find('=');
    DM_REQUIRE(equals != std::string::npos, ExitCode::usage, "{}: expected NAME = VALUE, found '{}'", where, line);
    const std::string name = trimmed(std::string_view(line).substr(0, equals));
    const Field* field = table.find(name);
    DM_REQUIRE(field == nullptr || field->section == section, ExitCode::usage, "{}: '{}' belongs into section [{}]", where, name,
               field->section);
    DM_REQUIRE(field == nullptr || seen.insert(field->name).second, ExitCode::usage, "{}: '{}' is set twice", where, name);
    table.set(name, trimmed(std::string_view(line).substr(equals + 1)), where);
    names.push_back(field->name);
  }
  return names;
}

}  // namespace dm
