#include "core/hash.h"

#include <fmt/format.h>
#if __has_include(<xxh_x86dispatch.h>)
#include <xxh_x86dispatch.h>  // the same functions and values, by the widest vectors of the processor at hand
#else
#include <xxhash.h>
#endif

#include <charconv>
#include <new>

#include "core/error.h"

namespace dm {

uint64_t xxh3_64(const void* data, size_t size_bytes, uint64_t seed) {
  return XXH3_64bits_withSeed(data, size_bytes, seed);
}

Hash128 xxh3_128(const void* data, size_t size_bytes) {
  const XXH128_hash_t hash = XXH3_128bits(data, size_bytes);
  return {hash.high64, hash.low64};
}

std::string hex(uint64_t hash) { return fmt::format("{:016x}", hash); }
std::string hex(const Hash128& hash) { return fmt::format("{:016x}{:016x}", hash.high, hash.low); }

namespace {
void check_digits(std::string_view text, size_t count, const std::string& where) {
  DM_REQUIRE(text.size() == count && text.find_first_not_of("0123456789abcdef") == std::string_view::npos,
             ExitCode::bad_data, "{}: expected {} lower-case hexadecimal digits, found '{}'", where, count,
             text.substr(0, 40));
}

uint64_t parsed(std::string_view digits) {
  uint64_t value = 0;
  std::from_chars(digits.data(), digits.data() + digits.size(), value, 16);
  return value;
}
}  // namespace

uint64_t parse_hash64(std::string_view text, const std::string& where) {
  check_digits(text, 16, where);
  return parsed(text);
}

Hash128 parse_hash128(std::string_view text, const std::string& where) {
  check_digits(text, 32, where);
  return {parsed(text.substr(0, 16)), parsed(text.substr(16))};
}

struct Hasher::State {
  XXH3_state_t* xxh = XXH3_createState();
  State() {
    if (xxh == nullptr) throw std::bad_alloc();
    XXH3_128bits_reset(xxh);  // 64- and 128-bit digests of XXH3 come from the same running state
  }
  ~State() { XXH3_freeState(xxh); }
};

Hasher::Hasher() : state_(std::make_unique<State>()) {}
Hasher::~Hasher() = default;
Hasher::Hasher(Hasher&&) noexcept = default;
Hasher& Hasher::operator=(Hasher&&) noexcept = default;

Hasher& Hasher::update(const void* data, size_t size_bytes) {
  XXH3_128bits_update(state_->xxh, data, size_bytes);
  return *this;
}
uint64_t Hasher::digest_64() const { return XXH3_64bits_digest(state_->xxh); }
Hash128 Hasher::digest_128() const {
  const XXH128_hash_t hash = XXH3_128bits_digest(state_->xxh);
  return {hash.high64, hash.low64};
}

}  // namespace dm
