#pragma once
// Element types of arrays that cross a folder's border without a tensor library: on disk, in collectives, in
// manifests.

#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>

namespace dm {

/// The values are not on disk; the names are.
enum class DType { u8, u16, u32, u64, i32, i64, bf16, f32, f64 };

int64_t size_bytes(DType dtype);
/// "f32" and so on: the spelling in manifests.
const char* name(DType dtype);
/// Throws ExitCode::bad_data for an unknown name; `where` names the file and place for the message.
DType parse_dtype(std::string_view text, const std::string& where);

/// The element type of a C++ array; bf16 has none.
template <class T>
constexpr DType dtype_of() {
  if constexpr (std::is_same_v<T, uint8_t>) return DType::u8;
  if constexpr (std::is_same_v<T, uint16_t>) return DType::u16;
  if constexpr (std::is_same_v<T, uint32_t>) return DType::u32;
  if constexpr (std::is_same_v<T, uint64_t>) return DType::u64;
  if constexpr (std::is_same_v<T, int32_t>) return DType::i32;
  if constexpr (std::is_same_v<T, int64_t>) return DType::i64;
  if constexpr (std::is_same_v<T, float>) return DType::f32;
  if constexpr (std::is_same_v<T, double>) return DType::f64;
}

}  // namespace dm
