#include "data/sampler.h"

#include <fmt/format.h>

#include <cmath>

#include "core/error.h"
#include "core/rng.h"

namespace dm::data {
namespace {

constexpr double kShareUnits =
    1 << 30;  // weights are rounded to this many parts, so that all ranks count alike

/// How many of the first n turns fall to a dataset with `share` of `of`: n * share / of, rounded to nearest.
int64_t turns(int64_t n, uint64_t share, uint64_t of) {
  return static_cast<int64_t>((static_cast<unsigned __int128>(n) * share + of / 2) / of);
}

}  // namespace

Sampler::Sampler(std::vector<Source> sources, Order order, uint64_t seed, int64_t global_rows)
    : sources_(std::move(sources)), order_(order), seed_(seed), global_rows_(global_rows) {
  DM_REQUIRE(!sources_.empty(), ExitCode::usage,
             "--data: no dataset; name a folder that `diffmamba prepare` made");
  DM_REQUIRE(global_rows_ > 0, ExitCode::usage, "a batch of {} rows; at least one is needed", global_rows_);
  double sum = 0;
  for (const Source& source : sources_) {
    DM_REQUIRE(source.samples > 0, ExitCode::usage,
               "--data: a dataset is shorter than one sample; use a shorter --length or more data");
    DM_REQUIRE(source.weight > 0 && std::isfinite(source.weight), ExitCode::usage,
               "--data: weight {} is not above 0", source.weight);
    sum += source.weight;
  }
  for (const Source& source : sources_)
    shares_.push_back(std::max<uint64_t>(1, std::llround(source.weight / sum * kShareUnits)));
  shares_from_ = shares_;
  for (size_t d = shares_.size() - 1; d-- > 0;) shares_from_[d] += shares_from_[d + 1];

  if (order_ != Order::streams) return;
  rows_.resize(sources_.size());
  for (int64_t row = 0; row < global_rows_; ++row) ++rows_[static_cast<size_t>(turn(row).dataset)];
  for (size_t d = 0; d < sources_.size(); ++d) {
    DM_REQUIRE(rows_[d] > 0, ExitCode::usage,
               "--order streams: the weight of dataset {} gives it none of the {} rows of a batch; use more "
               "rows or a larger weight",
               d + 1, global_rows_);
    DM_REQUIRE(sources_[d].samples >= rows_[d], ExitCode::usage,
               "--order streams: dataset {} has {} samples for its {} rows; use fewer rows, a shorter "
               "--length or --order shuffled",
               d + 1, sources_[d].samples, rows_[d]);
  }
}

/// Dataset by dataset: of the turns that the earlier ones left over, this one takes its share, evenly spaced.
Sampler::Turn Sampler::turn(int64_t n) const {
  for (size_t d = 0; d + 1 < sources_.size(); ++d) {
    const int64_t before = turns(n, shares_[d], shares_from_[d]);
    if (turns(n + 1, shares_[d], shares_from_[d]) > before) return {static_cast<int64_t>(d), before};
    n -= before;
  }
  return {static_cast<int64_t>(sources_.size()) - 1, n};
}

int64_t Sampler::shuffled_index(const Source& source, int64_t n) const {
  const int64_t epoch = n / source.samples;
  const std::string name = fmt::format("samples {} {}", hex(source.fingerprint), epoch);
  const Permutation permutation(static_cast<uint64_t>(source.samples),
                                xxh3_64(name.data(), name.size(), seed_));
  return static_cast<int64_t>(permutation(static_cast<uint64_t>(n % source.samples)));
}

Sample Sampler::at(int64_t position) const {
  DM_CHECK(position >= 0, "sample position {}", position);
  if (order_ == Order::shuffled) {
    const auto [dataset, n] = turn(position);
    return {dataset, shuffled_index(sources_[static_cast<size_t>(dataset)], n)};
  }
  const auto [dataset, begin, end] = stretch(position % global_rows_);
  return {dataset, begin + position / global_rows_ % (end - begin)};
}

/// What row `row` of every batch reads in `streams`.
Sampler::Stretch Sampler::stretch(int64_t row) const {
  const auto [dataset, part] = turn(row);
  const auto d = static_cast<size_t>(dataset);
  const auto edge = [&](int64_t r) {
    return static_cast<int64_t>(static_cast<__int128>(sources_[d].samples) * r / rows_[d]);
  };
  return {dataset, edge(part), edge(part + 1)};
}

bool Sampler::goes_on(int64_t position) const {
  if (order_ == Order::shuffled) return false;
  const Stretch read = stretch(position % global_rows_);
  return position / global_rows_ % (read.end - read.begin) != 0;
}

Hash128 Sampler::fingerprint() const {
  std::string text =
      fmt::format("samples {} {}\n", order_ == Order::shuffled ? "shuffled" : "streams", seed_);
  if (order_ == Order::streams) text += fmt::format("rows {}\n", global_rows_);
  for (size_t d = 0; d < sources_.size(); ++d)
    text += fmt::format("{} {} {}\n", hex(sources_[d].fingerprint), sources_[d].samples, shares_[d]);
  return xxh3_128(text.data(), text.size());
}

}  // namespace dm::data
