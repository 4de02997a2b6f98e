// Hashes against what `xxhsum -H3` and `xxhsum -H2` (0.8.1) print for the same bytes.

#include "core/hash.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/refusal.h"

namespace dm {
namespace {

using test::refusal;

/// 100,000 bytes: byte i is (7 i + floor(i / 256)) mod 251.
std::string ramp(size_t size) {
  std::string bytes(size, '\0');
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<char>((i * 7 + i / 256) % 251);
  return bytes;
}

struct Known {
  std::string bytes;
  const char* hash64;
  const char* hash128;
};

// XXH3 takes another path for each of 0, 1-3, 4-8, 9-16, 17-128, 129-240 bytes, up to a block of 1024, and
// beyond.
const Known kKnown[] = {
    {"", "2d06800538d394c2", "99aa06d3014798d86001c324468d497f"},
    {"a", "e6c632b61e964e1f", "a96faf705af16834e6c632b61e964e1f"},
    {"abc", "78af5f94892f3950", "06b05ab6733a618578af5f94892f3950"},
    {ramp(16), "9da23836adf2be1e", "ddf6c1254d70f76794eaa17b20756f46"},
    {ramp(17), "f34c3c9cf5a112d1", "263f67af63088041735fe434ded90c3c"},
    {ramp(128), "4c659b745f435148", "381610c474b8adfb2dfb73305de1f91a"},
    {ramp(129), "b85222b83902b6e5", "4e05eed4427255d51f8b5092c9ba3be8"},
    {ramp(240), "d6dfbf67b0675b54", "17ffe035d71c1ec8e6bf81617aad6c4a"},
    {ramp(241), "c614c8c3575348c1", "29bc1e9cffb6d79bc614c8c3575348c1"},
    {ramp(1024), "0b09e0f8173bd8f4", "321ef354dacfc1ff0b09e0f8173bd8f4"},
    {ramp(1025), "2d8c47a5118ed970", "e3b3fa6407b594952d8c47a5118ed970"},
    {ramp(100000), "ee85b98001e0a596", "3a3387f4abc6d445ee85b98001e0a596"},
};

TEST(HashTest, KnownAnswers) {
  for (const Known& known : kKnown) {
    EXPECT_EQ(hex(xxh3_64(known.bytes.data(), known.bytes.size())), known.hash64) << known.bytes.size();
    EXPECT_EQ(hex(xxh3_128(known.bytes.data(), known.bytes.size())), known.hash128) << known.bytes.size();
  }
}

TEST(HashTest, NothingNeedsNoPointer) {
  EXPECT_EQ(hex(xxh3_64(nullptr, 0)), kKnown[0].hash64);
  EXPECT_EQ(hex(Hasher().digest_128()), kKnown[0].hash128);
  EXPECT_EQ(hex(Hasher().update(nullptr, 0).digest_64()), kKnown[0].hash64);
}

TEST(HashTest, SeedsDiffer) {
  EXPECT_NE(xxh3_64("abc", 3, 1), xxh3_64("abc", 3));
  EXPECT_EQ(xxh3_64("abc", 3, 0), xxh3_64("abc", 3));
}

TEST(HashTest, PiecesEqualTheWholeInBothWidths) {
  for (const Known& known : kKnown)
    for (const size_t piece : {size_t{1}, size_t{7}, size_t{64}, size_t{255}, size_t{4096}}) {
      Hasher hasher;
      for (size_t at = 0; at < known.bytes.size(); at += piece)
        hasher.update(std::string_view(known.bytes).substr(at, piece));
      EXPECT_EQ(hex(hasher.digest_64()), known.hash64) << known.bytes.size() << " by " << piece;
      EXPECT_EQ(hex(hasher.digest_128()), known.hash128) << known.bytes.size() << " by " << piece;
    }
}

TEST(HashTest, ADigestIsNoEnd) {
  Hasher hasher;
  hasher.update("ab");
  EXPECT_NE(hex(hasher.digest_64()), kKnown[2].hash64);
  EXPECT_EQ(hex(hasher.update("c").digest_64()), kKnown[2].hash64);
  Hasher moved = std::move(hasher);
  EXPECT_EQ(hex(moved.digest_128()), kKnown[2].hash128);
}

TEST(HashTest, TextRoundTrip) {
  for (const Known& known : kKnown) {
    EXPECT_EQ(hex(parse_hash64(known.hash64, "f")), known.hash64);
    EXPECT_EQ(hex(parse_hash128(known.hash128, "f")), known.hash128);
  }
  EXPECT_EQ(parse_hash64("00000000000000ff", "f"), 255u);
  EXPECT_EQ(parse_hash128("00000000000000010000000000000002", "f"), (Hash128{1, 2}));
}

TEST(HashTest, WhatIsNoHash) {
  for (const char* text :
       {"", "0", "2d06800538d394c", "2d06800538d394c20", "2D06800538d394c2", "0x06800538d394c2",
        " d06800538d394c2", "-d06800538d394c2", "2d06800538d394cg", "99aa06d3014798d86001c324468d497f"})
    EXPECT_EQ(refusal(ExitCode::bad_data, [&] { parse_hash64(text, "m.json: digest"); }),
              fmt::format("m.json: digest: expected 16 lower-case hexadecimal digits, found '{}'", text));
  for (const char* text :
       {"", "2d06800538d394c2", "99aa06d3014798d86001c324468d497", "99aa06d3014798d86001c324468d497f0",
        "99AA06d3014798d86001c324468d497f", "99aa06d3014798d8 001c324468d497f"})
    EXPECT_EQ(refusal(ExitCode::bad_data, [&] { parse_hash128(text, "m.json: digest"); }),
              fmt::format("m.json: digest: expected 32 lower-case hexadecimal digits, found '{}'",
                          std::string(text).substr(0, 40)));
  EXPECT_EQ(refusal(ExitCode::bad_data, [] { parse_hash64(std::string(1000, 'f'), "m"); }).size(),
            std::string("m: expected 16 lower-case hexadecimal digits, found ''").size() + 40);
}

}  // namespace
}  // namespace dm
