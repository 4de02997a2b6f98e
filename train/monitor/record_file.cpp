#include "train/monitor/record_file.h"

#include <array>
#include <bit>
#include <cstring>
#include <fstream>

namespace dm::train {
namespace {

/// Beyond what this program writes; a damaged length must not ask for memory.
constexpr uint64_t kLargestPayloadBytes = 64 << 20;

constexpr std::array<uint32_t, 256> crc_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
    table[byte] = crc;
  }
  return table;
}

uint32_t masked_crc(std::string_view bytes) { return std::rotr(crc32c(bytes), 15) + 0xa282ead8u; }

template <class T>
std::string_view bytes_of(const T& value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

template <class T>
bool read(std::istream& file, T& value) {
  return static_cast<bool>(file.read(reinterpret_cast<char*>(&value), sizeof value));
}

/// The next record's payload; false at the end of what is sound.
bool read_record(std::istream& file, std::string& payload) {
  uint64_t length = 0;
  uint32_t length_crc = 0, payload_crc = 0;
  if (!read(file, length) || !read(file, length_crc)) return false;
  if (length_crc != masked_crc(bytes_of(length)) || length > kLargestPayloadBytes) return false;
  payload.resize(length);
  if (!file.read(payload.data(), static_cast<std::streamsize>(length)) || !read(file, payload_crc))
    return false;
  return payload_crc == masked_crc(payload);
}

}  // namespace

uint32_t crc32c(std::string_view bytes) {
  static constexpr std::array<uint32_t, 256> kTable = crc_table();
  uint32_t crc = ~0u;
  for (const char byte : bytes) crc = crc >> 8 ^ kTable[(crc ^ static_cast<unsigned char>(byte)) & 0xff];
  return ~crc;
}

std::string record(std::string_view payload) {
  const uint64_t length = payload.size();
  const uint32_t length_crc = masked_crc(bytes_of(length)), payload_crc = masked_crc(payload);
  std::string framed;
  framed.append(bytes_of(length)).append(bytes_of(length_crc)).append(payload).append(bytes_of(payload_crc));
  return framed;
}

int64_t kept_record_bytes(const std::string& path,
                          const std::function<bool(std::string_view payload)>& keep) {
  std::ifstream file(path, std::ios::binary);
  std::string payload;
  int64_t kept = 0;
  while (read_record(file, payload) && keep(payload)) kept = file.tellg();
  return kept;
}

}  // namespace dm::train
