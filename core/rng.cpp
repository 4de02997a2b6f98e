#include "core/rng.h"

#include <bit>
#include <cmath>
#include <numbers>

#include "core/error.h"
#include "core/hash.h"

namespace dm {
namespace {
double unit_interval(uint64_t bits) { return static_cast<double>(bits >> 11) * 0x1.0p-53; }
uint64_t join(uint32_t low, uint32_t high) { return static_cast<uint64_t>(high) << 32 | low; }
}  // namespace

std::array<uint32_t, 4> philox(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53} * counter[0];
    const uint64_t b = uint64_t{0xCD9E8D57} * counter[2];
    counter = {static_cast<uint32_t>(b >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(b),
               static_cast<uint32_t>(a >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(a)};
    key[0] += 0x9E3779B9;
    key[1] += 0xBB67AE85;
  }
  return counter;
}

CounterRng::CounterRng(uint64_t seed, std::string_view name) {
  const uint64_t hash = xxh3_64(name.data(), name.size(), seed);
  key_ = {static_cast<uint32_t>(hash), static_cast<uint32_t>(hash >> 32)};
}

std::array<uint32_t, 4> CounterRng::draw(uint64_t low, uint64_t high) const {
  return philox({static_cast<uint32_t>(low), static_cast<uint32_t>(low >> 32), static_cast<uint32_t>(high),
                 static_cast<uint32_t>(high >> 32)},
                key_);
}

uint64_t CounterRng::bits(uint64_t index) const {
  const auto words = draw(index, 0);
  return join(words[0], words[1]);
}

double CounterRng::uniform(uint64_t index) const { return unit_interval(bits(index)); }
double CounterRng::uniform(uint64_t index, double low, double high) const {
  return low + (high - low) * uniform(index);
}

double CounterRng::normal(uint64_t index) const {
  const auto words = draw(index, 0);
  const double radius = 1.0 - unit_interval(join(words[0], words[1]));  // (0, 1]
  const double angle = unit_interval(join(words[2], words[3]));
  return std::sqrt(-2.0 * std::log(radius)) * std::cos(2.0 * std::numbers::pi * angle);
}

uint64_t CounterRng::below(uint64_t index, uint64_t bound) const {
  DM_CHECK(bound > 0, "below(0) has no value");
  return static_cast<uint64_t>(static_cast<unsigned __int128>(bits(index)) * bound >> 64);
}

Permutation::Permutation(uint64_t size, uint64_t seed) : size_(size) {
  DM_CHECK(size > 0, "a permutation of nothing");
  // Two halves of equal width whose product is at least `size` and less than four times it: few walks.
  half_bits_ = (static_cast<uint32_t>(std::bit_width(size - 1)) + 1) / 2;
  if (half_bits_ == 0) half_bits_ = 1;
  const CounterRng keys(seed, "permutation");
  for (uint64_t i = 0; i < round_keys_.size(); ++i) round_keys_[i] = keys.bits(i);
}

uint64_t Permutation::operator()(uint64_t index) const {
  DM_CHECK(index < size_, "permutation index {} is not below {}", index, size_);
  const uint64_t mask = (uint64_t{1} << half_bits_) - 1;
  do {
    uint64_t left = index >> half_bits_, right = index & mask;
    for (const uint64_t key : round_keys_) {
      uint64_t f = (right + key) * 0x9E3779B97F4A7C15;
      f ^= f >> 32;
      f *= 0xD6E8FEB86659FD93;
      f ^= f >> 32;
      const uint64_t next = left ^ (f & mask);
      left = right;
      right = next;
    }
    index = left << half_bits_ | right;
  } while (index >= size_);
  return index;
}

}  // namespace dm
