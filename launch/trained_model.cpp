#include "launch/trained_model.h"

#include "core/error.h"
#include "core/log.h"
#include "kernels/device/gpu.h"

namespace dm::launch {

TrainedModel load_trained_model(const std::string& directory) {
  TrainedModel trained;
  trained.model = train::load_for_inference(directory);
  const std::string& where = trained.model.summary.directory;
  trained.meta = train::Meta::from_json(trained.model.summary.meta, where);
  trained.length = required<int64_t>(required<Json>(trained.meta.config, "train", where), "length", where);
  return trained;
}

std::unique_ptr<model::LanguageModel> place(TrainedModel& trained, const PlaceOptions& options, int64_t gpu) {
  model::Parameters& parameters = trained.model.parameters;
  const at::ScalarType stored = parameters.begin()->second.scalar_type();
  if (options.device == "cpu") {
    DM_REQUIRE(options.compute != "bf16", ExitCode::usage,
               "--compute bf16: on the CPU activations are of the weights' type; give --device cuda");
    DM_REQUIRE(options.compute == "auto" || stored == at::kFloat, ExitCode::usage,
               "--compute f32: the weights of {} are f64, and so are activations on the CPU; leave it out",
               trained.model.summary.directory);
    return std::make_unique<model::LanguageModel>(trained.model.config, parameters);
  }
  kernels::use_gpu(gpu);
  if (stored != at::kFloat)
    log_info("{}: weights are rounded to f32 for the GPU", trained.model.summary.directory);
  for (auto& [name, tensor] : parameters) tensor = tensor.to(at::kCUDA, at::kFloat);
  return std::make_unique<model::LanguageModel>(trained.model.config, parameters,
                                                options.compute == "f32" ? at::kFloat : at::kBFloat16);
}

std::unique_ptr<data::Tokenizer> open_trained_tokenizer(const TrainedModel& trained) {
  const train::DataIdentity& data = trained.meta.data;
  return data::reopen_tokenizer(train::find_tokenizer(data, trained.model.summary.directory), data.eos_id,
                                data.tokenizer_hash);
}

void refuse_other_tokenizer(const TrainedModel& trained, const data::Dataset& dataset) {
  DM_REQUIRE(dataset.tokenizer_hash() == trained.meta.data.tokenizer_hash, ExitCode::bad_data,
             "{}: made with the tokenizer {} ({}), but {} was trained with {} ({}); prepare the text again "
             "with that one",
             dataset.path(), dataset.tokenizer(), hex(dataset.tokenizer_hash()),
             trained.model.summary.directory, trained.meta.data.tokenizer,
             hex(trained.meta.data.tokenizer_hash));
}

}  // namespace dm::launch
