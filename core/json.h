#pragma once
// Strict JSON through nlohmann/json for files that may be damaged or hostile: duplicate keys, nesting beyond 64, numbers
// that do not fit a double and trailing bytes are refused (ExitCode::bad_data) with the file and the byte offset.

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace dm {

using Json = nlohmann::json;                // keys sorted
using OrderedJson = nlohmann::ordered_json;  // keys in the order written

/// `where` names the file in messages.
Json parse_json(std::string_view text, const std::string& where);

/// A member that must exist and have the asked type; throws ExitCode::bad_data with `where` and the key.
template <class T>
T required(const Json& object, const char* key, const std::string& where);

}  // namespace dm
