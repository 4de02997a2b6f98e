#include "train/monitor/protobuf.h"

namespace dm::train::protobuf {
namespace {

template <class T>
std::string_view bytes_of(const T& value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

std::optional<uint64_t> take_varint(std::string_view& from) {
  uint64_t value = 0;
  for (uint32_t shift = 0; shift < 64 && !from.empty(); shift += 7) {
    const auto byte = static_cast<unsigned char>(from.front());
    from.remove_prefix(1);
    value |= uint64_t{byte & 0x7fu} << shift;
    if (byte < 0x80) return value;
  }
  return std::nullopt;
}

}  // namespace

Message& Message::integer(uint32_t field, int64_t value) {
  key(field, kVarint);
  varint(static_cast<uint64_t>(value));
  return *this;
}

Message& Message::number(uint32_t field, double value) {
  key(field, kFixed64);
  bytes_.append(bytes_of(value));
  return *this;
}

Message& Message::single(uint32_t field, float value) {
  key(field, kFixed32);
  bytes_.append(bytes_of(value));
  return *this;
}

Message& Message::text(uint32_t field, std::string_view value) {
  key(field, kBytes);
  varint(value.size());
  bytes_.append(value);
  return *this;
}

Message& Message::packed(uint32_t field, const std::vector<double>& values) {
  return text(field, {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(double)});
}

void Message::varint(uint64_t value) {
  for (; value >= 0x80; value >>= 7) bytes_.push_back(static_cast<char>(value | 0x80));
  bytes_.push_back(static_cast<char>(value));
}

std::optional<FieldView> take_field(std::string_view& message) {
  const std::optional<uint64_t> key = take_varint(message);
  if (!key) return std::nullopt;
  FieldView field;
  field.number = static_cast<uint32_t>(*key >> 3), field.kind = static_cast<Kind>(*key & 7);
  std::optional<uint64_t> size_bytes;
  switch (field.kind) {
    case kVarint:
      if (const auto value = take_varint(message)) return field.varint = *value, field;
      return std::nullopt;
    case kFixed64: size_bytes = 8; break;
    case kFixed32: size_bytes = 4; break;
    case kBytes: size_bytes = take_varint(message); break;
  }
  if (!size_bytes || *size_bytes > message.size()) return std::nullopt;
  field.bytes = message.substr(0, *size_bytes);
  message.remove_prefix(*size_bytes);
  return field;
}

std::optional<FieldView> find_field(std::string_view message, uint32_t number) {
  while (const auto field = take_field(message))
    if (field->number == number) return field;
  return std::nullopt;
}

}  // namespace dm::train::protobuf
