#include "train/state.h"

#include "core/error.h"

namespace dm::train {
namespace {
constexpr const char* kKind = "diffmamba training run";

void add_pieces(std::vector<checkpoints::Piece>& pieces, const FlatParameters& parameters,
                const std::string& prefix, void* range) {
  for (const Slice& slice : parameters.slices(parameters.rank())) {
    const model::ParameterInfo& info = parameters.infos()[static_cast<size_t>(slice.parameter)];
    int64_t offset = slice.offset;  // boxes of a flat range follow each other in it
    for (checkpoints::Box& box : checkpoints::boxes_of_range(info.shape, slice.begin, slice.end)) {
      const int64_t count = box.count();
      pieces.push_back(
          {prefix + info.name, parameters.dtype(), info.shape, std::move(box), parameters.at(range, offset)});
      offset += count;
    }
    DM_CHECK(offset == slice.offset + slice.count(), "{}: boxes hold {} elements of {}", info.name,
             offset - slice.offset, slice.count());
  }
}
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

std::vector<checkpoints::Piece> owned_pieces(FlatParameters& parameters, const ShardedOptimizer& optimizer) {
  std::vector<checkpoints::Piece> pieces;
  add_pieces(pieces, parameters, "", parameters.owned_weights());
  for (size_t slot = 0; slot < optimizer.slot_names().size(); ++slot)
    add_pieces(pieces, parameters, optimizer.slot_names()[slot] + "/", optimizer.owned_slot(slot));
  return pieces;
}

}  // namespace dm::train
