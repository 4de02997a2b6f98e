#include "tests/train/tiny_run.h"

#include <stdlib.h>

#include <cmath>
#include <exception>
#include <filesystem>
#include <fstream>
#include <limits>
#include <stdexcept>

#include "core/rng.h"
#include "data/dataset_writer.h"
#include "tests/train/tiny_model.h"
#include "train/load_model.h"

namespace dm::test {

void write_tiny_data(const std::string& directory, int64_t tokens) {
  const CounterRng random(11, "tiny data");
  const auto tokenizer = data::open_tokenizer("bytes");
  data::DatasetWriter writer(directory, *tokenizer, /*shard_tokens=*/tokens / 3);
  for (uint64_t i = 0; writer.token_count() < tokens; ++i) {
    int32_t byte = static_cast<int32_t>(random.below(2 * i, 256));
    for (uint64_t length = 1 + random.below(2 * i + 1, 40); length > 0; --length) {
      writer.append(&byte, 1, /*loss=*/true);
      byte = (3 * byte + 1) % 256;
    }
    writer.end_document();
  }
  writer.finish();
}

train::RunConfig tiny_run(const std::string& folder, const std::string& name, int64_t steps) {
  train::RunConfig config;
  config.model = tiny_model();
  // Masks too must be the same on every layout, after every resume and for every cut into micro-steps.
  config.model.dropout = config.model.embedding_dropout = config.model.head_dropout = 0.1;
  config.data.data = {folder + "/data"};
  config.data.reader_threads = 1;
  config.optimizer.lr = 0.01;
  config.optimizer.clip = 0.5;
  config.schedule = {.schedule = "constant", .warmup = 3};
  config.train.run_dir = folder + "/" + name;
  config.train.ledger = folder + "/" + name + ".ledger";
  config.train.dtype = "f64";
  config.train.length = 12;
  config.train.global_batch = 5;
  config.train.micro_batch = 2;
  config.train.steps = steps;
  config.train.threads = 1;
  config.train.save_every_minutes = 0;
  config.train.telemetry_every = 4;
  config.train.telemetry_tokens = 24;
  config.train.log_every = 1000;
  config.resolve_and_validate();
  return config;
}

SharedFolder::SharedFolder(Collectives& group) : group_(group) {
  setenv("DM_LOG", "error", 0);  // dozens of runs would each introduce themselves
  std::string mine;
  if (group.rank() == 0) {
    mine = (std::filesystem::temp_directory_path() / "diffmamba-run-XXXXXX").string();
    if (mkdtemp(mine.data()) == nullptr) throw std::runtime_error("mkdtemp " + mine);
    write_tiny_data(mine + "/data", 3000);
  }
  path_ = group.gather_text(mine)[0];
}

SharedFolder::~SharedFolder() {
  if (std::uncaught_exceptions() == 0) group_.barrier();  // after a failure the other ranks do not come here
  std::error_code ignored;
  if (group_.rank() == 0) std::filesystem::remove_all(path_, ignored);
}

std::vector<double> metric(const std::string& run_dir, const char* key) {
  std::ifstream file(run_dir + "/metrics.jsonl");
  std::vector<double> values;
  for (std::string line; std::getline(file, line);) {
    const Json json = parse_json(line, run_dir);
    if (json.contains(key)) values.push_back(json[key].is_number() ? json[key].get<double>() : NAN);
  }
  return values;
}

std::vector<double> final_weights(const std::string& run_dir) {
  std::vector<double> values;
  for (const auto& [name, tensor] : train::load_for_inference(run_dir).parameters) {
    const at::Tensor flat = tensor.to(at::kDouble).contiguous().view(-1);
    values.insert(values.end(), flat.data_ptr<double>(), flat.data_ptr<double>() + flat.numel());
  }
  return values;
}

double relative_difference(const std::vector<double>& a, const std::vector<double>& b) {
  if (a.size() != b.size()) return std::numeric_limits<double>::infinity();
  double difference = 0, norm = 0;
  for (size_t i = 0; i < a.size(); ++i) difference += (a[i] - b[i]) * (a[i] - b[i]), norm += b[i] * b[i];
  return std::sqrt(difference / norm);
}

}  // namespace dm::test
