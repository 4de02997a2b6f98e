#pragma once
// How much a rank exchanges, counted by what it hands to its groups, whatever a transport makes of that. The
// same numbers come from counting the calls of a run (core/counting_collectives.h) and from predicting them.

#include <cstdint>
#include <map>

namespace dm {

enum class Operation { all_reduce, reduce_scatter, all_gather, broadcast, send };
const char* name(Operation operation);

class Traffic {
 public:
  struct Count {
    int64_t calls = 0;
    /// The `count` elements of the calls, as core/collectives.h has it: the array of an all_reduce or a
    /// broadcast, one rank's piece of a reduce_scatter or an all_gather, what a send sends.
    int64_t bytes = 0;
    /// What leaves the rank where nothing is sent twice: of n ranks (n - 1) times the piece of a
    /// reduce_scatter or an all_gather, 2 (n - 1) / n of an all_reduce, rounded down for each call, all of a
    /// broadcast and of a send.
    int64_t sent = 0;
    bool operator==(const Count&) const = default;
  };

  /// `calls` exchanges of `bytes` each in a group of `ranks`; nothing where a rank is alone or bytes are 0.
  void add(Operation operation, int64_t bytes, int64_t ranks, int64_t calls = 1);
  Traffic& operator+=(const Traffic& other);
  /// What came since `before`, an earlier state of this one.
  Traffic since(const Traffic& before) const;

  const std::map<Operation, Count>& counts() const { return counts_; }
  Count count(Operation operation) const;
  int64_t sent() const;
  bool operator==(const Traffic&) const = default;

 private:
  std::map<Operation, Count> counts_;  // of operations that were called
};

}  // namespace dm
