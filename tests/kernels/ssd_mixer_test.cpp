// Rows of a mixer that go on where others ended, as its operations one by one have them.

#include "kernels/ssd_mixer/ssd_mixer.h"

#include <ATen/ATen.h>

#include <limits>

#include "tests/kernels/support.h"

namespace dm::kernels::test {
namespace {

constexpr int64_t kLength = 12;
const SsdMixerForm kForm{.branches = 2,
                         .inner = 8,
                         .heads = 2,
                         .groups = 1,
                         .d_state = 4,
                         .spans = 2,
                         .eps = 1e-5,
                         .dt_min = 0,
                         .dt_max = std::numeric_limits<double>::infinity(),
                         .chunk = 4};

SsdMixerWeights weights() {
  const int64_t channels = kForm.branches * kForm.channels(), heads = kForm.branches * kForm.heads;
  return {normal("conv_weight", {channels, 4}),
          normal("conv_bias", {channels}),
          uniform("dt_bias", {heads}, -4, -1),
          -uniform("a", {heads}, 1, 16),
          normal("d", {heads}),
          normal("norm", {kForm.branches * kForm.inner})};
}

TEST(SsdMixer, RowsInPartsAreTheRows) {
  const Poison poison;
  const at::Tensor projected = normal("projected", {2, kLength, kForm.branches * kForm.rows()});
  const at::Tensor ids = documents({{5}, {1, 9}}, kLength);
  const SsdMixerWeights w = weights();
  SsdMixerState whole_end;
  const at::Tensor whole = ssd_mixer(projected, w, std::nullopt, ids, kForm, {.leaving = &whole_end});
  // Parts of one token are shorter than the convolution's window, some cuts are borders of documents.
  for (const std::vector<int64_t>& cuts :
       std::vector<std::vector<int64_t>>{{0, 5, 12}, {0, 1, 2, 3, 10, 12}}) {
    SsdMixerState carried;
    Tensors parts;
    for (size_t i = 0; i + 1 < cuts.size(); ++i) {
      const auto part = [&](const at::Tensor& t) { return t.slice(1, cuts[i], cuts[i + 1]); };
      const int64_t known = std::min<int64_t>(cuts[i], 3);
      Documents here(part(ids));
      if (i > 0)
        here.before =
            at::cat({at::full({2, 3 - known}, -1, at::kInt), ids.slice(1, cuts[i] - known, cuts[i])}, 1);
      const SsdMixerState entering = carried;
      const SsdMixerReach reach{.entering = i > 0 ? &entering : nullptr, .leaving = &carried};
      parts.push_back(ssd_mixer(part(projected), w, std::nullopt, here, kForm, reach));
    }
    EXPECT_LE(relative_error(at::cat(parts, 1), whole), 1e-13);  // other pieces of the scan: roundings
    EXPECT_TRUE(same_bits(carried.window, whole_end.window));
    EXPECT_LE(relative_error(carried.state, whole_end.state), 1e-13);
  }
}

}  // namespace
}  // namespace dm::kernels::test
