#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>

#include "checkpoints/store.h"
#include "core/error.h"
#include "core/json.h"
#include "data/dataset.h"
#include "data/tokenizer.h"
#include "data/verify.h"
#include "launch/command.h"
#include "launch/trained_model.h"
#include "model/config.h"
#include "model/cost.h"
#include "train/run_config.h"

namespace dm::launch {
namespace {

namespace fs = std::filesystem;

struct InspectOptions {
  std::string path;
  bool text = false;
  bool json = false;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& v) {
    v("path", self.path, "dataset, checkpoint or run folder; none: the model of the options");
    v("text", self.text, "print a dataset's text, decoded, documents one after another");
    v("json", self.json, "print JSON");
  }
};

Json cost_json(const model::ModelConfig& config) {
  const model::ModelCost cost = model::model_cost(config);
  Json layers = Json::array();
  for (const model::LayerCost& layer : cost.layers) {
    const model::StageCost total = layer.total();
    layers.push_back({{"layer", layer.layer},
                      {"letter", std::string(1, layer.letter)},
                      {"parameters", layer.parameters},
                      {"forward_flops_per_token", total.forward_flops},
                      {"backward_flops_per_token", total.backward_flops}});
  }
  const model::StageCost total = cost.total();
  return {{"parameters", cost.parameters},
          {"embedding_parameters", cost.embedding_parameters},
          {"layers", layers},
          {"head_forward_flops_per_token", cost.head.forward_flops},
          {"forward_flops_per_token", total.forward_flops},
          {"backward_flops_per_token", total.backward_flops}};
}

/// Runs of equal layers share a line.
void print_model(const model::ModelConfig& config) {
  const model::ModelCost cost = model::model_cost(config);
  fmt::print("{} {}: {} layers, D {}, V {}\n", config.mixer, config.pattern, cost.layers.size(),
             config.d_model, config.vocab_size);
  fmt::print("  {:<12} {:<6} {:>16} {:>18} {:>18}\n", "layers", "letter", "parameters each",
             "forward MFLOP/tok", "backward MFLOP/tok");
  for (size_t begin = 0; begin < cost.layers.size();) {
    size_t end = begin;
    while (end < cost.layers.size() && cost.layers[end].letter == cost.layers[begin].letter &&
           cost.layers[end].parameters == cost.layers[begin].parameters)
      ++end;
    const model::StageCost total = cost.layers[begin].total();
    const std::string which =
        end - begin == 1 ? fmt::format("{}", begin) : fmt::format("{}-{}", begin, end - 1);
    fmt::print("  {:<12} {:<6} {:>16} {:>18.3f} {:>18.3f}\n", which, cost.layers[begin].letter,
               cost.layers[begin].parameters, total.forward_flops / 1e6, total.backward_flops / 1e6);
    begin = end;
  }
  fmt::print("  {:<19} {:>16} {:>18.3f} {:>18.3f}\n", "embedding, norm, head", cost.embedding_parameters,
             cost.head.forward_flops / 1e6, cost.head.backward_flops / 1e6);
  const model::StageCost total = cost.total();
  fmt::print("  {:<19} {:>16} {:>18.3f} {:>18.3f}\n", "all", cost.parameters, total.forward_flops / 1e6,
             total.backward_flops / 1e6);
}

void print_text(const std::string& path) {
  const auto dataset = data::open_dataset(path);
  const auto tokenizer =
      data::reopen_tokenizer(dataset->tokenizer(), dataset->eos_id(), dataset->tokenizer_hash());
  constexpr int64_t kBlock = 1 << 20;  // tokens
  data::StreamDecoder decoder(*tokenizer);
  const auto print = [](const std::string& text) {
    DM_REQUIRE(std::fwrite(text.data(), 1, text.size(), stdout) == text.size(), ExitCode::io,
               "standard output: write failed");
  };
  std::vector<int32_t> ids;
  for (int64_t begin = 0; begin < dataset->token_count(); begin += kBlock) {
    ids.resize(static_cast<size_t>(std::min(kBlock, dataset->token_count() - begin)));
    dataset->read_tokens(begin, static_cast<int64_t>(ids.size()), ids.data());
    for (auto at = ids.begin(); at != ids.end();) {
      const auto end = std::find(at, ids.end(), tokenizer->eos_id());
      print(decoder.push(&*at, end - at));
      if (end == ids.end()) break;
      print(decoder.finish());
      at = end + 1;
    }
  }
  print(decoder.finish());
}

class InspectCommand final : public Command {
 public:
  InspectCommand() {
    table_ = config_.table();
    table_.add("inspect", options_);
  }

  const char* name() const override { return "inspect"; }
  const char* summary() const override { return "what is in a dataset, a checkpoint, a run or a config"; }
  const char* description() const override {
    return "Without PATH: parameters by layer and FLOPs per token of the model that the options, a preset or "
           "--config describe.";
  }
  const char* positional() const override { return "path"; }
  void apply_presets() override {
    if (!config_.model.preset.empty()) model::apply_preset(config_.model, config_.model.preset);
  }

  ExitCode run(const Invocation&) override {
    if (options_.path.empty()) {
      model::validate(config_.model);
      if (options_.json)
        fmt::print("{}\n", cost_json(config_.model).dump(2));
      else
        print_model(config_.model);
      return ExitCode::ok;
    }
    DM_REQUIRE(fs::exists(options_.path), ExitCode::io, "{}: no such file or folder", options_.path);
    if (fs::exists(fs::path(options_.path) / "dataset.json") || !fs::is_directory(options_.path)) {
      if (options_.text)
        print_text(options_.path);
      else
        fmt::print("{}\n", data::describe_dataset(options_.path).dump(2));
      return ExitCode::ok;
    }
    inspect_checkpoint();
    return ExitCode::ok;
  }

 private:
  void inspect_checkpoint() const {
    const TrainedModel trained = load_trained_model(options_.path);
    const checkpoints::Summary& summary = trained.model.summary;
    if (options_.json) {
      Json tensors = Json::object();
      for (const auto& tensor : summary.tensors)
        tensors[tensor.name] = {{"dtype", dm::name(tensor.dtype)}, {"shape", tensor.global_shape}};
      const Json whole = {{"directory", summary.directory},
                          {"meta", summary.meta},
                          {"model", cost_json(trained.model.config)},
                          {"tensors", tensors}};
      fmt::print("{}\n", whole.dump(2));
      return;
    }
    fmt::print("{}\n  step {}, {} rows and {} tokens seen, written by {} on {} rank(s), tokenizer {}\n",
               summary.directory, summary.step, trained.meta.progress.samples, trained.meta.progress.tokens,
               trained.meta.program, trained.meta.world, trained.meta.data.tokenizer);
    print_model(trained.model.config);
  }

  InspectOptions options_;
  train::RunConfig config_;
};

}  // namespace

std::unique_ptr<Command> make_inspect_command() { return std::make_unique<InspectCommand>(); }

}  // namespace dm::launch
