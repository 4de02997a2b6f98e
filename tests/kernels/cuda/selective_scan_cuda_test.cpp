#include <ATen/ATen.h>
#include <fmt/core.h>

#include "kernels/selective_scan/selective_scan.h"
#include "tests/kernels/cuda/compare.h"

namespace dm::kernels::test {
namespace {

constexpr Bars kBf16{4e-3, 6e-3}, kFp32{1e-5, 1e-5};

Tensors scan(const Tensors& t) {
  const ScanOutput out = selective_scan(t[0], t[1], t[2], t[3], t[4], t[5], t[7],
                                        t[6].defined() ? std::optional(t[6]) : std::nullopt);
  return {out.y, out.final_state};
}

struct Sizes {
  int64_t batch, length, channels, states;
};

struct Dtypes {
  const char* name;
  at::ScalarType x, dt;
};
constexpr Dtypes kDtypes[] = {{"bf16", at::kBFloat16, at::kFloat},
                              {"bf16 with dt", at::kBFloat16, at::kBFloat16},
                              {"fp32", at::kFloat, at::kFloat}};

GpuInputs inputs(const Sizes& s, const Dtypes& dtypes, const at::Tensor& seq_idx, bool initial,
                 double most_decay = 16) {
  return {
      {"x", normal("x", {s.batch, s.length, s.channels}), dtypes.x},
      {"dt", uniform("dt", {s.batch, s.length, s.channels}, 1e-3, 0.1), dtypes.dt},
      {"a", -uniform("a", {s.channels, s.states}, 0.5, most_decay), at::kFloat},
      {"b", normal("b", {s.batch, s.length, s.states}), dtypes.x},
      {"c", normal("c", {s.batch, s.length, s.states}), dtypes.x},
      {"d", normal("d", {s.channels}), at::kFloat},
      {"initial", initial ? normal("initial", {s.batch, s.channels, s.states}) : at::Tensor(), at::kFloat},
      {"seq_idx", seq_idx, at::kInt}};
}

void compare(const Sizes& s, const at::Tensor& seq_idx, bool initial, double most_decay = 16) {
  for (const Dtypes& dtypes : kDtypes) {
    SCOPED_TRACE(fmt::format("{} B {} L {} E {} N {}", dtypes.name, s.batch, s.length, s.channels, s.states));
    expect_gpu_close(std::string("selective_scan ") + dtypes.name, scan,
                     inputs(s, dtypes, seq_idx, initial, most_decay), dtypes.x == at::kFloat ? kFp32 : kBf16);
  }
}

TEST(SelectiveScanCuda, EqualsTheCpu) {
  for (const int64_t length : {1, 3, 31, 32, 33, 63, 65, 127, 129, 515})
    for (const bool initial : {false, true})
      compare({2, length, 40, 16}, documents({{length / 3, 2, 1, 70}, {}}, length), initial);
}

TEST(SelectiveScanCuda, TakesEveryWidthAndState) {
  for (const int64_t channels : {1, 31, 70})
    for (const int64_t states : {1, 5, 8, 17, 64, 128, 129, 200, 256})
      compare({2, 67, channels, states}, documents({{9, 32}, {40, 1}}, 67), true);
}

TEST(SelectiveScanCuda, SegmentsJoin) {
  // Few channels: the rows are cut into segments of 256 tokens and more.
  compare({1, 2047, 24, 16}, documents({{}}, 2047), true);
  compare({2, 2047, 24, 16}, documents({{300, 212, 1, 900}, {256, 256, 5}}, 2047), true);
  compare({1, 1100, 6, 40}, documents({{700}}, 1100), true);
  compare({1, 1100, 6, 250}, documents({{700}}, 1100), true);
}

TEST(SelectiveScanCuda, OneSegmentOfManyChannels) {
  compare({2, 300, 2048, 16}, documents({{100, 77}, {}}, 300), true);
}

TEST(SelectiveScanCuda, LargeDecaysNeitherOverflowNorBlur) {
  compare({2, 300, 40, 16}, documents({{100, 77}, {}}, 300), true, 320);
  compare({1, 2047, 8, 16}, documents({{1000}}, 2047), true, 320);
}

TEST(SelectiveScanCuda, OtherDocumentsAreLeftOutWhateverTheyHold) {
  for (const int64_t length : {100, 1500}) {
    const int64_t first = length / 2;
    GpuInputs in = inputs({1, length, 24, 16}, kDtypes[0], documents({{first}}, length), false);
    in[0].value.narrow(1, 0, first).fill_(std::numeric_limits<double>::quiet_NaN());
    Tensors t;
    for (const GpuInput& i : in)
      t.push_back(!i.value.defined()            ? i.value
                  : i.value.is_floating_point() ? i.value.to(at::kCUDA, i.dtype)
                                                : i.value.to(at::kCUDA));
    const Tensors out = scan(t);
    EXPECT_TRUE(out[0].narrow(1, first, length - first).isfinite().all().item<bool>());
    EXPECT_TRUE(out[1].isfinite().all().item<bool>());
  }
}

TEST(SelectiveScanCuda, ReadsColumnsOfAProjection) {
  const int64_t length = 90;
  const at::TensorOptions gpu = at::TensorOptions(at::kCUDA);
  const at::Tensor wide = normal("wide", {2, length, 40 + 3 * 16}).to(at::kCUDA, at::kBFloat16);
  const auto columns = wide.split_with_sizes({40, 16, 16, 16}, -1);
  const at::Tensor dt = uniform("dt", {2, length, 40}, 1e-3, 0.1).to(at::kCUDA, at::kFloat),
                   a = -uniform("a", {40, 16}, 0.5, 16).to(at::kCUDA, at::kFloat),
                   d = normal("d", {40}).to(at::kCUDA, at::kFloat),
                   ids = at::zeros({2, length}, gpu.dtype(at::kInt));
  const at::Tensor views = selective_scan(columns[0], dt, a, columns[2], columns[3], d, ids, std::nullopt).y,
                   copies = selective_scan(columns[0].contiguous(), dt, a, columns[2].contiguous(),
                                           columns[3].contiguous(), d, ids, std::nullopt)
                                .y;
  EXPECT_TRUE(same_bits(views.cpu(), copies.cpu()));
}

TEST(SelectiveScanCuda, RefusesAStateWithoutAKernel) {
  Tensors t;
  for (const GpuInput& i : inputs({1, 4, 2, 257}, kDtypes[0], documents({{}}, 4), true))
    t.push_back(i.value.is_floating_point() ? i.value.to(at::kCUDA, i.dtype) : i.value.to(at::kCUDA));
  EXPECT_EQ(refusal([&] { scan(t); }),
            "selective_scan: a state of 257 has no kernel on the GPU; up to 256 have one");
}

}  // namespace
}  // namespace dm::kernels::test
