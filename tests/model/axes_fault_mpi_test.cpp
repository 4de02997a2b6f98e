// Mistakes made on purpose, one after the other: each must be found, in the tensor that it spoils. The
// sources that hold them are compiled for this test with DM_FAILPOINTS.

#include <gmock/gmock.h>

#include <cstdlib>

#include "tests/model/layouts.h"

namespace dm::model {
namespace {

struct Fault {
  const char* name;  // "" for none
  const char* layout;
  const char* config;  // of layout_configs()
  const char* tensor;  // whose gradient is wrong then
};
constexpr Fault kFaults[] = {
    {"tensor.unsummed", "tp4 cp1", "diffmamba2 scalar", "backbone.layers.0.mixer_1.in_proj.weight"},
    {"tensor.unsummed", "tp4 cp1", "diffmamba1 exp_diff", "backbone.layers.0.mixer_2.dt_proj.weight"},
    {"norm.width", "tp4 cp1", "diffmamba2 scalar", "backbone.layers.0.mixer_2.in_proj.weight"},
    {"gradients.unsummed", "tp2 cp2", "diffmamba2 scalar", "backbone.layers.1.norm.weight"},
    {"gradients.unsummed", "tp4 cp1", "diffmamba2 scalar", "backbone.layers.1.mixer_1.conv1d.weight"},
    {"gradients.lambda", "tp4 cp1", "diffmamba2 scalar", "backbone.layers.1.lambda_theta"},
    {"context.halo", "tp1 cp4", "mamba2", "backbone.layers.1.mixer.conv1d.weight"},
    {"context.state", "tp2 cp2", "DMSF unpacked", "backbone.layers.1.mixer.A_log"},
    {"context.state", "tp1 cp4", "DMS mamba1 unpacked", "backbone.layers.0.mixer_1.A_log"},
};

std::vector<std::string> wrong_with(const Fault& fault, const std::string& armed) {
  for (const NamedConfig& c : layout_configs())
    for (const Layout& layout : layouts()) {
      if (c.name != fault.config || layout.name != fault.layout) continue;
      const OneRank truth(c.config);
      ::setenv("DM_FAILPOINT", armed.c_str(), 1);
      const Placed placed(truth, layout);
      ::unsetenv("DM_FAILPOINT");
      return placed.wrong_gradients();
    }
  ADD_FAILURE() << "no layout " << fault.layout << " or config " << fault.config;
  return {};
}

TEST(AxesFaults, EachIsFound) {
  for (const Fault& fault : kFaults) {
    EXPECT_THAT(wrong_with(fault, "none=fault"), testing::IsEmpty()) << fault.name;
    EXPECT_THAT(wrong_with(fault, std::string(fault.name) + "=fault"), testing::Contains(fault.tensor))
        << fault.name;
  }
}

}  // namespace
}  // namespace dm::model
