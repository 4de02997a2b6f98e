#include "kernels/decode/norm_linear.h"

#include "kernels/decode/norm_linear_cuda.h"
#include "kernels/linear/linear.h"
#include "kernels/norm/norm.h"
#include "kernels/norm/residual_norm.h"

namespace dm::kernels {

NormedProduct norm_linear(const PendingNorm& pending, const Weight& matrix, DecodeChain& chain) {
  if (pending.h.is_cuda())
    if (std::optional<NormedProduct> result = norm_linear_cuda(pending, matrix, chain))
      return *std::move(result);
  chain.run();
  if (!pending.y)
    return {pending.h,
            linear(rms_norm(pending.h, pending.weight, pending.eps, matrix.value.scalar_type()), matrix)};
  const ResidualNorm passed =
      residual_norm(pending.h, *pending.y, pending.subln, pending.weight, pending.eps);
  return {passed.h, linear(passed.u, matrix)};
}

}  // namespace dm::kernels
