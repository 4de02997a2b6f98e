#include "model/layers/registry.h"

#include <fmt/core.h>

#include "core/error.h"
#include "kernels/norm/norm.h"

namespace dm::model {

const std::vector<const LayerKind*>& layer_kinds() {
  static const std::vector<const LayerKind*> kinds = {&plain_mixer_kind(), &differential_kind(),
                                                      &diff_scan_kind(), &feed_forward_kind()};
  return kinds;
}

const LayerKind* find_layer_kind(char letter) {
  for (const LayerKind* kind : layer_kinds())
    if (kind->letter() == letter) return kind;
  return nullptr;
}

const LayerKind& layer_kind(char letter) {
  const LayerKind* kind = find_layer_kind(letter);
  DM_CHECK(kind, "no layer has the letter '{}'", letter);
  return *kind;
}

std::string layer_letters_help() {
  std::string text;
  for (const LayerKind* kind : layer_kinds())
    text += fmt::format("{}{} ({})", text.empty() ? "" : ", ", kind->letter(), kind->name());
  return text;
}

at::Tensor normalised_output(const Layer& layer, const at::Tensor& u, const kernels::Documents& documents,
                             double eps) {
  const at::Tensor y = layer.forward(u, documents);
  const std::optional<at::Tensor> norm = layer.output_norm();
  return norm ? kernels::rms_norm(y, *norm, eps) : y;
}

PlainDifference LayerKind::plain(const LayerView& view, const at::Tensor&, const kernels::Documents&) const {
  DM_FAIL(ExitCode::internal, "layer {} takes no difference", view.index);
}

}  // namespace dm::model
