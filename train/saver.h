#pragma once
// Checkpoints written beside training: a step waits for a copy of the state to begin, not for files. One save
// is in flight at most.

#include <atomic>
#include <exception>
#include <functional>
#include <optional>
#include <thread>

#include "checkpoints/memory_store.h"
#include "checkpoints/store.h"
#include "train/host_state.h"
#include "train/stream_state.h"

namespace dm::train {

class Saver {
 public:
  /// All of them outlive this object; `streams` may be nullptr. The store's group is used from another
  /// thread, so by nobody else. A rank that does not `own` its piece alone leaves it to the one that does,
  /// and takes part.
  Saver(checkpoints::Store& store, FlatParameters& parameters, const ShardedOptimizer& optimizer,
        bool owns = true, const StreamState* streams = nullptr);
  /// Waits for a save in flight; what became of it is lost.
  ~Saver();
  Saver(const Saver&) = delete;
  Saver& operator=(const Saver&) = delete;

  /// Copies the state and begins to write it. All ranks call it, none while one of them is in_flight().
  void start(int64_t step, const Json& meta);
  /// The same into the memory of the hosts.
  void start_snapshot(checkpoints::MemoryStore& memory, int64_t step, const Json& meta);
  /// What the current stream is given from here on may change the state. To be called before each update.
  void hold_updates();

  bool in_flight() const { return writer_.joinable(); }
  /// Whether this rank's part of the save in flight is still being written.
  bool writing() const { return in_flight() && !done_; }

  struct Outcome {
    int64_t step;
    int64_t bytes;        // of this rank
    double wait_seconds;  // that start() took
    double seconds;       // from start() to the commit
    bool in_memory;
  };
  /// Of the save in flight, or the last one.
  const Outcome& outcome() const { return outcome_; }
  /// Waits for the save in flight and says what became of it, or throws what it threw.
  Outcome finish();

 private:
  using Write = std::function<void(const std::vector<checkpoints::Piece>& pieces)>;
  void begin(int64_t step, bool in_memory, Write write);

  checkpoints::Store& store_;
  FlatParameters& parameters_;
  const ShardedOptimizer& optimizer_;
  bool owns_;
  const StreamState* streams_;
  StreamState::Copy streams_copy_;
  std::optional<HostState> snapshot_;  // made by the first save, kept for the next
  std::thread writer_;
  std::atomic<bool> done_{false};
  std::exception_ptr error_;
  Outcome outcome_{};
};

}  // namespace dm::train
