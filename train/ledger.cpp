#include "train/ledger.h"

#include <algorithm>
#include <bit>
#include <fstream>

#include "core/error.h"
#include "core/fields.h"
#include "train/host_state.h"

namespace dm::train {

std::string LedgerLine::text() const {
  return fmt::format("{} {} {} {}", step, hex(std::bit_cast<uint64_t>(loss)), hex(samples), hex(state));
}

LedgerLine parse_ledger_line(std::string_view text, const std::string& where) {
  std::vector<std::string> words;
  for (size_t at = 0; at <= text.size();) {
    const size_t end = std::min(text.find(' ', at), text.size());
    words.emplace_back(text.substr(at, end - at));
    at = end + 1;
  }
  DM_REQUIRE(words.size() == 4, ExitCode::bad_data, "{}: expected STEP LOSS SAMPLES STATE, found '{}'", where,
             text.substr(0, 120));
  const bool digits = !words[0].empty() && words[0].size() <= 18 &&
                      words[0].find_first_not_of("0123456789") == std::string::npos;
  DM_REQUIRE(digits, ExitCode::bad_data, "{}: '{}' is not a step", where, words[0].substr(0, 40));
  return {std::stoll(words[0]), std::bit_cast<double>(parse_hash64(words[1], where)),
          parse_hash64(words[2], where), parse_hash128(words[3], where)};
}

std::vector<LedgerLine> read_ledger(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  DM_REQUIRE(file.good(), ExitCode::io, "{}: cannot be read", path);
  std::vector<LedgerLine> lines;
  for (std::string text; std::getline(file, text);) {
    DM_REQUIRE(!file.eof(), ExitCode::bad_data, "{}:{}: the line is cut short", path, lines.size() + 1);
    lines.push_back(parse_ledger_line(text, fmt::format("{}:{}", path, lines.size() + 1)));
    const int64_t before = lines.size() > 1 ? lines[lines.size() - 2].step : lines.back().step - 1;
    DM_REQUIRE(lines.back().step == before + 1, ExitCode::bad_data, "{}:{}: step {} follows step {}", path,
               lines.size(), lines.back().step, before);
  }
  return lines;
}

std::vector<LedgerLine> stitch(const std::vector<std::vector<LedgerLine>>& attempts) {
  std::vector<LedgerLine> history;
  for (const std::vector<LedgerLine>& attempt : attempts) {
    if (attempt.empty()) continue;
    while (!history.empty() && history.back().step >= attempt.front().step) history.pop_back();
    DM_REQUIRE(history.empty() || history.back().step + 1 == attempt.front().step, ExitCode::bad_data,
               "no ledger has step {}: one ends before it, the next starts at step {}",
               history.back().step + 1, attempt.front().step);
    history.insert(history.end(), attempt.begin(), attempt.end());
  }
  return history;
}

std::optional<std::string> first_difference(const std::vector<LedgerLine>& expected,
                                            const std::vector<LedgerLine>& found, bool samples_only) {
  for (size_t i = 0; i < std::min(expected.size(), found.size()); ++i) {
    const LedgerLine &a = expected[i], &b = found[i];
    const bool same = samples_only ? a.step == b.step && a.samples == b.samples : a.text() == b.text();
    if (!same) return fmt::format("line {}: expected '{}', found '{}'", i + 1, a.text(), b.text());
  }
  if (expected.size() != found.size())
    return fmt::format("expected {} lines, found {}", expected.size(), found.size());
  return std::nullopt;
}

Ledger::Ledger(const std::string& path, int64_t last_step, const Groups& groups)
    : on_(!path.empty()), groups_(groups) {
  if (!on_ || groups.all.rank() != 0) return;
  const auto step_of = [&](std::string_view line) -> std::optional<int64_t> {
    try {
      return parse_ledger_line(line, path).step;
    } catch (const Error&) {
      return std::nullopt;
    }
  };
  file_.emplace(path, step_of, last_step);
}

void Ledger::append(int64_t step, double loss, const std::vector<uint64_t>& sample_ids,
                    FlatParameters& parameters, const ShardedOptimizer& optimizer) {
  if (!on_) return;
  // Ranks that share a row all have its id: one of them tells it.
  const bool tells = groups_.placement.cp_rank == 0;
  const std::string mine(reinterpret_cast<const char*>(sample_ids.data()),
                         tells ? sample_ids.size() * sizeof(uint64_t) : 0);
  Hasher samples;
  for (const std::string& ids : groups_.replicas.gather_text(mine)) samples.update(ids);
  Hash128 state = state_digest(parameters, optimizer, groups_.replicas);
  if (groups_.placement.tp > 1) {  // each tensor rank's state is another: one hash of all of them
    const bool leads = groups_.replicas.rank() == 0;
    Hasher states;
    for (const std::string& text : groups_.all.gather_text(leads ? hex(state) : "")) states.update(text);
    state = states.digest_128();
  }
  if (file_) file_->append(LedgerLine{step, loss, samples.digest_64(), state}.text());
}

Hash128 state_digest(FlatParameters& parameters, const ShardedOptimizer& optimizer, Collectives& group) {
  HostState state(parameters, optimizer, HostState::OnCpu::the_arrays);
  state.pull();

  const int64_t element_bytes = size_bytes(parameters.dtype());
  Hasher hasher;
  std::vector<char> received;
  for (void* range : state.ranges())
    for (const Bucket& bucket : parameters.buckets())
      for (int64_t rank = 0; rank < parameters.group().size(); ++rank) {
        char* piece = static_cast<char*>(parameters.at(range, bucket.owned));
        if (group.rank() == rank && rank != 0) group.send(piece, bucket.piece, parameters.dtype(), 0)->wait();
        if (group.rank() != 0) continue;
        if (rank != 0) {
          received.resize(static_cast<size_t>(bucket.piece * element_bytes));
          piece = received.data();
          group.receive(piece, bucket.piece, parameters.dtype(), rank)->wait();
        }
        for (const Slice& slice : parameters.slices(bucket, rank))
          hasher.update(piece + (slice.offset - bucket.owned) * element_bytes,
                        static_cast<size_t>(slice.count() * element_bytes));
      }
  return group.rank() == 0 ? hasher.digest_128() : Hash128{};
}

}  // namespace dm::train
