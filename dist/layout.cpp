#include "dist/layout.h"

#include "core/error.h"

namespace dm::dist {
Mesh make_mesh(const LayoutConfig& layout, int64_t world, int64_t local_world) {
  const int64_t cp = layout.cp, tp = layout.tp;
  DM_REQUIRE(tp >= 1 && local_world % tp == 0, ExitCode::usage,
             "--tp {}: its ranks must share a host, and a host has {}; legal: {}", tp, local_world,
             divisors(local_world));
  // Where they do not divide, the mesh says what would.
  const bool whole = cp >= 1 && world % tp == 0 && world / tp % cp == 0;
  const int64_t derived = whole ? world / tp / cp : 1;
  const Mesh mesh(world, layout.dp > 0 ? layout.dp : derived, cp, tp);
  const int64_t replicas = mesh.size(Axis::dp) * cp;
  DM_REQUIRE(layout.dp_shard == 0 || replicas % layout.dp_shard == 0, ExitCode::usage,
             "--dp-shard {} does not divide the {} ranks of dp x cp; legal: 0, {}", layout.dp_shard, replicas,
             divisors(replicas));
  return mesh;
}

int64_t shard_size(const LayoutConfig& layout, const Mesh& mesh) {
  return layout.dp_shard > 0 ? layout.dp_shard : mesh.size(Axis::dp) * mesh.size(Axis::cp);
}

}  // namespace dm::dist
