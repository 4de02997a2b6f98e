#include "model/local_parameters.h"

#include <algorithm>

#include "core/error.h"
#include "model/scope.h"

namespace dm::model {
namespace {

int64_t product(const std::vector<int64_t>& shape) {
  int64_t count = 1;
  for (const int64_t extent : shape) count *= extent;
  return count;
}

/// The runs of tensor rank `rank`, a single one where every rank holds the parameter whole.
std::vector<Run> runs_of(const DeclaredParameter& p, int64_t rank) {
  if (p.cut.ranks.empty()) return {{0, p.info.shape[0]}};
  return p.cut.ranks[static_cast<size_t>(rank)];
}

/// How many runs of ranks [0, ranks) equal `run`.
int64_t places(const DeclaredParameter& p, const Run& run, int64_t ranks) {
  int64_t count = 0;
  for (int64_t r = 0; r < ranks; ++r) {
    const std::vector<Run> runs = runs_of(p, r);
    count += std::count(runs.begin(), runs.end(), run);
  }
  return count;
}

LocalParameter local(const DeclaredParameter& p, int64_t tp, int64_t rank) {
  const auto dim = static_cast<size_t>(p.cut.dim);
  LocalParameter result{p.info, p.info.shape, {}};
  int64_t extent = 0;
  const std::vector<Run> runs = runs_of(p, rank);
  DM_CHECK(dim == 0 || runs.size() <= 1, "{}: several runs of columns are not contiguous", p.info.name);
  const int64_t width = dim == 0 ? product(p.info.shape) / p.info.shape[0] : 1;
  for (auto run = runs.begin(); run != runs.end(); ++run) {
    ParameterPiece piece{std::vector<int64_t>(p.info.shape.size(), 0), p.info.shape, extent * width,
                         places(p, *run, tp), false};
    piece.begin[dim] = run->begin, piece.shape[dim] = run->count();
    piece.counted = places(p, *run, rank) == 0 && std::find(runs.begin(), run, *run) == run;
    extent += run->count();
    ParameterPiece* const last = result.pieces.empty() ? nullptr : &result.pieces.back();
    if (last && last->places == 1 && piece.places == 1 && (run - 1)->end == run->begin)
      last->shape[dim] += run->count();  // neighbours in the logical parameter too
    else
      result.pieces.push_back(std::move(piece));
  }
  result.shape[dim] = std::max(extent, p.cut.padded);
  return result;
}

/// A piece's elements in a tensor of the logical parameter's shape, and in the local tensor.
at::Tensor box(const at::Tensor& whole, const ParameterPiece& piece) {
  at::Tensor view = whole;
  for (size_t d = 0; d < piece.shape.size(); ++d)
    view = view.narrow(static_cast<int64_t>(d), piece.begin[d], piece.shape[d]);
  return view;
}
at::Tensor place(const at::Tensor& local, const ParameterPiece& piece) {
  return local.view(-1).narrow(0, piece.offset, piece.count()).view(piece.shape);
}

}  // namespace

int64_t ParameterPiece::count() const { return product(shape); }
int64_t LocalParameter::count() const { return product(shape); }
bool LocalParameter::whole() const { return pieces.size() == 1 && pieces[0].shape == info.shape; }

std::vector<LocalParameter> local_parameters(const ModelConfig& config, const Placement& placement) {
  return local_parts(declared_parameters(config, placement.tp), placement);
}

std::vector<LocalParameter> local_parts(const std::vector<DeclaredParameter>& declared,
                                        const Placement& placement) {
  std::vector<LocalParameter> all;
  for (const DeclaredParameter& p : declared) {
    LocalParameter mine = local(p, placement.tp, placement.tp_rank);
    if (mine.count() > 0) all.push_back(std::move(mine));
  }
  return all;
}

std::vector<LocalParameter> whole_parameters(const std::vector<ParameterInfo>& infos) {
  std::vector<LocalParameter> all;
  for (const ParameterInfo& info : infos)
    all.push_back({info,
                   info.shape,
                   {{.begin = std::vector<int64_t>(info.shape.size(), 0),
                     .shape = info.shape,
                     .offset = 0,
                     .places = 1,
                     .counted = true}}});
  return all;
}

void initialise(const ModelConfig& config, const LocalParameter& local, uint64_t seed, at::Tensor values) {
  DM_CHECK(values.sizes().vec() == local.shape && values.is_contiguous(),
           "{}: initial values go to the contiguous local tensor", local.info.name);
  if (local.whole() && local.shape == local.info.shape)
    return initialise(config, local.info, seed, 0, values);
  values.zero_();
  const int64_t row = local.info.count() / local.info.shape[0];  // elements of a logical row
  for (const ParameterPiece& piece : local.pieces) {
    const at::Tensor rows = place(values, piece);
    if (piece.count() == piece.shape[0] * row) {  // whole rows stand together
      initialise(config, local.info, seed, piece.begin[0] * row, rows);
      continue;
    }
    for (int64_t i = 0; i < piece.shape[0]; ++i)
      initialise(config, local.info, seed, (piece.begin[0] + i) * row + piece.begin[1], rows.select(0, i));
  }
}

at::Tensor local_part(const LocalParameter& local, const at::Tensor& whole) {
  DM_CHECK(whole.sizes().vec() == local.info.shape, "{}: not the whole tensor", local.info.name);
  at::Tensor values = at::zeros(local.shape, whole.options());
  for (const ParameterPiece& piece : local.pieces) place(values, piece).copy_(box(whole, piece));
  return values;
}

void copy_to_whole(const LocalParameter& local, const at::Tensor& values, at::Tensor whole) {
  DM_CHECK(values.sizes().vec() == local.shape && values.is_contiguous() &&
               whole.sizes().vec() == local.info.shape,
           "{}: not the local and the whole tensor", local.info.name);
  for (const ParameterPiece& piece : local.pieces) box(whole, piece).copy_(place(values, piece));
}

}  // namespace dm::model
