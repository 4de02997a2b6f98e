#pragma once
// One definition for every option. A config struct lists its fields once:
//
//   struct OptimizerConfig {
//     double lr = 1e-3;
//     template <class Self, class Visitor>
//     static void fields(Self& self, Visitor&& v) {
//       v("lr", self.lr, "peak learning rate", Range{0.0, 10.0});
//     }
//   };
//
// From that come parsing, --help, INI files, the JSON in a manifest and the tests that walk the table.
// Field types: bool, int64_t, double, std::string, std::vector<std::string> (comma-separated).

#include <cstdint>
#include <functional>
#include <limits>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "core/numbers.h"

namespace dm {

/// What a field changes: the numbers of a run (a resume must not change it), only how fast it runs, or where
/// it writes.
enum class Affects { result, speed, output };

struct Range {
  double min = -std::numeric_limits<double>::infinity();
  double max = std::numeric_limits<double>::infinity();
};

struct Choices {
  std::vector<std::string> values;
};

/// One option, type-erased. Holds references to its config struct, which must outlive it.
struct Field {
  std::string section;       // "model": the INI section
  std::string name;          // "d_model"; on the command line --d-model
  std::string help;          // one line, unit included
  std::string type;          // "flag", "integer", "number", "text", "list"
  std::string default_text;  // as `parse` reads it
  Affects affects = Affects::result;
  Range range;
  std::vector<std::string> choices;

  /// These set the value or, when they refuse, throw (ExitCode::usage, ExitCode::bad_data) naming the option,
  /// the value and what is legal, and leave it as it was.
  std::function<void(std::string_view)> parse;
  std::function<void(const nlohmann::json&)> from_json;
  /// The current value: as `parse` reads it, and for the manifest.
  std::function<std::string()> text;
  std::function<nlohmann::json()> json;

  std::string option() const;  // "--d-model"
};

/// The fields of several config structs, in the order added. Names are unique over all sections.
class FieldTable {
 public:
  template <class Config>
  void add(const std::string& section, Config& config);

  const std::vector<Field>& fields() const { return fields_; }
  /// nullptr when absent. Accepts d_model, d-model and model.d_model.
  const Field* find(std::string_view name) const;
  /// The known name nearest to a misspelt one (Damerau-Levenshtein distance <= 3), or "".
  std::string nearest(std::string_view name) const;
  /// Sets one field; throws ExitCode::usage, with the nearest name when it is unknown. `where` is "--lr" or
  /// "x.ini:12".
  void set(std::string_view name, std::string_view value, const std::string& where) const;

  /// {"model": {"d_model": 1024, ...}, ...}: resolved values.
  nlohmann::json to_json() const;
  /// Every field must be present and none unknown; throws ExitCode::bad_data naming `where`.
  void read_json(const nlohmann::json& json, const std::string& where) const;
  /// The resolved INI text, with help and legal values as comments.
  std::string to_ini() const;

 private:
  void add_field(Field field);
  std::vector<Field> fields_;
};

/// Reads INI text into the table: `[section]`, `name = value`, `#` and `;` comment lines. A value that begins
/// with a quote ends with one and may hold \n, \r, \t, \" and \\. Each key at most once; a key must stand in
/// its own section. Throws ExitCode::usage with FILE:LINE. Returns the names set.
std::vector<std::string> read_ini(const FieldTable& table, const std::string& text, const std::string& path);

namespace detail {
Field make_field(std::string section, const char* name, bool& value, const char* help);
Field make_field(std::string section, const char* name, int64_t& value, const char* help);
Field make_field(std::string section, const char* name, double& value, const char* help);
Field make_field(std::string section, const char* name, std::string& value, const char* help);
Field make_field(std::string section, const char* name, std::vector<std::string>& value, const char* help);

inline void constrain(Field& field, Range range) { field.range = range; }
inline void constrain(Field& field, Choices choices) { field.choices = std::move(choices.values); }
inline void constrain(Field& field, Affects affects) { field.affects = affects; }
}  // namespace detail

template <class Config>
void FieldTable::add(const std::string& section, Config& config) {
  Config::fields(config, [&](const char* name, auto& value, const char* help, auto... constraints) {
    Field field = detail::make_field(section, name, value, help);
    (detail::constrain(field, constraints), ...);
    add_field(std::move(field));
  });
}

}  // namespace dm
