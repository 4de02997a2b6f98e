#pragma once
// XXH3 through libxxhash: one hash for everything, so that `xxhsum -H3` and `xxhsum -H2` can check any of it.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace dm {

struct Hash128 {
  uint64_t high = 0;
  uint64_t low = 0;
  bool operator==(const Hash128&) const = default;
};

uint64_t xxh3_64(const void* data, size_t size_bytes, uint64_t seed = 0);
Hash128 xxh3_128(const void* data, size_t size_bytes);

/// 32 hexadecimal digits, high half first: what `xxhsum -H2` prints.
std::string hex(const Hash128& hash);
/// 16 hexadecimal digits: what `xxhsum -H3` prints.
std::string hex(uint64_t hash);
/// Throw ExitCode::bad_data for anything but exactly 32 (16) lower-case hexadecimal digits; `where` names
/// file and key.
Hash128 parse_hash128(std::string_view text, const std::string& where);
uint64_t parse_hash64(std::string_view text, const std::string& where);

/// A hash over pieces: the same value as one call over their concatenation.
class Hasher {
 public:
  Hasher();
  ~Hasher();
  Hasher(Hasher&&) noexcept;
  Hasher& operator=(Hasher&&) noexcept;

  Hasher& update(const void* data, size_t size_bytes);
  Hasher& update(std::string_view text) { return update(text.data(), text.size()); }
  uint64_t digest_64() const;
  Hash128 digest_128() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace dm
