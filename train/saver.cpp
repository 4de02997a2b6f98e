#include "train/saver.h"

#include <utility>

#include "core/error.h"
#include "train/stopwatch.h"

namespace dm::train {

Saver::Saver(checkpoints::Store& store, FlatParameters& parameters, const ShardedOptimizer& optimizer,
             bool owns, const StreamState* streams)
    : store_(store), parameters_(parameters), optimizer_(optimizer), owns_(owns), streams_(streams) {}

Saver::~Saver() {
  if (writer_.joinable()) writer_.join();
}

void Saver::start(int64_t step, const Json& meta) {
  begin(step, /*in_memory=*/false,
        [this, step, meta](const auto& pieces) { store_.save(step, pieces, meta); });
}

void Saver::start_snapshot(checkpoints::MemoryStore& memory, int64_t step, const Json& meta) {
  begin(step, /*in_memory=*/true,
        [&memory, step, meta](const auto& pieces) { memory.save(step, pieces, meta); });
}

void Saver::begin(int64_t step, bool in_memory, Write write) {
  DM_CHECK(!in_flight(), "a save of step {} while that of step {} is in flight", step, outcome_.step);
  const Stopwatch time;
  if (!snapshot_) snapshot_.emplace(parameters_, optimizer_, HostState::OnCpu::a_copy);
  snapshot_->begin_pull();
  if (streams_) streams_copy_ = streams_->copy();
  error_ = nullptr;
  done_ = false;
  outcome_ = {.step = step,
              .bytes = snapshot_->size_bytes() + (streams_ ? streams_->stored_bytes() : 0),
              .wait_seconds = time.seconds(),
              .seconds = 0,
              .in_memory = in_memory};
  writer_ = std::thread([this, write = std::move(write), time] {
    try {
      snapshot_->finish_pull();
      std::vector<checkpoints::Piece> pieces = streams_copy_.pieces;
      if (owns_)
        for (checkpoints::Piece& piece : snapshot_->pieces(HostState::Purpose::store))
          pieces.push_back(std::move(piece));
      write(pieces);
    } catch (...) {
      error_ = std::current_exception();
    }
    outcome_.seconds = time.seconds();
    done_ = true;
  });
}

void Saver::hold_updates() {
  if (in_flight()) snapshot_->hold_updates();
}

Saver::Outcome Saver::finish() {
  DM_CHECK(in_flight(), "no save is in flight");
  writer_.join();
  if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
  return outcome_;
}

}  // namespace dm::train
