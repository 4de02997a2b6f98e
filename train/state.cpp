#include "train/state.h"

#include <filesystem>

#include "core/error.h"
#include "core/files.h"

namespace dm::train {
namespace {
constexpr const char* kKind = "diffmamba training run";
constexpr int64_t kLargestTokenizerBytes = 256 << 20;

}  // namespace

Json Meta::to_json() const {
  return {{"kind", kKind},
          {"step", progress.step},
          {"samples", progress.samples},
          {"tokens", progress.tokens},
          {"seconds", progress.seconds},
          {"updates", updates},
          {"guard", guard},
          {"config", config},
          {"data_fingerprint", hex(data.fingerprint)},
          {"tokenizer", data.tokenizer},
          {"tokenizer_xxh128", hex(data.tokenizer_hash)},
          {"eos_id", data.eos_id},
          {"program", program},
          {"world", world}};
}

Meta Meta::from_json(const Json& json, const std::string& where) {
  const auto kind = required<std::string>(json, "kind", where);
  DM_REQUIRE(kind == kKind, ExitCode::bad_data, "{}: holds '{}', not a {}", where, kind, kKind);
  Meta meta;
  meta.progress = {required<int64_t>(json, "step", where), required<int64_t>(json, "samples", where),
                   required<int64_t>(json, "tokens", where), required<double>(json, "seconds", where)};
  meta.updates = required<int64_t>(json, "updates", where);
  meta.guard = required<Json>(json, "guard", where);
  meta.config = required<Json>(json, "config", where);
  meta.data = {
      parse_hash128(required<std::string>(json, "data_fingerprint", where), where + ": data_fingerprint"),
      required<std::string>(json, "tokenizer", where),
      parse_hash128(required<std::string>(json, "tokenizer_xxh128", where), where + ": tokenizer_xxh128"),
      json.contains("eos_id") ? required<int64_t>(json, "eos_id", where)
                              : -1};  // absent before tokenizer files
  meta.program = required<std::string>(json, "program", where);
  meta.world = required<int64_t>(json, "world", where);
  const bool sane = meta.progress.step >= 0 && meta.progress.samples >= 0 && meta.progress.tokens >= 0 &&
                    meta.progress.seconds >= 0 && meta.updates >= 0 && meta.updates <= meta.progress.step;
  DM_REQUIRE(sane, ExitCode::bad_data, "{}: step, samples, tokens, seconds and updates contradict each other",
             where);
  return meta;
}

bool Meta::streams() const { return config.value(Json::json_pointer("/data/order"), "") == "streams"; }

std::string find_tokenizer(const DataIdentity& data, const std::string& checkpoint) {
  namespace fs = std::filesystem;
  if (data.tokenizer == "bytes") return data.tokenizer;
  const fs::path copy = fs::absolute(checkpoint).lexically_normal().parent_path().parent_path() /
                        fs::path(data.tokenizer).filename();
  std::error_code absent;
  return fs::exists(copy, absent) ? copy.string() : data.tokenizer;
}

void keep_tokenizer(const DataIdentity& data, const std::string& run_dir) {
  if (data.tokenizer_hash == Hash128{} || data.tokenizer == "bytes")
    return;  // a user's own file of ids has none
  const std::string copy = run_dir + "/" + std::filesystem::path(data.tokenizer).filename().string();
  const std::string file = read_file(data.tokenizer, kLargestTokenizerBytes);
  DM_REQUIRE(xxh3_128(file.data(), file.size()) == data.tokenizer_hash, ExitCode::bad_data,
             "{}: not the tokenizer that the dataset was made with; restore that file", data.tokenizer);
  std::error_code absent;
  if (std::filesystem::exists(copy, absent) && read_file(copy, kLargestTokenizerBytes) == file) return;
  write_file_atomically(copy, file);
}

std::string program_version() { return "diffmamba " DM_VERSION ", compiler " __VERSION__; }

}  // namespace dm::train
