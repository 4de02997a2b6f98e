#pragma once
// Where a rank stands: world = dp x cp x tp, tp fastest (neighbours on a host), then cp, then dp. A layout is
// a placement, never an architecture: nothing here changes what is computed.

#include <cstdint>
#include <string>
#include <vector>

namespace dm::dist {

/// "1, 2, 4": what divides `number`, for messages that name legal sizes.
std::string divisors(int64_t number);

enum class Axis { dp, cp, tp };  // data, context (pieces of a sequence), tensor

class Mesh {
 public:
  struct Coordinate {
    int64_t dp = 0;
    int64_t cp = 0;
    int64_t tp = 0;
    bool operator==(const Coordinate&) const = default;
  };

  /// Throws ExitCode::usage, naming the sizes that would do, unless dp * cp * tp is the number of ranks.
  Mesh(int64_t world, int64_t dp, int64_t cp, int64_t tp);

  int64_t size(Axis axis) const;
  Coordinate coordinate(int64_t rank) const;
  int64_t rank(const Coordinate& coordinate) const;
  /// The ranks that differ from `rank` along `axis` only, itself included, ascending.
  std::vector<int64_t> members(Axis axis, int64_t rank) const;
  /// Equal for the members of one group along `axis` and different between groups: the colour of
  /// Environment::make_group.
  int64_t group(Axis axis, int64_t rank) const;

 private:
  int64_t stride(Axis axis) const;
  int64_t world_, dp_, cp_, tp_;
};

}  // namespace dm::dist
