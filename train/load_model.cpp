#include "train/load_model.h"

#include <filesystem>

#include "core/error.h"
#include "core/log.h"
#include "train/flat_parameters.h"
#include "train/state.h"

namespace dm::train {
namespace {

model::ModelConfig stored_model_config(const Json& run_config, const std::string& where) {
  model::ModelConfig config;
  FieldTable table;
  table.add("model", config);
  table.read_json({{"model", required<Json>(run_config, "model", where)}}, where);
  model::validate(config);
  return config;
}

LoadedModel load_checkpoint(const std::string& directory) {
  LoadedModel loaded;
  loaded.summary = checkpoints::read_summary(directory);
  const Meta meta = Meta::from_json(loaded.summary.meta, directory);
  loaded.config = stored_model_config(meta.config, directory);

  std::vector<checkpoints::Piece> pieces;
  for (const model::ParameterInfo& info : model::parameter_infos(loaded.config))
    for (const auto& tensor : loaded.summary.tensors) {
      if (tensor.name != info.name) continue;
      // The manifest's shape is compared with the config's before anything of that size is allocated.
      DM_REQUIRE(tensor.global_shape == info.shape, ExitCode::bad_data,
                 "{}: the shape of {} does not fit the config stored beside it", directory, info.name);
      const at::Tensor values = at::empty(info.shape, scalar_type(tensor.dtype));
      loaded.parameters.emplace(info.name, values);
      const checkpoints::Box whole{std::vector<int64_t>(info.shape.size(), 0), info.shape};
      pieces.push_back({info.name, tensor.dtype, info.shape, whole, values.data_ptr()});
    }
  checkpoints::load(directory, pieces);
  return loaded;
}

}  // namespace

LoadedModel load_for_inference(const std::string& directory) {
  const std::filesystem::path path(directory);
  DM_REQUIRE(std::filesystem::is_directory(path), ExitCode::io,
             "{}: no such folder; name a run or one of its checkpoints", directory);
  if (std::filesystem::exists(path / "COMMIT")) return load_checkpoint(directory);

  const std::vector<std::string> candidates = checkpoints::list(directory);
  DM_REQUIRE(!candidates.empty(), ExitCode::bad_data, "{}: holds no committed checkpoint", directory);
  for (const std::string& candidate : candidates) try {
      return load_checkpoint(candidate);
    } catch (const Error& error) {
      if (!checkpoints::condemns(error)) throw;
      log_warn("{}; trying the checkpoint before it", error.what());
    }
  DM_FAIL(ExitCode::bad_data, "{}: none of its {} checkpoints can be loaded; `diffmamba verify` shows why",
          directory, candidates.size());
}

}  // namespace dm::train
