#pragma once
// The wire format of protocol buffers, as far as TensorBoard's events need it: a field is its number and kind
// in a varint, then its value.

#include <bit>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace dm::train::protobuf {

static_assert(std::endian::native == std::endian::little,
              "fixed-width values are written as they lie in memory");

enum Kind : uint32_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

class Message {
 public:
  Message& integer(uint32_t field, int64_t value);
  Message& number(uint32_t field, double value);
  Message& single(uint32_t field, float value);
  Message& text(uint32_t field, std::string_view value);
  Message& message(uint32_t field, const Message& value) { return text(field, value.bytes()); }
  Message& packed(uint32_t field, const std::vector<double>& values);

  const std::string& bytes() const { return bytes_; }

 private:
  void varint(uint64_t value);
  void key(uint32_t field, Kind kind) { varint(uint64_t{field} << 3 | kind); }

  std::string bytes_;
};

struct FieldView {
  uint32_t number = 0;
  Kind kind = kVarint;
  uint64_t varint = 0;     // kVarint
  std::string_view bytes;  // of the value, otherwise
};

/// Takes the first field off `message`; nullopt at its end, or where it is no such message.
std::optional<FieldView> take_field(std::string_view& message);

/// The first field of this number.
std::optional<FieldView> find_field(std::string_view message, uint32_t number);

}  // namespace dm::train::protobuf
