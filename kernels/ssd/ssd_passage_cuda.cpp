#include "kernels/ssd/cuda/passage.h"

#include <ATen/ATen.h>

#include "kernels/comm/context_axis.h"
#include "kernels/device/cuda/tensor.h"

namespace dm::kernels {
namespace {

Passage new_passage(const cuda::SsdShape& s, const at::Tensor& like) {
  return {{s.rows, s.heads, s.head_dim, s.state}, {s.rows, s.heads, 1, 1}, like.options().dtype(at::kFloat)};
}

void find(const Passage& piece, cuda::SsdPassage args, cuda::SsdPath path) {
  args.state = piece.state.data_ptr<float>();
  args.decay = piece.decay.data_ptr<float>();
  check_launch(cuda::ssd_passage(args, path, current_stream()), "ssd");
}

}  // namespace

at::Tensor ssd_entering_state(cuda::SsdForward& args, cuda::SsdPath path, const at::Tensor& like,
                              Collectives& group) {
  const Passage piece = new_passage(args.in.shape, like);
  args.passed = group.rank() + 1 < group.size();  // nobody asks what the last piece does
  if (args.passed)
    find(piece,
         {.in = args.in,
          .dy = nullptr,
          .dfinal_state = nullptr,
          .saved = args.saved,
          .workspace = args.workspace,
          .state = nullptr,
          .decay = nullptr,
          .dy_stride = 0},
         path);
  return state_entering(piece, group);
}

at::Tensor ssd_leaving_gradient(cuda::SsdBackward& args, cuda::SsdPath path, const at::Tensor& like,
                                Collectives& group) {
  const Passage piece = new_passage(args.in.shape, like);
  args.passed = group.rank() > 0;
  if (args.passed)
    find(piece,
         {.in = args.in,
          .dy = args.dy,
          .dfinal_state = args.dfinal_state,
          .saved = const_cast<void*>(args.saved),
          .workspace = args.workspace,
          .state = nullptr,
          .decay = nullptr,
          .dy_stride = args.dy_stride},
         path);
  return gradient_leaving(piece, group);
}

}  // namespace dm::kernels
