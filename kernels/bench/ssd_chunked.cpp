#include "kernels/bench/ssd_chunked.h"

#include <ATen/ATen.h>

#include <limits>

namespace dm::kernels {

at::Tensor ssd_chunked(const at::Tensor& x, const at::Tensor& dt, const at::Tensor& a, const at::Tensor& b,
                       const at::Tensor& c, const at::Tensor& d, int64_t chunk) {
  const int64_t heads = x.size(2), groups = b.size(2), per_group = heads / groups, chunks = x.size(1) / chunk;
  const auto cut = [&](const at::Tensor& t) { return t.unflatten(1, {chunks, chunk}).transpose(2, 3); };
  const auto to_heads = [&](const at::Tensor& t) {  // [B, c, G, ..] -> [B, c, H, ..]
    return t.unsqueeze(3).expand({-1, -1, -1, per_group, -1, -1}).flatten(2, 3);
  };
  const at::Tensor bs = cut(b), cs = cut(c);                                   // [B, c, G, Q, N]
  const at::Tensor weighted = cut(x * dt.unsqueeze(-1));                       // [B, c, H, Q, P]
  const at::Tensor sums = cut((dt * a).unsqueeze(-1)).squeeze(-1).cumsum(-1);  // [B, c, H, Q]
  const at::Tensor end = sums.slice(-1, chunk - 1);                            // [B, c, H, 1]

  const at::Tensor above = at::ones({chunk, chunk}, x.options().dtype(at::kBool)).triu(1);
  const at::Tensor between =
      (sums.unsqueeze(-1) - sums.unsqueeze(-2)).masked_fill(above, -std::numeric_limits<double>::infinity());
  const at::Tensor mixing =
      to_heads(at::matmul(cs, bs.transpose(-1, -2))) * between.exp();  // [B, c, H, Q, Q]
  const at::Tensor within = at::matmul(mixing, weighted);              // [B, c, H, Q, P]

  const at::Tensor left = at::matmul((weighted * (end - sums).exp().unsqueeze(-1)).transpose(-1, -2),
                                     to_heads(bs));      // [B, c, H, P, N]
  const at::Tensor decay = end.exp().unsqueeze(-1);      // [B, c, H, 1, 1]
  at::Tensor state = at::zeros_like(left.select(1, 0));  // [B, H, P, N]
  std::vector<at::Tensor> entering;
  for (int64_t i = 0; i < chunks; ++i) {
    entering.push_back(state);
    state = decay.select(1, i) * state + left.select(1, i);
  }
  const at::Tensor across = at::matmul(to_heads(cs), at::stack(entering, 1).transpose(-1, -2)) *
                            sums.exp().unsqueeze(-1);                            // [B, c, H, Q, P]
  return (within + across).transpose(2, 3).flatten(1, 2) + d.unsqueeze(-1) * x;  // [B, L, H, P]
}

}  // namespace dm::kernels
