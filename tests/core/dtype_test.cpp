// Names and sizes of element types: the names are on disk.

#include "core/dtype.h"

#include <gtest/gtest.h>

#include "tests/support/refusal.h"

namespace dm {
namespace {

struct Row {
  DType dtype;
  const char* name;
  int64_t size_bytes;
};
constexpr Row kRows[] = {{DType::u8, "u8", 1},     {DType::u16, "u16", 2}, {DType::u32, "u32", 4},
                         {DType::u64, "u64", 8},   {DType::i32, "i32", 4}, {DType::i64, "i64", 8},
                         {DType::bf16, "bf16", 2}, {DType::f32, "f32", 4}, {DType::f64, "f64", 8}};

TEST(DTypeTest, NamesAndSizes) {
  for (const Row& row : kRows) {
    EXPECT_STREQ(name(row.dtype), row.name);
    EXPECT_EQ(size_bytes(row.dtype), row.size_bytes);
    EXPECT_EQ(parse_dtype(row.name, "m.json"), row.dtype);
  }
}

TEST(DTypeTest, OfCppTypes) {
  EXPECT_EQ(dtype_of<uint8_t>(), DType::u8);
  EXPECT_EQ(dtype_of<uint16_t>(), DType::u16);
  EXPECT_EQ(dtype_of<uint32_t>(), DType::u32);
  EXPECT_EQ(dtype_of<uint64_t>(), DType::u64);
  EXPECT_EQ(dtype_of<int32_t>(), DType::i32);
  EXPECT_EQ(dtype_of<int64_t>(), DType::i64);
  EXPECT_EQ(dtype_of<float>(), DType::f32);
  EXPECT_EQ(dtype_of<double>(), DType::f64);
}

TEST(DTypeTest, UnknownNames) {
  for (const char* text : {"", "f16", "F32", "float32", "f32 "})
    EXPECT_EQ(
        test::refusal(ExitCode::bad_data, [&] { parse_dtype(text, "m.json: tensors[3]"); }),
        fmt::format("m.json: tensors[3]: unknown dtype '{}'; known: u8 u16 u32 u64 i32 i64 bf16 f32 f64",
                    text));
  EXPECT_EQ(test::refusal(ExitCode::internal, [] { name(static_cast<DType>(77)); }),
            "dtype 77 is not in the table");
}

}  // namespace
}  // namespace dm
