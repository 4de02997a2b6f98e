#include "train/plan/rank_memory.h"

#include <algorithm>

#include "checkpoints/memory_store.h"
#include "model/row_states.h"

namespace dm::train {
namespace {

constexpr int64_t kStoredArrays = 3;  // weights and both moments

model::Placement placement(const RankPlace& place) {
  return {.tp = place.tp, .tp_rank = place.tp_rank, .cp = place.cp, .cp_rank = place.cp_rank};
}

/// Of the buffers of gradients at ZeRO stage 2; 0 where all are kept.
int64_t scattered_elements(const RankParameters& held, const RankPlace& place, const StepSize& size) {
  if (!scatters(size.zero, place.shard)) return 0;
  const FlatLayout flat =
      flat_layout(held.held, size_bytes(size.weights), place.shard, size.bucket_bytes, /*scattered=*/true);
  return flat.gradient_count + flat.widest_piece();
}

/// Of all rows once, and of those of a pass twice: as they enter it and as they leave it. Passes over fewer
/// rows, the last ones, have memory of their own.
double carried_bytes(const model::ModelConfig& model, const RankPlace& place, const StepSize& size) {
  if (!size.streams) return 0;
  const int64_t rows = own_rows(place, size), at_once = std::min(size.micro_batch, rows);
  const int64_t copies = rows + 2 * (at_once + (at_once > 0 ? rows % at_once : 0));
  return static_cast<double>(copies *
                             model::row_size(model, placement(place), size_bytes(size.activations)).bytes);
}

/// stored_bytes() of the ranks with one tensor rank: of the state, where it is stored, and of a row.
struct Stored {
  int64_t state, row;
  Stored(const model::ModelConfig& model, const RankParameters& parameters, RankPlace place,
         const StepSize& size) {
    const int64_t element = size_bytes(size.weights);
    place.cp_rank = 0;
    state = kStoredArrays * element *
            flat_layout(parameters.held, element, place.shard, size.bucket_bytes).owned_count;
    row = size.streams ? element * model::row_size(model, placement(place), 0).stored : 0;
  }
  int64_t of(const RankPlace& place, const StepSize& size) const {
    // Of ranks that own the same piece the first stores it; of context ranks the first has the rows' states.
    const bool stores = place.dp_rank * place.cp + place.cp_rank < place.shard;
    return (stores ? state : 0) + (place.cp_rank == 0 ? row * own_rows(place, size) : 0);
  }
};

}  // namespace

model::MemoryNeed rank_memory(const model::ModelConfig& model, const RankParameters& parameters,
                              const RankPlace& place, const StepSize& size) {
  const model::HeldPart part{.parameters = parameters.held,
                             .share = parameters.share,
                             .tp = place.tp,
                             .owners = place.shard,
                             .gradients = scattered_elements(parameters, place, size),
                             .carried = carried_bytes(model, place, size)};
  return model::training_memory(model, part, std::min(size.micro_batch, own_rows(place, size)),
                                model::context_piece(size.length, place.cp, 0).count(),
                                size_bytes(size.activations));
}

int64_t stored_bytes(const model::ModelConfig& model, const RankParameters& parameters,
                     const RankPlace& place, const StepSize& size) {
  return Stored(model, parameters, place, size).of(place, size);
}

int64_t snapshot_bytes(const model::ModelConfig& model, RankPlace place, const StepSize& size,
                       int64_t ranks_per_node) {
  std::vector<Stored> stored;  // by tensor rank
  for (place.tp_rank = 0; place.tp_rank < place.tp; ++place.tp_rank)
    stored.emplace_back(model, RankParameters(model, place.tp, place.tp_rank), place, size);
  std::vector<int64_t> bytes(static_cast<size_t>((place.world() + ranks_per_node - 1) / ranks_per_node));
  for (int64_t rank = 0; rank < place.world(); ++rank) {
    place.tp_rank = rank % place.tp, place.cp_rank = rank / place.tp % place.cp;
    place.dp_rank = rank / place.tp / place.cp;
    bytes[static_cast<size_t>(rank / ranks_per_node)] +=
        stored[static_cast<size_t>(place.tp_rank)].of(place, size);
  }
  return checkpoints::snapshot_room(bytes);
}

}  // namespace dm::train
