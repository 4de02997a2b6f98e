#include "data/prepare_record.h"

#include <filesystem>

#include "core/error.h"
#include "core/files.h"

namespace dm::data {
namespace {

constexpr const char* kRecordFile = "/prepare.json";
constexpr int64_t kMaxRecordBytes = 16 << 20;
constexpr const char* kRemedy = "remove it, or name another --output";

Json to_json(const PrepareResult::Side& side) {
  return {{"documents", side.documents}, {"tokens", side.tokens}, {"shards", side.shards}};
}

PrepareResult::Side side_from(const Json& json, const std::string& where) {
  return {required<int64_t>(json, "documents", where), required<int64_t>(json, "tokens", where),
          required<int64_t>(json, "shards", where)};
}

/// "tokenizer: bytes, now x.json; heldout: 0, now 0.1"
std::string differences(const Json& before, const Json& now) {
  std::string text;
  for (const auto& [key, value] : now.items()) {
    const Json old = before.contains(key) ? before[key] : Json();
    if (old != value)
      text += fmt::format("{}{}: {}, now {}", text.empty() ? "" : "; ", key, old.dump(), value.dump());
  }
  return text;
}

}  // namespace

Json prepare_request(const PrepareConfig& config, const Tokenizer& tokenizer,
                     const std::vector<InputFile>& files) {
  PrepareConfig copy = config;
  FieldTable table;
  table.add("prepare", copy);
  Json request;
  for (const Field& field : table.fields())
    if (field.affects == Affects::result) request[field.name] = field.json();
  request["tokenizer_xxh128"] = hex(tokenizer.hash());
  request["eos_id"] = tokenizer.eos_id();
  request["input_files"] = files.size();
  request["input_bytes"] = total_bytes(files);
  request["input_list_xxh128"] = hex(list_hash(files));
  return request;
}

std::string prepare_record(const Json& request, const PrepareResult& result) {
  const Json record = {{"request", request},
                       {"result",
                        {{"train", to_json(result.train)},
                         {"heldout", to_json(result.heldout)},
                         {"files", result.files},
                         {"text_bytes", result.text_bytes},
                         {"empty_documents", result.empty_documents},
                         {"invalid_utf8_bytes", result.invalid_utf8_bytes}}}};
  return record.dump(2) + "\n";
}

bool find_prepared(const std::string& output, const Json& request, PrepareResult& result) {
  namespace fs = std::filesystem;
  std::error_code error;
  if (!fs::exists(fs::symlink_status(output, error))) return false;
  const bool folder = fs::is_directory(output, error);
  if (folder && fs::is_empty(output, error)) return false;
  const std::string path = output + kRecordFile;
  DM_REQUIRE(folder && fs::exists(path, error), ExitCode::usage,
             "--output {}: exists, and was not made by `diffmamba prepare`; {}", output, kRemedy);
  const Json record = parse_json(read_file(path, kMaxRecordBytes), path);
  const Json before = required<Json>(record, "request", path);
  const std::string changed = differences(before, request);
  DM_REQUIRE(changed.empty(), ExitCode::usage, "--output {}: exists, prepared from something else ({}); {}",
             output, changed, kRemedy);
  DM_REQUIRE(
      request["input_bytes"] != -1, ExitCode::usage,
      "--output {}: exists, and what comes through a pipe cannot be compared with what it was made from; {}",
      output, kRemedy);

  const Json stored = required<Json>(record, "result", path);
  result.train = side_from(required<Json>(stored, "train", path), path);
  result.heldout = side_from(required<Json>(stored, "heldout", path), path);
  result.files = required<int64_t>(stored, "files", path);
  result.text_bytes = required<int64_t>(stored, "text_bytes", path);
  result.empty_documents = required<int64_t>(stored, "empty_documents", path);
  result.invalid_utf8_bytes = required<int64_t>(stored, "invalid_utf8_bytes", path);
  result.reused = true;
  return true;
}

}  // namespace dm::data
