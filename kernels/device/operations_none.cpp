// The operations on GPU tensors in a build without CUDA, where there are no such tensors.

#include <ATen/core/Tensor.h>

#include "core/error.h"
#include "kernels/adamw/adamw_cuda.h"
#include "kernels/conv/causal_conv_cuda.h"
#include "kernels/conv/conv_step_cuda.h"
#include "kernels/cross_entropy/cross_entropy_cuda.h"
#include "kernels/decode/norm_linear_cuda.h"
#include "kernels/dropout/dropout_cuda.h"
#include "kernels/embedding/embedding_cuda.h"
#include "kernels/gated_norm/gated_norm_cuda.h"
#include "kernels/linear/linear_cuda.h"
#include "kernels/matrix_copy/matrix_copy_cuda.h"
#include "kernels/norm/norm_cuda.h"
#include "kernels/norm/residual_norm_cuda.h"
#include "kernels/selective_mixer/selective_mixer.h"
#include "kernels/selective_scan/selective_scan_cuda.h"
#include "kernels/square_sum/square_sum_cuda.h"
#include "kernels/ssd/ssd_scan_cuda.h"
#include "kernels/ssd/ssd_step_cuda.h"
#include "kernels/ssd_mixer/ssd_mixer_cuda.h"
#include "kernels/token_lambda/token_lambda_cuda.h"
#include "kernels/vectors/vectors_cuda.h"

namespace dm::kernels {
namespace {

[[noreturn]] void refuse(const char* operation) {
  DM_FAIL(ExitCode::internal, "{}: a tensor on a GPU in a program that was built without CUDA", operation);
}

}  // namespace

at::Tensor linear_cuda(const at::Tensor&, const Weight&, const std::optional<at::Tensor>&) {
  refuse("linear");
}

void add_weight_gradient(const at::Tensor&, const at::Tensor&, const Weight&) { refuse("linear"); }

at::Tensor ssd_mixer_cuda(const at::Tensor&, const SsdMixerWeights&, const std::optional<at::Tensor>&,
                          const Documents&, const SsdMixerForm&, const SsdMixerReach&, const Weight*) {
  refuse("ssd_mixer");
}

std::optional<at::Tensor> ssd_mixer_step_cuda(const at::Tensor&, const SsdMixerWeights&,
                                              const std::optional<at::Tensor>&, SsdMixerState&,
                                              const SsdMixerForm&, const Weight&, DecodeChain&) {
  refuse("ssd_mixer_step");
}
std::vector<MatrixCopy> copy_matrices_cuda(const std::vector<MatrixCopy>&) { refuse("copy_matrices"); }
TokenLambda token_lambda_cuda(const at::Tensor&, int64_t, const at::Tensor&, bool) { refuse("token_lambda"); }
std::vector<at::Tensor> gather_vectors_cuda(const std::vector<VectorParts>&) { refuse("gather_vectors"); }
std::optional<NormedProduct> norm_linear_cuda(const PendingNorm&, const Weight&, DecodeChain&) {
  refuse("norm_linear");
}
struct DecodeChain::Impl {};
DecodeChain::DecodeChain() = default;
DecodeChain::~DecodeChain() = default;
void DecodeChain::run() {}

void adamw_cuda(const AdamWRange&) { refuse("adamw_cuda"); }
CrossEntropy linear_cross_entropy_cuda(const at::Tensor&, const Weight&, const at::Tensor&,
                                       const at::Tensor&) {
  refuse("linear_cross_entropy");
}
at::Tensor dropout_cuda(const at::Tensor&, double, const CounterRng&, const TokenPlaces&) {
  refuse("dropout");
}
at::Tensor embedding_cuda(const at::Tensor&, const Weight&) { refuse("embedding"); }
at::Tensor causal_conv_silu_cuda(const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&,
                                 const std::optional<at::Tensor>&) {
  refuse("causal_conv_silu");
}
at::Tensor gated_norm_cuda(const at::Tensor&, const at::Tensor&, const at::Tensor&, int64_t,
                           const std::optional<at::Tensor>&, double) {
  refuse("gated_norm");
}
at::Tensor norm_cuda(const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&, double,
                     at::ScalarType) {
  refuse("norm");
}
bool residual_norm_fuses(const at::Tensor&, const at::Tensor&) { return false; }
ResidualNorm residual_norm_cuda(const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&,
                                const at::Tensor&, double) {
  refuse("residual_norm");
}
bool selective_mixer_fuses(const at::Tensor&, const SelectiveMixerForm&) { return false; }
at::Tensor selective_mixer(const at::Tensor&, const SelectiveMixerWeights&, const std::optional<at::Tensor>&,
                           const Documents&, const SelectiveMixerForm&, const SelectiveMixerReach&) {
  refuse("selective_mixer");
}
SquareSum square_sum_cuda(const at::Tensor&) { refuse("square_sum_cuda"); }
ScanOutput selective_scan_cuda(const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&,
                               const at::Tensor&, const at::Tensor&, const at::Tensor&,
                               const std::optional<at::Tensor>&) {
  refuse("selective_scan");
}
at::Tensor selective_step_cuda(const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&,
                               const at::Tensor&, const at::Tensor&, at::Tensor&) {
  refuse("selective_step");
}
ScanOutput ssd_scan_cuda(const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&,
                         const at::Tensor&, const at::Tensor&, const Documents&,
                         const std::optional<at::Tensor>&) {
  refuse("ssd");
}
at::Tensor ssd_step_cuda(const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&,
                         const at::Tensor&, const at::Tensor&, at::Tensor&) {
  refuse("ssd_step");
}
at::Tensor causal_conv_step_cuda(const at::Tensor&, const at::Tensor&, const at::Tensor&, at::Tensor&) {
  refuse("causal_conv_step");
}

}  // namespace dm::kernels
