#include "core/json.h"

#include <set>
#include <vector>

#include "core/error.h"

namespace dm {
namespace {
constexpr int kMaxDepth = 64;
constexpr size_t kMaxReason = 200;

[[noreturn]] void wrong_type(const std::string& where, const char* key, const char* expected) {
  DM_FAIL(ExitCode::bad_data, "{}: '{}' is not {}", where, key, expected);
}

const Json& member(const Json& object, const char* key, const std::string& where) {
  DM_REQUIRE(object.is_object() && object.contains(key), ExitCode::bad_data, "{}: '{}' is missing", where,
             key);
  return object[key];
}
}  // namespace

Json parse_json(std::string_view text, const std::string& where) {
  // The library takes a zero byte for the end of the text, whatever follows it.
  const size_t zero = text.find('\0');
  DM_REQUIRE(zero == std::string_view::npos, ExitCode::bad_data, "{}: not valid JSON: byte {} is zero", where,
             zero);
  std::vector<std::set<std::string>> keys;  // of the objects that are open
  const auto check = [&](int depth, Json::parse_event_t event, Json& parsed) {
    if (event == Json::parse_event_t::object_start || event == Json::parse_event_t::array_start)
      DM_REQUIRE(depth < kMaxDepth, ExitCode::bad_data, "{}: nested deeper than {}", where, kMaxDepth);
    if (event == Json::parse_event_t::object_start) keys.emplace_back();
    if (event == Json::parse_event_t::object_end) keys.pop_back();
    if (event == Json::parse_event_t::key) {
      const auto& key = parsed.get_ref<const std::string&>();
      DM_REQUIRE(keys.back().insert(key).second, ExitCode::bad_data, "{}: key '{}' stands twice", where, key);
    }
    return true;
  };
  try {
    return Json::parse(text, check);
  } catch (const Json::exception& error) {
    // The library's text quotes what it read last, however long that is.
    const std::string reason = error.what();
    DM_FAIL(ExitCode::bad_data, "{}: not valid JSON: {}{}", where, reason.substr(0, kMaxReason),
            reason.size() > kMaxReason ? " ..." : "");
  }
}

template <>
std::string required<std::string>(const Json& object, const char* key, const std::string& where) {
  const Json& value = member(object, key, where);
  if (!value.is_string()) wrong_type(where, key, "text");
  return value.get<std::string>();
}
template <>
int64_t required<int64_t>(const Json& object, const char* key, const std::string& where) {
  const Json& value = member(object, key, where);
  const bool fits = value.is_number_integer() && (!value.is_number_unsigned() ||
                                                  value.get<uint64_t>() <= static_cast<uint64_t>(INT64_MAX));
  if (!fits) wrong_type(where, key, "a whole number of 64 bits");
  return value.get<int64_t>();
}
template <>
double required<double>(const Json& object, const char* key, const std::string& where) {
  const Json& value = member(object, key, where);
  if (!value.is_number()) wrong_type(where, key, "a number");
  return value.get<double>();
}
template <>
bool required<bool>(const Json& object, const char* key, const std::string& where) {
  const Json& value = member(object, key, where);
  if (!value.is_boolean()) wrong_type(where, key, "true or false");
  return value.get<bool>();
}
template <>
Json required<Json>(const Json& object, const char* key, const std::string& where) {
  return member(object, key, where);
}

}  // namespace dm
