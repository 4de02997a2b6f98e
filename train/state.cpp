#include "train/state.h"

#include "core/error.h"

namespace dm::train {
namespace {
constexpr const char* kKind = "diffmamba training run";

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
      parse_hash128(required<std::string>(json, "tokenizer_xxh128", where), where + ": tokenizer_xxh128")};
  meta.program = required<std::string>(json, "program", where);
  meta.world = required<int64_t>(json, "world", where);
  const bool sane = meta.progress.step >= 0 && meta.progress.samples >= 0 && meta.progress.tokens >= 0 &&
                    meta.progress.seconds >= 0 && meta.updates >= 0 && meta.updates <= meta.progress.step;
  DM_REQUIRE(sane, ExitCode::bad_data, "{}: step, samples, tokens, seconds and updates contradict each other",
             where);
  return meta;
}

std::string program_version() { return "diffmamba " DM_VERSION ", compiler " __VERSION__; }

}  // namespace dm::train
