#include "model/memory.h"

#include <fmt/format.h>

#include <algorithm>

#include "model/layers/registry.h"
#include "model/recompute.h"

namespace dm::model {
namespace {

constexpr double kGiB = 1024.0 * 1024 * 1024;
constexpr double kLogitBytes = 256.0 * 1024 * 1024;  // of a block of rows at most: cross_entropy_cuda.cpp

/// Copies of matrices in the type of the activations; of float32 ones only where branches are stacked.
double copied_bytes(const ModelConfig& config, const std::vector<LocalParameter>& parameters,
                    int64_t activation_bytes) {
  const std::string letters = layer_letters(config);
  constexpr std::string_view kLayers = "backbone.layers.";
  double bytes = 0;
  for (const LocalParameter& parameter : parameters) {
    const ParameterInfo& info = parameter.info;
    if (info.shape.size() != 2 || !info.decay) continue;
    const bool in_layer = info.name.starts_with(kLayers);
    const bool stacked =
        in_layer && layer_kind(letters[std::stoul(info.name.substr(kLayers.size()))]).has_difference();
    const bool head = config.tied || info.name != "backbone.embeddings.weight";
    if (activation_bytes < 4 ? head : stacked)
      bytes += static_cast<double>(activation_bytes * parameter.count());
  }
  return bytes;
}

}  // namespace

double MemoryNeed::total() const {
  double sum = 0;
  for (const MemoryPart& part : parts) sum += part.bytes;
  return sum;
}

std::string MemoryNeed::text() const {
  std::string text = fmt::format("{:.1f} GiB:", total() / kGiB);
  const char* separator = " ";
  for (const MemoryPart& part : parts) {
    text += fmt::format("{}{} {:.1f}", separator, part.name, part.bytes / kGiB);
    separator = ", ";
  }
  return text;
}

MemoryNeed training_memory(const ModelConfig& config, const HeldPart& part, int64_t rows, int64_t length,
                           int64_t activation_bytes) {
  const std::string letters = layer_letters(config);
  const auto tokens = static_cast<double>(rows * length), d = static_cast<double>(config.d_model),
             own = 1.0 / static_cast<double>(part.tp);  // of the tokens, between layers
  double parameters = 0;
  for (const LocalParameter& parameter : part.parameters)
    parameters += static_cast<double>(parameter.count());
  const double owned = parameters / static_cast<double>(part.owners);
  const double e = static_cast<double>(activation_bytes);
  const auto count = static_cast<int64_t>(letters.size());
  const int64_t again = recomputed_layers(config, count);

  // Of every layer: the stream behind it, its output and the roots of both norms.
  const double h = config.residual_dtype == "bf16" ? e * d : 4 * d;
  const double stream = own * (h + e * d + 8);
  // What a layer takes in: its part of the tokens, and for the layer all of them.
  const double input = own * e * d + (part.tp > 1 ? e * d : 0);
  double kept = 0, working = 0;
  for (int64_t i = 0; i < count; ++i) {
    const LayerMemory layer = layer_kind(letters[static_cast<size_t>(i)]).memory(config, e);
    const double mixer = keeps_everything(config) ? layer.kept + layer.made_again
                         : scans_again(config)    ? layer.kept_without_scan
                                                  : layer.kept;
    const double all = input + part.share * mixer;
    // Gradients of the stream, and of the layer's output before it is dealt out.
    double now = own * h + e * d + part.share * (layer.working + layer.kept - mixer);
    if (i < again) now += all;
    kept += stream + (i < again ? 0 : all);
    working = std::max(working, now);
  }
  const double ends = own * (h + e * d) + 13;  // the embedding and the final norm, ids, documents, mask
  const double logits = std::min(kLogitBytes, tokens * e * static_cast<double>(config.vocab_size));
  const double gradients = part.gradients > 0 ? static_cast<double>(part.gradients) : parameters;
  MemoryNeed need{{{"weights", 4 * parameters}, {"gradients", 4 * gradients}, {"moments", 8 * owned}}};
  // Alone they are the weights and gradients themselves.
  if (part.owners > 1) need.parts.push_back({"owned pieces", 8 * owned});
  if (part.carried > 0) need.parts.push_back({"carried rows", part.carried});
  need.parts.push_back({"copies for products", copied_bytes(config, part.parameters, activation_bytes)});
  need.parts.push_back({"kept activations", tokens * (kept + ends)});
  // The head is over before the layers' backward passes begin.
  need.parts.push_back({"working memory", std::max(tokens * working, tokens * e * d + logits)});
  return need;
}

std::string fitting_options(const ModelConfig& config, int64_t rows,
                            const std::function<double(const ModelConfig&, int64_t)>& need, double bytes,
                            const std::string& rows_option) {
  for (int64_t fewer = rows; fewer >= 1; fewer = fewer > 1 ? (fewer + 1) / 2 : 0)
    for (const char* policy : kRecomputePolicies) {
      ModelConfig changed = config;
      changed.recompute = policy, changed.recompute_layers = 0;
      if (need(changed, fewer) > bytes) continue;
      const std::string recompute = fmt::format("--recompute {}", policy);
      return fewer == rows ? recompute : fmt::format("--{} {} {}", rows_option, fewer, recompute);
    }
  return "none of them: even one row at once is too much; give shorter rows or a smaller model";
}

}  // namespace dm::model
