#pragma once
// Random numbers as a pure function of (seed, name, index): Philox4x32-10 (Salmon et al., SC 2011).
// No state to save, the same bits for any number of ranks, threads or devices.

#include <array>
#include <cstdint>
#include <string_view>

namespace dm {

/// Ten rounds of Philox 4x32: 128 random bits for a 128-bit counter under a 64-bit key.
std::array<uint32_t, 4> philox(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

/// A stream of draws addressed by index.
class CounterRng {
 public:
  /// The key is the XXH3-64 of `name` seeded with `seed`.
  CounterRng(uint64_t seed, std::string_view name);

  /// All the random bits of a 128-bit index; the functions below take theirs from draw(index, 0).
  std::array<uint32_t, 4> draw(uint64_t low, uint64_t high) const;
  std::array<uint32_t, 2> key() const { return key_; }

  uint64_t bits(uint64_t index) const;                            // 64 random bits
  double uniform(uint64_t index) const;                           // [0, 1), 53 bits
  double uniform(uint64_t index, double low, double high) const;  // [low, high), or high itself by rounding
  double normal(uint64_t index) const;                   // N(0, 1), Box-Muller on the index's 128 bits
  uint64_t below(uint64_t index, uint64_t bound) const;  // [0, bound), bias below 2^-64 * bound

 private:
  std::array<uint32_t, 2> key_;
};

/// A seeded permutation of 0..size-1 evaluated in O(1) time and memory (Feistel network with cycle walking).
class Permutation {
 public:
  Permutation(uint64_t size, uint64_t seed);
  uint64_t operator()(uint64_t index) const;  // index < size

 private:
  uint64_t size_;
  uint32_t half_bits_;
  std::array<uint64_t, 6> round_keys_;
};

}  // namespace dm
