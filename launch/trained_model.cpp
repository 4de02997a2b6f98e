#include "launch/trained_model.h"

#include "core/error.h"

namespace dm::launch {

TrainedModel load_trained_model(const std::string& directory) {
  TrainedModel trained;
  trained.model = train::load_for_inference(directory);
  const std::string& where = trained.model.summary.directory;
  trained.meta = train::Meta::from_json(trained.model.summary.meta, where);
  trained.length = required<int64_t>(required<Json>(trained.meta.config, "train", where), "length", where);
  return trained;
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
