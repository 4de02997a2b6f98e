#include "dist/mesh.h"

#include <fmt/format.h>

#include <string>

#include "core/error.h"

namespace dm::dist {

std::string divisors(int64_t number) {
  std::string text;
  for (int64_t d = 1; d <= number; ++d)
    if (number % d == 0) text += fmt::format("{}{}", text.empty() ? "" : ", ", d);
  return text;
}

namespace {

/// What the user could ask for instead, keeping as much of the layout as fits.
std::string legal(int64_t world, int64_t cp, int64_t tp) {
  if (world % tp != 0) return fmt::format("tp may be {}", divisors(world));
  if (world / tp % cp != 0) return fmt::format("with tp {}, cp may be {}", tp, divisors(world / tp));
  return fmt::format("with cp {} and tp {}, dp is {}", cp, tp, world / tp / cp);
}

}  // namespace

Mesh::Mesh(int64_t world, int64_t dp, int64_t cp, int64_t tp) : world_(world), dp_(dp), cp_(cp), tp_(tp) {
  DM_REQUIRE(dp >= 1 && cp >= 1 && tp >= 1, ExitCode::usage,
             "layout dp {} x cp {} x tp {}: each must be at least 1", dp, cp, tp);
  // Dividing cannot overflow; multiplying three numbers of a user can.
  const bool fits = world % tp == 0 && world / tp % cp == 0 && world / tp / cp == dp;
  DM_REQUIRE(fits, ExitCode::usage, "layout dp {} x cp {} x tp {} does not place {} rank{}: {}", dp, cp, tp,
             world, world == 1 ? "" : "s", legal(world, cp, tp));
}

int64_t Mesh::size(Axis axis) const { return axis == Axis::dp ? dp_ : axis == Axis::cp ? cp_ : tp_; }
int64_t Mesh::stride(Axis axis) const { return axis == Axis::dp ? cp_ * tp_ : axis == Axis::cp ? tp_ : 1; }

Mesh::Coordinate Mesh::coordinate(int64_t rank) const {
  DM_CHECK(rank >= 0 && rank < world_, "rank {} of {}", rank, world_);
  return {rank / (cp_ * tp_), rank / tp_ % cp_, rank % tp_};
}

int64_t Mesh::rank(const Coordinate& c) const {
  DM_CHECK(c.dp >= 0 && c.dp < dp_ && c.cp >= 0 && c.cp < cp_ && c.tp >= 0 && c.tp < tp_,
           "coordinate ({}, {}, {}) of {} x {} x {}", c.dp, c.cp, c.tp, dp_, cp_, tp_);
  return (c.dp * cp_ + c.cp) * tp_ + c.tp;
}

int64_t Mesh::group(Axis axis, int64_t rank) const {
  const Coordinate c = coordinate(rank);
  const int64_t along = axis == Axis::dp ? c.dp : axis == Axis::cp ? c.cp : c.tp;
  return rank - along * stride(axis);  // its first member
}

std::vector<int64_t> Mesh::members(Axis axis, int64_t rank) const {
  std::vector<int64_t> ranks;
  for (int64_t i = 0; i < size(axis); ++i) ranks.push_back(group(axis, rank) + i * stride(axis));
  return ranks;
}

}  // namespace dm::dist
