#include "core/dtype.h"

#include "core/error.h"

namespace dm {
namespace {
struct Row {
  DType dtype;
  const char* name;
  int64_t size_bytes;
};
constexpr Row kTable[] = {{DType::u8, "u8", 1},     {DType::u16, "u16", 2}, {DType::u32, "u32", 4},
                          {DType::u64, "u64", 8},   {DType::i32, "i32", 4}, {DType::i64, "i64", 8},
                          {DType::bf16, "bf16", 2}, {DType::f32, "f32", 4}, {DType::f64, "f64", 8}};

const Row& row(DType dtype) {
  for (const Row& r : kTable)
    if (r.dtype == dtype) return r;
  DM_FAIL(ExitCode::internal, "dtype {} is not in the table", static_cast<int>(dtype));
}
}  // namespace

int64_t size_bytes(DType dtype) { return row(dtype).size_bytes; }
const char* name(DType dtype) { return row(dtype).name; }

DType parse_dtype(std::string_view text, const std::string& where) {
  for (const Row& r : kTable)
    if (text == r.name) return r.dtype;
  std::string known;
  for (const Row& r : kTable) known += fmt::format(" {}", r.name);
  DM_FAIL(ExitCode::bad_data, "{}: unknown dtype '{}'; known:{}", where, text, known);
}

}  // namespace dm
