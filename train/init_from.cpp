#include "train/init_from.h"

#include <algorithm>
#include <iterator>

namespace dm::train {

std::vector<Difference> model_differences(const model::ModelConfig& stored,
                                          const model::ModelConfig& current) {
  model::ModelConfig before = stored, now = current;
  FieldTable old_fields, new_fields;
  old_fields.add("model", before);
  new_fields.add("model", now);
  const bool same_layers = model::layer_letters(stored) == model::layer_letters(current);
  std::vector<Difference> differences;
  for (size_t i = 0; i < old_fields.fields().size(); ++i) {
    const Field &old_field = old_fields.fields()[i], &new_field = new_fields.fields()[i];
    if (old_field.affects != Affects::result || old_field.name == "preset") continue;
    if (same_layers && (old_field.name == "pattern" || old_field.name == "layers")) continue;
    if (old_field.text() != new_field.text())
      differences.push_back({old_field.name, old_field.text(), new_field.text()});
  }
  return differences;
}

std::vector<checkpoints::Piece> weights_among(const std::vector<checkpoints::Piece>& all) {
  std::vector<checkpoints::Piece> weights;
  std::copy_if(all.begin(), all.end(), std::back_inserter(weights),
               [](const checkpoints::Piece& piece) { return piece.name.find('/') == std::string::npos; });
  return weights;
}

}  // namespace dm::train
