#include "core/fields.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/error.h"

namespace dm {
namespace {

std::vector<std::string> split_list(std::string_view text, const std::string& where) {
  std::vector<std::string> parts;
  if (trimmed(text).empty()) return parts;
  while (true) {
    const size_t comma = text.find(',');
    parts.push_back(trimmed(text.substr(0, comma)));
    DM_REQUIRE(!parts.back().empty(), ExitCode::usage, "{}: an item of the list is empty", where);
    if (comma == std::string_view::npos) return parts;
    text = text.substr(comma + 1);
  }
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
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        d[i][j] = std::min(d[i][j], d[i - 2][j - 2] + 1);
    }
  return d[a.size()][b.size()];
}

std::string legal_range(const Range& range) {
  if (range.max == Range{}.max) return "below " + number_text(range.min);
  if (range.min == Range{}.min) return "above " + number_text(range.max);
  return "outside " + number_text(range.min) + " .. " + number_text(range.max);
}

void check_range(const Field& field, double value, ExitCode code) {
  DM_REQUIRE(value >= field.range.min && value <= field.range.max, code, "{}: {} is {}", field.option(),
             field.text(), legal_range(field.range));
}

void check_choices(const Field& field, const std::vector<std::string>& values, ExitCode code) {
  if (field.choices.empty()) return;
  for (const std::string& value : values)
    DM_REQUIRE(std::find(field.choices.begin(), field.choices.end(), value) != field.choices.end(), code,
               "{}: '{}' is not one of {}", field.option(), value, fmt::join(field.choices, ", "));
}

void check(const Field& field, ExitCode code) {
  const nlohmann::json value = field.json();
  if (value.is_number()) check_range(field, value.get<double>(), code);
  if (value.is_string()) check_choices(field, {value.get<std::string>()}, code);
  if (value.is_array()) check_choices(field, value.get<std::vector<std::string>>(), code);
}

}  // namespace

std::string Field::option() const {
  std::string text = "--" + name;
  std::replace(text.begin(), text.end(), '_', '-');
  return text;
}

namespace detail {
namespace {
Field base(std::string section, const char* name, const char* help, const char* type) {
  Field field;
  field.section = std::move(section);
  field.name = name;
  field.help = help;
  field.type = type;
  return field;
}
}  // namespace

Field make_field(std::string section, const char* name, bool& value, const char* help) {
  Field f = base(std::move(section), name, help, "flag");
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
  Field f = base(std::move(section), name, help, "integer");
  f.parse = [&value, where = f.option()](std::string_view text) { value = parse_integer(text, where); };
  f.text = [&value] { return std::to_string(value); };
  f.json = [&value] { return nlohmann::json(value); };
  f.from_json = [&value, where = f.name](const nlohmann::json& j) {
    DM_REQUIRE(j.is_number_integer(), ExitCode::bad_data, "{}: expected a whole number", where);
    DM_REQUIRE(!j.is_number_unsigned() ||
                   j.get<uint64_t>() <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max()),
               ExitCode::bad_data, "{}: does not fit 64 bits", where);
    value = j.get<int64_t>();
  };
  return f;
}

Field make_field(std::string section, const char* name, double& value, const char* help) {
  Field f = base(std::move(section), name, help, "number");
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
  Field f = base(std::move(section), name, help, "text");
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
  Field f = base(std::move(section), name, help, "list");
  f.parse = [&value, where = f.option()](std::string_view text) { value = split_list(text, where); };
  f.text = [&value] { return fmt::format("{}", fmt::join(value, ",")); };
  f.json = [&value] { return nlohmann::json(value); };
  f.from_json = [&value, where = f.name](const nlohmann::json& j) {
    DM_REQUIRE(j.is_array(), ExitCode::bad_data, "{}: expected a list of texts", where);
    for (const auto& item : j)
      DM_REQUIRE(item.is_string(), ExitCode::bad_data, "{}: expected a list of texts", where);
    value = j.get<std::vector<std::string>>();
  };
  return f;
}
}  // namespace detail

void FieldTable::add_field(Field field) {
  DM_CHECK(find(field.name) == nullptr, "option {} is defined twice", field.name);
  check(field, ExitCode::internal);  // a default that the user could not have given
  field.default_text = field.text();

  // Every way in ends with the same checks, and a refused value leaves the field as it was.
  const auto guarded = [](const Field& f, ExitCode code, const std::function<void(const Field&)>& assign) {
    const nlohmann::json before = f.json();  // exact for every type, as text is not for a list with commas
    assign(f);
    try {
      check(f, code);
    } catch (...) {
      f.from_json(before);
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
    if (wanted.size() >= field.name.size() + best_distance)
      continue;  // they differ by more; a name may be as long as its file
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
      DM_REQUIRE(field != nullptr, ExitCode::bad_data,
                 "{}: unknown field '{}.{}'; it was written by another version", where, section, name);
      try {
        field->from_json(value);
      } catch (const Error& error) {
        throw Error(ExitCode::bad_data, fmt::format("{}: {}", where, error.what()), error.file(),
                    error.line());
      }
    }
  }
  for (const Field& field : fields_)
    DM_REQUIRE(json.contains(field.section) && json[field.section].contains(field.name), ExitCode::bad_data,
               "{}: field '{}.{}' is missing", where, field.section, field.name);
}

}  // namespace dm
