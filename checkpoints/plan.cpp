#include "checkpoints/plan.h"

#include <algorithm>
#include <map>

#include "checkpoints/boxes.h"
#include "checkpoints/names.h"
#include "core/error.h"

namespace dm::checkpoints {
namespace {

/// A piece on its way into the plan.
struct Entry {
  Manifest::StoredPiece stored;
  int64_t rank, index;
};
struct Gathered {
  DType dtype;
  std::vector<int64_t> shape;
  std::vector<Entry> entries;
};

}  // namespace

std::string piece_list(const std::vector<Piece>& pieces) {
  Json list = Json::array();
  for (const Piece& piece : pieces) {
    DM_CHECK(is_tensor_name(piece.name), "'{}' is no name of a tensor in a checkpoint", piece.name);
    DM_CHECK(checked_bytes(piece.global_shape, size_bytes(piece.dtype)).has_value(),
             "{}: its shape is beyond the format", piece.name);
    const bool empty = piece.box.count() == 0;
    DM_CHECK(empty || lies_inside(piece.box, piece.global_shape), "{}: piece {} lies outside the tensor",
             piece.name, text(piece.box));
    DM_CHECK(empty || piece.data != nullptr, "{}: piece {} has no data", piece.name, text(piece.box));
    list.push_back({piece.name, name(piece.dtype), piece.global_shape, piece.box.offset, piece.box.shape});
  }
  return list.dump();
}

SavePlan make_plan(int64_t step, const std::vector<std::string>& lists,
                   const std::vector<int64_t>& file_of_rank) {
  std::map<std::string, Gathered> tensors;
  for (size_t r = 0; r < lists.size(); ++r) {
    const Json list = Json::parse(lists[r]);
    for (size_t i = 0; i < list.size(); ++i) {
      const Json& item = list[i];
      const auto dtype = parse_dtype(item[1].get_ref<const std::string&>(), "piece list");
      const auto shape = item[2].get<std::vector<int64_t>>();
      const auto& [found, is_new] =
          tensors.try_emplace(item[0].get<std::string>(), Gathered{dtype, shape, {}});
      DM_CHECK(found->second.dtype == dtype && found->second.shape == shape,
               "{}: ranks disagree about its dtype or shape", found->first);
      Entry entry{{file_of_rank[r], "", -1, {item[3], item[4]}, 0, {}},
                  static_cast<int64_t>(r),
                  static_cast<int64_t>(i)};
      entry.stored.size_bytes = entry.stored.box.count() * size_bytes(dtype);
      if (entry.stored.size_bytes > 0) found->second.entries.push_back(std::move(entry));
    }
  }

  SavePlan plan;
  plan.manifest.step = step;
  for (auto& [tensor_name, tensor] : tensors) {
    std::sort(tensor.entries.begin(), tensor.entries.end(),
              [](const Entry& a, const Entry& b) { return a.stored.box.offset < b.stored.box.offset; });
    std::vector<Box> boxes;
    for (const Entry& entry : tensor.entries) boxes.push_back(entry.stored.box);
    const std::string problem = partition_problem(tensor.shape, boxes);
    DM_CHECK(problem.empty(), "{}: {} among the pieces that the ranks want to save", tensor_name, problem);

    Manifest::Tensor& planned =
        plan.manifest.tensors.emplace_back(Manifest::Tensor{tensor_name, tensor.dtype, tensor.shape, {}});
    for (Entry& entry : tensor.entries) {
      const size_t piece = planned.pieces.size();
      entry.stored.dataset =
          dataset_path(tensor_name, static_cast<int64_t>(piece), static_cast<int64_t>(tensor.entries.size()));
      plan.sources.push_back({entry.rank, entry.index, plan.manifest.tensors.size() - 1, piece});
      planned.pieces.push_back(std::move(entry.stored));
    }
  }
  return plan;
}

std::vector<SavePlan::Source> SavePlan::in_file(int64_t file) const {
  std::vector<Source> chosen;
  std::copy_if(sources.begin(), sources.end(), std::back_inserter(chosen),
               [&](const Source& s) { return stored(s).file == file; });
  return chosen;
}

std::vector<H5Dataset> SavePlan::datasets(int64_t file) const {
  std::vector<H5Dataset> list;
  for (const Source& source : in_file(file))
    list.push_back(
        {stored(source).dataset, manifest.tensors[source.tensor].dtype, stored(source).box.shape, -1});
  return list;
}

}  // namespace dm::checkpoints
