#pragma once
// TFRecord, the framing of TensorBoard's event files. A record is
//
//   u64   length of the payload          little-endian
//   u32   masked CRC-32C of those 8 bytes
//   payload
//   u32   masked CRC-32C of the payload
//
// where masked(c) = rotate_right(c, 15) + 0xa282ead8.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace dm::train {

/// CRC-32C (Castagnoli), as in RFC 3720.
uint32_t crc32c(std::string_view bytes);

/// The payload in its frame.
std::string record(std::string_view payload);

/// How many leading bytes of the file at `path` are whole, sound records for which `keep(payload)` holds.
int64_t kept_record_bytes(const std::string& path, const std::function<bool(std::string_view payload)>& keep);

}  // namespace dm::train
