#pragma once
// Strict JSON through nlohmann/json for files that may be damaged or hostile: duplicate keys, nesting beyond
// 64, numbers that do not fit a double, invalid UTF-8 and trailing bytes are refused (ExitCode::bad_data)
// with the file and the place.

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace dm {

using Json = nlohmann::json;                 // keys sorted
using OrderedJson = nlohmann::ordered_json;  // keys in the order written

/// `where` names the file in messages.
Json parse_json(std::string_view text, const std::string& where);

/// A member that must exist and have the asked type; throws ExitCode::bad_data with `where` and the key.
template <class T>
T required(const Json& object, const char* key, const std::string& where);
template <>
std::string required<std::string>(const Json& object, const char* key, const std::string& where);
template <>
int64_t required<int64_t>(const Json& object, const char* key, const std::string& where);
template <>
double required<double>(const Json& object, const char* key, const std::string& where);
template <>
bool required<bool>(const Json& object, const char* key, const std::string& where);
template <>
Json required<Json>(const Json& object, const char* key, const std::string& where);

}  // namespace dm
